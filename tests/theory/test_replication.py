"""The origin's claims are all there, each rule goes both ways, and a tiny model has a ledger."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf

from bitgap.disparity.formulas import original_disparity
from bitgap.lab.lab import Lab
from bitgap.quant.plan import Plan
from bitgap.quant.rounding import round_weight
from bitgap.records import Estimate, ModelInfo
from bitgap.theory.origin import measure as origin_measure
from bitgap.theory.origin import setup as origin_setup
from bitgap.theory.origin.claims import (
    NO_SAMPLING,
    OUTCOMES,
    Part,
    decide,
    load_claims,
    of_parts,
    reproduced,
)
from bitgap.theory.origin.judging import judge_part
from bitgap.theory.origin.ledger import Ledger, judge_case
from bitgap.theory.origin.measure import case_of, replicate, training_shares
from bitgap.theory.origin.quantities import QUANTITIES, kurtosis_z
from bitgap.theory.origin.readings import Case, Readings
from bitgap.theory.origin.regression import RegressionRow, null_r2, regression
from cli_samples import save_model, write_corpus_folder
from score_samples import make_scores

CLAIMS, TABLES = load_claims()
INFO = ModelInfo(
    name="synthetic", family="gpt2", class_name="GPT2LMHeadModel", n_blocks=12, width=8,
    vocabulary=9, context=16, n_parameters=1, tied=True, fingerprint="0",
)  # fmt: skip


def test_merged_scores_keep_each_plan_s_own_floor() -> None:
    light = replace(make_scores(np.ones((2, 2, 3))), floors_nats=np.array([1e-6, 1e-9]))
    heavy = make_scores(np.ones((1, 2, 3)), floor_nats=1e-4)
    found = origin_measure.merged([(("a", "b"), light), (("c",), heavy)])
    assert found.plans == ("a", "b", "c") and found.floor_nats == 1e-4
    assert found.floor_by_plan.tolist() == [1e-6, 1e-9, 1e-4]
    alike = origin_measure.merged([(("c",), heavy), (("d",), heavy)])
    assert alike.floors_nats is None and alike.floor_nats == 1e-4


# -- what was declared ----------------------------------------------------------------------------


def test_every_claim_and_table_is_declared() -> None:
    assert [claim.number for claim in CLAIMS] == list(range(1, 25))
    assert {table.name for table in TABLES} == {
        *("MLP kept", "attention kept", "disparity", "variance", "outlier ratio", "sparsity"),
    }
    for claim in CLAIMS:
        assert claim.text and claim.where and claim.parts
        for part in claim.parts:
            assert part.quantity is None or part.quantity in QUANTITIES


def test_the_numbers_are_those_of_the_origin() -> None:
    by_number = {claim.number: dict(claim.measured) for claim in CLAIMS}
    assert by_number[4] == {"first": 3.6, "last": 336.0, "both": 0.72}
    assert by_number[5] == {"even": 0.48, "odd": 1380.0}
    assert by_number[13] == {"magnitude": 125480.0}
    typed = next(table for table in TABLES if table.name == "disparity")
    assert typed.values[11] == 55 and by_number[4]["last"] == 336


def test_a_part_needs_a_number() -> None:
    with pytest.raises(ValueError, match="needs a quantity"):
        Part(says="nothing")


# -- the rule -------------------------------------------------------------------------------------


def number(value: float | None, low: float | None = None, high: float | None = None) -> Estimate:
    return Estimate(value=value, low=low, high=high, unit="", reason="none")


@pytest.mark.parametrize(
    ("found", "compare", "threshold", "outcome"),
    [
        (number(2, 1.1, 3), "above", 1.0, "holds"),
        (number(0.5, 0, 0.9), "above", 1.0, "fails"),
        (number(2, 0.9, 3), "above", 1.0, "unclear"),
        (number(-2, -3, -1), "below", 0.0, "holds"),
        (number(2, 1, 3), "below", 0.0, "fails"),
        (number(-2, -3, 1), "below", 0.0, "unclear"),
        (number(0, -0.1, 0.1), "within", 0.2, "holds"),
        (number(1, 0.3, 2), "within", 0.2, "fails"),
        (number(-1, -2, -0.3), "within", 0.2, "fails"),
        (number(0, -0.1, 0.3), "within", 0.2, "unclear"),
        (number(5), "above", 0.0, "unclear"),
        (number(None), "above", 0.0, "undefined"),
        (replace(number(5), method=NO_SAMPLING), "above", 0.0, "holds"),
        (replace(number(-5), method=NO_SAMPLING), "above", 0.0, "fails"),
    ],
)
def test_the_rule_goes_both_ways(
    found: Estimate, compare: Any, threshold: float, outcome: str
) -> None:
    assert decide(found, compare, threshold) == outcome


def test_a_claim_is_as_good_as_its_worst_part() -> None:
    assert of_parts(["holds", "holds"]) == "holds"
    assert of_parts(["holds", "unclear"]) == "unclear"
    assert of_parts(["undefined", "unclear"]) == "undefined"
    assert of_parts(["cannot be tested here", "fails"]) == "fails"


def test_reproduced_means_to_one_per_cent() -> None:
    assert reproduced(336.0, 338.0) == "holds"
    assert reproduced(336.0, 340.0) == "fails"
    assert reproduced(336.0, None) == "undefined"


# -- planted cases --------------------------------------------------------------------------------


def planted(hurt: dict[str, tuple[float, ...]], *, noise: float = 0.02, n: int = 16) -> Case:
    """A case in which each plan costs each of en, he, sw and de so many nats a token."""
    rng = np.random.default_rng(3)
    level = np.array(list(hurt.values()))[:, :, None]
    kl = level * (1 + noise * rng.normal(size=(*level.shape[:2], n)))
    languages = ("en", "he", "sw", "de")[: level.shape[1]]
    scores = replace(make_scores(kl, languages=languages), plans=tuple(hurt))
    readings = Readings(scores)
    return Case(
        model=INFO,
        scheme="rtn4-g128",
        origin=readings,
        here=readings,
        origin_triples=readings,
        here_triples=readings,
        resources={"en": 5.0, "he": 3.0, "sw": 2.0, "de": 5.0},
    )


def outcomes(case: Case, number: int) -> list[tuple[str, str]]:
    judged = [judge_part(case, part) for part in CLAIMS[number - 1].parts]
    return [(part.origin.outcome, part.here.outcome) for part in judged]


EVEN = (0.1, 0.1, 0.1, 0.1)


@pytest.mark.parametrize(
    ("number", "holds", "fails"),
    [
        (1, {"none": (0.1, 0.4, 0.1, 0.1)}, {"none": (0.1, 0.02, 0.1, 0.1)}),
        (3, {"none": (0.1, 0.3, 0.4, 0.11)}, {"none": (0.4, 0.1, 0.09, 0.41)}),
        (
            4,
            {
                "none": (0.1, 0.3, 0.3, 0.3),
                "first": (0.1, 0.2, 0.2, 0.2),
                "last": (0.1, 0.5, 0.5, 0.5),
                "both": (0.1, 0.13, 0.13, 0.13),
            },
            {
                "none": (0.1, 0.5, 0.5, 0.5),
                "first": (0.1, 0.2, 0.2, 0.2),
                "last": (0.1, 0.3, 0.3, 0.3),
                "both": (0.1, 0.7, 0.7, 0.7),
            },
        ),
        (5, {"even": (0.1, 0.15, 0.15, 0.15), "odd": (0.1, 0.5, 0.5, 0.5)},
            {"odd": (0.1, 0.15, 0.15, 0.15), "even": (0.1, 0.5, 0.5, 0.5)}),
        (8, {"quad": (0.1, 0.15, 0.15, 0.15), "triple": (0.1, 0.5, 0.5, 0.5)},
            {"triple": (0.1, 0.15, 0.15, 0.15), "quad": (0.1, 0.5, 0.5, 0.5)}),
        (10, {"none": (0.1, 0.15, 0.15, 0.15), "embeddings": (0.1, 0.5, 0.5, 0.5)},
            {"embeddings": (0.1, 0.15, 0.15, 0.15), "none": (0.1, 0.5, 0.5, 0.5)}),
        (12,
            {"both": (0.1, 0.12, 0.12, 0.12), "random-0": (0.1, 0.4, 0.4, 0.4),
             "random-1": (0.1, 0.5, 0.5, 0.5)},
            {"both": (0.1, 0.5, 0.5, 0.5), "random-0": (0.1, 0.12, 0.12, 0.12),
             "random-1": (0.1, 0.13, 0.13, 0.13)}),
        (19, {"none": (0.1, 0.4, 0.4, 0.4), "consolidation": (0.09, 0.1, 0.1, 0.1)},
            {"none": (0.6, 0.2, 0.2, 0.2), "consolidation": (0.1, 0.19, 0.19, 0.19)}),
        (23, {"int8": (0.1, 0.3, 0.3, 0.3), "triple": (0.1, 0.3, 0.3, 0.3)},
            {"int8": (0.1, 0.6, 0.6, 0.6), "triple": (0.1, 0.3, 0.3, 0.3)}),
    ],
)  # fmt: skip
def test_a_planted_truth_is_found_and_its_contrary_fails(
    number: int, holds: dict[str, Any], fails: dict[str, Any]
) -> None:
    # Claim 3 has a part over four languages, too few to be clear.
    first = slice(0, 1) if number == 3 else slice(None)
    assert set(outcomes(planted(holds), number)[first]) == {("holds", "holds")}
    assert set(outcomes(planted(fails), number)[first]) == {("fails", "fails")}


def test_no_difference_is_unclear_in_most_texts() -> None:
    case = planted({"even": (0.1, 0.2, 0.2, 0.2), "odd": (0.1, 0.2, 0.2, 0.2)}, noise=0.3)
    assert outcomes(case, 5) == [("unclear", "unclear")]


def test_the_best_triple_is_found_and_an_ordinary_one_is_not() -> None:
    names = [*origin_measure.triple_plans("rtn4-g128", 12), "triple"]
    levels = {name: (0.1, *(0.12 + 0.002 * i,) * 3) for i, name in enumerate(names)}
    part = CLAIMS[6].parts[0]
    assert judge_part(planted(levels), part).origin.outcome == "fails"
    best = planted(levels | {"0+9+11": (0.1, 0.1, 0.1, 0.1)}, noise=0.005)
    judged = judge_part(best, part)
    assert (judged.origin.outcome, judged.here.outcome) == ("holds", "holds")


def test_additive_damage_is_no_synergy_in_our_measure_whatever_the_ratio_does() -> None:
    """The origin's central error: K = Σ k makes the ratio look as if it interacted."""
    blocks = {"first": np.array([0.01, 0.30, 0.3, 0.3]), "last": np.array([0.06, 0.05, 0.05, 0.05])}
    rest = np.array([0.05, 0.05, 0.05, 0.05])
    first, last = blocks["first"], blocks["last"]
    cells = {"none": rest + first + last, "first": rest + last, "last": rest + first, "both": rest}
    exact = planted({name: tuple(v) for name, v in cells.items()}, noise=0.0)
    here = QUANTITIES["multiplicative over additive"](exact, exact.here, "disparity")
    assert not isinstance(here, Estimate)
    assert here.statistic(np.ones((1, 16)))[0] == pytest.approx(0, abs=1e-9)
    noisy = planted({name: tuple(v) for name, v in cells.items()})
    assert judge_part(noisy, CLAIMS[23].parts[0]).here.outcome != "holds"
    synergy = planted({n: tuple(v) for n, v in (cells | {"first": rest + 4 * last}).items()})
    assert judge_part(synergy, CLAIMS[23].parts[0]).here.outcome == "holds"


def test_d_original_is_undefined_where_english_may_not_be_harmed() -> None:
    rng = np.random.default_rng(0)
    kl = np.full((2, 3, 16), 0.1)
    delta = kl.copy()
    delta[1, 0] = rng.normal(0, 0.1, 16)
    scores = replace(make_scores(kl, delta, languages=("en", "he", "de")), plans=("odd", "even"))
    case = replace(planted({"none": EVEN}), origin=Readings(scores), here=Readings(scores))
    judged = judge_part(case, CLAIMS[4].parts[0])
    assert judged.origin.outcome == "undefined" and "'even'" in judged.origin.reason


def test_d_and_g_must_go_the_same_way() -> None:
    kl = np.full((2, 3, 16), 0.1) * (1 + 0.01 * np.random.default_rng(0).normal(size=(2, 3, 16)))
    kl[1, 1:] *= 3
    delta = kl.copy()
    delta[0, 1:] += 1
    scores = replace(make_scores(kl, delta, languages=("en", "he", "de")), plans=("even", "odd"))
    case = replace(planted({"none": EVEN}), here=Readings(scores), origin=Readings(scores))
    assert judge_part(case, CLAIMS[4].parts[0]).here.outcome == "unclear"


def test_collapsed_languages_stay_out_of_our_measure_and_are_named() -> None:
    readings = planted({"none": (0.1, 9.0, 0.2, 0.2)}).here
    assert readings.left_out(["none"]) == {"he": "collapsed"}
    everyone = planted({"none": (9.0, 9.0, 9.0, 9.0), "even": EVEN, "odd": EVEN})
    judged = judge_part(everyone, Part(says="", less="even", more="none")).here
    assert judged.outcome == "undefined"


def test_readings_are_the_formulas_of_damage() -> None:
    readings = planted({"none": (0.1, 0.3, 0.2, 0.5), "even": EVEN}).origin
    mine = readings.value("original", ["none", "even"], np.ones((1, 16)))[0]
    np.testing.assert_allclose(mine, original_disparity(readings.scores))


# -- statistics -----------------------------------------------------------------------------------


def test_leave_one_out_is_what_fitting_without_a_block_gives() -> None:
    rng = np.random.default_rng(1)
    design = np.column_stack([np.ones(12), rng.normal(size=(12, 4))])
    response = rng.normal(size=(1, 12))
    r2, loo, _ = regression(design, response)
    y = response[0]
    left = [
        y[i] - design[i] @ np.linalg.lstsq(np.delete(design, i, 0), np.delete(y, i), rcond=None)[0]
        for i in range(12)
    ]
    around = [y[i] - np.delete(y, i).mean() for i in range(12)]
    assert loo[0] == pytest.approx(1 - np.square(left).sum() / np.square(around).sum())
    assert loo[0] < r2[0]


def test_the_null_of_r_squared_is_where_noise_lies() -> None:
    rng = np.random.default_rng(2)
    design = np.column_stack([np.ones(12), rng.normal(size=(12, 4))])
    r2, _, _ = regression(design, rng.normal(size=(4000, 12)))
    assert np.mean(r2 > null_r2(12, 4)) == pytest.approx(0.05, abs=0.015)


def test_kurtosis_limit_is_exceeded_by_chance_one_time_in_forty() -> None:
    rng = np.random.default_rng(4)
    for trend in (False, True):
        over = [
            z > limit
            for z, limit, _ in (kurtosis_z(rng.normal(size=12), trend=trend) for _ in range(1000))
        ]
        assert np.mean(over) == pytest.approx(0.025, abs=0.012)
    drift = kurtosis_z(np.arange(12) + rng.normal(0, 0.5, 12), trend=True)
    assert drift[0] < drift[1]


def test_shares_are_read_off_a_card() -> None:
    card = "| data | `corpus/`, 113 MB, in proportion to its size: en 30 %, de 10, eu 2.5 |"
    assert training_shares(card) == {"en": 30.0, "de": 10.0, "eu": 2.5}
    assert training_shares("no table") == {}


def test_blocks_of_other_depths_go_by_relative_depth() -> None:
    assert origin_setup.blocks_of("triple", 12) == (0, 9, 11)
    assert origin_setup.blocks_of("triple", 24) == (0, 18, 23)
    assert origin_setup.blocks_of("quad", 12) == (0, 8, 9, 11)
    assert origin_setup.blocks_of("odd", 5) == (1, 3)


# -- a model on disk ------------------------------------------------------------------------------


def save_gpt2(folder: Path, blocks: int = 7) -> Path:
    """A tiny GPT-2 that learned nothing, with the tokenizer of the other tiny models."""
    save_model(folder, blocks=1)
    (folder / "model.safetensors").unlink()
    vocabulary = json.loads((folder / "config.json").read_text())["vocab_size"]
    config = hf.GPT2Config(
        vocab_size=vocabulary, n_embd=16, n_layer=blocks, n_head=2, n_positions=96,
        bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(5)
        model: Any = hf.GPT2LMHeadModel(config)
        for parameter in model.parameters():
            # Biases start at 0, where nothing is rounded.
            parameter.data.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("origin")
    model, corpus = save_gpt2(folder / "gpt2"), write_corpus_folder(folder / "text")
    yield Lab.from_pretrained(model, corpus)


@pytest.fixture(scope="module")
def case(lab: Lab) -> Case:
    return case_of(lab, "rtn4-tensor", triple_sentences=4, draws=2)


@pytest.fixture(scope="module")
def ledger(case: Case) -> Ledger:
    return judge_case(case, regression=RegressionRow(source="published", r2=0.936))


def test_the_ledger_has_every_row_and_is_plain_json(ledger: Ledger) -> None:
    assert [row.claim for row in ledger.rows[:24]] == [str(n) for n in range(1, 25)]
    assert len(ledger.rows) == 24 + len(TABLES)
    content = json.loads(json.dumps(ledger.as_dict(), allow_nan=False))
    assert content["regression"]["r2"] == 0.936
    for counts in content["counts"].values():
        assert sum(counts.values()) == 24 and set(counts) == set(OUTCOMES)
    for row in ledger.rows:
        assert row.outcome in OUTCOMES and row.reason and row.reason_here and row.how
    assert ledger.row(4).parts[0].origin.single is not None


def test_other_families_cannot_be_tested_without_their_models(ledger: Ledger) -> None:
    for number, family in ((2, "opt"), (9, "opt"), (21, "bloom"), (22, "xglm")):
        row = ledger.row(number)
        assert row.outcome == "cannot be tested here" and family in row.reason


def test_other_families_are_tested_where_they_are_given(case: Case) -> None:
    opt = replace(case, model=replace(case.model, name="small-opt", family="opt"))
    found = judge_case(case, {"opt": opt})
    assert found.row(2).model == "small-opt"
    assert found.row(9).outcome != "cannot be tested here"


def test_the_origins_numbers_are_tried_on_its_own_shape_only(
    case: Case, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert {row.exact for row in ledger.rows} == {"cannot be tested here"}
    info = case.model
    shape = {"gpt2": (info.vocabulary, info.n_blocks, info.width)}
    monkeypatch.setattr(origin_setup, "_OWN", shape)
    tried = judge_case(case)
    for number in (1, 4, 5, 10, 11, 12, 13):
        assert tried.row(number).exact == "fails", number
        assert "sentences" in tried.row(number).exact_reason
    # Nothing was given for it to compare with.
    assert tried.row(24).exact == "cannot be tested here"


def test_the_real_checkpoint_is_known_by_its_shape() -> None:
    real = replace(INFO, vocabulary=50257, n_blocks=12, width=768)
    assert origin_setup.is_origins_own(real)
    assert not origin_setup.is_origins_own(replace(real, width=1024))
    assert not origin_setup.is_origins_own(replace(real, family="opt"))
    assert origin_setup.is_origins_own(replace(real, family="opt", vocabulary=50272), "opt")


def test_the_origins_scheme_takes_embedding_and_norm_gains_and_no_bias(lab: Lab) -> None:
    plan = origin_measure.block_plans("seed4", 7)["none"]
    assert (plan.embedding, plan.head) == ("seed4", "seed4")
    table = lab.bank.embedding("seed4")
    assert table and all(value.unique().numel() <= 16 for value in table.values())
    linears, gains, biases = origin_measure.rounded_parameters(lab)
    assert set(gains[0]) == {"ln_1.weight", "ln_2.weight"}
    assert not any(name.endswith("weight") for name in biases[0])
    block = lab.bank.block(0, "seed4")
    torch.testing.assert_close(block.get_parameter("ln_1.weight").data, gains[0]["ln_1.weight"])
    own = lab.decoder.blocks[0].get_parameter("ln_1.bias")
    torch.testing.assert_close(block.get_parameter("ln_1.bias"), own)
    assert not torch.equal(gains[0]["ln_1.weight"], lab.decoder.block_weights(0)["ln_1.weight"])
    weight = lab.decoder.block_linears(0)["attn.c_attn"].get()
    q = 7 * weight / weight.abs().max()
    want = torch.clamp(torch.round(q), -8, 7) * weight.abs().max() / 7
    torch.testing.assert_close(round_weight(weight, "seed4", stream=""), want)
    torch.testing.assert_close(linears[0]["attn.c_attn"], want)


def test_what_is_protected_by_weight_lies_between_all_and_nothing(case: Case) -> None:
    """Both halves of a block kept are the block kept, so each costs no less in KL, by and large."""
    scores = case.origin.scores
    kl = dict(zip(scores.plans, scores.kl_nats.sum((1, 2)), strict=True))
    assert kl["biases"] != kl["none"] and kl["embeddings"] != kl["none"]
    assert kl["random-0"] != kl["random-1"]
    assert kl["magnitude"] < kl["none"]
    assert {f"mlp-{i}" for i in range(7)} | {f"attention-{i}" for i in range(7)} <= kl.keys()


def test_half_of_a_block_is_the_mlp_or_the_attention(lab: Lab) -> None:
    before = len(lab.bank._own)
    kinds = {name: linears for name, linears, _ in origin_measure._variants(lab, 1)}
    kept = {name: view.get() for name, view in lab.decoder.block_linears(2).items()}
    for half, mine in (("mlp", "mlp.c_fc"), ("attention", "attn.c_attn")):
        assert torch.equal(kinds[half][2][mine], kept[mine])
        other = {"mlp": "attn.c_attn", "attention": "mlp.c_fc"}[half]
        assert not torch.equal(kinds[half][2][other], kept[other])
    share = (kinds["random-0"][2]["mlp.c_fc"] == kept["mlp.c_fc"]).double().mean()
    assert 0.05 < share < 0.2
    large = kept["mlp.c_fc"].abs()
    same = kinds["magnitude"][2]["mlp.c_fc"] == kept["mlp.c_fc"]
    assert same[large > large.median() * 2].all()
    assert len(lab.bank._own) == before


def test_variants_leave_the_bank_as_it_was(lab: Lab, case: Case) -> None:
    assert case.origin.has("magnitude") and not lab.bank._own
    assert lab.score([Plan.uniform("seed4", 7)]).n_sentences == 8


def test_a_shallow_model_says_what_it_cannot_answer(tmp_path: Path) -> None:
    folder = save_gpt2(tmp_path / "three", blocks=3)
    lab = Lab.from_pretrained(folder, write_corpus_folder(tmp_path / "t"))
    found = replicate(lab, "rtn4-tensor", sentences=3, triple_sentences=2, draws=1)
    assert found.n_sentences == 3 and found.n_triple_sentences == 2
    assert "too few" in found.row(7).reason
    assert found.row(8).outcome == "cannot be tested here"
    json.dumps(found.as_dict(), allow_nan=False)


def test_tails_are_sums_over_the_entries_of_states(lab: Lab, case: Case) -> None:
    states = np.asarray(lab.activations().states[2], dtype=np.float64)
    found = case.tails["original"][1].sum((0, 1))
    wanted = [states.size, *((states**k).sum() for k in range(1, 5))]
    np.testing.assert_allclose(found[:5], wanted)
    assert found[5] == (np.abs(states - states.mean()) > 3 * states.std()).sum()
