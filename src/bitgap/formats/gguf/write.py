"""GGUF, written: blocks of 32 with an fp16 scale, in the types that Python can make.

``rtn4-g32``, ``rtn5-g32`` and ``rtn8-g32`` are our own levels in Q4_0, Q5_0 and Q8_0: the file's
type stores code and scale, and whoever writes it chooses them. ggml's own choice for a Q4_0 is
another: scale = signed largest / -8, codes cut at 15, not largest / 7. A recipe that names the type
(``Q4_0``) gets ggml's, one that names a scheme gets what was measured.

Whole matrices have 16 bits; vectors and positions float32, as llama.cpp wants them. Rows of q and k
of a Llama are in ggml's order, norms of a Gemma are 1 + weight, as ``names.py`` says. K types
are llama.cpp's to make and are refused.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bitgap.errors import ModelError
from bitgap.formats.gguf.header import GGUFFile, library
from bitgap.formats.gguf.load import load_gguf
from bitgap.formats.gguf.metadata import architecture_for, metadata_for
from bitgap.formats.gguf.names import ARCHITECTURES, Architecture
from bitgap.formats.gguf.read import ROTARY_FACTORS, code_bits
from bitgap.formats.gguf.tokenizer import tokenizer_of
from bitgap.formats.gguf.vocabulary import vocabulary_of
from bitgap.formats.source import Place, Source, sixteen_bit_type
from bitgap.formats.symmetric import half_scale
from bitgap.formats.target import FP, Expected, Target, rtn
from bitgap.models.silence import silenced
from bitgap.quant.codes import codes_of

FILE = "model.gguf"
_BLOCK = 32
_TYPES = {4: "Q4_0", 5: "Q5_0", 8: "Q8_0"}
"""Types that hold levels of ours, by their bits."""
_BLOCK_BYTES = {"Q4_0": 18, "Q4_1": 20, "Q5_0": 22, "Q5_1": 24, "Q8_0": 34}
"""Of 32 weights; the types that Python quantizes and every build of llama.cpp computes with."""
_PIECE_WEIGHTS = 1 << 22
_FILE_TYPES = {"F16": 1, "Q4_0": 2, "Q4_1": 3, "Q8_0": 7, "Q5_0": 8, "Q5_1": 9, "BF16": 32}


class GGUF(Target):
    """One file for llama.cpp and what is built on it."""

    name = "gguf"
    title = "GGUF (llama.cpp)"
    loader = "gguf"
    needs = ("gguf", "accelerate")

    def refusal(self, place: Place, scheme: str) -> str | None:
        """Returns why a matrix cannot be stored by a scheme, or None if it can."""
        if scheme == FP:
            return None
        if _type_of(scheme) is None:
            if scheme.endswith(("_K", "_K_S", "_K_M", "_K_L")) or scheme.startswith("IQ"):
                return "Python's gguf makes no K and I types, which are llama-quantize's to make"
            return "its types hold 4, 5 or 8 bits with a scale a group of 32"
        if place.n_in % _BLOCK:
            return f"its rows of {place.n_in} are no whole number of blocks of {_BLOCK}"
        return None

    def choices(self, place: Place) -> Iterable[str]:
        """Returns the schemes to look for the nearest among."""
        return tuple(f"rtn{bits}-g32" for bits in _TYPES)

    def code_bits(self, scheme: str) -> float:
        """Returns the bits of a code."""
        kind = _type_of(scheme)
        return code_bits(kind) if kind else 16.0

    def bytes_of(self, place: Place, scheme: str) -> int:
        """Returns what a matrix takes in the file."""
        kind = _type_of(scheme)
        if kind is None:
            return 2 * place.n_weights
        return place.n_weights // _BLOCK * _BLOCK_BYTES[kind]

    def expected(self, source: Source, place: Place, scheme: str) -> Expected:
        """Returns what the file will hold of a matrix."""
        kind = _type_of(scheme)
        if kind is None:
            dtype = sixteen_bit_type(source.stored(place.name))
            kind = "BF16" if dtype == torch.bfloat16 else "F16"
            return Expected(stored=kind, code_bits=16.0, n_bytes=2 * place.n_weights)
        return Expected(
            stored=kind, code_bits=code_bits(kind), n_bytes=self.bytes_of(place, scheme)
        )

    def rounded(self, weight_OI: Tensor, scheme: str, name: str) -> Tensor:
        """Returns what bitgap computes with: of ggml's own types, what ggml makes of them."""
        if scheme not in _BLOCK_BYTES:
            return super().rounded(weight_OI, scheme, name)
        data = _own_type(weight_OI, scheme)
        kind = library().GGMLQuantizationType[scheme]
        return torch.from_numpy(library().dequantize(data, kind)).reshape(weight_OI.shape)

    def check_model(self, source: Source) -> None:
        """Refuses architectures, settings and tokenizers that GGUF has no key for.

        Raises:
            ModelError: Naming it.
            MissingExtra: If the gguf library is not installed.
        """
        self.check_matrices(source)
        config, name = source.loaded.model.config, source.loaded.info.name
        metadata_for(config, name)
        vocabulary_of(source.loaded.tokenizer, config.vocab_size, name)

    def check_matrices(self, source: Source) -> None:
        """Refuses architectures; settings and tokenizers llama.cpp's converter may know.

        Raises:
            ModelError: Naming it.
            MissingExtra: If the gguf library is not installed.
        """
        library()
        config, name = source.loaded.model.config, source.loaded.info.name
        file_names(source, ARCHITECTURES[architecture_for(config, name)])

    def write(self, source: Source, schemes: Mapping[str, str], folder: Path) -> None:
        """Writes the file.

        Raises:
            ModelError: If the architecture, its settings or its tokenizer cannot be said in GGUF,
                or a scale is beyond float16.
            MissingExtra: If the gguf library is not installed.
        """
        gguf, name = library(), source.loaded.info.name
        config = source.loaded.model.config
        arch = architecture_for(config, name)
        row = ARCHITECTURES[arch]
        keys, factors = metadata_for(config, name)
        words = vocabulary_of(source.loaded.tokenizer, config.vocab_size, name)
        names = file_names(source, row)
        writer = gguf.GGUFWriter(folder / FILE, arch)
        writer.add_name(Path(name).name)
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
        writer.add_file_type(_file_type(source, schemes))
        for key, value in keys.items():
            _add(writer, f"{arch}.{key}", value)
        for key, value in words.items():
            _add(writer, f"tokenizer.ggml.{key}", value)
        if template := getattr(source.loaded.tokenizer, "chat_template", None):
            if isinstance(template, str):
                writer.add_chat_template(template)
        kinds = {n: self._kind(source, n, schemes) for n in names}
        for own, theirs in names.items():
            shape, kind = _shape(source, own), kinds[own]
            _promise(writer, theirs, shape, kind)
        if factors is not None:
            _promise(writer, ROTARY_FACTORS, factors.shape, "F32")
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        out = writer.fout[0]
        for own in names:
            writer.write_padding(out, out.tell())
            for piece in _pieces(source, row, own, schemes.get(own, FP), kinds[own]):
                piece.tofile(out)
            source.forget(own)
        if factors is not None:
            writer.write_padding(out, out.tell())
            factors.tofile(out)
        writer.write_padding(out, out.tell())
        writer.close()

    def _kind(self, source: Source, name: str, schemes: Mapping[str, str]) -> str:
        if name not in source.places:
            return "F32"
        return self.expected(source, source.places[name], schemes.get(name, FP)).stored

    def further(self, source: Source, folder: Path, sentences: Iterable[str]) -> tuple[str, ...]:
        """Returns what else is wrong: sentences that the file's tokenizer reads otherwise."""
        file = GGUFFile(folder / FILE)
        with silenced():
            own = source.loaded.tokenizer
            read = tokenizer_of(file, rows=source.loaded.model.config.vocab_size)
            wrong = [s for s in sentences if own(s).input_ids != read(s).input_ids]
        if not wrong:
            return ()
        return (
            f"the file's tokenizer makes other tokens of {len(wrong)} sentences, such as "
            f"{wrong[0][:60]!r}; have llama.cpp's converter write the vocabulary",
        )

    def settings(self, source: Source) -> dict[str, Any]:
        """Returns the file's name of every tensor."""
        arch = architecture_for(source.loaded.model.config, source.loaded.info.name)
        return {"names": file_names(source, ARCHITECTURES[arch])}

    def own_logits(
        self, source: Source, folder: Path, ids: Sequence[Sequence[int]]
    ) -> Iterator[NDArray[np.float32]]:
        """Yields logits of the model that our own reader makes of the file."""
        model = load_gguf(folder / FILE).model
        for one in ids:
            with torch.no_grad(), silenced():
                yield model(torch.tensor([list(one)])).logits[0].float().numpy()

    def not_loaded(self, source: Source) -> str:
        """Returns why transformers is known to read a file of this model otherwise, or nothing."""
        return _misread(source.loaded.model.config)


def _misread(config: Any) -> str:
    """Returns what transformers' own reader of GGUF would make otherwise; mostly empty.

    It keeps its class's defaults for what it has no name for (``findings/``).
    """
    kind = config.model_type
    if kind == "gpt2" and config.n_positions != 1024:
        return "transformers reads GPT-2 from GGUF only with a context of 1024"
    if kind == "qwen3" and config.head_dim != 128:
        return "transformers takes every Qwen3 in GGUF to have heads of 128"
    if kind in ("gemma2", "gemma3_text") and config.query_pre_attn_scalar != 256:
        return "transformers takes every Gemma in GGUF to scale its queries by 256"
    if kind == "gemma3_text" and list(config.layer_types) != _windows(6, config):
        return "transformers takes every Gemma 3 in GGUF to look through windows by a period of 6"
    rope = getattr(config, "rope_parameters", None) or {}
    rope = rope.get("full_attention", rope)
    if rope.get("rope_type", "default") != "default":
        return "transformers drops rotary scaling that it reads from GGUF"
    return ""


def _windows(period: int, config: Any) -> list[str]:
    return [
        "full_attention" if (i + 1) % period == 0 else "sliding_attention"
        for i in range(config.num_hidden_layers)
    ]


def file_names(source: Source, row: Architecture) -> dict[str, str]:
    """Returns GGUF's name of every tensor of a model, by the model's own, in its order.

    Raises:
        ModelError: If the architecture has no name for one.
    """
    ends = {module: file for file, module in row.ends.items()}
    inside = {module: file for file, module in row.block.items()}
    found: dict[str, str] = {}
    for name in source.names():
        path, _, leaf = name.rpartition(".")
        file = None
        if path in ends:
            file = ends[path]
        elif path.startswith(f"{row.blocks}."):
            number, _, module = path.removeprefix(f"{row.blocks}.").partition(".")
            file = f"blk.{number}.{inside[module]}" if module in inside else None
        if file is None or leaf not in ("weight", "bias"):
            raise ModelError(
                f"{source.loaded.info.name}: GGUF's {row.model_type} has no place for {name}"
            )
        found[name] = f"{file}.{leaf}"
    return found


def _type_of(scheme: str) -> str | None:
    """Returns the type that holds a scheme; None where there is none, as of what stays whole."""
    if scheme in _BLOCK_BYTES:
        return scheme
    parsed = rtn(scheme)
    if parsed is None or parsed.granularity != "g32":
        return None
    return _TYPES.get(parsed.bits)


def _file_type(source: Source, schemes: Mapping[str, str]) -> int:
    """Returns the type that most weights have, as the number that llama.cpp calls a file by."""
    sizes: dict[str, int] = {}
    for name, place in source.places.items():
        kind = _type_of(schemes.get(name, FP)) or "F16"
        sizes[kind] = sizes.get(kind, 0) + place.n_weights
    return _FILE_TYPES[max(sizes, key=lambda kind: sizes[kind])]


def _shape(source: Source, name: str) -> tuple[int, ...]:
    if name in source.places:
        return source.places[name].shape
    return tuple(source.stored(name).shape)


def _promise(writer: Any, name: str, shape: tuple[int, ...], kind: str) -> None:
    gguf = library()
    type_ = gguf.GGMLQuantizationType[kind]
    per_block, block_bytes = gguf.GGML_QUANT_SIZES[type_]
    n_bytes = math.prod(shape) // per_block * block_bytes
    writer.add_tensor_info(name, shape, np.dtype(np.float32), n_bytes, raw_dtype=type_)


def _pieces(
    source: Source, row: Architecture, name: str, scheme: str, kind: str
) -> Iterator[NDArray[Any]]:
    if name not in source.places:
        value = source.stored(name).float()
        if row.norm_offset and "norm" in name:
            value = value + 1
        order = _row_order(source, row, name)
        yield (value if order is None else value[order]).contiguous().numpy()
        return
    matrix, order = source.matrix(name), _row_order(source, row, name)
    step = max(1, _PIECE_WEIGHTS // matrix.shape[1])
    for start in range(0, len(matrix), step):
        rows = slice(start, start + step)
        part = matrix[rows] if order is None else matrix[order[rows]]
        yield _stored(part, scheme, kind, name)


def _row_order(source: Source, row: Architecture, name: str) -> Tensor | None:
    """Returns which row of a Llama's q or k stands at each place of the file; None for all else."""
    if not row.permuted or not name.endswith(
        ("q_proj.weight", "q_proj.bias", "k_proj.weight", "k_proj.bias")
    ):
        return None
    config = source.loaded.model.config
    heads = config.num_attention_heads if "q_proj" in name else config.num_key_value_heads
    rows = torch.arange(source.stored(name).shape[0])
    # conversion/llama.py of llama.cpp: the halves of a head's rotary pairs beside each other.
    return rows.view(heads, 2, -1).transpose(1, 2).reshape(-1)


def _stored(part: Tensor, scheme: str, kind: str, name: str) -> NDArray[Any]:
    if kind in ("F16", "BF16"):
        dtype = torch.bfloat16 if kind == "BF16" else torch.float16
        return part.to(dtype).contiguous().view(torch.int16).numpy()
    if scheme in _BLOCK_BYTES:
        return _own_type(part, scheme)
    codes = codes_of(part, scheme)
    scale = half_scale(codes.scale_OG, name)
    levels = codes.levels_OI.view(-1, _BLOCK)
    return block_bytes(levels, scale.reshape(-1, 1), kind).numpy()


def block_bytes(levels_BN: Tensor, scale_B1: Tensor, kind: str) -> Tensor:
    """Returns blocks of 32 levels as Q4_0, Q5_0 or Q8_0 lays them out (ggml-common.h).

    Args:
        levels_BN: Int8, (blocks x 32).
        scale_B1: Float16.
        kind: The type.

    Example:
        >>> made = block_bytes(torch.ones(1, 32, dtype=torch.int8), torch.ones(1, 1).half(), "Q4_0")
        >>> made.shape, made[0, 2].item() == 0x99
        (torch.Size([1, 18]), True)
    """
    scale = scale_B1.contiguous().view(torch.uint8)
    if kind == "Q8_0":
        return torch.cat([scale, levels_BN.view(torch.uint8)], 1)
    bits = {"Q4_0": 4, "Q5_0": 5}[kind]
    codes = (levels_BN.to(torch.int16) + 2 ** (bits - 1)).to(torch.uint8)
    # A byte has a code of the first half of the block and one of the second.
    low = (codes[:, :16] & 15) | ((codes[:, 16:] & 15) << 4)
    if bits == 4:
        return torch.cat([scale, low], 1)
    fifth = (codes >> 4).view(-1, 4, 8) << torch.arange(8, dtype=torch.uint8)
    return torch.cat([scale, fifth.sum(-1).to(torch.uint8), low], 1)


def _own_type(part: Tensor, kind: str) -> NDArray[Any]:
    type_ = library().GGMLQuantizationType[kind]
    return library().quantize(part.float().contiguous().numpy(), type_)


def _add(writer: Any, key: str, value: Any) -> None:
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        writer.add_array(key, value)
