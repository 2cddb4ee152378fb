from __future__ import annotations

import doctest
import importlib

import numpy as np
import pytest
import torch
from hand_written import E2M1, words
from hypothesis import given, settings
from hypothesis import strategies as st

from bitgap.errors import ModelError
from bitgap.formats import packing


# A busy machine takes its time.
@settings(deadline=None)
@given(bits=st.integers(1, 8), n=st.integers(1, 200), seed=st.integers(0, 99))
def test_streams_are_read_as_they_are_written(bits: int, n: int, seed: int) -> None:
    codes = np.random.default_rng(seed).integers(0, 2**bits, (2, n))
    packed = words(codes, bits)
    assert packed.shape[-1] * 4 == packing.stream_bytes(n, bits)
    assert packing.unpack_stream(packed, bits, n).tolist() == codes.tolist()


def test_streams_that_are_too_short_are_refused() -> None:
    with pytest.raises(
        ModelError, match="9 codes of 4 bits were expected in 4 bytes, which hold 8"
    ):
        packing.unpack_stream(torch.zeros(1, dtype=torch.int32), 4, 9)


def test_float_codes_are_those_of_the_standard() -> None:
    assert packing.FP4_VALUES.tolist() == list(E2M1)
    assert packing.FP6_VALUES[[0, 1, 8, 31, 32 + 31]].tolist() == [0.0, 0.125, 1.0, 7.5, -7.5]
    scales = torch.tensor([0, 127, 254], dtype=torch.uint8)
    assert packing.exponents(scales).tolist() == [2.0**-127, 1.0, 2.0**127]
    assert packing.exponents(torch.tensor([255], dtype=torch.uint8)).isnan().all()


def test_groups_that_do_not_divide_a_row() -> None:
    codes, scale = torch.ones(1, 5), torch.tensor([[1.0, 2.0, 3.0]])
    zero = torch.tensor([[0.0, 1.0, 0.5]])
    made = packing.by_group(codes, scale, zero, 2)
    assert made.tolist() == [[1.0, 1.0, 0.0, 0.0, 1.5]]
    assert packing.group_size(5, 3, 2, "a") == 2
    with pytest.raises(ModelError, match="5 inputs have 3 scales a row"):
        packing.group_size(5, 3, None, "a")


@pytest.mark.parametrize("name", ["packing", "checkpoint", "tensors", "contents", "gguf.names"])
def test_examples_are_true(name: str) -> None:
    assert doctest.testmod(importlib.import_module(f"bitgap.formats.{name}"),
                           extraglobs={"torch": torch}).failed == 0  # fmt: skip
