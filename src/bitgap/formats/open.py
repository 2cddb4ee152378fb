"""Which toolchain wrote a file or folder, told by the tensors that are there.

Every reader takes what has its layout. What is left must be of a floating type and used as it is;
anything else (integers, float8, a scale without codes) belongs to a layout that is not known, and
the checkpoint is refused by the name of that tensor. Nothing is guessed from a file's name or from
a recipe.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from bitgap.errors import ModelError, NoSuchModel
from bitgap.formats import (
    awq,
    bitsandbytes,
    compressed_tensors,
    gptq,
    hqq,
    mlx,
    modelopt,
    mxfp4_experts,
    scaled,
    torchao,
)
from bitgap.formats.checkpoint import Checkpoint, Unit, graphs_in
from bitgap.formats.claim import Claim
from bitgap.formats.gguf.header import MAGIC
from bitgap.formats.gguf.read import open_gguf
from bitgap.formats.onnx_file import open_onnx
from bitgap.formats.openvino_file import open_openvino
from bitgap.formats.tensors import FLOATS, TensorFolder
from bitgap.models.hub import fetched_file, is_hub_file

READERS: tuple[Callable[[TensorFolder], list[Claim]], ...] = (
    gptq.read,
    awq.read,
    compressed_tensors.read,
    bitsandbytes.read,
    torchao.read,
    hqq.read,
    mlx.read,
    modelopt.read,
    mxfp4_experts.read,
    scaled.read,
)
KNOWN = (
    "GGUF, GPTQ, AWQ, auto-round, compressed-tensors, bitsandbytes, torchao, HQQ, MLX, ModelOpt, "
    "float8 or int8 with scales, MXFP4 experts, MatMulNBits of ONNX, "
    "compressed weights of OpenVINO"
)
"""What can be read, for help and refusals."""

# Written beside weights by quantizers, and no weights: scales of activations and of key-value
# caches, which a comparison of weights does not use.
_UNUSED = ("input_scale", "activation_scale", "input_global_scale", "k_scale", "v_scale",
           "output_scale", "input_zero_point", "kv_cache_scaling_factor", "q_scale",
           "prob_output_scale")  # fmt: skip
_ONLY_QUANTIZERS = ("qweight", "qzeros", "weight_packed", "weight_scale", "weight_scale_inv",
                    "weight_scale_2", "weight_zero_point", "weight_global_scale", "absmax",
                    "quant_map", "SCB", "W_q", "g_idx", "weight_shape")  # fmt: skip


def open_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Opens what a toolchain wrote, without reading a matrix.

    Args:
        path: A ``.gguf`` or ``.safetensors`` file, a folder that holds one model, or a name on the
            hub, see :func:`local_path`.

    Raises:
        NoSuchModel: If nothing is there.
        ModelError: If it is no quantized checkpoint, is damaged or incomplete, or has a layout or
            version that is not understood; the message names the tensor or file.
        MissingExtra: If it is GGUF and the gguf library is not installed.
    """
    place = local_path(path)
    try:
        if place.is_dir():
            return _open_folder(place)
        if not place.is_file():
            raise NoSuchModel(
                f"no such file or folder: {os.fspath(path)!r}; name a quantized file or folder"
            )
        with place.open("rb") as file:
            is_gguf = file.read(4) == MAGIC
    except OSError as error:
        raise ModelError(
            f"{place.name} cannot be read ({error.strerror}); check its rights"
        ) from error
    if is_gguf:
        return open_gguf(place)
    if place.suffix == ".safetensors":
        return _open_tensors(place)
    if place.suffix == ".onnx":
        return _quantized(open_onnx(place))
    if place.suffix == ".xml":
        return _quantized(open_openvino(place))
    if place.suffix == ".gguf":
        raise ModelError(f"{place.name} does not begin as GGUF files do; copy or download it again")
    raise ModelError(
        f"{place.name} is none of the files that are read (.gguf, .safetensors, .onnx, .xml, or "
        f"a folder of {KNOWN}); pickles are not read, as they can run code"
    )


def local_path(path: str | os.PathLike[str]) -> Path:
    """Returns where a file or folder is: here, or downloaded where it is a name on the hub.

    Args:
        path: A path, or ``org/name``, ``org/name/file.gguf``, each with ``@revision`` if meant.

    Raises:
        ModelError: If the hub has no such thing, or cannot be reached.
    """
    name = os.fspath(path)
    return fetched_file(name) if is_hub_file(name) else Path(os.path.expanduser(name))


def _open_folder(folder: Path) -> Checkpoint:
    found = sorted(folder.glob("*.gguf"))
    if found and not list(folder.glob("*.safetensors")):
        if len(found) == 1:
            return open_checkpoint(found[0])
        listed = ", ".join(file.name for file in found[:6])
        raise ModelError(f"{folder} has {len(found)} GGUF files ({listed}); give one of them")
    for ending in (".onnx", ".xml"):
        found = graphs_in(folder, ending)
        if len(found) == 1 and not list(folder.glob("*.safetensors")):
            return open_checkpoint(found[0])
    return _open_tensors(folder)


_CODES = {"onnxruntime": "MatMulNBits", "openvino": "compressed matrix"}


def _quantized(checkpoint: Checkpoint) -> Checkpoint:
    if checkpoint.units:
        return checkpoint
    raise ModelError(
        f"{checkpoint.path.name} has no {_CODES[checkpoint.toolchain]}: all its "
        f"{len(checkpoint.whole)} weights are of a floating type, or quantized in a way that is "
        f"not read; give what a toolchain wrote ({KNOWN})"
    )


def _open_tensors(path: Path) -> Checkpoint:
    tensors = TensorFolder(path)
    claims = [claim for read in READERS for claim in read(tensors)]
    place = {name: i for i, name in enumerate(tensors.headers)}
    claims.sort(key=lambda claim: place[claim.uses[0]])
    used: dict[str, str] = {}
    for claim in claims:
        for name in claim.uses:
            if name in used:
                raise ModelError(
                    f"{path.name}: {name} would belong to {used[name]} and to {claim.unit.name}; "
                    f"the checkpoint mixes layouts in a way that is not understood"
                )
            used[name] = claim.unit.name
    whole = [_whole(tensors, name) for name in tensors.headers if name not in used]
    if not claims:
        method = tensors.quantization.get("quant_method", tensors.quantization.get("quant_algo"))
        told = f", though its config says {method!r}" if tensors.quantization else ""
        raise ModelError(
            f"{path.name} holds no quantized tensor{told}: all {len(whole)} are of a floating "
            f"type; give what a toolchain wrote ({KNOWN})"
        )
    units = [claim.unit for claim in claims]
    if {claim.toolchain for claim in claims} == {"mlx"}:
        units = [replace(unit, name=mlx.own_name(unit.name, tensors.config)) for unit in units]
        whole = [
            unit and replace(unit, name=mlx.own_name(unit.name, tensors.config)) for unit in whole
        ]
    return Checkpoint(
        path=path,
        toolchain=" and ".join(dict.fromkeys(claim.toolchain for claim in claims)),
        units=tuple(units),
        whole=tuple(unit for unit in whole if unit is not None),
        claim=_claim(tensors),
        config=tensors.config,
    )


def _whole(tensors: TensorFolder, name: str) -> Unit | None:
    leaf = name.rpartition(".")[2]
    header = tensors.headers[name]
    if leaf in _UNUSED:
        return None
    if header.dtype in FLOATS and leaf not in _ONLY_QUANTIZERS:
        return tensors.as_whole(name) if 0 not in header.shape else None
    # Buffers that are no weights: positions, masks, counts.
    if len(header.shape) < 2 and leaf not in _ONLY_QUANTIZERS and header.dtype not in ("U8", "I8"):
        return None
    method = tensors.quantization.get("quant_method", tensors.quantization.get("quant_algo"))
    raise ModelError(
        f"{tensors.path.name}: {name} is {header.dtype} of shape {header.shape} and belongs to no "
        f"layout that is known{f', though its config says {method!r}' if method else ''}; "
        f"it was written by a version or toolchain that is not understood (known: {KNOWN})"
    )


def _claim(tensors: TensorFolder) -> str:
    """Returns what the config says of itself, in a few words."""
    told = tensors.quantization
    texts = ("quant_method", "quant_algo", "format", "packing_format", "checkpoint_format")
    parts = [str(told[k]) for k in texts if isinstance(told.get(k), str)]
    parts += [f"{told[k]} bits" for k in ("bits", "w_bit") if isinstance(told.get(k), int)]
    if isinstance(told.get("group_size"), int):
        parts.append(f"g{told['group_size']}")
    return ", ".join(parts)
