"""Bytes are counted as a file has them, and a budget is what was asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from bitgap.errors import SchemeError, UsageError
from bitgap.protect.example import TABLE
from bitgap.protect.records import TIED, Matrix, Unit
from bitgap.protect.sizes import amount_bytes, budget_of, plain_choice
from bitgap.protect.toolchains import TOOLCHAINS, can_load, fused_sets, toolchain
from bitgap.quant.schemes import bits_per_weight, parse_scheme


def unit(n_out: int, n_in: int, kind: str = "o") -> Unit:
    matrices = (Matrix(name=f"{kind}{n_in}", n_out=n_out, n_in=n_in),)
    return Unit(name=f"0.{kind}", kind=kind, block=0, matrices=matrices)


@pytest.mark.parametrize("scheme", ["rtn2-g32", "rtn3-g64", "rtn4-g128", "rtn8-channel", "fp"])
def test_bytes_agree_with_bits_a_weight_where_codes_fill_bytes(scheme: str) -> None:
    of = unit(16, 256)
    taken = plain_choice(of, scheme)
    assert 8 * taken.size_bytes / of.n_weights == bits_per_weight(parse_scheme(scheme), (16, 256))


def test_a_short_group_and_a_last_byte_are_paid_for() -> None:
    taken = plain_choice(unit(3, 33), "rtn3-g32")
    assert taken.codes_bytes == -(-3 * 3 * 33 // 8)
    assert taken.scales_bytes == 2 * 3 * 2
    assert (taken.bits, taken.group) == (3.0, "g32")
    with pytest.raises(SchemeError, match="is not known"):
        plain_choice(unit(3, 33), "rtn9-g32")


@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [("180MB", 180_000_000), ("170MiB", 170 * 2**20), ("1.5 GB", 1_500_000_000), ("77", 77),
     ("2kib", 2048), (".5M", 500_000), ("12 b", 12)],
)  # fmt: skip
def test_amounts(text: str, n_bytes: int) -> None:
    assert amount_bytes(text) == n_bytes


@pytest.mark.parametrize("text", ["", "MB", "-3MB", "0", "3 XB", "1e9x", "4ib", "nan", "1,5GB"])
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no amount; write for example"):
        amount_bytes(text)


def test_bits_are_of_units_and_fixed_parts_come_on_top() -> None:
    units = TABLE.facts.units
    budget = budget_of(units, bits=4.25, fixed_bytes=123)
    uniform = sum(plain_choice(one, "rtn4-g64").size_bytes for one in units)
    assert budget.units_bytes == uniform
    assert budget.size_bytes == uniform + 123
    assert budget_of(units, size="1MB", fixed_bytes=1000).units_bytes == 999_000


def test_a_budget_like_a_file_is_its_weights(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(b"x" * 999)
    (tmp_path / "a.safetensors").write_bytes(b"x" * 100)
    (tmp_path / "b.safetensors").write_bytes(b"x" * 50)
    (tmp_path / "pytorch_model.bin").write_bytes(b"x" * 150)
    units = TABLE.facts.units
    assert budget_of(units, like=tmp_path / "a.safetensors").size_bytes == 100
    # The same weights in two formats are one model.
    assert budget_of(units, like=tmp_path).size_bytes == 150
    for nothing in (tmp_path / "none.gguf", tmp_path / "empty"):
        with pytest.raises(UsageError, match="holds no weights"):
            budget_of(units, like=nothing)


@pytest.mark.parametrize("how", [{}, {"bits": 4.0, "size": "1MB"}, {"size": 1, "like": "x"}])
def test_exactly_one_way_to_ask(how: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="give exactly one of"):
        budget_of(TABLE.facts.units, **how)  # type: ignore[arg-type]


@pytest.mark.parametrize("bits", [0.0, -1.0, float("inf"), float("nan")])
def test_bits_that_are_none(bits: float) -> None:
    with pytest.raises(UsageError, match="bits a weight was asked for"):
        budget_of(TABLE.facts.units, bits=bits)


@pytest.mark.parametrize(
    ("target", "kind", "scheme", "loads"),
    [
        ("gguf", "o", "rtn4-g32", True),
        ("gguf", "o", "rtn3-g32", False),
        ("gguf", "o", "Q4_K", True),
        ("gguf", TIED, "rtn8-g32", True),
        ("vllm", "o", "rtn4-g128", True),
        ("vllm", "o", "rtn6-g128", False),
        ("vllm", TIED, "rtn8-g128", False),
        ("vllm", TIED, "fp", True),
        ("torchao", "o", "rtn3-g64", True),
        ("torchao", "o", "rtn4-g64-mse", True),
        ("torchao", "o", "rtn4-tensor", False),
        ("torchao", "o", "stoch4-g64-s0", False),
    ],
)
def test_what_targets_load(target: str, kind: str, scheme: str, loads: bool) -> None:
    assert can_load(toolchain(target), unit(4, 256, kind), scheme) is loads


def test_a_group_must_divide_and_types_of_others_are_unknown() -> None:
    assert not can_load(toolchain("gguf"), unit(4, 40), "rtn4-g32")
    with pytest.raises(SchemeError):
        can_load(toolchain("vllm"), unit(4, 256), "Q4_K")
    with pytest.raises(UsageError, match="there are gguf, compressed-tensors, vllm, torchao"):
        toolchain("llama.cpp")


def test_units_that_are_fused_already_are_left_alone() -> None:
    fused = [unit(4, 32, "qkv"), unit(4, 64, "gate_up")]
    assert [fused_sets(target, fused) for target in TOOLCHAINS.values()] == [()] * len(TOOLCHAINS)
