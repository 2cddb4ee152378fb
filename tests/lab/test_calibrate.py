"""Models rounded by text: sums by hand, blocks one after the other, texts kept apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from lab_samples import make_lab, write_corpus

from bitgap.disparity.calibration import FINER, MIXTURE, NEAREST
from bitgap.errors import CorpusError, UsageError
from bitgap.lab import calibrate
from bitgap.lab.calibrate import Asked, calibration_texts, compare_calibrations, foresee, prepare
from bitgap.lab.lab import Lab
from bitgap.quant.gptq import round_gptq, weighted_error
from bitgap.quant.rounding import round_weight

SCHEME = "rtn3-g32"


@pytest.fixture(scope="module")
def lab() -> Lab:
    return make_lab(corpus=write_corpus(40, languages=("en", "he", "fi")))


def add_to(total: torch.Tensor) -> Callable[..., None]:
    """A hook that adds what enters a linear to H."""

    def hook(_module: object, args: tuple[torch.Tensor, ...]) -> None:
        rows = args[0].reshape(-1, args[0].shape[-1]).double()
        total.add_(rows.T @ rows)

    return hook


def test_matrices_are_those_of_a_model_run_by_hand(lab: Lab) -> None:
    """Through the whole model with the blocks before it replaced, in one piece."""
    sequences = [tuple(ids) for ids in lab.text.ids[1][:6]]
    found = calibrate.rounded_by_text(lab, sequences, SCHEME)
    for block in range(lab.n_blocks):
        views = lab.decoder.block_linears(block)
        sums = {name: torch.zeros(view.shape[1], view.shape[1]).double()
                for name, view in views.items()}  # fmt: skip
        for ids in sequences:
            tokens = torch.tensor([ids])
            with torch.no_grad():
                state = lab.decoder.embed(tokens)
                context = lab.decoder.context_for(*tokens.shape)
                for before in range(block):
                    module = lab.decoder.clone_block(before, linears=found[before])
                    state = lab.decoder.run_block(before, state, context, module)

                hooks = [
                    view.module.register_forward_pre_hook(add_to(sums[name]))
                    for name, view in views.items()
                ]
                lab.decoder.run_block(block, state, context)
                for each in hooks:
                    each.remove()
        for name, view in views.items():
            wanted = round_gptq(view.get().float(), sums[name], SCHEME)
            mine = weighted_error(view.get(), found[block][name], sums[name])
            # Sums in another order may push a weight over an edge; what is lost is the same.
            assert mine == pytest.approx(weighted_error(view.get(), wanted, sums[name]), rel=0.02)
            nearest = round_weight(view.get().float(), SCHEME, stream="")
            assert mine < weighted_error(view.get(), nearest, sums[name])


def test_the_model_and_its_hooks_are_left_as_they_were(lab: Lab) -> None:
    before = [p.clone() for p in lab.decoder.model.parameters()]
    calibrate.rounded_by_text(lab, [tuple(lab.text.ids[0][0])], SCHEME)
    assert all(
        torch.equal(a, b) for a, b in zip(before, lab.decoder.model.parameters(), strict=True)
    )
    assert not any(m._forward_pre_hooks for b in lab.decoder.blocks for m in b.modules())


def test_every_text_has_as_many_tokens_and_none_of_the_sentences_that_are_measured(
    lab: Lab,
) -> None:
    prepared = prepare(lab, Asked(scheme=SCHEME, tokens=150))
    lead = len(lab.text.prefix.ids)
    for sequences in prepared.texts.values():
        assert sum(len(one) - lead for one in sequences) == prepared.n_tokens == 150
        assert all(one[:lead] == lab.text.prefix.ids for one in sequences)
    calibrating = {*prepared.split.calibrate, *prepared.split.search}
    measured = {int(i) for i in prepared.scored.text.kept}
    there = {lab.text.kept.tolist()[i] for i in prepared.split.confirm}
    assert not calibrating & {*prepared.split.confirm}
    assert len(measured) == len(there)
    texts = {lab.corpus.sentences["en"][i] for i in there}
    assert set(prepared.scored.corpus.sentences["en"]) == texts


def test_sentences_follow_each_other_and_the_mixture_takes_languages_in_turn(lab: Lab) -> None:
    rows, lead = [3, 5, 8], len(lab.text.prefix.ids)
    texts = calibration_texts(lab.text, rows, most=10**6, longest=10**6)
    en = [token for i in rows for token in lab.text.ids[0][i][lead:]]
    size = len(texts["en"][0]) - lead
    assert list(texts["en"][0][lead:]) == en[:size]
    assert size == min(sum(len(ids[i]) - lead for i in rows) for ids in lab.text.ids)
    mixed = [t for k, i in enumerate(rows) for t in lab.text.ids[k][i][lead:]]
    assert list(texts[MIXTURE][0][lead:])[: len(mixed)] == mixed[:size]


def test_sequences_are_no_longer_than_the_model_takes(lab: Lab) -> None:
    texts = calibration_texts(lab.text, range(20), most=100, longest=17)
    for sequences in texts.values():
        assert max(map(len, sequences)) <= 17
        assert sum(len(one) - len(lab.text.prefix.ids) for one in sequences) == 100


def test_a_comparison_is_measured_once_and_gives_the_weights_back(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = prepare(lab, Asked(scheme=SCHEME, tokens=120, sentences=8))
    cost = foresee(prepared)
    assert cost.n_plans == 6 and cost.time_s > 0
    found = compare_calibrations(prepared)
    assert [row.text for row in found.rows] == ["en", "he", "fi", MIXTURE, NEAREST, FINER]
    assert found.n_sentences == 8 and found.n_tokens == 120
    assert not any(s.startswith("own:") for bank in (lab.bank, prepared.scored.bank)
                   for _, s in bank._own)  # fmt: skip
    nearest, finer = (row.damage[0].value for row in found.rows[-2:])
    assert nearest is not None and finer is not None and nearest > finer

    def refuse(*_: object) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr(calibrate, "rounded_by_text", refuse)
    assert compare_calibrations(prepared) == found
    assert foresee(prepared).n_known == cost.n_plans


def test_texts_that_are_the_same_gain_nothing(lab: Lab) -> None:
    prepared = prepare(lab, Asked(scheme=SCHEME, tokens=100, sentences=8))
    same = replace(prepared, texts=dict.fromkeys(prepared.texts, prepared.texts["en"]))
    found = compare_calibrations(same)
    first, *others = [[one.value for one in row.damage] for row in found.rows[:4]]
    assert others == [first] * 3


def test_weights_that_were_made_but_not_measured_are_made_again(lab: Lab) -> None:
    prepared = prepare(lab, Asked(scheme=SCHEME, tokens=90, sentences=8))
    key = calibrate._key(prepared, "he")
    lab.store.learn(key, {"scheme": "own:gptq-he:" + "0" * 12})
    found = compare_calibrations(prepared)
    assert len(found.rows) == 6
    assert lab.store.learned(key) != {"scheme": "own:gptq-he:" + "0" * 12}


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"scheme": "noise0.1-s0"}, "has no levels"),
        ({"tokens": 1}, "give 2 tokens or more"),
        ({"damping": -1.0}, "damping of 0 or more"),
    ],
)
def test_what_cannot_be_asked_is_refused(lab: Lab, asked: dict[str, object], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        prepare(lab, Asked(**asked))  # type: ignore[arg-type]


def test_too_little_text_is_refused(lab: Lab) -> None:
    with pytest.raises(CorpusError, match="too few"):
        prepare(lab.on(sentences=range(9)), Asked())


def test_eight_bits_have_no_bit_more(lab: Lab) -> None:
    found = lab.calibration("rtn8-g32", tokens=80, sentences=8)
    assert [row.text for row in found.rows][-1] == NEAREST
    assert found.bit_mean.value is None
    assert found.bit_mean.reason == "there is no scheme of one bit more"
