"""Declared thresholds: what is declared, what the hash notices, and what is refused."""

from __future__ import annotations

import re
from collections.abc import Iterator
from copy import deepcopy
from importlib import resources
from typing import Any

import pytest
import yaml

from bitgap.errors import UserError
from bitgap.stats.verdicts import load_thresholds, read_thresholds

TEXT = resources.files("bitgap.stats").joinpath("thresholds.yaml").read_text(encoding="utf-8")
DECLARED = yaml.safe_load(TEXT)


def _leaves(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if isinstance(node, dict | list):
        for key in node if isinstance(node, dict) else range(len(node)):
            yield from _leaves(node[key], (*path, key))
    else:
        yield path


def _with(path: tuple[Any, ...], value: Any) -> str:
    content = deepcopy(DECLARED)
    *outer, last = path
    node = content
    for key in outer:
        node = node[key]
    node[last] = value if value is not ... else _nudged(node[last])
    return yaml.safe_dump(content)


def _nudged(value: Any) -> Any:
    if isinstance(value, str):
        return value + "!"
    return value + 1 if isinstance(value, int) else value * 0.99


def test_declared_thresholds_are_those_of_the_file():
    found = load_thresholds()
    assert (found.alpha, found.level, found.window) == (0.05, 0.95, (0.65, 0.85))
    assert found.operating_bits == (3, 4, 5, 6, 8)
    assert found.exploratory == {"depth"}
    assert len(found.hypotheses.keys() - found.exploratory) == 12  # the family that Holm is over
    assert found.of("H2.1") == DECLARED["hypotheses"]["H2.1"]
    assert re.fullmatch("[0-9a-f]{12}", found.hash)
    assert read_thresholds(TEXT) == found


def test_every_declared_value_is_in_the_hash():
    hashes = {path: read_thresholds(_with(path, ...)).hash for path in _leaves(DECLARED)}
    assert len(hashes) > 40
    assert load_thresholds().hash not in hashes.values()
    assert len(set(hashes.values())) == len(hashes)


def test_a_new_entry_is_in_the_hash():
    content = deepcopy(DECLARED)
    content["hypotheses"]["H2.1"]["sesoi_extra"] = 0.1
    assert read_thresholds(yaml.safe_dump(content)).hash != load_thresholds().hash


def test_comments_and_order_are_not_in_the_hash():
    bare = yaml.safe_dump(DECLARED, sort_keys=True)
    assert "#" in TEXT and "#" not in bare
    assert read_thresholds(bare).hash == load_thresholds().hash


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "found NoneType"),
        ("0.05", "found float"),
        ("- alpha\n- level", "found list"),
        ("alpha: [0.05", "no YAML"),
        ("alpha: 0.05\n3: 4", r"unknown or missing keys \['3', 'agreement_share', .*they are"),
        (TEXT + "\nalfa: 0.05", r"unknown or missing keys \['alfa'\]"),
        (TEXT.replace("draws: 2000", ""), r"unknown or missing keys \['draws'\]"),
    ],
)
def test_a_malformed_file_is_refused_with_what_was_found(text, found):
    with pytest.raises(UserError, match=f"thresholds: .*{found}"):
        read_thresholds(text)


@pytest.mark.parametrize(
    ("path", "value", "wanted"),
    [
        (("alpha",), "five", "alpha is 'five'; it must be a number between 0 and 1"),
        (("alpha",), 5, "alpha is 5"),
        (("alpha",), True, "alpha is True"),
        (("alpha",), float("nan"), "alpha is nan"),
        (("level",), 1, "level is 1"),
        (("level",), None, "level is None"),
        (("version",), 1.5, "version is 1.5; it must be a whole number above 0"),
        (("draws",), 0, "draws is 0"),
        (("window",), 0.75, "window is 0.75; it must be two depths"),
        (("window",), [0.85, 0.65], "window is"),
        (("window",), [0.65, 0.75, 0.85], "window is"),
        (("window",), [65, 85], "window is"),
        (("window", 0), "left", "window is"),
        (("detection_share",), 80, "detection_share is 80"),
        (("families_min",), "five", "families_min is 'five'"),
        (("agreement_share",), 0, "agreement_share is 0"),
        (("operating_bits",), [], "operating_bits is"),
        (("operating_bits",), 4, "operating_bits is 4"),
        (("operating_bits", 1), "4", "operating_bits is"),
        (("hypotheses",), ["H2.1"], "hypotheses is"),
        (("hypotheses",), {}, "hypotheses is"),
        (("hypotheses", "H2.1"), 1.0, "H2.1 declares 1.0; it must have a sesoi above 0"),
        (("hypotheses", "H2.1", "sesoi"), "half", "H2.1 declares"),
        (("hypotheses", "H2.1", "sesoi"), -1, "H2.1 declares"),
        (("hypotheses", "H2.1"), {"experiment": "T-004"}, "H2.1 declares"),
        (("hypotheses", 7), {"sesoi": 1.0}, "7 declares"),
    ],
)
def test_a_value_that_cannot_be_is_refused_by_name(path, value, wanted):
    with pytest.raises(UserError, match=re.escape(f"thresholds: {wanted}")):
        read_thresholds(_with(path, value))


def test_a_share_may_be_all():
    assert read_thresholds(_with(("detection_share",), 1.0)).detection_share == 1
