"""Damaged files: every reader refuses with a message, in little time and little memory."""

from __future__ import annotations

import resource
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import hand_written as written
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bitgap.errors import BitgapError
from bitgap.formats.open import open_checkpoint

LAYOUTS = ("gptq-3", "gptq-act-order", "gptq-no-index", "awq", "packed-3", "packed-asymmetric-4",
           "nvfp4-divisor", "nvfp4-factor", "mxfp4-experts", "float8-blocks", "nf4", "nf4-double",
           "int8-rows", "mlx-3", "int4-pairs")  # fmt: skip
_SPARE_BYTES = 1 << 30
_LONGEST_S = 20.0
_ABSURD = (0, 1, 0x7F, 0xFF, 1 << 31, (1 << 32) - 1, 1 << 40, (1 << 63) - 1, (1 << 64) - 1)

thorough = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture(autouse=True)
def little_memory() -> Iterator[None]:
    """Lets the process grow by 1 GiB: what a header only claims cannot be taken."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + _SPARE_BYTES, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def read_all(path: Path, n_bytes: int) -> None:
    """Opens and reads everything; any refusal is bitgap's own and none is about memory."""
    start = time.process_time()
    try:
        checkpoint = open_checkpoint(path)
        for unit in (*checkpoint.units, *checkpoint.whole):
            # A code has one bit at least.
            assert unit.n_weights <= 8 * n_bytes
            unit.weight()
    except BitgapError as error:
        assert str(error)
        assert "allocate" not in str(error)
        assert "\n" not in str(error)
    assert time.process_time() - start < _LONGEST_S


damage = st.lists(
    st.one_of(
        st.tuples(st.just("flip"), st.integers(0, 1 << 20), st.integers(0, 7)),
        st.tuples(st.just("absurd"), st.integers(0, 1 << 20), st.sampled_from(_ABSURD)),
        st.tuples(st.just("cut"), st.integers(0, 1 << 20), st.just(0)),
        st.tuples(st.just("digit"), st.integers(0, 1 << 20), st.integers(0, 9)),
    ),
    min_size=1,
    max_size=4,
)


def damaged(data: bytes, harms: list[tuple[str, int, int]], head: int) -> bytes:
    """Harms a file, mostly in its first ``head`` bytes, where sizes and counts are."""
    out = bytearray(data)
    for kind, where, value in harms:
        if not out:
            break
        at = where % (min(head, len(out)) if where % 4 else len(out))
        if kind == "flip":
            out[at] ^= 1 << value
        elif kind == "absurd":
            out[at : at + 8] = struct.pack("<Q", value)[: len(out) - at]
        elif kind == "cut":
            del out[at:]
        elif digits := [i for i, byte in enumerate(out[:head]) if 48 <= byte <= 57]:
            out[digits[where % len(digits)]] = 48 + value
    return bytes(out)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_safetensors_of_any_layout(layout: str, tmp_path: Path) -> None:
    folder = written.WRITERS[layout]().save(tmp_path)
    file = folder / "model.safetensors"
    data = file.read_bytes()
    head = 8 + struct.unpack("<Q", data[:8])[0]

    @thorough
    @given(harms=damage)
    def harmed(harms: list[tuple[str, int, int]]) -> None:
        harm = damaged(data, harms, head)
        # A new file, as an old one may still be mapped.
        file.unlink()
        file.write_bytes(harm)
        read_all(folder, max(len(harm), len(data)))

    harmed()


@pytest.mark.parametrize("layout", ["gptq-3", "packed-3", "nf4-double", "mlx-3", "float8-blocks"])
def test_configs_that_say_anything(layout: str, tmp_path: Path) -> None:
    folder = written.WRITERS[layout]().save(tmp_path)
    config = folder / "config.json"
    data, n_bytes = config.read_bytes(), (folder / "model.safetensors").stat().st_size

    @thorough
    @given(harms=damage)
    def harmed(harms: list[tuple[str, int, int]]) -> None:
        config.write_bytes(damaged(data, harms, len(data)))
        read_all(folder, n_bytes)

    harmed()
    huge = 10**30
    for told in ('7', '{"bits": -1}', '{"group_size": 1e400, "bits": null}',
                 '{"config_groups": [1], "weight_block_size": "ab"}',
                 f'{{"group_size": {huge}, "bits": {huge}}}'):  # fmt: skip
        config.write_text(f'{{"quantization_config": {told}}}')
        read_all(folder, n_bytes)
    for text in ("[]", "", "[" * 100_000):
        config.write_text(text)
        read_all(folder, n_bytes)


@pytest.mark.parametrize(
    "state",
    [
        {"shape": [1 << 40, 1 << 40], "blocksize": 64},
        {"shape": [3, 50], "blocksize": 1 << 50},
        {"shape": [3, 50], "blocksize": 0},
        {"shape": [3, -50], "blocksize": 64},
        {"shape": [3.5, 50], "blocksize": 64},
        {"shape": "350", "blocksize": 64},
        {"blocksize": 64},
        [],
    ],
)
def test_descriptions_stored_as_tensors(state: object, tmp_path: Path) -> None:
    import json

    import torch

    made = written.nf4()
    key = f"{written.NAME}.weight.quant_state.bitsandbytes__nf4"
    made.tensors[key] = torch.tensor(list(json.dumps(state).encode()), dtype=torch.uint8)
    read_all(made.save(tmp_path), 1 << 12)


def test_shapes_stored_as_tensors(tmp_path: Path) -> None:
    import torch

    for i, shape in enumerate(([1 << 40, 1 << 40], [8, 1 << 60], [-8, 96], [8], [0, 0], [8, 97])):
        made = written.packed_integers()
        made.tensors[f"{written.NAME}.weight_shape"] = torch.tensor(shape)
        read_all(made.save(tmp_path / str(i)), 1 << 12)


def test_gguf(tmp_path: Path) -> None:
    pytest.importorskip("gguf", reason="the extra bitgap[gguf] is not installed")
    import gguf_files

    kind, columns = "Q4_K", 256
    blocks = np.random.default_rng(0).integers(0, 60, (2, 144)).astype(np.uint8)
    tensors = {
        "token_embd.weight": ("F32", np.ones((4, 8), np.float32), (4, 8)),
        "blk.0.ffn_up.weight": (kind, blocks, (2, columns)),
        "blk.0.attn_q.weight": ("F32", np.ones((8, 8), np.float32), (8, 8)),
    }
    keys = {"llama__attention__head_count": 2, "tokenizer__ggml__tokens": ["a", "bb", "ccc"]}
    path = gguf_files.raw_gguf(tmp_path / "m.gguf", tensors, **keys)
    data = path.read_bytes()
    head = data.index(b"\x00" * 24) if b"\x00" * 24 in data else 600

    @settings(parent=thorough, max_examples=400)
    @given(harms=damage)
    def harmed(harms: list[tuple[str, int, int]]) -> None:
        harm = damaged(data, harms, max(head, 600))
        path.unlink()
        path.write_bytes(harm)
        read_all(path, max(len(harm), len(data)))

    harmed()


def test_gguf_as_a_model(tmp_path: Path) -> None:
    pytest.importorskip("gguf", reason="the extra bitgap[gguf] is not installed")
    import gguf_files
    from tiny_checkpoints import tiny_model

    from bitgap.formats.gguf.load import load_gguf

    path = tmp_path / "m.gguf"
    gguf_files.write_gguf(path, tiny_model("llama", vocab_size=300), kind="Q4_0")
    data = path.read_bytes()

    @settings(parent=thorough, max_examples=60)
    @given(harms=damage)
    def harmed(harms: list[tuple[str, int, int]]) -> None:
        path.unlink()
        path.write_bytes(damaged(data, harms, 1200))
        try:
            load_gguf(path)
        except BitgapError as error:
            assert "allocate" not in str(error)

    harmed()
