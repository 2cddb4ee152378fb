"""Files of each layout written bit by bit, with the weights that they stand for.

Nothing here uses bitgap or a toolchain: codes become a string of binary digits, and a weight is
computed from the layout's formula one at a time.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

Array = Any
NAME = "model.layers.0.self_attn.q_proj"
E2M1 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0)
AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)


@dataclass
class Written:
    tensors: dict[str, torch.Tensor]
    weight: Array
    quantization: dict[str, Any] = field(default_factory=dict)
    name: str = f"{NAME}.weight"
    toolchain: str = ""
    stored: str = ""

    def save(self, folder: Path, **changes: Any) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        whole = {"model.norm.weight": torch.ones(4, dtype=torch.bfloat16)}
        tensors = {k: v.contiguous() for k, v in (whole | self.tensors).items()}
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
        config = {"model_type": "llama"} | changes
        if self.quantization:
            config.setdefault("quantization_config", self.quantization)
        (folder / "config.json").write_text(json.dumps(config))
        return folder


def words(codes: Array, bits: int) -> torch.Tensor:
    """Packs the rows of codes, low bits first, into whole 32-bit words."""
    rows = []
    for row in codes:
        digits = "".join(format(int(c), f"0{bits}b")[::-1] for c in row)
        digits += "0" * (-len(digits) % 32)
        values = [int(digits[i : i + 32][::-1], 2) for i in range(0, len(digits), 32)]
        rows.append(np.array(values, np.uint32).view(np.int32))
    return torch.from_numpy(np.stack(rows))


def dice(*shape: int, top: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed + top).integers(0, top, shape)


def halves(*shape: int, seed: int = 1) -> Array:
    return (np.random.default_rng(seed).random(shape) + 0.25).astype(np.float16)


def gptq(
    bits: int = 4,
    *,
    version: int = 1,
    symmetric: bool = False,
    order: bool = False,
    n_in: int = 96,
    group: int = 32,
    n_out: int = 32,
    index: bool = True,
) -> Written:
    n_groups = -(-n_in // group)
    codes, scales = dice(n_in, n_out, top=2**bits), halves(n_groups, n_out)
    zeros = dice(n_groups, n_out, top=2**bits, seed=3)
    zeros = np.maximum(zeros, 1) if version == 1 else zeros
    if symmetric:
        zeros[:] = 2 ** (bits - 1)
    of = np.arange(n_in) // group
    if order:
        of = np.random.default_rng(0).permutation(of)
    weight = np.empty((n_out, n_in), np.float32)
    for o in range(n_out):
        for i in range(n_in):
            g = of[i]
            weight[o, i] = np.float32(scales[g, o]) * (int(codes[i, o]) - int(zeros[g, o]))
    tensors = {
        f"{NAME}.qweight": words(codes.T, bits).T,
        f"{NAME}.qzeros": words(zeros - (version == 1), bits),
        f"{NAME}.scales": torch.from_numpy(scales),
    }
    if index:
        tensors[f"{NAME}.g_idx"] = torch.from_numpy(of.astype(np.int32))
    told = {"quant_method": "gptq", "bits": bits, "group_size": group}
    told["checkpoint_format"] = "gptq" if version == 1 else "gptq_v2"
    stored = f"int{bits} g{group}{' act-order' if order else ''}"
    return Written(tensors, weight, told, toolchain="gptq", stored=stored)


def awq(n_in: int = 64, n_out: int = 16, group: int = 32) -> Written:
    codes, zeros = dice(n_in, n_out, top=16), dice(n_in // group, n_out, top=16, seed=5)
    scales = halves(n_in // group, n_out)
    weight = np.empty((n_out, n_in), np.float32)
    for o in range(n_out):
        for i in range(n_in):
            g = i // group
            weight[o, i] = np.float32(scales[g, o]) * (int(codes[i, o]) - int(zeros[g, o]))

    def shuffled(values: Array) -> Array:
        out = np.empty_like(values)
        for start in range(0, values.shape[1], 8):
            for place, column in enumerate(AWQ_ORDER):
                out[:, start + place] = values[:, start + column]
        return out

    tensors = {
        f"{NAME}.qweight": words(shuffled(codes), 4),
        f"{NAME}.qzeros": words(shuffled(zeros), 4),
        f"{NAME}.scales": torch.from_numpy(scales),
    }
    told = {"quant_method": "awq", "bits": 4, "group_size": group, "version": "gemm"}
    return Written(tensors, weight, told, toolchain="awq", stored=f"int4 g{group} asym")


def packed_integers(
    bits: int = 4, *, asymmetric: bool = False, n_in: int = 96, group: int = 32, n_out: int = 8
) -> Written:
    n_groups, half = -(-n_in // group), 2 ** (bits - 1)
    codes, scales = dice(n_out, n_in, top=2**bits), halves(n_out, n_groups)
    scales[0] *= -1  # a signed scale is a scale
    zeros = (
        dice(n_out, n_groups, top=2**bits, seed=7)
        if asymmetric
        else np.full((n_out, n_groups), half)
    )
    weight = np.empty((n_out, n_in), np.float32)
    for o in range(n_out):
        for i in range(n_in):
            g = i // group
            weight[o, i] = np.float32(scales[o, g]) * (int(codes[o, i]) - int(zeros[o, g]))
    tensors = {
        f"{NAME}.weight_packed": words(codes, bits),
        f"{NAME}.weight_scale": torch.from_numpy(scales),
        f"{NAME}.weight_shape": torch.tensor([n_out, n_in]),
    }
    if asymmetric:
        tensors[f"{NAME}.weight_zero_point"] = words(zeros.T, bits).T
    told = {"quant_method": "compressed-tensors", "format": "pack-quantized"}
    told["config_groups"] = {"group_0": {"weights": {"num_bits": bits, "group_size": group}}}
    stored = f"int{bits} g{group}{' asym' if asymmetric else ''}"
    return Written(tensors, weight, told, toolchain="compressed-tensors", stored=stored)


def _e2m1_bytes(codes: Array) -> torch.Tensor:
    return torch.from_numpy((codes[..., 0::2] | codes[..., 1::2] << 4).astype(np.uint8))


def nvfp4(style: str, n_out: int = 4, n_in: int = 48) -> Written:
    codes, e4m3 = (
        dice(n_out, n_in, top=16),
        torch.from_numpy(halves(n_out, n_in // 16)).to(torch.float8_e4m3fn),
    )
    scale, whole = e4m3.float().numpy(), np.float32(3.0)
    weight = np.empty((n_out, n_in), np.float32)
    for o in range(n_out):
        for i in range(n_in):
            s = scale[o, i // 16]
            s = s / whole if style == "divisor" else s * whole
            weight[o, i] = np.float32(E2M1[codes[o, i]]) * np.float32(s)
    if style == "divisor":
        names, told = (
            ("weight_packed", "weight_global_scale"),
            {"quant_method": "compressed-tensors"},
        )
    else:
        names, told = (
            ("weight", "weight_scale_2"),
            {"quant_method": "modelopt", "quant_algo": "NVFP4"},
        )
    tensors = {
        f"{NAME}.{names[0]}": _e2m1_bytes(codes),
        f"{NAME}.weight_scale": e4m3,
        f"{NAME}.{names[1]}": torch.tensor([whole]),
    }
    kind = "compressed-tensors" if style == "divisor" else "modelopt"
    return Written(tensors, weight, told, toolchain=kind, stored="NVFP4")


def mxfp4_experts(n_experts: int = 2, n_out: int = 6, n_in: int = 64) -> Written:
    codes = dice(n_experts, n_out, n_in, top=16)
    scales = dice(n_experts, n_out, n_in // 32, top=9, seed=2) + 123
    weight = np.empty((n_experts, n_out, n_in), np.float32)
    for e, o, i in np.ndindex(weight.shape):
        weight[e, o, i] = E2M1[codes[e, o, i]] * 2.0 ** (int(scales[e, o, i // 32]) - 127)
    name = "model.layers.0.mlp.experts.gate_up_proj"
    tensors = {
        f"{name}_blocks": _e2m1_bytes(codes).reshape(n_experts, n_out, n_in // 32, 16),
        f"{name}_scales": torch.from_numpy(scales.astype(np.uint8)),
    }
    told = {"quant_method": "mxfp4"}
    return Written(tensors, weight, told, name=name, toolchain="mxfp4", stored="MXFP4")


def float8_blocks(n_out: int = 130, n_in: int = 200, block: int = 128) -> Written:
    rows, columns = -(-n_out // block), -(-n_in // block)
    values = torch.from_numpy(halves(n_out, n_in) - np.float16(0.7)).to(torch.float8_e4m3fn)
    scales = halves(rows, columns, seed=9).astype(np.float32)
    plain = values.float().numpy()
    weight = np.empty((n_out, n_in), np.float32)
    for o in range(n_out):
        for i in range(n_in):
            weight[o, i] = plain[o, i] * scales[o // block, i // block]
    tensors = {f"{NAME}.weight": values, f"{NAME}.weight_scale_inv": torch.from_numpy(scales)}
    told = {"quant_method": "fp8", "weight_block_size": [block, block]}
    return Written(tensors, weight, told, toolchain="fp8", stored=f"f8_e4m3 b{block}x{block}")


def float8_scale(shape: tuple[int, ...], n_out: int = 6, n_in: int = 8) -> Written:
    values = torch.from_numpy(halves(n_out, n_in) - np.float16(0.7)).to(torch.float8_e4m3fn)
    scales = halves(*shape, seed=4).astype(np.float32)
    weight = values.float().numpy() * (
        scales.reshape(-1, 1) if scales.size > 1 else scales.reshape(())
    )
    tensors = {
        f"{NAME}.weight": values,
        f"{NAME}.weight_scale": torch.from_numpy(np.asarray(scales)),
        f"{NAME}.input_scale": torch.tensor(0.5),
    }
    grain = "channel" if scales.size > 1 else "tensor"
    told = {"quant_method": "fbgemm_fp8"}
    return Written(tensors, weight, told, toolchain="fbgemm_fp8", stored=f"f8_e4m3 {grain}")


def nf4(nested: bool = False, n_out: int = 3, n_in: int = 50, block: int = 64) -> Written:
    table = np.sort(np.random.default_rng(0).standard_normal(16)).astype(np.float32)
    codes = dice(n_out * n_in, top=16)
    n_blocks = -(-n_out * n_in // block)
    state: dict[str, Any] = {"quant_type": "nf4", "blocksize": block, "dtype": "bfloat16"}
    state["shape"] = [n_out, n_in]
    tensors = {f"{NAME}.weight.quant_map": torch.from_numpy(table)}
    if nested:
        state |= {"nested_blocksize": 256, "nested_dtype": "float32", "nested_offset": 0.25}
        second = np.linspace(-1, 1, 256).astype(np.float32)
        stored = dice(n_blocks, top=256)
        absmax = second[stored] * np.float32(0.125) + np.float32(0.25)
        tensors[f"{NAME}.weight.absmax"] = torch.from_numpy(stored.astype(np.uint8))
        tensors[f"{NAME}.weight.nested_absmax"] = torch.tensor([0.125])
        tensors[f"{NAME}.weight.nested_quant_map"] = torch.from_numpy(second)
    else:
        absmax = halves(n_blocks).astype(np.float32)
        tensors[f"{NAME}.weight.absmax"] = torch.from_numpy(absmax)
    flat = np.array([table[c] * absmax[i // block] for i, c in enumerate(codes)], np.float32)
    packed = (codes[0::2] << 4 | codes[1::2]).astype(np.uint8).reshape(-1, 1)
    text = json.dumps(state).encode()
    tensors[f"{NAME}.weight"] = torch.from_numpy(packed)
    key = f"{NAME}.weight.quant_state.bitsandbytes__nf4"
    tensors[key] = torch.tensor(list(text), dtype=torch.uint8)
    told = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    weight = flat.reshape(n_out, n_in)
    stored_as = f"NF4 b{block}{' double' if nested else ''}"
    return Written(tensors, weight, told, toolchain="bitsandbytes", stored=stored_as)


def int8_rows(n_out: int = 4, n_in: int = 10) -> Written:
    codes = dice(n_out, n_in, top=255) - 127
    rows = halves(n_out).astype(np.float32)
    weight = codes.astype(np.float32) * rows[:, None] * np.float32(1 / 127)
    tensors = {
        f"{NAME}.weight": torch.from_numpy(codes.astype(np.int8)),
        f"{NAME}.SCB": torch.from_numpy(rows),
        f"{NAME}.weight_format": torch.tensor(0, dtype=torch.uint8),
    }
    told = {"quant_method": "bitsandbytes", "load_in_8bit": True}
    return Written(tensors, weight, told, toolchain="bitsandbytes", stored="int8 channel")


def mlx(bits: int = 4, group: int = 32, n_out: int = 4, n_in: int = 64) -> Written:
    codes = dice(n_out, n_in, top=2**bits)
    scales, biases = halves(n_out, n_in // group), -halves(n_out, n_in // group, seed=8)
    weight = np.empty((n_out, n_in), np.float32)
    for o in range(n_out):
        for i in range(n_in):
            g = i // group
            weight[o, i] = np.float32(scales[o, g]) * int(codes[o, i]) + np.float32(biases[o, g])
    tensors = {
        f"{NAME}.weight": words(codes, bits).view(torch.uint32),
        f"{NAME}.scales": torch.from_numpy(scales),
        f"{NAME}.biases": torch.from_numpy(biases),
    }
    told = {"bits": bits, "group_size": group}
    return Written(tensors, weight, told, toolchain="mlx", stored=f"int{bits} g{group} asym")


def int4_pairs(n_out: int = 6, n_in: int = 64, group: int = 32) -> Written:
    codes = dice(n_out, n_in, top=16) - 8
    scales = halves(n_out, n_in // group).astype(np.float32)
    before = halves(n_in, seed=11).astype(np.float32)
    weight = np.empty((n_out, n_in), np.float32)
    for o in range(n_out):
        for i in range(n_in):
            weight[o, i] = np.float32(int(codes[o, i]) * scales[o, i // group]) * before[i]
    packed = (codes[0::2] & 15) | (codes[1::2] & 15) << 4
    tensors = {
        f"{NAME}.weight": torch.from_numpy(packed.astype(np.uint8)),
        f"{NAME}.weight_scale": torch.from_numpy(scales),
        f"{NAME}.pre_quant_scale": torch.from_numpy(before),
    }
    told = {"quant_method": "modelopt", "quant_algo": "W4A16_AWQ"}
    stored = f"int4 g{group} after input scale"
    return Written(tensors, weight, told, toolchain="modelopt", stored=stored)


WRITERS: dict[str, Callable[[], Written]] = {
    **{f"gptq-{b}": lambda b=b: gptq(b) for b in (2, 3, 4, 8)},
    **{f"gptq-v2-{b}": lambda b=b: gptq(b, version=2) for b in (2, 3, 4, 8)},
    "gptq-symmetric": lambda: gptq(symmetric=True),
    "gptq-symmetric-v2": lambda: gptq(symmetric=True, version=2),
    "gptq-act-order": lambda: gptq(order=True),
    "gptq-short-last-group": lambda: gptq(n_in=80, order=True),
    "gptq-no-index": lambda: gptq(index=False),
    "awq": awq,
    **{f"packed-{b}": lambda b=b: packed_integers(b) for b in range(2, 9)},
    **{
        f"packed-asymmetric-{b}": lambda b=b: packed_integers(b, asymmetric=True)
        for b in range(2, 9)
    },
    "packed-short-last-group": lambda: packed_integers(n_in=80, asymmetric=True),
    "nvfp4-divisor": lambda: nvfp4("divisor"),
    "nvfp4-factor": lambda: nvfp4("factor"),
    "mxfp4-experts": mxfp4_experts,
    "float8-blocks": float8_blocks,
    "float8-tensor": lambda: float8_scale(()),
    "float8-rows": lambda: float8_scale((6, 1)),
    "float8-flat-rows": lambda: float8_scale((6,)),
    "nf4": nf4,
    "nf4-double": lambda: nf4(True),
    "int8-rows": int8_rows,
    **{f"mlx-{b}": lambda b=b: mlx(b) for b in (2, 3, 4, 5, 6, 8)},
    "int4-pairs": int4_pairs,
}
