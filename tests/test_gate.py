"""The gate: how often it errs, in which order it decides, and how the command ends."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bitgap.codec import from_json, to_json
from bitgap.disparity.gate import Gate, judge_gate
from bitgap.errors import UsageError
from bitgap.show.tables.gate import gate_table
from cli_samples import Run
from score_samples import make_scores

LIMIT = 0.02


def judged(harm: float, seed: int, *, languages: int = 4, n: int = 40) -> Gate:
    """A gate on languages that all have this harm in truth, in bits per reference character."""
    rng = np.random.default_rng(seed)
    nats = harm * np.log(2) * 80 / 20  # characters over tokens, as the samples have them
    delta = rng.normal(nats, 0.05, (1, languages, n))
    scores = make_scores(np.full((1, languages, n), 0.01), delta)
    return judge_gate(scores, "plan0", LIMIT, seed=seed)


def test_languages_at_the_limit_are_rarely_called_beyond_or_all_within() -> None:
    outcomes = [judged(LIMIT, seed).outcome for seed in range(100)]
    # 5 of 100 may be either; more than 11 come once in 500 such tests.
    assert outcomes.count("beyond") <= 11
    assert outcomes.count("within") <= 11


def test_harm_well_off_the_limit_is_told() -> None:
    assert judged(0.0, 0).outcome == "within"
    far = judged(0.06, 0)
    assert far.outcome == "beyond"
    assert all(one.harm.low is not None and one.harm.low > LIMIT for one in far.languages)


def test_few_sentences_cannot_tell() -> None:
    for harm in (0.0, LIMIT, 1.0):
        gate = judged(harm, 1, n=4)
        assert gate.outcome == "cannot be told"
        assert "it takes 8" in gate.languages[0].reason
    assert judged(1.0, 1, n=8).outcome == "beyond"


def test_one_language_beyond_is_enough_and_text_made_impossible_is_beyond() -> None:
    delta = np.zeros((1, 3, 12)) + np.random.default_rng(0).normal(0, 1e-4, (1, 3, 12))
    delta[0, 2] += 1.0
    scores = make_scores(np.full((1, 3, 12), 0.01), delta)
    gate = judge_gate(scores, "plan0", LIMIT, seed=0)
    assert [one.outcome for one in gate.languages] == ["within", "within", "beyond"]
    assert gate.outcome == "beyond"
    assert judge_gate(scores, "plan0", LIMIT, languages=["en"], seed=0).outcome == "within"
    nll = scores.nll_nats.copy()
    nll[0, 1, 3] = np.inf
    ruined = judge_gate(replace(scores, nll_nats=nll), "plan0", LIMIT, seed=0)
    assert "not finite" in ruined.languages[1].reason
    with pytest.raises(UsageError, match="give bits per character"):
        judge_gate(scores, "plan0", float("nan"), seed=0)


def test_a_gate_is_stored_and_read_back_and_shown_alike() -> None:
    gate = judged(LIMIT, 3)
    assert from_json(Gate, to_json(gate)) == gate
    assert gate_table(gate) == gate_table(gate.as_dict())


def test_the_command_ends_as_it_found(measure: Run, run: Run) -> None:
    def ran(limit: str, scheme: str = "rtn3-channel"):
        return measure("gate", "--scheme", scheme, "--max-harm", limit, "--json", "--no-report")

    open_, closed, undecided = ran("30"), ran("0.0001", "rtn2-channel"), ran("0.2")
    assert (open_.code, open_.json["gate"]) == (0, "within")
    assert (closed.code, closed.json["gate"]) == (1, "beyond")
    row = next(r for r in closed.json["languages"].values() if r["outcome"] == "beyond")
    assert row["harm_ci"][0] > 0.0001
    beyond = [c for c, r in closed.json["languages"].items() if r["outcome"] == "beyond"]
    assert all(f"{code} Δ" in closed.err for code in beyond) and "[" in closed.err
    assert undecided.code == 3, undecided
    assert "give more sentences" in undecided.err
    for one in (open_, closed, undecided):
        assert "Traceback" not in one.err
    assert run("report", "1").code == 0
    run("card", "1").refused(2, "has no damage by language")
    measure("gate", "--max-harm", "1").refused(2, "--against FILE, or --scheme")
    measure("gate", "--scheme", "rtn3-g32", "--max-harm", "-1").refused(2, "no number above 0")
