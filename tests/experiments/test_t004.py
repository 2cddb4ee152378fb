"""T-004: exact errors of a linear net, planted contrasts, and a judge that can say all four."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from lab_samples import Letters, make_lab, write_corpus
from scipy import stats

from bitgap.experiments import t004_residual_propagation as t004
from bitgap.experiments.plants.cancelling import cancelling_plan, plant_cancellation
from bitgap.experiments.t004_residual_propagation.plans import plans, scored_sets
from bitgap.experiments.t004_residual_propagation.propagation import amplification, state_errors
from bitgap.experiments.t004_residual_propagation.statistic import (
    interaction_contrast,
    snr_contrast,
)
from bitgap.experiments.t004_residual_propagation.twins import measure_controls
from bitgap.lab.activations import stream
from bitgap.lab.engine.text import make_chunks, tokenize
from bitgap.lab.settings import Ledger, Settings
from bitgap.quant.plan import Plan
from bitgap.records import Floats, Observations
from harness import (
    CHANCE,
    QUICK,
    assert_null,
    assert_planted,
    assert_presentable,
    control,
    covers,
    kept_scores,
    over_sentences,
)

BLOCKS, LANGUAGES, SENTENCES, PLANTINGS = 8, 2, 24, 10
LAST = BLOCKS - 1


# -- observations whose truth is known ------------------------------------------------------------


def state_error(
    rng: np.random.Generator, first: float, blocks: int = BLOCKS, own_spread: float = 0.01
) -> Floats:
    """Errors at the last state where blocks' errors add up, block 0's ``first`` times another's."""
    powers = np.ones(blocks - 1)
    powers[0] = first
    totals = np.append(powers.sum(), powers.sum() - powers)
    return over_sentences(rng, totals, LANGUAGES, SENTENCES, own_spread=own_spread)


def damage(rng: np.random.Generator, cancelled: float, own_spread: float) -> Floats:
    """KL of the 2L masks where K(S) = ‖Σ_{i∉S} e_i‖², e_0 · e_last = −cancelled, all else apart."""
    gram = np.eye(BLOCKS)
    gram[0, LAST] = gram[LAST, 0] = -cancelled
    kept = [np.isin(np.arange(BLOCKS), s) for s in scored_sets(BLOCKS, range(LAST))]
    totals = np.array([gram[~mask][:, ~mask].sum() for mask in kept])
    return over_sentences(rng, totals, LANGUAGES, SENTENCES, own_spread=own_spread)


def observe(
    seed: int = 0,
    *,
    first: float = 5.0,
    cancelled: float = 0.5,
    matched: float | None = None,
    untrained: float = 1.0,
    found: int = PLANTINGS,
    own_spread: float = 0.01,
    **text: Any,
) -> Observations:
    """Observations in which block 0's error is ``first`` times another's and cancels the last's."""
    rng = np.random.default_rng(seed)
    arrays, facts = kept_scores({"masks": damage(rng, cancelled, own_spread)}, **text)
    # Block 0 stands out at the last block's output and nowhere else, least of all after the norm.
    error = np.repeat(state_error(rng, 1.0)[:, None], BLOCKS + 1, axis=1)
    error[:, LAST] = state_error(rng, first, own_spread=own_spread)
    shape = (LANGUAGES, SENTENCES)
    p3 = np.array([5.0 if i < found else 1.0 for i in range(PLANTINGS)])
    return Observations(
        experiment=t004.ID,
        version=2,
        arrays={
            **arrays,
            "state_error": error,
            "state_error_with_sinks": error * 2,
            "state_tokens": np.full((BLOCKS + 1, *shape), 100.0),
            "state_cosine": np.linspace(0.9, 0.99, BLOCKS),
            "state_cka": np.append(np.nan, np.linspace(0.9, 0.99, LAST)),
            "amplification": np.ones((BLOCKS, BLOCKS + 1)),
            "matched_error": state_error(rng, first if matched is None else matched),
            "matched_tokens": np.full(shape, 100.0),
            "random_error": state_error(rng, untrained),
            "random_tokens": np.full(shape, 100.0),
            "cancelling_error": np.array([state_error(rng, size, blocks=4) for size in p3]),
            "cancelling_tokens": np.full(shape, 100.0),
            "cancelling_kl": np.array(
                [damage(rng, 0.4 if size > 1 else 0.0, 0.01)[[0, 1, 2, 3, 4, 9, 10, 11]]
                 for size in p3]
            ),
        },
        facts={**facts, "scheme": "rtn4-g128", "n_blocks": BLOCKS, "params": {}},
    )  # fmt: skip


# -- the judge ------------------------------------------------------------------------------------


def test_judge_finds_planted_contrasts():
    assert_planted(t004.EXPERIMENT.judge, observe, seeds=range(20))


@pytest.mark.parametrize(
    "truth", [{"first": 0.2}, {"cancelled": -0.5}, {"first": 1.0}, {"cancelled": 0.0}]
)
def test_judge_refutes_where_one_part_is_absent_or_opposite(truth):
    assert_planted(
        t004.EXPERIMENT.judge, lambda s: observe(s, **truth), seeds=range(10), label="refuted"
    )


@pytest.mark.parametrize(
    "truth", [{"first": 1.0, "own_spread": 1.5}, {"cancelled": 0.0, "own_spread": 0.6}]
)
def test_judge_supports_an_absent_part_no_oftener_than_alpha(truth):
    # So noisy that the interval of the absent part reaches past its smallest effect.
    assert_null(t004.EXPERIMENT.judge, lambda s: observe(s, **truth), seeds=range(100))


def test_judge_supports_no_effect_at_all_no_oftener_than_alpha():
    assert_null(
        t004.EXPERIMENT.judge,
        lambda s: observe(s, first=1.0, cancelled=0.0, own_spread=1.0),
        seeds=range(100),
    )


def test_an_effect_lost_in_noise_is_inconclusive():
    finding = t004.EXPERIMENT.judge(observe(first=1.6, own_spread=1.5), QUICK)
    assert finding.verdict.label == "inconclusive"


def test_travelling_without_dependence_says_so():
    finding = t004.EXPERIMENT.judge(observe(cancelled=0.0), QUICK)
    assert finding.verdict.label == "refuted"
    assert "does not depend on it" in finding.sentence


@pytest.mark.parametrize(
    ("change", "clause"),
    [
        ({"found": 7}, "no positive control was detected"),
        ({"matched": 1.0}, "Gaussian noise"),
        ({"untrained": 5.0}, "random-init twin"),
    ],
)
def test_each_control_alone_keeps_support_back(change, clause):
    assert t004.EXPERIMENT.judge(observe(), QUICK).verdict.label == "supported"
    finding = t004.EXPERIMENT.judge(observe(**change), QUICK)
    assert finding.verdict.label == "inconclusive"
    assert clause in finding.verdict.reason


def test_blocks_1_and_2_must_gain_less_than_block_0():
    early = observe()
    # Block 1's error is made as large as block 0's: protecting either gains as much.
    early.arrays["state_error"][2] = early.arrays["state_error"][1]
    finding = t004.EXPERIMENT.judge(early, QUICK)
    assert control(finding, "early-interior").passed is False


def test_finding_and_figure_can_be_shown():
    assert_presentable(t004.EXPERIMENT, t004.EXPERIMENT.judge(observe(), QUICK))


def test_intervals_hold_the_planted_contrasts_as_often_as_they_say():
    def held(seed: int) -> bool:
        found = t004.EXPERIMENT.judge(observe(seed, own_spread=0.1), QUICK).estimates
        # Errors add up: e_0 = 5 among 6 others of 1, all but the last; K(∅) = 8 − 2 · .5.
        gain = 10 * np.log10([11 / 6, 11 / 10])
        return covers(found["snr_contrast"], gain[0] - gain[1]) and covers(
            found["interaction"], 2 * 0.5 / 7
        )

    # Both at once at 95 % each: at least 90 %.
    n = 60
    assert stats.binom.cdf(sum(map(held, range(n))), n, 0.9) > CHANCE


def test_p_is_the_larger_share_of_draws_that_are_not_above_0():
    sure = t004.EXPERIMENT.judge(observe(), QUICK).verdict
    assert sure.p == sure.p_minimum == 1 / (QUICK.draws + 1)
    opposite = t004.EXPERIMENT.judge(observe(cancelled=-0.5), QUICK).verdict
    assert opposite.p == 1
    ps = [
        t004.EXPERIMENT.judge(observe(s, cancelled=0.0, own_spread=0.6), QUICK).verdict.p
        for s in range(60)
    ]
    # Under the null p is uniform but for the bootstrap's small-sample error.
    assert stats.kstest(ps, "uniform").pvalue > CHANCE


def test_what_the_head_sees_and_sinks_are_told_apart_from_the_last_output():
    found = t004.EXPERIMENT.judge(observe(), QUICK).estimates
    assert found["snr_contrast"].value > 1
    assert abs(found["snr_contrast_after_norm"].value) < 0.1
    # Errors twice as large everywhere cancel in a contrast of ratios.
    same = found["snr_contrast_with_sinks"].value
    assert same == pytest.approx(found["snr_contrast"].value, abs=1e-9)


# -- contrasts in closed form ---------------------------------------------------------------------


def test_interaction_is_minus_twice_the_inner_product_of_the_two_errors():
    rng = np.random.default_rng(0)
    errors = rng.normal(size=(BLOCKS, 5))
    kept = [np.isin(np.arange(BLOCKS), s) for s in scored_sets(BLOCKS, range(LAST))]
    totals = np.array([np.square(errors[~mask].sum(0)).sum() for mask in kept])
    kl = np.broadcast_to(totals[:, None, None], (len(totals), 2, 3))
    found = interaction_contrast(kl, LAST)(np.ones((1, 3)))[0]
    each = -2 * errors[:LAST] @ errors[LAST] / totals[0]
    wanted = [each[j] - np.delete(each, j).mean() for j in range(LAST)]
    np.testing.assert_allclose(found, wanted, rtol=1e-10)


def test_additive_damage_has_no_interaction():
    found = interaction_contrast(damage(np.random.default_rng(0), 0.0, 1e-6), LAST)
    np.testing.assert_allclose(found(np.ones((1, SENTENCES))), 0, atol=1e-5)


def test_snr_contrast_is_that_of_error_powers():
    powers = np.array([4.0, 1.0, 2.0])
    totals = np.append(powers.sum(), powers.sum() - powers)
    error = np.broadcast_to(totals[:, None, None], (4, 2, 3))
    found = snr_contrast(error, np.full((2, 3), 7.0))(np.ones((1, 3)))[0]
    gain = 10 * np.log10(powers.sum() / (powers.sum() - powers))
    wanted = [gain[j] - np.delete(gain, j).mean() for j in range(3)]
    np.testing.assert_allclose(found, wanted, rtol=1e-12)


# -- a linear residual net, h ← h + A h -----------------------------------------------------------


class LinearNet:
    """A stand-in for a lab whose blocks are matrices: states and errors are known exactly."""

    def __init__(self, blocks: list[Floats], errors: list[Floats], seed: int = 0) -> None:
        width = len(blocks[0])
        self.matrices = {
            "fp": [torch.from_numpy(a).float() for a in blocks],
            "rtn4-g32": [
                torch.from_numpy(a + e).float() for a, e in zip(blocks, errors, strict=True)
            ],
        }
        self.blocks = self.matrices["fp"]
        self.table = torch.randn(97, width, generator=torch.Generator().manual_seed(seed))
        self.n_blocks, self.width = len(blocks), width
        self.settings = SimpleNamespace(device="cpu", arithmetic="exact", seed=0)
        self.text = tokenize(write_corpus(4), Letters(), context=None, vocabulary=97)
        self.chunks = make_chunks(self.text, 96)
        self.decoder = self.bank = self
        self.tail = SimpleNamespace(finish=lambda state: state)
        self.ledger = Ledger()

    def once(self, name: str, make: Any) -> Any:
        return make()

    def check(self, plan: Plan) -> None:
        assert len(plan.blocks) == self.n_blocks

    def embedding(self, scheme: str) -> dict[str, Any]:
        return {}

    def embed_with(self, ids: torch.Tensor, replaced: dict[str, Any]) -> torch.Tensor:
        return self.table[ids]

    def context_for(self, rows: int, length: int) -> None:
        return None

    def block(self, index: int, scheme: str) -> torch.Tensor:
        return self.matrices["fp" if scheme == "fp" else "rtn4-g32"][index]

    def run_block(self, i: int, state: Any, context: None, matrix: torch.Tensor) -> torch.Tensor:
        return state + state @ matrix.T

    def inputs(self) -> Floats:
        """Every state that enters block 0 but for position 0, (T x d)."""
        ids = [i for language in self.text.ids for row in language for i in row[1:]]
        return self.table[torch.tensor(ids)].double().numpy()

    def product(self, plan: Plan, depth: int) -> Floats:
        """The matrix that takes a state entering block 0 to the output of block ``depth``."""
        found = np.eye(self.width)
        for i in range(depth + 1):
            found = found + self.block(i, plan.blocks[i]).double().numpy() @ found
        return found


def linear_net(scale: float = 0.2, seed: int = 0, interior: float = 1.0) -> LinearNet:
    rng = np.random.default_rng(seed)
    blocks = [scale * rng.normal(size=(6, 6)) for _ in range(5)]
    for block in blocks[1:]:
        block *= interior
    return LinearNet(blocks, [0.03 * rng.normal(size=(6, 6)) for _ in blocks])


def test_errors_of_a_linear_net_are_those_of_its_exact_covariance():
    net: Any = linear_net()
    plans = [Plan.uniform("rtn4-g32", 5, kept) for kept in [(4,), (0, 4), (1, 3)]]
    found = state_errors(net, plans)
    states = net.inputs()
    second, spread = states.T @ states, np.cov(states.T, bias=True)
    fp = Plan.uniform("fp", 5)
    for j, plan in enumerate(plans):
        for depth in range(5):
            clean, off = net.product(fp, depth), net.product(plan, depth)
            variance = np.diag(clean @ spread @ clean.T)
            gone = np.diag((off - clean) @ second @ (off - clean).T)
            wanted = (gone / variance).mean()
            assert found["error"][j, depth].sum() == pytest.approx(wanted, rel=1e-4)
    np.testing.assert_allclose(found["error"][:, 5], found["error"][:, 4], rtol=1e-6)
    assert found["tokens"][0].sum() == len(states)


def test_an_error_of_block_0_stays_as_it_is_where_later_blocks_do_nothing():
    net: Any = linear_net(interior=0.0)
    only_first = Plan.uniform("rtn4-g32", 5, (1, 2, 3, 4))
    error = state_errors(net, [only_first])["error"][0].sum((1, 2))
    assert error[0] > 0
    np.testing.assert_allclose(error, error[0], rtol=1e-5)


def test_noise_neither_grows_nor_shrinks_where_blocks_do_nothing():
    net: Any = linear_net(interior=0.0)
    ratio = amplification(net, plans(5, "rtn4-g32", t004.Params())["noisy"])
    for j in range(5):
        np.testing.assert_allclose(ratio[j, j:], 1, rtol=1e-5)


def test_a_growing_net_amplifies_by_its_own_factor():
    # h ← 2h in blocks 1 to 4: noise of block 0 grows with the state, so its share stays.
    net: Any = linear_net()
    for i in range(1, 5):
        net.matrices["fp"][i] = torch.eye(6)
        net.matrices["rtn4-g32"][i] = 1.1 * torch.eye(6)
    np.testing.assert_allclose(
        amplification(net, plans(5, "rtn4-g32", t004.Params())["noisy"])[0], 1, rtol=1e-5
    )
    clean, noisy = (net.product(Plan.uniform(s, 5, (0,)), 2) for s in ("fp", "rtn4-g32"))
    np.testing.assert_allclose(noisy, 2.1**2 / 2**2 * clean, rtol=1e-5)


# -- on models ------------------------------------------------------------------------------------


def test_patching_the_clean_state_after_block_0_is_protecting_block_0():
    lab = make_lab("llama", blocks=4, corpus=write_corpus(3))
    kept = Plan.uniform("rtn4-g32", 4, (0,))
    for chunk in lab.chunks:
        context = lab.decoder.context_for(*chunk.shape)
        with torch.inference_mode():
            state = lab.decoder.embed(chunk.input_ids)
            state = lab.decoder.run_block(0, state, context)
            for i in range(1, 4):
                module = lab.bank.block(i, "rtn4-g32")
                state = lab.decoder.run_block(i, state, context, module)
        same = [
            part.states[0]
            for part in stream(lab, [kept])
            if part.depth == 3 and np.array_equal(part.chunk.where, chunk.where)
        ]
        assert len(same) == 1
        assert torch.equal(same[0], state)


def planted_errors(lab: Any, variant: str, block: int) -> torch.Tensor:
    """What the variant of one block adds to its output beside rounding, (T x d)."""
    n = lab.n_blocks
    planted = Plan(tuple(variant if i == block else "fp" for i in range(n)))
    rounded = Plan(tuple("rtn8-g32" if i == block else "fp" for i in range(n)))
    return torch.cat(
        [
            (part.states[0] - part.states[1])[part.real]
            for part in stream(lab, [planted, rounded])
            if part.depth == block
        ]
    )


def test_planted_errors_are_one_vector_and_its_opposite():
    lab = make_lab("gpt2", blocks=4, corpus=write_corpus(4))
    variant = plant_cancellation(lab, "rtn8-g32", strength=0.5, seed=0)
    first, last = (planted_errors(lab, variant, block) for block in (0, 3))
    for error in (first, last):
        wobble = (error - error.mean(0)).square().mean() / error.square().mean()
        assert float(wobble) < 0.1
    size = torch.cat(
        [p.states[0][p.real] for p in stream(lab, [Plan.uniform("fp", 4)]) if p.depth == 0]
    ).square().mean().sqrt()  # fmt: skip
    # The direction is Gaussian, so its mean square scatters by √(2/32) about 1.
    assert float(first.mean(0).square().mean().sqrt() / size) == pytest.approx(0.5, rel=0.5)
    cosine = torch.cosine_similarity(first.mean(0), last.mean(0), dim=0)
    assert float(cosine) == pytest.approx(-1, abs=0.01)


def test_cancelling_plan_keeps_the_inside_rounded_and_the_protected_whole():
    plan = cancelling_plan("rtn4-g32", "own:x:0123456789ab", 4, (3,))
    assert plan.blocks == ("own:x:0123456789ab", "rtn4-g32", "rtn4-g32", "fp")


def test_cancellation_can_be_planted_where_products_round():
    # Fast blocks are copies whose linears are exchanged; the hooks sit on the model's own.
    lab = make_lab("gpt2", blocks=4, corpus=write_corpus(4), settings=Settings(arithmetic="fast"))
    for block in range(4):
        lab.bank.block(block, "fp")
    variant = plant_cancellation(lab, "rtn8-g32", strength=0.5, seed=0)
    cosine = torch.cosine_similarity(
        *(planted_errors(lab, variant, block).mean(0) for block in (0, 3)), dim=0
    )
    assert float(cosine) == pytest.approx(-1, abs=0.05)


@pytest.mark.parametrize("case", ["gpt2", "opt"])
def test_planted_cancellation_is_found_by_both_contrasts(case):
    lab = make_lab(case, blocks=5, corpus=write_corpus(6, ("en", "de", "he")))
    params = t004.Params(control_sentences=4, planted_seeds=5)
    arrays, facts = measure_controls(lab, "rtn6-g32", params)
    assert facts == {}
    assert len(arrays["cancelling_kl"]) == 5
    made = observe()
    made.arrays.update({name: arrays[name] for name in arrays if name.startswith("cancelling")})
    assert "5 of 5" in control(t004.EXPERIMENT.judge(made, QUICK), "P3").detail


def test_measured_observations_are_shown_by_depth():
    lab = make_lab("gpt2", blocks=4, corpus=write_corpus(6))
    params = t004.Params(control_sentences=3, planted_seeds=2)
    measured = t004.EXPERIMENT.measure(lab, "rtn6-g32", params)
    finding = t004.EXPERIMENT.judge(measured, QUICK)
    # A random model is worse than unigrams in every language, and the judge says so.
    assert finding.verdict.label == "not testable"
    assert_presentable(t004.EXPERIMENT, finding)
    assert len(finding.tables["blocks"]) == 3
    # Protecting block 0 leaves its output as it was, so there is no ratio to show there.
    shown = {(row["mask"], row["depth"]) for row in finding.tables["snr"]}
    assert ("0 and last", 0) not in shown
    assert ("last (3)", 0) in shown


@pytest.mark.parametrize("case", ["gpt-neo", "gpt2"])
def test_too_few_blocks_are_not_testable(case):
    lab = make_lab(case, corpus=write_corpus(3))
    finding = t004.EXPERIMENT.judge(t004.EXPERIMENT.measure(lab, "rtn4-g32", t004.Params()), QUICK)
    assert finding.verdict.label == "not testable"
    assert "4 needed" in finding.verdict.reason
    assert_presentable(t004.EXPERIMENT, finding)
