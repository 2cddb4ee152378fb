"""What may change with the language that damage is compared with, and what may not."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bitgap.disparity.formulas import damage_bits, delta_bits, disparity, log_ratio, spread
from bitgap.lab.lab import Lab
from bitgap.quant.plan import Plan
from bitgap.records import Scores
from bitgap.theory.origin.claims import Untestable
from bitgap.theory.origin.quantities import _hebrew
from cli_samples import GERMAN, HEBREW, Run, write_corpus_folder

CODES = ("en", "he", "de")


@pytest.fixture(scope="module")
def of_either(tiny: Path, tmp_path_factory: Any) -> tuple[Scores, Scores]:
    """Two plans on one text, with English and with Hebrew as the reference."""
    folder = write_corpus_folder(tmp_path_factory.mktemp("of") / "text")
    plans = [Plan.parse("rtn3-g32", 3), Plan.parse("rtn3-g32 protect 0", 3)]
    labs = (Lab.from_pretrained(tiny, folder, reference=code) for code in ("en", "he"))
    english, hebrew = (lab.score(plans) for lab in labs)
    return english, hebrew


def by_code(scores: Scores, values: Any) -> dict[str, Any]:
    rows = np.broadcast_to(values, (2, len(CODES))).T
    return dict(zip(scores.languages, rows, strict=True))


def test_what_the_model_did_to_each_sentence_does_not_hang_on_the_reference(of_either):
    english, hebrew = of_either
    assert (english.languages[0], hebrew.languages[0]) == ("en", "he")
    same = hebrew.select(languages=None)
    rows = [hebrew.languages.index(code) for code in english.languages]
    np.testing.assert_allclose(same.kl_nats[:, rows], english.kl_nats, atol=2e-5)
    np.testing.assert_allclose(same.nll_fp_nats[rows], english.nll_fp_nats, rtol=1e-5)


@pytest.mark.parametrize("per", ["token", "text"])
def test_s_does_not_change_with_the_reference(of_either, per: Any):
    english, hebrew = (spread(scores, per=per) for scores in of_either)
    assert np.isfinite(english).all()
    np.testing.assert_allclose(hebrew, english, rtol=1e-3)


def test_k_and_harm_change_by_the_same_factor_in_every_language(of_either):
    english, hebrew = of_either
    sums = {s.reference: s.counts.characters[0].sum() for s in of_either}
    factor = sums["en"] / sums["he"]
    assert factor != pytest.approx(1, abs=1e-3), "or nothing would be tested"
    for formula in (damage_bits, delta_bits):
        before, after = by_code(english, formula(english)), by_code(hebrew, formula(hebrew))
        for code in CODES:
            np.testing.assert_allclose(after[code], factor * before[code], rtol=2e-3, atol=1e-7)


def test_ratios_and_d_are_against_the_reference(of_either):
    english, hebrew = of_either
    before, after = by_code(english, log_ratio(english)), by_code(hebrew, log_ratio(hebrew))
    for code in CODES:
        np.testing.assert_allclose(after[code], before[code] - before["he"], atol=2e-3)
    assert (after["he"] == 0).all() and (before["en"] == 0).all()
    assert not np.allclose(disparity(english), disparity(hebrew), atol=1e-3)


def test_a_corpus_without_english_is_measured_against_another_language(
    run: Run, tiny: Path, tmp_path: Path
):
    folder = tmp_path / "two"
    folder.mkdir()
    for code, texts in (("de", GERMAN), ("he", HEBREW)):
        (folder / f"{code}.txt").write_text("\n".join(texts) + "\n", encoding="utf-8")
    audit = ("audit", tiny, "--corpus", folder)
    run(*audit).refused(2, "reference language en is not there", "de, he", "--reference")
    found = run(*audit, "--reference", "deu", "--json").json
    assert found["reference"] == "de" and list(found["languages"]) == ["de", "he"]
    assert found["languages"]["de"]["log_ratio"] in (None, 0)
    other = run(*audit, "--reference", "he", "--json").json
    assert other["S"] == pytest.approx(found["S"], rel=1e-3)
    assert other["S_ci"] == pytest.approx(found["S_ci"], rel=1e-3)
    assert other["D"] != found["D"]
    for verb in ("audit", "map"):
        ran = run(verb, tiny, "--corpus", folder, "--reference", "de")
        assert ran.code == 0 and "per German character" in " ".join(ran.out.split())
        assert "English" not in ran.out


def test_a_claim_about_english_is_not_judged_by_another_language():
    scores: Any = SimpleNamespace(languages=("de", "he"), reference="de")
    with pytest.raises(Untestable, match="over English, and the reference is de"):
        _hebrew(None, SimpleNamespace(scores=scores), "disparity")  # type: ignore[arg-type]
