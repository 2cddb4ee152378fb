"""What a model folder holds that bitgap must not take for a full-precision model.

Damage is measured from full-precision weights. Weights that were rounded already often load without
a word: codes are read as numbers and the scales beside them are passed over as "not used". So a
folder is looked through before anything is loaded, in its headers alone: for tensors that only a
quantizer writes, for types no full-precision matrix has, for keys and side files that say
"quantized"; and for adapters and formats of other programs, which are no model here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bitgap.errors import ModelError

_FULL = frozenset({"F64", "F32", "F16", "BF16"})
_SIDE_FILES = re.compile(r"(^|[_-])quant\w*(_config)?\.json$|^quantize_config\.json$")
_SAYS_QUANTIZED = re.compile(r"(^|_)quant|^compression_config$")
# Last parts of names under which toolchains keep what turns codes back into numbers.
_OF_QUANTIZERS = re.compile(
    r"(weight|input|k|v|output)_(scale|scales|scale_inv|scale_2|global_scale)|scale_inv"
    r"|q(weight|zeros|scales)|g_idx|SCB|absmax|nested_absmax|quant_map|nested_quant_map"
    r"|quant_state\w*|weight_(packed|zero_point|shape|g_idx)|zero_points?|weight_format"
    r"|\w+_(blocks|scales)"
)
_ADAPTER = re.compile(
    r"adapter_config\.json|adapter_model.*\.(safetensors|bin)|adapters\.safetensors"
)
_SHARD = re.compile(r"model-\d+-of-\d+\.safetensors")
_POINTER, _LARGEST_POINTER = b"version https://git-lfs", 1024
_POINTS = "a pointer to a large file, as a clone without Git LFS leaves it"
_REMEDY = "damage is measured from full-precision weights; give the model it was made from"


@dataclass(frozen=True, slots=True)
class TensorHeader:
    """What a safetensors header says of one tensor.

    Attributes:
        dtype: As the format names it, such as ``BF16``.
        shape: Its dimensions.
        file: Name of the file it is in.
    """

    dtype: str
    shape: tuple[int, ...]
    file: str


def weight_files(folder: Path) -> list[Path]:
    """Returns the safetensors files that a model is read from, as transformers chooses them.

    Others may lie beside them: weights in their maker's own layout, or parts of an older release.
    """
    if (whole := folder / "model.safetensors").is_file():
        return [whole]
    index = _read_json(folder / "model.safetensors.index.json")
    listed = index.get("weight_map") if isinstance(index, dict) else None
    if isinstance(listed, dict):
        return [folder / name for name in sorted(set(map(str, listed.values())))]
    return sorted(folder.glob("*.safetensors"))


def read_headers(folder: Path, *, allow_pickle: bool = False) -> dict[str, TensorHeader]:
    """Returns every tensor of a folder's weights by name, without reading any.

    Files that cannot be read are passed over: reading the weights tells what is wrong with them.

    Args:
        folder: With the weights.
        allow_pickle: Whether pickled weights may be looked into, where there are no others.
    """
    found: dict[str, TensorHeader] = {}
    for path in weight_files(folder):
        for name, entry in _header(path).items():
            if name == "__metadata__" or not isinstance(entry, dict):
                continue
            shape = entry.get("shape")
            if isinstance(shape, list) and all(isinstance(n, int) for n in shape):
                found[name] = TensorHeader(str(entry.get("dtype")), tuple(shape), path.name)
    if not found and allow_pickle:
        for path in sorted(folder.glob("pytorch_model*.bin")):
            found |= _pickled(path)
    return found


def _pickled(path: Path) -> dict[str, TensorHeader]:
    try:
        # Tensors alone, without their numbers.
        tensors = torch.load(path, map_location="meta", weights_only=True, mmap=True)
        return {
            str(name): TensorHeader(_dtype_name(tensor.dtype), tuple(tensor.shape), path.name)
            for name, tensor in tensors.items()
            if isinstance(tensor, torch.Tensor)
        }
    except Exception:  # whatever unpickling raises is told where the weights are read
        return {}


def _dtype_name(dtype: torch.dtype) -> str:
    """Returns what the safetensors format calls a type: ``F32``, ``BF16``, ``F8_E4M3FN``."""
    name = str(dtype).removeprefix("torch.")
    if name == "bfloat16":
        return "BF16"
    return name.replace("uint", "U").replace("int", "I").replace("float", "F").upper()


def _header(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            if size > path.stat().st_size:
                return {}
            read = json.loads(file.read(size))
    except (OSError, ValueError):
        return {}
    return read if isinstance(read, dict) else {}


def refuse_other_formats(name: str, folder: Path) -> None:
    """Refuses a folder that holds no Hugging Face model but another program's, or an adapter.

    Raises:
        ModelError: With what was found and what to give instead.
    """
    files = {path.name for path in folder.iterdir()}
    if pointers := sorted(f for f in files if _is_pointer(folder / f)):
        raise ModelError(
            f"{name}: {', '.join(pointers[:3])}{' ...' if len(pointers) > 3 else ''} "
            f"{'is' if len(pointers) == 1 else 'are'} only {_POINTS}; fetch the files (git lfs "
            f"pull in the clone), or download the model again"
        )
    if adapters := sorted(f for f in files if _ADAPTER.fullmatch(f)):
        beside = "config.json" in files and bool(list(folder.glob("model*.safetensors")))
        found = "beside the weights of a whole model" if beside else "and no model"
        raise ModelError(
            f"{name} holds an adapter ({adapters[0]}) {found}; merge it into its base model "
            f"(peft's merge_and_unload) and give the folder saved then"
            + (", or move the adapter away to measure the model without it" if beside else "")
        )
    whole = [f for f in files if f.endswith(".safetensors") and not f.startswith("consolidated")]
    if whole:
        _refuse_names(name, folder, files, whole)
        return
    if ggufs := sorted(f for f in files if f.endswith(".gguf")):
        raise ModelError(
            f"{name} holds {', '.join(ggufs[:3])} and no .safetensors file; name the GGUF file "
            f"itself, such as {Path(name) / ggufs[0]}, or the Hugging Face folder it was made from"
        )
    if other := sorted(f for f in files if f.startswith("consolidated")):
        raise ModelError(
            f"{name} holds {', '.join(other[:3])}, the weights in their maker's own layout, and "
            f"none that transformers reads (model*.safetensors); get those of the same release, or "
            f"convert them with the script that transformers has for the family"
        )


def _refuse_names(name: str, folder: Path, files: set[str], weights: list[str]) -> None:
    """Refuses weights that transformers would not find under the names they have."""
    if files & {"model.safetensors", "model.safetensors.index.json"}:
        return
    config = _read_json(folder / "config.json")
    if isinstance(config, dict) and config.get("transformers_weights"):
        return  # which says what the file is called
    shards = sorted(f for f in weights if _SHARD.fullmatch(f))
    found = ", ".join(sorted(weights)[:3]) + (" ..." if len(weights) > 3 else "")
    if shards:
        raise ModelError(
            f"{name} holds parts of the weights ({found}) and not the index that says which tensor "
            f"is in which (model.safetensors.index.json); copy or download that file too"
        )
    raise ModelError(
        f"{name} holds {found} and neither model.safetensors nor its index, which is where a "
        f"causal language model's weights are read from; give the folder that save_pretrained "
        f"wrote, or call the file model.safetensors if these are its weights"
    )


def _is_pointer(path: Path) -> bool:
    """Whether a file is what Git keeps of a large file that was not fetched."""
    try:
        if not path.is_file() or path.stat().st_size > _LARGEST_POINTER:
            return False
        with path.open("rb") as file:
            return file.read(len(_POINTER)) == _POINTER
    except OSError:
        return False


def refuse_file(name: str) -> None:
    """Refuses a path to a file, with what to give instead.

    Raises:
        ModelError: Always.
    """
    if name.endswith(".gguf"):
        raise ModelError(
            f"{name} is a GGUF file; Lab.from_pretrained and load_gguf read it, load_model reads "
            f"the Hugging Face folder that it was made from"
        )
    raise ModelError(f"{name} is a file; give the folder it is in")


def refuse_quantized(
    name: str, folder: Path, own: frozenset[str], *, allow_pickle: bool = False
) -> None:
    """Refuses weights that were rounded already, whatever says so.

    Args:
        name: What the model is called.
        folder: With config, weights and side files.
        own: Names of the tensors that the model's class has; what a class calls a scale is its own.
        allow_pickle: Whether pickled weights may be looked into.

    Raises:
        ModelError: With what was found.
    """
    headers = read_headers(folder, allow_pickle=allow_pickle)
    config = _read_json(folder / "config.json")
    codes = {n: h for n, h in headers.items() if _is_code(h, n in own)}
    scales = [n for n in headers if n not in own and _is_of_quantizer(n, headers)]
    keys = sorted(_keys_that_say_so(config))
    side = sorted(p.name for p in folder.glob("*.json") if _SIDE_FILES.search(p.name))
    if codes or scales:
        found = list[str]()
        if codes:
            found.append(_told(codes))
        if scales:
            found.append(f"{len(scales)} tensors that only a quantizer writes ({_some(scales)})")
        if keys:
            found.append(f"{', '.join(keys)} in its config.json")
        if side:
            found.append(f"the file {side[0]}")
        raise ModelError(f"{name} is already quantized (found {'; '.join(found)}), and {_REMEDY}")
    if keys or side:
        what = f"{', '.join(keys)} in its config.json" if keys else f"the file {side[0]}"
        types = ", ".join(sorted({h.dtype for h in headers.values()})) or "none that can be read"
        raise ModelError(
            f"{name} is already quantized, as {what} says, and {_REMEDY}. Its tensors are of plain "
            f"types ({types}): if they were made whole again, say so by removing "
            f"{'the key' if keys else 'that file'}; what rounding took from them stays taken"
        )


def _is_code(header: TensorHeader, own: bool) -> bool:
    """Whether a tensor is of a type that no full-precision parameter has."""
    if header.dtype in _FULL or not header.shape:
        return False
    if header.dtype.startswith(("F8", "F4", "F6")):
        return own or len(header.shape) > 1
    # Causal masks and position ids of old checkpoints are integers or flags, with a leading 1.
    return own or (len(header.shape) > 1 and header.shape[0] > 1)


def _is_of_quantizer(name: str, headers: Mapping[str, TensorHeader]) -> bool:
    path, _, leaf = name.rpartition(".")
    if leaf in ("scale", "scales"):
        # A norm may call its gain so; a quantizer's stands beside a matrix.
        beside = (headers.get(f"{path}.{other}") for other in ("weight", "qweight"))
        return any(header is not None and len(header.shape) > 1 for header in beside)
    return _OF_QUANTIZERS.fullmatch(leaf) is not None


def _told(codes: Mapping[str, TensorHeader]) -> str:
    types = ", ".join(sorted({header.dtype for header in codes.values()}))
    what = "matrices" if all(len(header.shape) > 1 for header in codes.values()) else "tensors"
    return f"{len(codes)} {what} of type {types} ({_some(list(codes))})"


def _some(names: list[str]) -> str:
    return ", ".join(names[:2]) + (" ..." if len(names) > 2 else "")


def _keys_that_say_so(config: Any, path: str = "") -> Iterator[str]:
    if not isinstance(config, dict):
        return
    for key, value in config.items():
        if _SAYS_QUANTIZED.search(str(key)) and isinstance(value, (dict, str)) and value:
            yield f"{path}{key}"
        elif isinstance(value, dict):
            yield from _keys_that_say_so(value, f"{path}{key}.")


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def refuse_other_size(
    name: str,
    folder: Path,
    shapes: Mapping[str, tuple[int, ...]],
    *,
    allow_pickle: bool = False,
) -> None:
    """Refuses a config that describes another model than the weights, before memory is taken.

    Args:
        name: What the model is called.
        folder: With the weights.
        shapes: The shapes that the config gives to the model's tensors, by name.
        allow_pickle: Whether pickled weights may be looked into.

    Raises:
        ModelError: If a tensor of the same name has another shape, or the weights hold less than
            half of what the config describes.
    """
    headers = read_headers(folder, allow_pickle=allow_pickle)
    if not headers or not shapes:
        return
    wrong = [
        f"{key} has shape {_times(headers[key].shape)} where the config makes {_times(shape)}"
        for key, shape in sorted(shapes.items())
        if key in headers and headers[key].shape != shape
    ]
    described, held = (sum(map(_count, s)) for s in (shapes.values(), _shapes(headers)))
    if wrong or held < described / 2:
        counts = f"the config describes {described:,} numbers and the weights hold {held:,}"
        listed = f"; {'; '.join(wrong[:3])}{' ...' if len(wrong) > 3 else ''}" if wrong else ""
        raise ModelError(
            f"{name}: config.json and weights are of two models ({counts}{listed}); use the "
            f"config.json and weights that were saved together"
        )


def _shapes(headers: Mapping[str, TensorHeader]) -> Iterator[tuple[int, ...]]:
    return (header.shape for header in headers.values())


def _count(shape: tuple[int, ...]) -> int:
    n = 1
    for size in shape:
        n *= size
    return n


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


# -- tokens and memory ----------------------------------------------------------------------------


def tokens_beyond(tokenizer: Any, rows: int) -> str:
    """Returns which tokens that text can have are beyond the rows of an embedding, or nothing.

    Special tokens that text has only where it spells them out (images, tools) may be beyond, as in
    some releases of Gemma 3; those that begin or end a sequence may not.

    Args:
        tokenizer: Of the model.
        rows: Of its embedding.
    """
    if tokenizer.vocab_size > rows:
        return f"its tokenizer has {tokenizer.vocab_size} tokens and the model embeds {rows}"
    put = tokenizer("One two, three.").input_ids
    ends = {tokenizer.bos_token_id, tokenizer.eos_token_id, *put} - {None}
    special = set(tokenizer.all_special_ids) - ends
    tokens = {id_: token for token, id_ in tokenizer.get_vocab().items() if id_ not in special}
    last = max(tokens.keys() | ends)
    if last < rows:
        return ""
    return (
        f"its tokenizer can give the id {last} ({tokens.get(last, '?')!r}) and the model embeds "
        f"{rows} tokens, ids 0 to {rows - 1}"
    )


def too_large(name: str, folder: Path) -> str:
    """Returns what to say of a model that does not fit the memory."""
    n = sum(map(_count, _shapes(read_headers(folder))))
    return (
        f"{name} does not fit the memory of this machine: its {n:,} weights take "
        f"{4 * n / 2**30:.1f} GiB in float32, whatever --memory is given; use a machine with more "
        f"memory, or a smaller model"
    )
