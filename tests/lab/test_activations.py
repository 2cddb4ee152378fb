"""One pass, kept: what it keeps is what the model does, and it is made once."""

from __future__ import annotations

import itertools
import logging

import numpy as np
import pytest
import torch
from lab_samples import load_tiny, make_lab, write_corpus

from bitgap.errors import StoreError
from bitgap.lab.activations import sample_size, stream, without_sinks
from bitgap.lab.lab import Lab
from bitgap.lab.settings import Settings
from bitgap.lab.store import Store
from bitgap.quant.plan import Plan

CORPUS = write_corpus(6, ("en", "he", "ar"))
CLEAN = Plan.uniform("fp", 3)


def kept_lab(store: Store | None = None, seed: int = 0) -> Lab:
    return make_lab(corpus=CORPUS, store=store, settings=Settings(seed=seed))


def test_sampled_states_are_the_models_own_at_every_site() -> None:
    lab = kept_lab()
    found = lab.activations()
    n_sentences = lab.text.counts.tokens.shape[1]
    for part in stream(lab, [CLEAN]):
        for row, where in enumerate(part.chunk.where):
            mine = np.flatnonzero(found.language * n_sentences + found.sentence == where)
            for i in mine:
                matches = np.flatnonzero(part.chunk.input_ids[row].numpy() == found.token[i])
                states = part.states[0][row, torch.from_numpy(matches)].numpy()
                assert np.isclose(states, found.states[part.depth + 1, i], atol=1e-6).all(1).any()


def test_tokens_are_balanced_over_languages_and_follow_their_predecessors() -> None:
    lab = kept_lab()
    found = lab.activations(per_language=7)
    assert np.bincount(found.language).tolist() == [7, 7, 7]
    for a, s, token, before in zip(
        found.language, found.sentence, found.token, found.previous, strict=True
    ):
        ids = lab.text.ids[a][s]
        assert (before, token) in set(itertools.pairwise(ids))


def test_the_sample_is_as_large_as_text_and_memory_allow() -> None:
    lab = kept_lab()
    shortest = min(sum(len(ids) - 1 for ids in language) for language in lab.text.ids)
    assert sample_size(lab) == min(shortest, -(-20 * lab.decoder.width // 3))
    row_bytes = 4 * lab.decoder.width * (lab.n_blocks + 2)
    poor = kept_lab()
    poor.settings = Settings(memory_bytes=4 * row_bytes * 3 * 5)
    assert sample_size(poor) == 5


def test_moments_are_those_of_all_ordinary_tokens() -> None:
    lab = kept_lab()
    found, n_sentences = lab.activations(), lab.text.counts.tokens.shape[1]
    parts = {site: [[], [], []] for site in range(5)}  # type: ignore[var-annotated]
    for part in stream(lab, [CLEAN]):
        mask = without_sinks(part.states[0], part.real)
        for row, where in enumerate(part.chunk.where):
            rows = part.states[0][row][mask[row]].double().numpy()
            parts[part.depth + 1][where // n_sentences].append(rows)
    for site, languages in parts.items():
        for a, rows in enumerate(languages):
            values = np.concatenate(rows)
            assert found.count[site, a] == len(values)
            np.testing.assert_allclose(found.mean[site, a], values.mean(0), atol=1e-12)
            np.testing.assert_allclose(found.power[site, a], (values**2).mean(0), atol=1e-12)


def test_sinks_are_left_out_and_massive_values_clipped_unless_asked_for() -> None:
    found = kept_lab().activations()
    states, ordinary = np.array(found.states), np.array(found.ordinary)
    states[1, 0], states[1, 1, 0], ordinary[1, 0] = 1e3, 1e6, False
    planted = type(found)(**{
        name: {"states": states, "ordinary": ordinary}.get(name, getattr(found, name))
        for name in found.__dataclass_fields__
    })  # fmt: skip
    rows, values = planted.at(1)
    limit = max(100.0, 1000 * float(np.median(np.abs(states[1, 1:]))))
    assert 0 not in rows and values[0, 0] == pytest.approx(limit)
    rows, values = planted.at(1, sinks=True, massive=True)
    assert len(rows) == states.shape[1] and values[1, 0] == 1e6


def test_a_second_asking_passes_over_nothing(tmp_path) -> None:
    with Store(tmp_path / "a.db") as store:
        lab = kept_lab(store)
        first = lab.activations()
        done = lab.ledger.block_rows
        assert done == 3 * lab.n_rows
        assert lab.activations() is first and lab.ledger.block_rows == done
    with Store(tmp_path / "a.db") as store:
        again = kept_lab(store)
        found = again.activations()
        assert again.ledger.block_rows == 0
        np.testing.assert_array_equal(found.states, first.states)
        np.testing.assert_array_equal(found.pooled, first.pooled)
        assert isinstance(found.states, np.memmap) or isinstance(found.states.base, np.memmap)


@pytest.mark.parametrize("harm", ["cut", "gone"])
def test_a_damaged_file_is_measured_again(tmp_path, harm: str) -> None:
    with Store(tmp_path / "a.db") as store:
        first = np.array(kept_lab(store).activations().states)
    (file,) = (tmp_path / "a.db.files").glob("*/states.npy")
    file.unlink() if harm == "gone" else file.write_bytes(file.read_bytes()[:-8] + b"12345678")
    with Store(tmp_path / "a.db") as store:
        again = kept_lab(store)
        np.testing.assert_array_equal(again.activations().states, first)
        assert again.ledger.block_rows > 0


def test_another_seed_samples_other_tokens() -> None:
    one, other = (kept_lab(seed=s).activations(per_language=5) for s in (0, 1))
    assert (one.token != other.token).any() or (one.sentence != other.sentence).any()


def test_files_that_cannot_be_made_are_told(tmp_path) -> None:
    (tmp_path / "a.db.files").write_text("in the way")
    with Store(tmp_path / "a.db") as store, pytest.raises(StoreError, match="cannot write"):
        kept_lab(store).activations()


def test_a_store_in_memory_leaves_no_files_behind() -> None:
    store = Store(":memory:")
    kept_lab(store).activations()
    folder = store._folder
    assert list(folder.glob("*/states.npy"))
    store.close()
    assert not folder.exists()


# -- shuffled text, twins and the ledger -----------------------------------------------------------


def test_shuffled_text_has_the_same_tokens_in_another_order() -> None:
    lab = kept_lab()
    shuffled = lab.with_shuffled_tokens(0)
    assert shuffled.text_key != lab.text_key
    for mine, theirs in zip(lab.text.ids, shuffled.text.ids, strict=True):
        assert [sorted(ids) for ids in mine] == [sorted(ids) for ids in theirs]
        assert [ids[0] for ids in mine] == [ids[0] for ids in theirs]
    assert shuffled.text.ids != lab.text.ids
    twin = shuffled.twin(shuffled.loaded)
    assert twin.text.ids == shuffled.text.ids


def test_a_twin_takes_speed_and_floor_from_its_lab_and_writes_in_its_ledger(caplog) -> None:
    lab = kept_lab()
    plan = Plan.uniform("rtn4-g32", 3)
    floor = lab.score([plan]).floor_nats
    before = lab.ledger.asked_head_rows
    with caplog.at_level(logging.WARNING):
        twin = lab.twin(load_tiny("llama-tied"))
        assert twin.score([plan]).floor_nats == floor
    assert twin.measured_rates() is lab.measured_rates()
    assert twin.ledger is lab.ledger and lab.ledger.asked_head_rows == before + lab.n_rows
    assert not caplog.records


def test_the_ledger_counts_what_was_asked_and_what_was_run() -> None:
    lab = kept_lab()
    plans = [Plan.uniform("rtn4-g32", 3, kept) for kept in ([], [0], [2])]
    lab.score(plans)
    lab.score(plans)
    passes = lab.ledger.passes(lab.n_rows)
    assert passes["block_evaluations_without_sharing"] == 2 * 3 * 3
    assert passes["head_evaluations_without_sharing"] == 2 * 3
    assert passes["head_evaluations"] == 3
    # (), (2) share blocks 0 and 1.
    assert passes["block_evaluations"] == 3 + 1 + 3
