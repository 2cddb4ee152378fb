"""Readers of models and checkpoints, which need torch; good inputs are written by hand here."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from bitgap.formats.contents import contents_of
from bitgap.formats.open import open_checkpoint
from bitgap.models.shape import count_blocks
from validation.fuzz.run import Target

_NAME = "model.layers.0.mlp.up_proj"
_CONFIG = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 32, "sym": True},
}


def _gptq() -> bytes:
    rng = np.random.default_rng(0)
    return save(
        {
            f"{_NAME}.qweight": rng.integers(-(2**31), 2**31, (8, 16), dtype=np.int32),
            f"{_NAME}.qzeros": rng.integers(-(2**31), 2**31, (2, 2), dtype=np.int32),
            f"{_NAME}.scales": rng.random((2, 16)).astype(np.float16),
            f"{_NAME}.g_idx": (np.arange(64) // 32).astype(np.int32),
            "model.norm.weight": np.ones(64, np.float16),
        }
    )


def _text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def _gguf() -> bytes:
    """Returns GGUF version 3: two tensors, Q8_0 and F32."""
    pairs = _text("general.architecture") + struct.pack("<I", 8) + _text("llama")
    pairs += _text("llama.block_count") + struct.pack("<II", 4, 1)
    pairs += _text("tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, 2) + _text("a") + _text("b")
    held = _text("blk.0.ffn_up.weight") + struct.pack("<IQQIQ", 2, 32, 2, 8, 0)
    held += _text("output_norm.weight") + struct.pack("<IQIQ", 1, 8, 0, 96)
    head = b"GGUF" + struct.pack("<IQQ", 3, 2, 3) + pairs + held
    rows = b"".join(np.float16(0.5).tobytes() + bytes(range(32)) for _ in range(2))
    return head + bytes(-len(head) % 32) + rows.ljust(96, b"\0") + np.ones(8, "<f4").tobytes()


def _config_beside(folder: Path) -> None:
    (folder / "m" / "config.json").write_text(json.dumps(_CONFIG), encoding="utf-8")


def _weights_beside(folder: Path) -> None:
    (folder / "m" / "model.safetensors").write_bytes(_gptq())


def _read_all(path: Path) -> None:
    checkpoint = open_checkpoint(path)
    contents_of(checkpoint)
    for unit in (*checkpoint.units, *checkpoint.whole):
        unit.weight()


def _read_config(path: Path) -> None:
    _read_all(path.parent)
    count_blocks(str(path.parent))


def checkpoint_targets() -> list[Target]:
    """Returns the readers of checkpoints."""
    config = json.dumps(_CONFIG, indent=1).encode()
    index = json.dumps({"weight_map": {f"{_NAME}.qweight": "model.safetensors"}}).encode()
    found = [
        Target(name="safetensors, GPTQ", file="m/model.safetensors", seeds=[_gptq()], head=600,
               read=lambda p: _read_all(p.parent), beside=_config_beside),
        Target(name="config.json", file="m/config.json", seeds=[config], read=_read_config,
               beside=_weights_beside),
        Target(name="index of weights", file="m/model.safetensors.index.json", seeds=[index],
               read=lambda p: _read_all(p.parent), beside=_weights_beside),
    ]  # fmt: skip
    try:
        import gguf  # noqa: F401
    except ImportError:
        return found
    return [*found, Target(name="GGUF", file="m.gguf", seeds=[_gguf()], read=_read_all, head=400)]
