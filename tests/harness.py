"""What every experiment is put through: null and planted effects, purity, figure, docstring.

A test of an experiment makes observations whose truth it knows, from a seed, and hands the judge
and the maker to :func:`assert_null` and :func:`assert_planted`. Nothing here touches torch.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from bitgap.experiments.protocol.experiment import Experiment
from bitgap.records import Control, Estimate, Finding, Floats, Observations
from bitgap.stats.verdicts import Thresholds, load_thresholds

Make = Callable[[int], Observations]
Judge = Callable[[Observations, Thresholds], Finding]

CHANCE = 1e-3
"""Probability that a count this far off its rate comes about by chance; below it a test fails."""
QUICK = replace(load_thresholds(), draws=300)
"""The declared thresholds with fewer bootstrap draws: the same rules, coarser ends."""


# -- null and planted effects ---------------------------------------------------------------------


def labels(judge: Judge, make: Make, seeds: Iterable[int], thresholds: Thresholds) -> Counter[str]:
    """Returns how often the judge reaches each label on observations made from these seeds."""
    return Counter(judge(make(seed), thresholds).verdict.label for seed in seeds)


def assert_null(
    judge: Judge,
    make: Make,
    *,
    seeds: Iterable[int],
    thresholds: Thresholds = QUICK,
    rate: float | None = None,
) -> None:
    """Fails if "supported" comes up oftener than its declared rate, α, where nothing is there."""
    found = labels(judge, make, seeds, thresholds)
    n, rate = found.total(), thresholds.alpha if rate is None else rate
    chance = stats.binom.sf(found["supported"] - 1, n, rate)
    assert chance > CHANCE, f"{dict(found)} of {n} where nothing is there, at rate {rate}"


def assert_planted(
    judge: Judge,
    make: Make,
    *,
    seeds: Iterable[int],
    label: str = "supported",
    thresholds: Thresholds = QUICK,
) -> None:
    """Fails if a planted truth gets its label less often than the declared detection share."""
    found = labels(judge, make, seeds, thresholds)
    assert found[label] >= thresholds.detection_share * found.total(), dict(found)


# -- purity ---------------------------------------------------------------------------------------


def assert_pure(judge: Judge, observations: Observations, thresholds: Thresholds = QUICK) -> None:
    """Fails if judging writes to observations, depends on anything else, or needs the process."""
    for array in observations.arrays.values():
        array.flags.writeable = False
    before = as_json(observations)
    first = judge(observations, thresholds)
    np.random.default_rng().normal()
    assert judge(observations, thresholds) == first
    assert as_json(observations) == before
    assert judge(from_json(before), thresholds) == first


def as_json(observations: Observations) -> str:
    """Returns observations as text; JSON's floats are exact."""
    arrays = {
        name: {"dtype": str(array.dtype), "shape": array.shape, "values": array.ravel().tolist()}
        for name, array in observations.arrays.items()
    }
    return json.dumps(
        {
            "experiment": observations.experiment,
            "version": observations.version,
            "arrays": arrays,
            "facts": dict(observations.facts),
        }
    )


def from_json(text: str) -> Observations:
    """Returns the observations of a text made by :func:`as_json`."""
    content = json.loads(text)
    arrays = {
        name: np.array(found["values"], dtype=found["dtype"]).reshape(found["shape"])
        for name, found in content["arrays"].items()
    }
    return Observations(**{**content, "arrays": arrays})


# -- what is handed out ---------------------------------------------------------------------------


def assert_presentable(experiment: Experiment, finding: Finding) -> None:
    """Fails unless finding and figure can be printed, stored and drawn."""
    json.dumps(asdict(finding), allow_nan=False)
    assert finding.primary in finding.estimates
    assert finding.original_measure, "the origin's own measure is missing"
    assert finding.sentence.endswith(".")
    assert finding.thresholds_hash
    assert finding.verdict.reason
    check_figure(experiment.figure(finding))


MARKS = {"bar", "line", "point", "rect", "rule", "text", "tick"}
TYPES = {"quantitative", "nominal", "ordinal"}
# A second end takes its type from the first.
UNTYPED = {"x2", "y2"}


def check_figure(spec: Mapping[str, Any]) -> None:
    """Fails unless a chart is Vega-Lite that shows something: a view with data for every field."""
    json.dumps(spec, allow_nan=False)
    assert re.fullmatch(r"https://vega\.github\.io/schema/vega-lite/v\d\.json", spec["$schema"])
    for view in _views(spec, None):
        rows, mark = view["data"]["values"], view["mark"]
        assert rows, f"no data for {mark}"
        assert (mark if isinstance(mark, str) else mark["type"]) in MARKS
        assert view["encoding"]
        for channel, encoding in view["encoding"].items():
            if channel == "tooltip" or "field" not in encoding:
                continue  # a pixel or a choice; what is pointed at may lack a number
            field = encoding["field"]
            missing = [row for row in rows if field not in row or row[field] is None]
            assert not missing, f"{channel} of {mark} has no {field!r} in {missing[0]}"
            assert channel in UNTYPED or encoding["type"] in TYPES
            if encoding.get("type") == "quantitative":
                assert all(math.isfinite(row[field]) for row in rows)
            if encoding.get("scale", {}).get("type") == "log":
                assert all(row[field] > 0 for row in rows)


def _views(spec: Mapping[str, Any], data: Any) -> list[dict[str, Any]]:
    data = spec.get("data", data)
    inner = spec.get("concat") or spec.get("layer")
    if inner:
        return [view for part in inner for view in _views(part, data)]
    return [{**spec, "data": data}]


HEADINGS = ("Prediction", "Method", "Statistic", "Rule", "Cost", "Prior")
"""Paragraphs of an experiment's docstring, in this order; the first line is its question."""


def check_docstring(text: str) -> None:
    """Fails unless an experiment's docstring holds all that its reader is promised.

    That is a question, a paragraph under each of :data:`HEADINGS`, a statistic whose formula stands
    on a line of its own, and somebody cited.
    """
    head = text.splitlines()[0]
    asks = r"(T-\d{3} · H\d\.\d|synergy · synergy|depth · depth): .+\?$"
    assert re.match(asks, head), f"the first line asks nothing: {head!r}"
    sections = re.split(r"\n\n([A-Z][a-z]+(?: and [a-z]+)?): ", text)
    bodies = dict(zip(sections[1::2], sections[2::2], strict=True))
    headings = [heading for heading in bodies if heading in HEADINGS]
    assert headings == list(HEADINGS), f"the headings are {headings}"
    assert all(bodies[heading].strip() for heading in HEADINGS), "a heading has nothing under it"
    formulas = re.findall(r"\n\n {4}\S.*", bodies["Statistic"])
    assert formulas, "the statistic has no formula on a line of its own"
    assert re.search(r"\b(19|20)\d\d\b", text), "nothing is cited"


# -- making observations --------------------------------------------------------------------------

FP_NATS, UNIGRAM_NATS, TOKENS, CHARACTERS = 4.0, 7.0, 20, 80


def kept_scores(
    parts: Mapping[str, Floats],
    *,
    collapsed: Sequence[int] = (),
    floor_nats: float = 1e-9,
    scripts: Sequence[str] = (),
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Returns arrays and facts as :mod:`bitgap.experiments.protocol.scores` keeps them.

    Args:
        parts: KL in nats of each part, (plans x A x N); the text gets as much harder.
        collapsed: Rows of languages no better than unigrams.
        floor_nats: Numerical floor per token.
        scripts: Facts that go with the languages, if any.
    """
    a, n = next(iter(parts.values())).shape[1:]
    fp = np.full((a, n), FP_NATS * TOKENS)
    unigram = np.full((a, n), UNIGRAM_NATS * TOKENS)
    unigram[list(collapsed)] = FP_NATS * TOKENS
    arrays: dict[str, NDArray[Any]] = {
        "nll_fp": fp,
        "unigram": unigram,
        "tokens": np.full((a, n), TOKENS),
        "bytes": np.full((a, n), CHARACTERS),
        "characters": np.full((a, n), CHARACTERS),
    }
    for name, kl in parts.items():
        arrays |= {f"{name}_kl": kl, f"{name}_nll": fp + kl}
    facts: dict[str, Any] = {
        "languages": ["en", *(f"x{i}" for i in range(1, a))],
        "reference": "en",
        "floor_nats": floor_nats,
        "arithmetic": "exact",
    }
    if scripts:
        facts["scripts"] = list(scripts)
    return arrays, facts


def over_sentences(
    rng: np.random.Generator,
    totals: Floats,
    languages: int,
    sentences: int,
    *,
    spread: float = 0.2,
    own_spread: float = 0.01,
) -> Floats:
    """Returns values (... x A x N) whose sentences scatter about totals (...), never below 0.

    Most of the scatter is shared by all plans, as it is in earnest, so contrasts are sharp.
    """
    shared = rng.gamma(1 / spread**2, spread**2, (languages, sentences))
    own = rng.gamma(1 / own_spread**2, own_spread**2, (*totals.shape, languages, sentences))
    return totals[..., None, None] * shared * own


def control(finding: Finding, start: str) -> Control:
    """Returns the one control whose name starts so."""
    found = [c for c in finding.controls if c.name.startswith(start)]
    assert len(found) == 1, f"{len(found)} controls start with {start!r}"
    return found[0]


def covers(estimate: Estimate, truth: float) -> bool:
    """Returns whether an interval holds a truth."""
    assert estimate.low is not None
    assert estimate.high is not None
    return estimate.low <= truth <= estimate.high
