"""Predictions: planted truths are foreseen, nulls are not, and no file can be cheated with."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from evidence_samples import additive

from bitgap.errors import UserError
from bitgap.lab.store import Store
from bitgap.theory.evidence import Evidence
from bitgap.theory.forecast.cards import find_card, inputs_of_card
from bitgap.theory.forecast.expectation import inputs_of, shrinkage
from bitgap.theory.forecast.intervals import forecast, random_masks
from bitgap.theory.forecast.prediction import (
    check,
    leave_one_family_out,
    measured_since,
    predict,
    read_prediction,
    stated_content,
    write_prediction,
)
from bitgap.theory.forecast.scorecard import score, summarize, triples

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
ZOO = [additive(name, seed) for seed, name in enumerate("abcde")]
TARGET = additive("new", 99)


def predicted(kind: Any = "weights", target: Evidence = TARGET) -> Any:
    return predict(ZOO, inputs_of(target), kind, now=NOON)


# -- truths ---------------------------------------------------------------------------------------


def test_shared_sensitivity_is_foreseen_exactly_from_weights() -> None:
    card = check(predicted(), TARGET, NOON + timedelta(hours=1))
    for quantity in ("spread", "damage", "disparity"):
        scored = card.masks[quantity]
        assert scored["spearman"] == pytest.approx(1)
        assert scored["rmse"] == pytest.approx(0, abs=1e-9)
        assert scored["n"] == card.masks["asked"] == 20
    for objective in card.objectives.values():
        assert objective["percentile"] == 0
        assert objective["regret"] == pytest.approx(0, abs=1e-12)
    assert card.objectives["spread"]["baselines"]["random"]["regret"] > 0
    json.dumps(card.as_dict(), allow_nan=False)


def test_depth_alone_is_foreseen_at_another_number_of_blocks() -> None:
    # Ends of their own, and a straight line in between: the interior's shares are thinned.
    def at(family: str, n: int) -> Evidence:
        inside = np.exp2(2 * np.linspace(0, 1, n - 2)) / (n - 2)
        k = np.concatenate([[3.0], inside, [0.7]])
        return additive(family, 1, n_blocks=n, slope=0.0, profile=np.log2(k))

    zoo = [at("a", 6), at("b", 10), at("c", 6)]
    target = at("new", 11)
    found = forecast(zoo, inputs_of(target), "config", random_masks(11))
    assert found.protect["damage"] == (0, 9, 10)
    shares, true = found.core.damage, target.single.mean(1) / target.single.mean(1).sum()
    assert shares[[0, -1]] == pytest.approx(true[[0, -1]], rel=0.02)
    assert shares == pytest.approx(true, rel=0.05)


def test_a_spike_at_the_first_block_stays_at_the_first_block() -> None:
    spike = np.log2(np.array([10.0, *[0.1] * 10, 0.1]))
    zoo = [additive(f, i, n_blocks=12, slope=0.0, profile=spike) for i, f in enumerate("abc")]
    zoo = [replace(one, masks=one.masks[:64], damage=one.damage[:64]) for one in zoo]
    card = inputs_of_card(find_card("Llama-2-70B"))
    for kind in ("config", "weights"):
        inputs = card
        if kind == "weights":
            inputs = replace(
                card, languages=zoo[0].languages, tokens=zoo[0].tokens, t2=np.full(80, 0.01),
                log_error_ratio=np.zeros((80, 4)),
            )  # fmt: skip
            zoo = [replace(one, t2=np.full(12, 0.01)) for one in zoo]
        shares = forecast(zoo, inputs, kind, [(0,)]).core.damage
        assert len(shares) == 80
        assert shares[0] == pytest.approx(10 / 11.1, rel=1e-6)
        assert shares[1:].max() < 0.02


def test_the_profile_of_a_language_is_learned_and_noise_is_not() -> None:
    rng = np.random.default_rng(0)
    same = rng.normal(size=8)
    truth = [same + 0.2 * rng.normal(size=(6, 8)) for _ in range(4)]
    assert shrinkage(truth) > 0.9
    noise = [shrinkage([rng.normal(size=(6, 8)) for _ in range(4)]) for _ in range(200)]
    assert np.mean(noise) < 0.2
    assert shrinkage([rng.normal(size=(1, 8))]) == 0


def test_a_triple_is_placed_among_all_by_pairs_where_not_all_were_measured() -> None:
    # Where damage adds up the expansion is exact, so the places are those of the whole map.
    few = TARGET.protects.sum(1) <= 2
    paired = replace(TARGET, masks=TARGET.masks[few], damage=TARGET.damage[few])
    full, expanded = triples(TARGET), triples(paired)
    assert (full[1], expanded[1]) == ("measured", "expanded from pairs")
    for mask, damage in full[0].items():
        np.testing.assert_allclose(expanded[0][mask], damage, rtol=1e-9)
    ends = TARGET.protects.sum(1) <= 1
    alone = replace(TARGET, masks=TARGET.masks[ends], damage=TARGET.damage[ends])
    found = check(predicted(), alone, NOON + timedelta(hours=1)).objectives["damage"]
    assert found["percentile"] is None and "0 triples were measured" in found["reason"]


def test_families_with_nothing_in_common_are_placed_at_chance() -> None:
    def null(family: str, seed: int) -> Evidence:
        rng = np.random.default_rng(1000 + seed)
        return additive(family, seed, slope=0.0, spread=0.7, profile=rng.normal(0, 1.5, 8))

    places = []
    for group in range(12):
        zoo = [null(f"f{i}", 7 * group + i) for i in range(4)]
        target = null("new", 7 * group + 5)
        found = forecast(zoo, inputs_of(target), "config", [(0,)])
        scored = score(found.protect, found.masks, found.quantities, target)
        places += [scored.objectives[name]["percentile"] for name in ("spread", "damage")]
    assert 0.3 < np.mean(places) < 0.7


def test_intervals_cover_about_as_often_as_they_say() -> None:
    # What differs between families is one factor of S, so the intervals are exact: 90 %.
    covered = []
    for group in range(120):
        rng = np.random.default_rng(group)
        zoo = [stretched(f"f{i}", 2 ** rng.normal(0, 0.5)) for i in range(5)]
        *known, target = zoo
        found = forecast(known, replace(inputs_of(target), fingerprint=None), "config", [(0, 3)])
        ranges = {name: list(values) * 3 for name, values in found.quantities.items()}
        scored = score(found.protect, [(0, 3)] * 3, ranges, target)
        covered.append(scored.masks["spread"]["covered"])
    assert 0.83 <= np.mean(covered) <= 0.96


def stretched(family: str, factor: float) -> Evidence:
    """Returns a model in which log2 damage of every language lies a factor as far from the mean."""
    one = additive(family, 3, slope=0.0)
    tokens = np.full(4, 100)
    apart = np.exp2(factor * np.array([-1.5, -0.5, 0.5, 1.5]))
    single = one.single[:, :1] * apart
    damage = one.damage[:, :1] * apart
    return replace(one, single=single, damage=damage, tokens=tokens)


def test_nothing_measured_of_the_held_out_model_leaks() -> None:
    rng = np.random.default_rng(0)
    other = replace(
        TARGET,
        **{
            name: rng.random(getattr(TARGET, name).shape)
            for name in ("damage", "single", "sensitivity", "original_disparity")
        },
        shapley={"spread": rng.random(8)},
    )
    for kind in ("config", "weights"):
        assert predicted(kind, other) == predicted(kind)
    moved = replace(TARGET, t2=TARGET.t2[::-1].copy())
    assert predicted("weights", moved) != predicted("weights")
    assert predicted("config", moved) == predicted("config")


# -- leave one family out -------------------------------------------------------------------------


def test_every_family_is_held_out_and_its_own_damage_is_not_learned_from() -> None:
    rows = leave_one_family_out(ZOO)
    assert len(rows) == 2 * len(ZOO)
    assert all(row["family"] not in row["learned_from"] for row in rows)
    summary = summarize(rows, 2 / 3)
    of_weights = [r for r in summary if r["kind"] == "weights" and r["who"] == "forecast"]
    assert [r["successes"] for r in of_weights] == [5, 5]
    assert all(r["success"] for r in of_weights)
    assert not any(r["success"] for r in summary if r["who"] == "first_three")
    with pytest.raises(UserError, match="two measured families"):
        leave_one_family_out(ZOO[:2])


# -- files ----------------------------------------------------------------------------------------


def test_a_prediction_comes_back_as_it_was_and_never_over_another(tmp_path: Path) -> None:
    one = predicted()
    first, second = write_prediction(one, tmp_path), write_prediction(one, tmp_path)
    assert first != second and first.read_bytes() == second.read_bytes()
    assert read_prediction(first) == one
    assert sorted(tmp_path.iterdir()) == sorted([first, second])


def test_a_changed_file_is_refused(tmp_path: Path) -> None:
    path = write_prediction(predicted(), tmp_path)
    content = json.loads(path.read_text())
    content["masks"][0]["spread"][0] += 1e-9
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="was changed"):
        read_prediction(path)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("no json", "holds no JSON"),
        ("[1]", "is no prediction"),
        ('{"version": 2, "sha256": "", "masks": []}', "was changed after it was made"),
    ],
)
def test_other_files_are_told_apart(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(UserError, match=says):
        read_prediction(path)
    with pytest.raises(UserError, match="cannot read"):
        read_prediction(tmp_path / "absent.json")


def test_predictions_of_the_first_version_are_whole_and_not_read_as_of_the_second(
    tmp_path: Path,
) -> None:
    old = sorted((Path(__file__).parents[2] / "docs" / "predictions").glob("*20261125T*.json"))
    for path in old:
        assert stated_content(path)["version"] == 1
        with pytest.raises(UserError, match="has version 1, this bitgap reads 2"):
            read_prediction(path)


# -- refusals -------------------------------------------------------------------------------------


def test_a_prediction_made_after_the_measurement_began_is_refused() -> None:
    for began in (NOON - timedelta(seconds=1), NOON):
        with pytest.raises(UserError, match="after measuring"):
            check(predicted(), TARGET, began)
    with pytest.raises(UserError, match="nothing says when"):
        check(predicted(), TARGET, None)


def test_another_model_is_refused() -> None:
    later = NOON + timedelta(hours=1)
    with pytest.raises(UserError, match="check it with the model it is of"):
        check(predicted(), ZOO[0], later)
    with pytest.raises(UserError, match="rounded by"):
        check(predicted(), replace(TARGET, scheme="rtn3-g128"), later)
    of_card = predict(ZOO, inputs_of_card(find_card("Llama-2-7B")), "config", now=NOON)
    with pytest.raises(UserError, match="llama, 32 blocks"):
        check(of_card, TARGET, later)


def test_what_cannot_be_predicted_says_why() -> None:
    card = inputs_of_card(find_card("Llama-2-7B"))
    with pytest.raises(UserError, match="needs its weights"):
        predict(ZOO, card, "weights")
    with pytest.raises(UserError, match="at least two measured families"):
        predict(ZOO[:1], card, "config")
    with pytest.raises(UserError, match="among the models to learn from"):
        predict(ZOO, inputs_of(ZOO[0]), "config")


def test_deep_models_get_triples_and_random_masks_of_many_sizes() -> None:
    one = predict(ZOO, inputs_of_card(find_card("Llama-2-70B")), "config", now=NOON)
    assert all(len(row["blocks"]) == 3 for row in one.protect.values())
    assert len({len(row["protected"]) for row in one.masks}) > 5
    assert random_masks(80) == random_masks(80) != random_masks(80, seed=1)


# -- when measuring began -------------------------------------------------------------------------


class FakeStore(Store):
    def __init__(self, runs: list[Any], texts: list[Any]) -> None:
        super().__init__(":memory:")
        self._runs, self._texts = runs, texts

    def runs(self) -> list[Any]:
        return self._runs

    def scored_texts(self) -> list[Any]:
        return self._texts

    def scored_plans(self, text_key: str) -> list[Any]:
        return [("plan", text_key)]


def run_of(fingerprint: str, started: datetime) -> Any:
    when = SimpleNamespace(started=started.isoformat(timespec="seconds"))
    return (1, "audit", when, {"model_fingerprint": fingerprint})


def test_measuring_began_with_the_earliest_run() -> None:
    runs = [run_of("f", NOON), run_of("f", NOON - timedelta(days=1)), run_of("g", NOON)]
    store: Any = FakeStore(runs, [])
    assert measured_since(store, "f", "m") == NOON - timedelta(days=1)
    assert measured_since(store, "h", "m") is None


def test_scores_that_nothing_dates_count_as_measured() -> None:
    store: Any = FakeStore([], [("key", {"model": "m"}, {})])
    with pytest.raises(UserError, match="no run that says when"):
        measured_since(store, "f", "m")
    assert measured_since(store, "f", "another") is None
    store.begin("f", "m")
    with pytest.raises(UserError, match="no run that says when"):
        measured_since(store, "f", "m")


def test_scores_of_a_run_that_was_stopped_are_dated() -> None:
    store: Any = FakeStore([], [])
    before = datetime.now(UTC)
    store.begin("f", "m")
    began = measured_since(store, "f", "m")
    assert began is not None and before <= began <= datetime.now(UTC)
    store._texts = [("key", {"model": "m"}, {})]
    store.begin("f", "m")
    store._runs = [run_of("f", datetime.now(UTC) + timedelta(hours=1))]
    assert measured_since(store, "f", "m") == began
