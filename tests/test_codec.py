"""The codec: a record comes back equal, whatever it holds, and what is no record is refused."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import pytest

from bitgap.codec import NOT_STORED, decode, encode, from_json, to_json
from bitgap.errors import StoreError
from bitgap.records import Estimate, Finding, Provenance
from record_samples import ESTIMATE, FINDING, PROVENANCE


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    n: int
    kind: Literal["a", "b"] = "a"
    value: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """Everything that a record of a result may hold."""

    leaves: tuple[Leaf, ...]
    by_name: Mapping[str, Mapping[str, Leaf | None]]
    pair: tuple[int, str]
    rows: tuple[tuple[float, ...], ...]
    open: bool
    free: Mapping[str, Any]
    working: list[int] = field(default_factory=list[int], compare=False, metadata=NOT_STORED)


TREE = Tree(
    leaves=(Leaf(n=1), Leaf(n=2, kind="b", value=math.nextafter(0.1, 1))),
    by_name={"z": {"y": Leaf(n=3), "x": None}, "a": {}},
    pair=(4, "e"),
    rows=((5e-324, -0.0), (), (1e300,)),
    open=False,
    free={"b": [1, {"c": None}], "a": "text"},
    working=[7],
)


@pytest.mark.parametrize("record", [ESTIMATE, FINDING, PROVENANCE, FINDING.controls[0], TREE])
def test_a_record_comes_back_equal(record: Any) -> None:
    again = decode(type(record), encode(record))
    assert again == record
    assert repr(replace(again, working=[7]) if record is TREE else again) == repr(record)


def test_keys_keep_their_order_and_what_is_not_stored_its_default() -> None:
    again = decode(Tree, encode(TREE))
    assert list(again.by_name) == ["z", "a"] and list(again.free) == ["b", "a"]
    assert again.working == [] and "working" not in to_json(TREE)


@pytest.mark.parametrize(
    ("kind", "text", "says"),
    [
        (Provenance, encode(PROVENANCE).replace('"seed"', '"sead"'), "unknown fields.*sead"),
        (Provenance, "{}", "Provenance does not fit"),
        (Finding, encode(FINDING).replace('"sesoi"', '"sesio"'), "Verdict.*unknown.*sesio"),
        (Finding, encode(FINDING).replace('"passed"', '"past"'), "Control.*unknown.*past"),
        (Finding, encode(FINDING).replace('"method"', '"meth"'), "Estimate.*unknown.*meth"),
    ],
)
def test_a_record_with_other_fields_is_refused(kind: type, text: str, says: str) -> None:
    with pytest.raises(StoreError, match=says):
        decode(kind, text)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"leaves": {}}, "Tree.leaves does not fit: it is {}, not a list"),
        ({"leaves": [{"n": 1.5}]}, "Leaf.n does not fit: it is 1.5, not int"),
        ({"leaves": [{"n": True}]}, "Leaf.n does not fit"),
        ({"leaves": [{"n": 1, "kind": "c"}]}, "'a' or 'b'"),
        ({"pair": [4]}, "2 values"),
        ({"by_name": []}, "an object"),
        ({"open": 1}, "not bool"),
        ({"open": None}, "not bool"),
        ({"working": [7]}, "unknown fields.*working"),
    ],
)
def test_a_value_of_another_kind_is_refused(changed: dict[str, Any], says: str) -> None:
    with pytest.raises(StoreError, match=says):
        from_json(Tree, to_json(TREE) | changed)


def test_what_a_record_refuses_the_codec_refuses() -> None:
    with pytest.raises(StoreError, match=r"Estimate does not fit.*needs a reason"):
        from_json(Estimate, {"value": None, "unit": "bits"})


def test_nan_is_no_json() -> None:
    with pytest.raises(ValueError, match=r"not JSON compliant|Out of range"):
        encode(replace(FINDING, tables={"x": math.nan}))


def test_a_field_is_read_under_the_name_it_had() -> None:
    old = encode(FINDING).replace('"original_measure"', '"seed_measure"')
    assert decode(Finding, old) == FINDING
