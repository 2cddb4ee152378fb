"""What model families say together of a hypothesis, and the theory-level verdict on it.

The engine's rule is that of one model (:mod:`bitgap.stats.verdicts`). On top of it come the clauses
that make a finding one of the theory: enough families for any conclusion; for support, exact tests
that concur, families that agree, and none that is significantly opposite; for a refutation, that
the same tests reject the smallest effect of interest; and that no block alone makes either.

Families are the units, or training mixes where a claim is about languages: what is called a family
here is then a mix.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from bitgap.records import Control, Estimate, Verdict
from bitgap.stats.verdicts import LeftOut, Part, Thresholds
from bitgap.stats.verdicts import judge as judge_parts

Against = tuple[float | None, Mapping[str, float]]
"""One-sided p of "at least the SESOI", and that of each test that must concur."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Across:
    """What several families say of one statistic.

    Attributes:
        name: What it is, for the reason.
        estimate: Pooled value and interval; larger supports.
        p: One-sided p of support; None where undefined.
        minima: Smallest p each test can reach with these families, by test; 0 for a t, whose p
            has no smallest. ``p`` is the first one's.
        concurring: p of the tests that must concur, by name.
        agreeing: Share of families that side with the hypothesis; for window hits, of those whose
            interval of place lies wholly inside.
        opposite: Families that are significantly opposite.
        n: Number of families that have the statistic.
        left_out: Why the others have not, by family.
        chance: What the estimate is where there is nothing.
        against: From a SESOI to how improbable the families are if the effect is at least that;
            None where no test says so, and then nothing is refuted.
        leave_out: Makes the estimate without each block, by name; few ask for it.
        over_blocks: Whether it links profiles over blocks, which no block alone may make.
    """

    name: str
    estimate: Estimate
    p: float | None
    minima: Mapping[str, float]
    concurring: Mapping[str, float]
    agreeing: float
    opposite: tuple[str, ...]
    n: int
    left_out: Mapping[str, str]
    chance: float = 0.0
    against: Callable[[float], Against] | None = field(default=None, compare=False, repr=False)
    leave_out: Callable[[], Mapping[str, Estimate]] = field(
        default=dict[str, Estimate], compare=False, repr=False
    )
    over_blocks: bool = False

    def part(self, sesoi: float, alpha: float, controls: tuple[Control, ...] = ()) -> Part:
        """Returns it as a part of a verdict.

        Args:
            sesoi: Smallest effect of interest.
            alpha: Level at which tests must concur.
            controls: That guard this statistic alone.
        """
        untested: Against = (None, {})
        p_equivalence, concurring = self.against(sesoi) if self.against else untested
        return Part(
            name=self.name,
            estimate=self.estimate,
            sesoi=sesoi,
            p=self.p,
            p_minimum=self.p_minimum(alpha),
            p_equivalence=p_equivalence,
            chance=self.chance,
            without=LeftOut(self.leave_out),
            concurring=concurring,
            controls=controls,
            over_blocks=self.over_blocks,
        )

    def p_minimum(self, alpha: float) -> float:
        """Returns the smallest p of the design; one at which a test cannot concur, if there is."""
        first, *others = self.minima.values()
        return max([first, *(least for least in others if least >= alpha)])


def judge_families(
    across: Sequence[Across],
    sesois: Sequence[float],
    controls: Sequence[Control],
    thresholds: Thresholds,
    *,
    gate: str | None = None,
    extra: tuple[bool, str] = (True, ""),
    own: Sequence[tuple[Control, ...]] | None = None,
    unit: str = "family",
) -> Verdict:
    """Returns the theory-level verdict: the engine's rule, and that families concur and agree.

    Args:
        across: The statistics, all of which must pass.
        sesois: Smallest effect of interest of each.
        controls: What could have made them worthless.
        thresholds: With α, the fewest families and the share that must agree.
        gate: Why the hypothesis is not testable, or None.
        extra: A further declared condition for support.
        own: Controls that guard one statistic alone, one tuple a statistic.
        unit: What is counted, ``family`` or ``mix``.

    Example:
        >>> effect = Estimate(value=1.0, low=0.5, high=1.5, unit="bits", n=3)
        >>> gain = Across(
        ...     name="gain", estimate=effect, p=0.01, minima={"t": 0.0}, concurring={},
        ...     agreeing=1.0, opposite=(), n=3, left_out={},
        ... )
        >>> from bitgap.stats.verdicts import load_thresholds
        >>> judge_families([gain], [0.5], [], load_thresholds()).reason
        '3 families; 5 are needed to speak for more than a model'
    """
    n, alpha = min(a.n for a in across), thresholds.alpha
    own = own or [()] * len(across)
    parts = [a.part(s, alpha, c) for a, s, c in zip(across, sesois, own, strict=True)]
    wanted = thresholds.families_min
    clause = next((c for a in across if (c := _disagreement(a, thresholds, unit))), None)
    return judge_parts(
        parts,
        controls,
        alpha=alpha,
        gate=gate,
        enough=(
            n >= wanted,
            f"{counted(n, unit)}; {wanted} are needed to speak for more than a model",
        ),
        extra=extra if clause is None else (False, clause),
        scope=counted(n, unit),
    )


def counted(n: int, unit: str = "family") -> str:
    """Returns so many families, or training mixes, in words.

    Example:
        >>> counted(1), counted(7), counted(3, "mix")
        ('1 family', '7 families', '3 training mixes')
    """
    one, many = {"family": ("family", "families"), "mix": ("training mix", "training mixes")}[unit]
    return f"{n} {one if n == 1 else many}"


def _disagreement(across: Across, thresholds: Thresholds, unit: str) -> str | None:
    """Returns which theory-level clause of support one statistic fails, or None."""
    for test, p in across.concurring.items():
        if p >= thresholds.alpha:
            return f"{across.name}: the {test} does not concur, p = {p:.3g}"
    # 2 of 3 agree by a share that is declared to four digits.
    if across.agreeing < thresholds.agreement_share - 1e-3:
        return (
            f"{across.name}: {across.agreeing:.0%} of {counted(across.n, unit)} side with it "
            f"clearly enough, {thresholds.agreement_share:.0%} needed"
        )
    if across.opposite:
        return f"{across.name}: significantly opposite in {', '.join(across.opposite)}"
    return None


def too_few(name: str, unit: str, level: float, n: int, left_out: Mapping[str, str]) -> Across:
    """Returns a statistic that fewer than two families have.

    Example:
        >>> too_few("gain", "bits", 0.95, 1, {"opt": "no layer lies in the window"}).estimate.reason
        '1 family has it, and a spread over families needs two'
    """
    have = f"{counted(n)} {'has' if n == 1 else 'have'}"
    why = f"{have} it, and a spread over families needs two"
    return Across(
        name=name,
        estimate=Estimate(value=None, unit=unit, level=level, n=n, reason=why),
        p=None,
        minima={"": 1.0},
        concurring={},
        agreeing=0.0,
        opposite=(),
        n=n,
        left_out=left_out,
    )
