"""Which text should calibrate: closed forms, planted gains, nothing where nothing is; shown."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pytest

from bitgap.cli.main import main
from bitgap.codec import from_json, to_json
from bitgap.disparity.calibration import Calibrated, Calibration, make_calibration
from bitgap.languages import named
from bitgap.records import Floats
from bitgap.report.figures.calibration import calibration_chart
from bitgap.report.words.calibration import calibration_answers
from bitgap.show.tables.calibration import answer_rows, calibration_table, gains_table
from score_samples import make_scores


def compared(kl: Floats, *, finer: bool = True, seed: int = 0) -> Calibration:
    """The comparison of damage (texts, mixture, nearest[, finer]) x languages x sentences."""
    scores = make_scores(kl)
    names = [*scores.languages, "mixture"]
    told = Calibrated(
        scheme="rtn4-g128",
        plans=dict(zip(names, scores.plans, strict=False)),
        nearest=scores.plans[len(names)],
        finer=scores.plans[len(names) + 1] if finer else None,
        n_tokens=1000,
        n_sentences=20,
        damping=0.01,
    )
    return make_calibration(scores, told, seed=seed, draws=200)


def planted(rows: Sequence[Sequence[float]], n: int = 24, seed: int = 0) -> Floats:
    """Damage in nats, rows of log2 by language, with sentences that differ."""
    rng = np.random.default_rng(seed)
    each = rng.gamma(8, 1 / 8, (1, len(rows[0]), n)) * rng.gamma(64, 1 / 64, (len(rows), 1, n))
    return 0.01 * 2.0 ** np.array(rows)[..., None] * each


def test_gains_have_a_closed_form() -> None:
    # texts en, de, he; mixture; nearest; one bit more. In log2 of damage.
    logs = np.array([[-2, 0, 0], [1, -1, 0], [0, 0, -3], [-1, -1, -1], [1, 1, 1], [-1, -1, -1.0]])
    found = compared(0.01 * 2.0 ** logs[..., None] * np.ones(8))
    assert [one.value for one in found.own] == pytest.approx([2.5, 1.0, 3.0])
    assert found.own_mean.value == pytest.approx(6.5 / 3)
    assert [one.value for one in found.mixture] == pytest.approx([-1.0, 0.0, -2.0])
    assert [one.value for one in found.from_reference] == pytest.approx([0.0, 1.0, 3.0])
    assert found.from_reference_mean.value == pytest.approx(2.0)
    assert found.feedback_mean.value == pytest.approx(2.0)
    assert found.bit_mean.value == pytest.approx(2.0)
    assert found.bit_less_own.value == pytest.approx(2.0 - 6.5 / 3)
    # Of the six ways to give three texts to three languages only their own has the least damage.
    assert found.orders == 6 and found.chance == pytest.approx(1 / 6)


def test_a_text_that_is_better_for_everybody_is_no_gain_of_its_own() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        of_text, of_language = rng.normal(size=(3, 1)), rng.normal(size=(1, 3))
        logs = np.concatenate([of_text + of_language, np.zeros((3, 3))])
        found = compared(0.01 * 2.0 ** logs[..., None] * np.ones(8))
        assert found.own_mean.value == pytest.approx(0.0, abs=1e-9)
        assert found.chance == 1.0


def test_texts_that_are_the_same_gain_nothing() -> None:
    kl = planted([[0.0] * 4] * 6)
    kl[:5] = kl[0]
    found = compared(kl, finer=False)
    for one in (*found.own, found.own_mean, found.mixture_mean, found.from_reference_mean):
        assert one.value == pytest.approx(0.0, abs=1e-12)
    assert found.chance == 1.0
    assert found.spread_change.value == pytest.approx(0.0, abs=1e-12)


def test_a_planted_gain_is_found_and_none_where_texts_differ_by_lot() -> None:
    hits = false = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        noise = rng.normal(0, 0.1, (6, 4))
        own = np.concatenate([-0.5 * np.eye(4), np.zeros((2, 4))])
        rows = np.concatenate([np.zeros((4, 4)), [[-0.4] * 4], [[0.0] * 4]]) + noise
        for plant in (own, 0 * own):
            found = compared(planted((rows + plant).tolist(), seed=seed), finer=False)
            chance = found.chance
            assert chance is not None
            if plant is own:
                assert found.own_mean.low is not None
                hits += found.own_mean.low > 0 and chance <= 1 / 12
            else:
                false += chance <= 0.05
    assert hits >= 18
    # One in twenty four assignments is the least there is; own text is it by chance that often.
    assert false <= 4


def test_which_matters_is_told_only_where_the_interval_tells() -> None:
    def rows(bit: float, own: float) -> list[list[float]]:
        square = -own * np.eye(4)
        return [*square.tolist(), [0.0] * 4, [0.0] * 4, [-bit] * 4]

    assert compared(planted(rows(2.0, 0.2))).matters == "bits"
    assert compared(planted(rows(0.2, 2.0))).matters == "language"
    equal = [compared(planted(rows(1.0, 1.0), seed=seed)).matters for seed in range(8)]
    assert equal.count("not told") >= 6


def test_a_language_that_cannot_be_told_from_noise_counts_in_no_mean() -> None:
    kl = planted([[-1.0, 0, 0], [0, -1, 0], [0, 0, -1], [0] * 3, [1] * 3, [0] * 3])
    whole = compared(kl)
    kl[:, 2] = 1e-12
    found = compared(kl)
    gone = found.languages[2]
    assert list(found.left_out) == [gone]
    assert found.own_mean.value == pytest.approx(
        np.mean([one.value or 0.0 for one in found.own[:2]])  # of these two among themselves
    )
    assert found.orders == 2 and whole.orders == 6
    assert f"* {gone}: " in " ".join(gains_table(found).notes)


def test_it_is_stored_and_read_back_and_shown_alike() -> None:
    found = compared(planted([[-1.0, 0, 0], [0, -1, 0], [0, 0, -1], [0] * 3, [1] * 3, [0] * 3]))
    assert from_json(Calibration, to_json(found)) == found
    for show in (calibration_table, gains_table, answer_rows):
        assert show(found) == show(json.loads(json.dumps(found.as_dict())))
    drawn = calibration_chart(found)
    assert {row["text"] for row in drawn["data"]["values"]} >= {"en", "mixture", "one bit more"}


def test_the_command_prints_stores_and_draws(
    tiny: object,
    tmp_path: object,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(str(tmp_path))
    asked = ["calibration", str(tiny), "--languages", "en,he", "--scheme", "rtn3-g32",
             "--tokens", "100", "--sentences", "4", "--out", "o"]  # fmt: skip
    assert main([*asked, "--dry-run"]) == 0
    assert "5 to score of 5" in capsys.readouterr().out
    assert main([*asked, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["text"] for row in found["rows"]][:3] == ["en", "he", "mixture"]
    assert found["sentences"] == found["n_sentences"] == 4
    page = (tmp_path / "o" / "report.html").read_text(encoding="utf-8")  # type: ignore[operator]
    assert "text should calibrate" in page and 'data-figure="calibration"' in page
    assert main(["report", "latest"]) == 0
    assert main(["calibration", str(tiny), "--languages", "en", "--tokens", "200"]) == 2
    assert "only the reference language en" in capsys.readouterr().err


# -- the first screen ------------------------------------------------------------------------------


def first_answers(rows: Sequence[Sequence[float]], **how: bool) -> dict[str, str]:
    """The short answers of a page, of damage in log2: texts, mixture, nearest[, one bit more]."""
    found = compared(planted(rows), **how).as_dict()
    return {one.key: " ".join((one.short, *one.details)) for one in calibration_answers(found)}


def test_the_first_screen_is_chosen_by_the_numbers() -> None:
    own = first_answers([[-3, 0, 0], [0, -3, 0], [0, 0, -3], [-2] * 3, [0] * 3, [-1] * 3])
    assert own["text"].startswith("Each language's own: other languages' texts leave ")
    assert "and a mixture of all 2." in own["text"]
    # Of the six assignments of three texts none but their own does as well: the least there is.
    assert "0.17 of 6 assignments, so that with other texts" in own["text"]
    assert "which most tools come with, leaves it " in own["reference"]
    assert own["reference"].count("pays too") == 1
    assert own["bit"].startswith("The right text: ")
    mixed = first_answers([[-1, 0, 0], [0, -1, 0], [0, 0, -1], [-3] * 3, [0] * 3, [-4] * 3])
    assert "and a mixture of all is better still, with 0.2" in mixed["text"]
    assert mixed["bit"].startswith("One bit more: it leaves 0.0")
    none = first_answers([[0, 0, 0]] * 5, finer=False)
    assert none["text"].startswith("Whose text it is makes no clear difference")
    assert none["reference"].startswith("Nobody, as far as these sentences tell.")
    assert none["bit"] == "It cannot be told: there is no scheme of one bit more."


def test_languages_that_do_better_on_the_reference_s_text_are_named() -> None:
    rows = [[-2, -2, 0], [0, 0, 0], [0, 0, -2], [-1] * 3, [0] * 3, [-1] * 3]
    told = first_answers(rows)["reference"]
    names = [named(code).name for code in make_scores(planted(rows)).languages]
    assert told.startswith(f"{names[2]}: {names[0]} text")
    assert f"; {names[1]} does better on it." in told
    assert f"{names[2]}: 4." in told or f"{names[2]}: 3." in told
