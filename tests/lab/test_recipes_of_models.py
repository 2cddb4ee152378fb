"""Recipes for a model in hand: units, both instruments, and that stopping loses nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lab_samples import load_tiny
from lab_samples import write_corpus as words_corpus
from scipy.stats import spearmanr

from bitgap.codec import decode, encode
from bitgap.errors import (
    BudgetError,
    CorpusError,
    LanguageError,
    PlanError,
    SchemeError,
    UsageError,
)
from bitgap.lab.lab import Lab
from bitgap.lab.protect import search
from bitgap.lab.protect.run import protect, table_of
from bitgap.lab.protect.steps import Asked, foresee, prepare
from bitgap.lab.protect.table import damage_table, scored, screen_s
from bitgap.lab.protect.units import choices_of, units_of
from bitgap.lab.settings import Settings
from bitgap.models.load import fingerprint
from bitgap.protect.calibration import MOST_MEASURED
from bitgap.protect.outcome import Outcome
from bitgap.protect.recipe import read_recipe
from bitgap.protect.records import TIED
from cli_samples import save_model, write_longer_corpus
from validation.families.tiny import tiny_model

SCHEMES = ("rtn3-g32", "rtn4-g32", "rtn5-g32", "rtn6-g32")
FEW: dict[str, Any] = {"schemes": SCHEMES, "random": 3, "placebos": 2, "draws": 1}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model that has learned a little, and forty sentences."""
    folder = tmp_path_factory.mktemp("recipes")
    save_model(folder / "model", steps=80)
    write_longer_corpus(folder / "corpus")
    return folder


def _lab(home: Path, **more: Any) -> Lab:
    return Lab.from_pretrained(home / "model", home / "corpus", languages="en,de", **more)


@pytest.fixture(scope="module")
def found(home: Path) -> tuple[Outcome, Path]:
    out = home / "whole"
    out.mkdir()
    return _lab(home).protect(budget=4.6, out=out, triples=[(0, 1)], **FEW), out


def test_every_weight_is_in_one_unit_or_stored_whole(home: Path) -> None:
    lab = _lab(home)
    units = units_of(lab)
    names = [matrix.name for unit in units.units for matrix in unit.matrices]
    parameters = dict(lab.decoder.model.named_parameters())
    assert {*names} <= parameters.keys()
    for unit in units.units:
        for matrix in unit.matrices:
            assert tuple(parameters[matrix.name].shape) == (matrix.n_out, matrix.n_in)
    whole = sum(p.numel() for name, p in parameters.items() if name not in names)
    assert units.fixed_bytes == 2 * whole
    assert [u.kind for u in units.units[:8]] == ["embedding", *"q k v o gate up down".split()]
    assert units.units[-1].kind == "head"


def test_tied_matrices_are_one_unit_that_acts_twice() -> None:
    lab = Lab.from_pretrained(languages="de").spread(2)
    units = units_of(lab)
    assert [u.name for u in units.units if u.block is None] == ["embedding"]
    assert units.units[0].kind == TIED
    plan = units.plan({"embedding": "rtn4-g64"})
    assert plan.embedding == plan.head == "rtn4-g64"
    everything = units.plan(dict.fromkeys((u.name for u in units.units), "rtn4-g64"))
    assert everything.text == "rtn4-g64 embedding rtn4-g64 head rtn4-g64"
    with pytest.raises(PlanError, match=r"13\.mlp"):
        units.plan({"13.mlp": "rtn4-g64"})


def test_swaps_are_the_mean_of_both_ends(home: Path) -> None:
    work = prepare(_lab(home), _asked(instrument="swaps"))
    bench, units = work.found_on, work.units
    table = table_of(work)
    u, scheme = 5, "rtn4-g32"
    name = units.units[u].name
    plans = [
        units.plan({name: scheme}),
        units.plan({**work.base, name: scheme}),
        units.plan({**work.base, name: "fp"}),
    ]
    alone, within, whole = scored(bench, plans, "by hand").kl_nats.sum(-1) / np.log(2)
    assert table.characters is not None
    wanted = (alone + within - whole) / 2 / table.characters.sum()
    np.testing.assert_allclose(table.damage_bits[:, u, SCHEMES.index(scheme)], wanted, rtol=1e-9)


def _asked(**more: Any) -> Asked:
    return Asked(**{"budget": 4.6, **FEW, **more})


def test_the_screen_ranks_as_swaps_do(home: Path) -> None:
    lab = _lab(home)
    units = units_of(lab)
    choices = choices_of(units.units, SCHEMES[1:3])
    base = dict.fromkeys((u.name for u in units.units), SCHEMES[1])
    table = damage_table(lab, units, choices, SCHEMES[1:3], "screen", base)
    ends = [None, units.plan(base)]
    assert screen_s(lab, SCHEMES[1:3], ends) == 0 < screen_s(_lab(home), SCHEMES[1:3], ends), "kept"
    swaps = damage_table(lab, units, choices, SCHEMES[1:3], "swaps", base)
    mine, its = table.damage_bits, swaps.damage_bits
    # Embedding and head are scored, not screened.
    np.testing.assert_allclose(mine[:, [0, -1]], its[:, [0, -1]], rtol=1e-9)
    for one, other in zip(mine, its, strict=True):
        assert spearmanr(one[1:-1].ravel(), other[1:-1].ravel()).statistic > 0.9
        assert abs(one[1:-1].sum() / other[1:-1].sum() - 1) < 0.25


@pytest.mark.parametrize("name", ["MixtralForCausalLM", "GptOssForCausalLM", "JambaForCausalLM"])
def test_experts_are_scored_and_the_rest_of_a_mixture_is_screened(name: str) -> None:
    model: Any = tiny_model(name)
    info = replace(
        load_tiny("llama").info, name=name, n_blocks=model.config.num_hidden_layers,
        vocabulary=len(model.get_output_embeddings().weight), fingerprint=fingerprint(model),
    )  # fmt: skip
    lab = Lab.of(replace(load_tiny("llama"), model=model, info=info), words_corpus(8))
    units, schemes = units_of(lab), ["rtn3-g32", "rtn4-g32"]
    choices = choices_of(units.units, schemes)
    base = {u.name: "rtn4-g32" for u, row in zip(units.units, choices, strict=True) if any(row)}
    tables = [
        damage_table(lab, units, choices, schemes, kind, base).damage_bits
        for kind in ("screen", "swaps")
    ]
    experts = [i for i, u in enumerate(units.units) if u.block is not None and "experts" in u.name]
    assert experts and {units.units[i].name for i in experts} <= units.unwatched
    np.testing.assert_allclose(tables[0][:, experts], tables[1][:, experts], rtol=1e-6)
    watched = [i for i, u in enumerate(units.units) if u.name not in units.unwatched]
    assert watched and np.isfinite(tables[0][:, watched]).any()


def test_a_recipe_is_found_sealed_and_proved(found: tuple[Outcome, Path], home: Path) -> None:
    outcome, out = found
    recipe = read_recipe(out / "recipe.toml")
    assert recipe.bytes <= recipe.budget_bytes
    assert recipe.bytes == recipe.fixed_bytes + sum(u.bytes for u in recipe.units.values())
    assert outcome.proof.seal == recipe.sealed == outcome.recipe.sealed
    assert recipe.proof
    assert outcome.plans[0].name == "recipe"
    names = [one.name for one in outcome.plans]
    assert {"uniform", "language-blind", "ends protected", "blocks 0, 1"} <= {*names}
    assert all(one.size_bytes <= recipe.budget_bytes for one in outcome.plans)
    # Mixed bits do less than uniform ones, on text that the search has not seen.
    ours, uniform = (np.mean(outcome.plans[i].confirm_bits) for i in (0, names.index("uniform")))
    assert ours < 0.8 * uniform
    assert decode(Outcome, encode(outcome)) == outcome
    # The plan that the recipe's units make is the plan that was scored.
    units = units_of(_lab(home))
    assert units.plan(recipe.schemes).text == outcome.plans[0].plan


def test_what_measuring_takes_is_told_where_the_table_is_not_trusted(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = search.calibrate
    monkeypatch.setattr(
        search,
        "calibrate",
        lambda *given: replace(own(*given), trusted=False, reasons=("a test says so",)),
    )
    work, said = prepare(_lab(home), _asked()), list[str]()
    costs = foresee(work)
    assert costs.refine_s > 0 and costs.n_refined == 3 * MOST_MEASURED
    assert f"{costs.n_refined} more plans" in costs.sentence("screen")
    outcome = protect(work, costs, say=said.append)
    assert 0 < outcome.refined <= costs.n_refined
    (told,) = (one.predicted_s for one in outcome.steps if one.name == "search")
    assert told == costs.search_s + costs.refine_s
    assert any("a test says so" in one and "by measuring, which may take" in one for one in said)


def _stop_after(lab: Lab, commits: int | None, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Stops a lab once scores were committed so often; returns the texts that it scores on.

    Fails where the text that confirms is scored and no recipe was sealed.
    """
    confirm, put = prepare(lab, _asked()).confirm.text_key, lab.store.put_scores
    texts = list[str]()

    def stopping(key: str, rows: Any) -> None:
        if key == confirm:
            assert lab.store.observations_of("recipe"), "scored before a recipe was sealed"
            texts.append("confirm")
        put(key, rows)
        texts.append(key)
        if commits is not None and len(texts) >= commits:
            raise KeyboardInterrupt

    monkeypatch.setattr(lab.store, "put_scores", stopping)
    return texts


def test_stopped_anywhere_it_goes_on_to_the_same_bytes(
    found: tuple[Outcome, Path], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, whole = found
    out = home / "resumed"
    seen = list[str]()
    for commits in (1, 2, None):
        lab = _lab(home, store=home / "stopped.db")
        texts = _stop_after(lab, commits, monkeypatch)
        if commits is None:
            lab.protect(budget=4.6, out=out, triples=[(0, 1)], **FEW)
        else:
            with pytest.raises(KeyboardInterrupt):
                lab.protect(budget=4.6, out=out, triples=[(0, 1)], **FEW)
            assert not (out / "recipe.toml").exists()
        seen += texts
        lab.store.close()
    assert "confirm" in seen
    assert (out / "recipe.toml").read_bytes() == (whole / "recipe.toml").read_bytes()


def test_embeddings_held_one_at_a_time_score_the_same(home: Path) -> None:
    lab = _lab(home)
    units = units_of(lab)
    plans = [units.plan({"embedding": s, "head": s, "0.mlp.up_proj": s}) for s in SCHEMES]
    at_once = scored(lab, plans, "at once")
    little = _lab(home)
    # Less than two of them, so that each is forgotten before the next.
    little.settings = Settings(memory_bytes=4 * lab.decoder.tail.weight.numel())
    np.testing.assert_array_equal(scored(little, plans, "in turn").kl_nats, at_once.kl_nats)
    assert not [key for key in little.bank._ends if key[1] != "fp"]


def test_a_target_fuses_and_leaves_whole_what_it_must(home: Path) -> None:
    work = prepare(_lab(home), _asked(budget=None, size="35kB", target="vllm", schemes=()))
    by_unit = work.base
    assert by_unit["embedding"] == by_unit["head"] == "fp"
    for parts in work.guess.parts:
        kinds = {name.rpartition(".")[2] for name in parts}
        assert len(parts) == 1 or kinds in (
            {"q_proj", "k_proj", "v_proj"},
            {"gate_proj", "up_proj"},
        )


@pytest.mark.parametrize(
    ("more", "error", "said"),
    [
        ({"budget": 1.5}, BudgetError, "least"),
        ({"budget": 12.0}, BudgetError, "most"),
        ({"size": "3kB"}, UsageError, "exactly one"),
        ({"budget": None}, UsageError, "nothing"),
        ({"triples": [(0, 7)]}, PlanError, "block 7"),
        ({"ends": 2}, UsageError, "either end"),
        ({"schemes": ["seed4"]}, SchemeError, "seed4"),
        ({"objective": "best"}, UsageError, "worst-quarter"),
        ({"target": "ollama"}, UsageError, "gguf"),
        ({"no_harm": ["he"]}, UsageError, "reference, mean, all"),
        ({"instrument": "guess"}, UsageError, "swaps"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_measured(
    home: Path, more: dict[str, Any], error: type[Exception], said: str
) -> None:
    lab = _lab(home)
    with pytest.raises(error) as raised:
        lab.prepare_recipe(**{"budget": 4.6, **FEW, **more})
    assert said in str(raised.value)
    assert lab.ledger.block_rows == 0


def test_a_small_text_is_refused_with_the_number_it_needs(home: Path) -> None:
    lab = _lab(home).on(sentences=range(20))
    with pytest.raises(CorpusError, match="27 or more"):
        lab.prepare_recipe(budget=4.6, **FEW)


def test_a_reference_that_collapses_is_refused(home: Path) -> None:
    with pytest.raises(LanguageError, match="collapsed"):
        _lab(home).protect(budget=2.6, **{**FEW, "schemes": ["rtn2-g32", "rtn4-g32"]})
