"""Parts of a file: closed forms, a planted part, plans, and the record."""

from __future__ import annotations

import numpy as np
import pytest

from bitgap.codec import from_json, to_json
from bitgap.disparity.file_map import FileMap, Part, make_file_map, part_plans
from bitgap.errors import PlanError
from bitgap.quant.plan import Plan
from bitgap.show.tables.file_map import part_languages_table, parts_table
from score_samples import make_scores

OWN = "own:q:0123456789ab"


def parts_of(n: int) -> list[Part]:
    return [Part(block=i, unit="", stored="int4", parameters=64, n_bytes=40) for i in range(n)]


def mapped(kl: np.ndarray) -> FileMap:
    """The map where damage of parts (P x A x N) adds up."""
    whole = kl.sum(0, keepdims=True)
    return make_file_map(
        make_scores(np.concatenate([kl, whole - kl, whole])), "q", parts_of(len(kl))
    )


def test_where_damage_adds_up_keeping_a_part_takes_off_what_it_does_alone() -> None:
    kl = np.random.default_rng(0).gamma(2, 0.01, (3, 3, 20))
    for one in mapped(kl).parts:
        assert one.alone.value == pytest.approx(one.relief.value)
        for alone, relief in zip(one.alone_by_language, one.relief_by_language, strict=True):
            assert alone.value == pytest.approx(relief.value)


def test_a_part_planted_against_one_language_is_found() -> None:
    found = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        kl = rng.gamma(4, 0.0025, (5, 1, 1)) * rng.gamma(8, 1 / 8, (5, 4, 40))
        kl[2, 3] *= 2
        harder = mapped(kl).parts[2].harder[3]
        found += harder.low is not None and harder.low > 0
    assert found >= 16


def test_what_is_harder_misses_zero_as_rarely_as_it_says_where_parts_share_one_profile() -> None:
    wrong = n = 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        kl = rng.gamma(4, 0.0025, (5, 1, 1)) * rng.gamma(8, 1 / 8, (5, 4, 24))
        for one in (harder for part in mapped(kl).parts for harder in part.harder):
            assert one.low is not None and one.high is not None
            n, wrong = n + 1, wrong + (one.low > 0 or one.high < 0)
    assert wrong / n < 0.07


def test_a_part_that_does_nothing_voids_no_other() -> None:
    kl = np.random.default_rng(1).gamma(2, 0.01, (3, 3, 12))
    kl[1] = 0.0
    found = mapped(kl)
    assert all("below resolution" in (one.reason or "") for one in found.parts[1].harder)
    assert all(one.value is not None for one in found.parts[0].harder)


def test_plans_put_each_part_in_and_out_and_bytes_count_what_whole_costs() -> None:
    file = Plan((OWN,) * 2, embedding=OWN, head=OWN)
    ends = Part(block=None, unit="embedding and head", stored="Q8_0", parameters=64, n_bytes=68)
    matrix = Part(block=1, unit="mlp.up", stored="Q4_K", parameters=64, n_bytes=36)
    alone, alone_matrix, without, without_matrix, whole = part_plans(file, [ends, matrix])
    assert (alone.blocks, alone.embedding, alone.head) == (("fp", "fp"), OWN, OWN)
    assert (without.blocks, without.embedding, without.head) == ((OWN, OWN), "fp", "fp")
    assert alone_matrix == Plan.only_unit(OWN, 2, 1, "mlp.up")
    assert without_matrix.blocks == (OWN, f"{OWN}/fp@mlp.up")
    assert without_matrix.embedding == OWN and whole == file
    assert (ends.extra_bytes, matrix.extra_bytes) == (60, 92)
    assert Part(block=0, unit="", stored="F32", parameters=8, n_bytes=32).extra_bytes == 0
    with pytest.raises(PlanError, match="leaves head as it is"):
        part_plans(Plan((OWN,) * 2), [Part(block=None, unit="head", stored="F16", parameters=8,
                                           n_bytes=16)])  # fmt: skip


def test_a_map_is_stored_and_read_back_and_shown_alike() -> None:
    found = mapped(np.random.default_rng(1).gamma(2, 0.01, (4, 3, 12)))
    assert from_json(FileMap, to_json(found)) == found
    for table in (parts_table, part_languages_table):
        assert table(found) == table(found.as_dict())
