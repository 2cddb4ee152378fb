from __future__ import annotations

import gc
import time
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lab_samples import Letters, load_tiny, make_lab, score_by_hand, write_corpus
from tiny_models import CASES, assert_untouched, state

from bitgap.errors import BitgapError, PlanError, StoreError, UsageError
from bitgap.experiments.t004_residual_propagation.propagation import state_errors
from bitgap.lab.activations import real_tokens, stream, without_sinks
from bitgap.lab.engine import budget
from bitgap.lab.lab import Lab
from bitgap.lab.settings import Settings, set_threads
from bitgap.lab.store import Store
from bitgap.models.load import LoadedModel, load_model
from bitgap.quant.plan import Plan, mask_plans
from bitgap.records import Observations

RTN = "rtn4-channel"
MASKS = list(mask_plans(RTN, 3, range(8)))
CLEAN = Plan.uniform("fp", 3)


# -- scores ----------------------------------------------------------------------------------------


def test_protecting_all_is_the_reference_itself() -> None:
    scores = make_lab().score(MASKS)
    assert scores.plans[-1] == "fp"
    assert (scores.kl_nats[-1] == 0).all()
    assert (scores.nll_nats[-1] == scores.nll_fp_nats).all()
    assert (scores.kl_nats[:-1].sum((1, 2)) > 0).all()


def test_rows_follow_the_plans_asked_and_repeats_are_kept_once() -> None:
    lab = make_lab()
    scores = lab.score([MASKS[5], MASKS[0], MASKS[5]])
    assert scores.plans == (MASKS[5].text, MASKS[0].text)
    again = lab.score([MASKS[0], MASKS[5]])
    assert (again.kl_nats[::-1] == scores.kl_nats).all()


@pytest.mark.parametrize("case", ["gpt2", "gemma2", "bloom"])
def test_full_precision_scores_are_the_models_own(case: str) -> None:
    lab = make_lab(case)
    scores = lab.score([Plan.uniform(RTN, lab.n_blocks)])
    bench: Any = lab
    nll, _ = score_by_hand(bench, lab.loaded.model)
    assert abs(scores.nll_fp_nats.ravel() - nll).max() < 1e-4 * scores.counts.tokens.max()
    assert 0 < scores.floor_nats < 1e-5
    assert scores.languages == ("en", "he") and scores.reference == "en"


def test_a_second_lab_on_the_same_store_computes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store(tmp_path / "bitgap.db") as store:
        first = make_lab(store=store).score(MASKS)
    with Store(tmp_path / "bitgap.db") as store:
        lab = make_lab(store=store)
        monkeypatch.setattr(lab.engine, "score", None)
        monkeypatch.setattr(lab.engine, "reference", None)
        second = lab.score(MASKS)
    assert (first.nll_nats == second.nll_nats).all() and (first.kl_nats == second.kl_nats).all()
    assert first.floor_nats == second.floor_nats


@pytest.mark.parametrize("change", ["weights", "sentences", "tokenizer", "bos"])
def test_scores_of_another_model_text_or_tokenizer_are_not_taken_for_these(change: str) -> None:
    class Shifted(Letters):
        def __call__(self, texts: list[str], add_special_tokens: bool) -> Any:
            found = super().__call__(texts, add_special_tokens)
            found.input_ids = [[(i + 1) % 97 for i in row] for row in found.input_ids]
            return found

    loaded, corpus = load_tiny(), write_corpus()
    store = Store(":memory:")
    old = Lab.of(loaded, corpus, store=store)
    if change == "weights":
        loaded = load_tiny("llama-tied")
    elif change == "tokenizer":
        loaded = LoadedModel(loaded.model, Shifted(), loaded.info)
    elif change == "bos":
        loaded = LoadedModel(loaded.model, Letters(2), loaded.info)
    else:
        corpus = write_corpus(seed=1)
    new = Lab.of(loaded, corpus, store=store)
    assert new.text_key != old.text_key
    before, after = old.score(MASKS[:1]), new.score(MASKS[:1])
    assert not (before.nll_nats == after.nll_nats).any()


def test_part_of_the_text_scores_as_in_the_whole() -> None:
    lab = make_lab(corpus=write_corpus(6, ("en", "he", "tr")))
    whole, floor = lab.score(MASKS), 1e-5 * 24
    part = lab.on(languages=["tr"], sentences=[4, 1])
    scores = part.score(MASKS)
    assert scores.languages == ("en", "tr") and scores.n_sentences == 2
    assert lab.languages == ("en", "he", "tr"), "the lab itself stays as it was"
    wanted = whole.select(languages=["en", "tr"], sentences=[4, 1])
    assert abs(scores.kl_nats - wanted.kl_nats).max() < floor
    assert abs(scores.nll_fp_nats - wanted.nll_fp_nats).max() < floor


def test_a_store_knows_when_a_model_was_first_measured_and_not_when_nothing_was_rounded() -> None:
    lab = make_lab()
    fingerprint = lab.info.fingerprint
    lab.score([CLEAN])
    assert lab.store.began(fingerprint) is None
    lab.score(MASKS[:1])
    began = lab.store.began(fingerprint)
    lab.score(MASKS)
    assert began is not None and lab.store.began(fingerprint) == began


def test_a_twin_shares_text_and_store_and_not_the_scores() -> None:
    lab = make_lab()
    twin = lab.twin(load_tiny("qwen2"))
    assert twin.store is lab.store and twin.corpus is lab.corpus
    assert (twin.score(MASKS[:1]).nll_nats != lab.score(MASKS[:1]).nll_nats).all()


@pytest.mark.parametrize("case", ["qwen2", "gemma3"])
def test_a_twin_that_nobody_holds_leaves_memory_at_once(case: str) -> None:
    """The collector counts objects: that a few of them hold gigabytes does not call it."""
    lab = make_lab()
    gc.collect()
    gc.disable()
    try:
        twin = lab.twin(load_tiny(case))
        twin.score(MASKS[:1])
        held = [weakref.ref(one) for one in (twin.loaded.model, twin.bank, twin.engine)]
        del twin
        assert [one() for one in held] == [None] * 3
    finally:
        gc.enable()


def test_a_plan_that_does_not_fit_is_refused_before_anything_is_stored() -> None:
    lab = make_lab()
    with pytest.raises(PlanError):
        lab.score([MASKS[0], Plan.uniform(RTN, 4)])
    assert lab.store.known_scores(lab.text_key) == set()


def test_an_interrupted_run_keeps_what_it_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "_MAX_NODES", 1)
    lab = make_lab()
    score = lab.engine.score

    def interrupted(plans: Any, emit: Any, **options: Any) -> None:
        n = 0

        def counted(leaves: Any) -> None:
            nonlocal n
            emit(leaves)
            n += len(leaves)
            if n >= 3:
                raise KeyboardInterrupt

        score(plans, counted, **options)

    monkeypatch.setattr(lab.engine, "score", interrupted)
    with pytest.raises(KeyboardInterrupt):
        lab.score(MASKS)
    kept = lab.store.known_scores(lab.text_key)
    assert 3 <= len(kept) < 7
    monkeypatch.setattr(lab.engine, "score", score)
    resumed, whole = lab.score(MASKS), make_lab().score(MASKS)
    assert (resumed.kl_nats == whole.kl_nats).all() and (resumed.nll_nats == whole.nll_nats).all()


def test_a_store_that_fails_half_way_is_told_and_progress_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[str] = []

    class Ear:
        def start(self, label: str, total_s: float) -> None:
            told.append(label)

        def advance(self, seconds: float) -> None:
            assert seconds >= 0

        def stop(self) -> None:
            told.append("stop")

    lab = make_lab()
    lab.progress = Ear()

    def fail(*_: Any) -> None:
        raise StoreError("the disk is full")

    monkeypatch.setattr(lab.store, "put_scores", fail)
    with pytest.raises(StoreError, match="full"):
        lab.score(MASKS, "masks")
    assert told == ["probing this machine", "stop", "masks", "stop"]


def test_scoring_leaves_the_model_as_it_was_to_the_bit() -> None:
    lab = make_lab()
    model = lab.loaded.model
    modules, before = list(model.modules()), state(model)
    lab.score([*MASKS, Plan.uniform("seed4", 3)])
    list(stream(lab, MASKS[:2]))
    assert_untouched(model, before, modules)


def test_observations_are_measured_once_for_the_same_parameters() -> None:
    lab = make_lab()
    calls: list[int] = []

    def measure() -> Observations:
        calls.append(1)
        return Observations(experiment="T-001", version=1, arrays={"x": np.ones(2)}, facts={})

    first, key = lab.observe("T-001", 1, {"n": 1}, measure)
    second, same = lab.observe("T-001", 1, {"n": 1}, measure)
    assert len(calls) == 1 and key == same
    assert (first.arrays["x"] == second.arrays["x"]).all()
    assert lab.observe("T-001", 2, {"n": 1}, measure)[1] != key
    assert lab.observe("T-001", 1, {"n": 2}, measure)[1] != key
    assert len(calls) == 3


def test_provenance_names_the_run() -> None:
    found = make_lab(settings=Settings(seed=7)).provenance(time.time() - 5, "hash")
    assert found.torch == torch.__version__ and found.seed == 7 and found.thresholds_hash == "hash"
    assert 5 <= found.wall_s < 60 and found.started.endswith("+00:00")


def test_less_than_one_thread_is_refused() -> None:
    with pytest.raises(UsageError, match="--threads 0"):
        set_threads(0)
    before = torch.get_num_threads()
    set_threads(None)
    assert torch.get_num_threads() == before


def test_what_cannot_be_opened_by_name_is_a_users_error(tmp_path: Path) -> None:
    with pytest.raises(BitgapError):
        Lab.from_pretrained(str(tmp_path), store=tmp_path / "bitgap.db")
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError):
        Lab.from_pretrained(str(tmp_path), store=tmp_path / "file" / "bitgap.db")


def test_the_bundled_model_is_damaged_by_rounding_and_not_by_protection() -> None:
    texts = write_corpus(3)
    lab = Lab.of(load_model(None), texts)
    plans = [Plan.uniform(s, lab.n_blocks) for s in ("rtn3-g128", "rtn8-g128", "fp")]
    three, eight, none = lab.score(plans).kl_nats.sum((1, 2))
    assert three > 10 * eight > 0 and none == 0


# -- hidden states ---------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
def test_streamed_states_end_in_the_models_own_logits(case: str) -> None:
    lab = make_lab(case)
    plan = Plan.uniform("fp", lab.n_blocks)
    depths: list[int] = []
    for part in stream(lab, [plan]):
        depths.append(part.depth)
        if part.depth < lab.n_blocks:
            continue
        tail = lab.decoder.tail
        z = part.states[0] @ tail.weight.T + (0 if tail.bias is None else tail.bias)
        z = z if tail.softcap is None else torch.tanh(z / tail.softcap) * tail.softcap
        with torch.inference_mode():
            own = lab.loaded.model(input_ids=part.chunk.input_ids, use_cache=False).logits
        assert float((z - own).abs().max()) < 1e-4 * float(own.abs().max())
    assert depths == list(range(-1, lab.n_blocks + 1)) * len(lab.chunks)


def test_plans_share_the_states_they_have_in_common_as_the_same_tensor() -> None:
    lab = make_lab()
    plans = [Plan((RTN, "fp", "fp")), Plan((RTN, "fp", RTN)), Plan((RTN, RTN, RTN)), CLEAN]
    for part in stream(lab, plans):
        if part.depth == lab.n_blocks:
            continue
        for i, a in enumerate(plans):
            for j, b in enumerate(plans):
                agree = a.blocks[: part.depth + 1] == b.blocks[: part.depth + 1]
                assert (part.states[i] is part.states[j]) == agree


def test_protecting_block_0_is_patching_its_clean_output() -> None:
    lab = make_lab()
    protected = Plan.uniform(RTN, 3, [0])
    patched: torch.Tensor | None = None
    for part in stream(lab, [CLEAN, protected, Plan.uniform(RTN, 3)]):
        clean, mine, rounded = part.states
        if part.depth == 0:
            assert torch.equal(clean, mine) and not torch.equal(clean, rounded)
            patched = clean
        elif 0 < part.depth < 3:
            assert patched is not None
            with torch.inference_mode():
                context = lab.decoder.context_for(*part.chunk.shape)
                module = lab.bank.block(part.depth, RTN)
                patched = lab.decoder.run_block(part.depth, patched, context, module)
            assert torch.equal(patched, mine)


def test_real_tokens_are_neither_padding_nor_the_first() -> None:
    for chunk in make_lab().chunks:
        real = real_tokens(chunk, "cpu")
        for row, length in zip(real, chunk.lengths, strict=True):
            assert row.tolist() == [0 < i < length for i in range(chunk.shape[1])]


def test_sinks_are_tokens_ten_times_the_median_norm() -> None:
    states = torch.ones(1, 6, 4)
    states[0, 2], states[0, 3], states[0, 5] = 11.0, 9.0, 0.1
    real = torch.tensor([[False, True, True, True, True, True]])
    assert without_sinks(states, real).tolist() == [[False, True, False, True, True, True]]


def test_pooled_states_are_the_means_over_a_sentences_own_tokens() -> None:
    lab = make_lab(corpus=write_corpus(4))
    pooled = lab.activations().pooled
    assert pooled.shape == (4, 2, 4, 32)
    for a, sentences in enumerate(lab.text.ids):
        for i, ids in enumerate(sentences):
            with torch.inference_mode():
                out = lab.loaded.model.model(
                    input_ids=torch.tensor([ids]), use_cache=False, output_hidden_states=True
                )
            # The last of transformers' hidden states is normed; the three before are ours.
            for depth, own in enumerate(out.hidden_states[:3]):
                mean = own[0, 1:].mean(0).numpy()
                assert np.allclose(pooled[depth, a, i], mean, atol=1e-4 * abs(mean).max())


def test_protecting_all_makes_no_error_anywhere() -> None:
    lab = make_lab()
    found = state_errors(lab, [CLEAN, Plan.uniform(RTN, 3, [0, 1]), Plan.uniform(RTN, 3)])
    assert (found["error"][0] == 0).all() and (found["error_with_sinks"][0] == 0).all()
    cosine = found["cosine"] / found["tokens"][-2]  # summed over the tokens of a sentence
    assert cosine[0] == pytest.approx(1, abs=1e-6)
    assert (found["error"][1, :2] == 0).all() and (found["error"][1, 2:] > 0).all()
    assert (found["error"][2] > 0).all()
    assert cosine[2].mean() < cosine[1].mean() < 1
    counts = lab.text.counts.tokens
    assert (found["tokens"] <= counts).all() and (found["tokens"] > 0).all()


def test_standardised_errors_equal_a_slow_sum() -> None:
    lab = make_lab(corpus=write_corpus(3))
    plan = Plan.uniform(RTN, 3)
    found = state_errors(lab, [plan])
    rows: list[torch.Tensor] = []
    errors: dict[int, torch.Tensor] = {}
    for part in stream(lab, [CLEAN, plan]):
        if part.depth != 1:
            continue
        kept = without_sinks(part.states[0], part.real)
        rows.append(part.states[0][kept].double())
        squared = (part.states[1] - part.states[0]).double() ** 2
        for b, where in enumerate(part.chunk.where):
            errors[int(where)] = squared[b][kept[b]].sum(0)
    variance = torch.cat(rows).var(0, correction=0)
    flat = found["error"][0, 1].ravel()
    for where, squared in errors.items():
        assert flat[where] == pytest.approx(float((squared / variance).mean()), rel=1e-4)


def test_arithmetic_is_part_of_what_a_text_is_known_by_only_where_it_rounds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    exact = make_lab()
    fast = replace(exact.settings, arithmetic="fast")
    monkeypatch.setattr("bitgap.lab.bench.fast_products_round", lambda device="cpu": False)
    assert make_lab(settings=fast).text_key == exact.text_key
    monkeypatch.setattr("bitgap.lab.bench.fast_products_round", lambda device="cpu": True)
    assert make_lab(settings=fast).text_key != exact.text_key


def test_a_lab_of_rounded_products_has_an_exact_one_with_a_floor_of_its_own(monkeypatch):
    exact = make_lab()
    assert exact.exact() is exact
    monkeypatch.setattr("bitgap.lab.bench.fast_products_round", lambda device="cpu": True)
    fast = make_lab(settings=replace(exact.settings, arithmetic="fast"))
    fast.floor_nats = 1e-3
    found = fast.exact()
    assert found.settings == exact.settings
    assert found.text_key == exact.text_key
    assert found.floor_nats is None
    assert (found.store, found.ledger) == (fast.store, fast.ledger)
    plan = Plan.uniform("rtn8-g32", exact.n_blocks)
    np.testing.assert_array_equal(found.score([plan]).kl_nats, exact.score([plan]).kl_nats)


# -- documents -------------------------------------------------------------------------------------


def test_documents_come_with_the_scores_of_every_part_and_back_from_the_store(
    tmp_path: Path,
) -> None:
    plain = write_corpus(6, longest=30)
    long = {c: ("x" * 60, *t[1:]) for c, t in plain.sentences.items()}
    corpus = replace(plain, sentences=long, documents=(5, 5, 8, 8, 8, 2))
    with Store(tmp_path / "bitgap.db") as store:
        lab = make_lab(corpus=corpus, store=store)
        assert lab.text.n_dropped == 1
        scores = lab.score(MASKS[:2])
        assert scores.documents is not None and scores.documents.tolist() == [5, 8, 8, 8, 2]
        assert np.array_equal(scores.units, [5, 8, 8, 8, 2])
        part = lab.on(sentences=[5, 2, 1]).score(MASKS[:1])
        assert part.documents is not None and part.documents.tolist() == [2, 8, 5]
        spread = lab.spread(3).score(MASKS[:1])
        assert spread.documents is not None and set(spread.documents.tolist()) <= {5, 8, 2}
    with Store(tmp_path / "bitgap.db", read_only=True) as store:
        found = {key: arrays for key, _, arrays in store.scored_texts()}
        assert found[lab.text_key]["documents"].tolist() == [5, 8, 8, 8, 2]


def test_a_store_that_knows_no_documents_is_told_and_its_scores_are_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store, corpus = Store(":memory:"), write_corpus(4)
    before = make_lab(corpus=corpus, store=store).score(MASKS[:1])
    assert before.documents is None and before.units == 4
    lab = make_lab(corpus=replace(corpus, documents=(1, 1, 2, 2)), store=store)
    monkeypatch.setattr(lab.engine, "score", None)
    after = lab.score(MASKS[:1])
    assert after.documents is not None and after.documents.tolist() == [1, 1, 2, 2]
    assert (after.kl_nats == before.kl_nats).all()
    ((_, _, arrays),) = store.scored_texts()
    assert arrays["documents"].tolist() == [1, 1, 2, 2]


def test_what_was_fitted_by_other_documents_is_not_taken_for_this() -> None:
    store, corpus = Store(":memory:"), write_corpus(4)
    keys = {
        make_lab(corpus=replace(corpus, documents=told), store=store).observe(
            "T-001", 1, {}, lambda: Observations(experiment="T-001", version=1, arrays={}, facts={})
        )[1]
        for told in (None, (1, 1, 2, 2), (1, 2, 2, 2), (7, 7, 3, 3))
    }
    assert len(keys) == 3, "what documents are called does not matter"
