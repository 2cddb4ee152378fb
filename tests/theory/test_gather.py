"""Evidence is what the experiments measured, read off their own stores, and is kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bitgap.disparity.formulas import damage_bits
from bitgap.jobs.investigate import TIERS, Tier
from bitgap.lab.lab import Lab
from bitgap.lab.settings import Settings
from bitgap.quant.plan import Plan
from bitgap.theory.evidence import Evidence, disparity_of
from bitgap.theory.gather import evidence_of
from bitgap.theory.packing import pack, unpack
from cli_samples import write_corpus_folder

TIER: Tier = replace(TIERS["smoke"], sentences=6)


@pytest.fixture(scope="module")
def lab(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Lab:
    folder = tmp_path_factory.mktemp("gathered")
    corpus = write_corpus_folder(folder / "text")
    return Lab.from_pretrained(
        tiny, corpus, store=folder / "bitgap.db", settings=Settings(arithmetic="exact")
    )


@pytest.fixture(scope="module")
def evidence(lab: Lab) -> Evidence:
    return evidence_of(lab, TIER)


def test_damage_of_single_blocks_is_what_scoring_them_gives(lab: Lab, evidence: Evidence) -> None:
    n = lab.n_blocks
    plans = [
        Plan.uniform(evidence.scheme, n, [b for b in range(n) if b != block]) for block in range(n)
    ]
    direct = damage_bits(lab.spread(TIER.sentences).score(plans))
    order = [lab.languages.index(code) for code in evidence.languages]
    np.testing.assert_allclose(evidence.single, direct[:, order], rtol=1e-12)


def test_masks_are_the_layer_map_s_and_nothing_is_damaged_where_all_is_protected(
    lab: Lab, evidence: Evidence
) -> None:
    assert evidence.masks[0] == 0
    assert (evidence.damage[evidence.masks == 2**lab.n_blocks - 1] == 0).all()
    nothing = lab.spread(TIER.map_sentences).score([Plan.uniform(evidence.scheme, lab.n_blocks)])
    order = [lab.languages.index(code) for code in evidence.languages]
    np.testing.assert_allclose(evidence.damage[0], damage_bits(nothing)[0, order], rtol=1e-12)


def test_the_reference_comes_first_and_is_its_own_measure(evidence: Evidence) -> None:
    assert evidence.languages[0] == "en"
    assert (evidence.log_error_ratio[:, 0] == 0).all()
    assert np.isfinite(evidence.log_error_ratio).all()
    assert evidence.disparity[0] == disparity_of(evidence.damage[0])


def test_sensitivity_averages_to_what_t002_shows(evidence: Evidence) -> None:
    shown = evidence.findings["H1.2"].tables["blocks"]
    if evidence.left_out:
        pytest.skip("T-002 averages over other languages here")
    np.testing.assert_allclose(
        np.log(evidence.sensitivity.mean(1)), [row["log_alpha"] for row in shown], rtol=1e-9
    )


def test_evidence_is_kept_whole_and_not_measured_again(lab: Lab, evidence: Evidence) -> None:
    assert unpack(pack(evidence)).findings == evidence.findings
    said: list[str] = []
    again = evidence_of(lab, TIER, announce=said.append)
    assert said == []
    assert again.languages == evidence.languages
    for name in ("single", "damage", "masks", "t2", "sensitivity"):
        assert (getattr(again, name) == getattr(evidence, name)).all()
    assert again.shapley.keys() == evidence.shapley.keys()
    for game, values in evidence.shapley.items():
        np.testing.assert_array_equal(again.shapley[game], values)


def test_the_main_job_s_run_is_in_the_store(lab: Lab, evidence: Evidence) -> None:
    (_, command, _, result), *_ = lab.store.runs()
    assert command == "investigate"
    assert result["model"] == evidence.model
    assert len(lab.store.observations_of("evidence")) == 1


def test_the_origin_s_predictors_are_shares(evidence: Evidence) -> None:
    for name in ("outlier_ratio", "sparsity"):
        values = evidence.original_predictors[name]
        assert ((values >= 0) & (values < 0.5)).all()
    assert (evidence.original_predictors["variance"] > 0).all()
