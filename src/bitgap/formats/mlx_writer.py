"""MLX, written: words of codes, a scale and a bias a group, for mlx-lm and what is built on it.

``X.weight`` uint32, a dense stream of code + 2^(b-1) a row; ``X.scales`` and ``X.biases`` float16
(out x groups). W = scale · code + bias, so that symmetric codes have a bias of -2^(b-1) · scale,
which float16 holds exactly. The config names every matrix with its bits and group.

mlx-lm knows settings by the names that they had before transformers 5, and takes its own defaults
where it does not find them: rotary bases, scaling, and which blocks of Gemma 3 see a window. They
are written under both names.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from bitgap.errors import ModelError
from bitgap.formats.folder import write_folder
from bitgap.formats.mlx import GPT2_BASE
from bitgap.formats.packing import stream_bytes
from bitgap.formats.safetensors_file import ToStore
from bitgap.formats.source import Place, Source
from bitgap.formats.symmetric import SymmetricIntegers, half_scale, packed_rows
from bitgap.formats.target import IN_FLOAT32, Explained, group_of, rtn
from bitgap.quant.schemes import RoundToNearest

_GROUPS = (32, 64, 128)
_OF_GPT2: Mapping[str, Any] = {
    "activation_function": "gelu_new",
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
}
"""What mlx-lm takes for granted of a GPT-2."""


class MLX(SymmetricIntegers):
    """What mlx-lm loads."""

    name = "mlx"
    title = "MLX (mlx-lm)"
    loader = "mlx"
    needs = ("mlx", "mlx_lm")
    bits = (2, 3, 4, 5, 6, 8)
    bytes_note = "MLX has a bias beside every scale"

    def check_model(self, source: Source) -> None:
        """Refuses models of which mlx-lm would make another.

        Raises:
            ModelError: If it is a GPT-2 with settings that mlx-lm does not read, or has Conv1D and
                is none, or windows in an order that mlx-lm has no setting for.
        """
        kinds = {place.kind for place in source.places.values()}
        if "conv1d" in kinds:
            config = source.config
            other = [key for key, usual in _OF_GPT2.items() if config.get(key, usual) != usual]
            if config.get("n_inner") not in (None, 4 * config.get("n_embd", 0)):
                other.append("n_inner")
            if config.get("model_type") != "gpt2" or other or "tied" not in kinds:
                raise ModelError(
                    f"{source.loaded.info.name} has Conv1D matrices, and mlx-lm knows those of a "
                    f"GPT-2 alone, with a tied head and its usual settings (other here: "
                    f"{', '.join(other) or config.get('model_type')}). Take another target"
                )
        settings_by_old_names(source.config)

    def passed_over(self, place: Place, scheme: RoundToNearest) -> str | None:
        """Returns why a matrix stays as it is there whatever its groups, or None."""
        if group_of(scheme, place.n_in) not in _GROUPS:
            return "it has a scale for each group of 32, 64 or 128, none for a whole row"
        return self.other_bits(scheme)

    def rounded_bytes(self, place: Place, scheme: RoundToNearest) -> int:
        """Returns what a rounded matrix takes in the file, biases included."""
        return sum(part.n_bytes for part in _parts(place, scheme.name))

    def stored_as(self, place: Place, scheme: RoundToNearest) -> str:
        """Returns what the reader calls the type of a rounded matrix."""
        return f"int{scheme.bits} g{group_of(scheme, place.n_in)} asym"

    def explained(self, source: Source, schemes: Mapping[str, str]) -> Explained:
        """Returns how far logits may be from the simulation's."""
        if "gemma" in str(source.config.get("model_type")):
            return Explained(1e-2, 5e-3, "mlx-lm rounds Gemma's embedding scale to bfloat16")
        return IN_FLOAT32

    def settings(self, source: Source) -> dict[str, Any]:
        """Returns what the loader is told: the library's name of every matrix."""
        return {"names": {name: _there(name, source) for name in source.places}}

    def write(self, source: Source, schemes: Mapping[str, str], folder: Path) -> None:
        """Writes the folder.

        Raises:
            ModelError: If a scale or bias is beyond float16.
        """
        write_folder(
            folder,
            source,
            schemes,
            parts=_parts,
            values=_values,
            quantization=None,
            config=settings_by_old_names(source.config) | _quantization(source, schemes),
            named=partial(_there, source=source),
            by_outputs=True,
        )


def _there(name: str, source: Source) -> str:
    """Returns what mlx-lm calls a tensor: of a GPT-2 as it saves one itself, matrices turned."""
    if source.config.get("model_type") == "gpt2":
        return name.replace("transformer.", f"{GPT2_BASE}.", 1)
    return name


def settings_by_old_names(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns settings that transformers 5 has under new names by the names before it.

    Args:
        config: A config.json.

    Raises:
        ModelError: If windows come in an order that is no pattern.

    Example:
        >>> settings_by_old_names({"rope_parameters": {"rope_theta": 1e6, "rope_type": "default"}})
        {'rope_theta': 1000000.0}
    """
    found: dict[str, Any] = {}
    rope = config.get("rope_parameters")
    if isinstance(rope, dict):
        whole = cast("dict[str, Any]", rope.get("full_attention", rope))
        found["rope_theta"] = whole.get("rope_theta")
        if whole.get("rope_type", "default") != "default":
            found["rope_scaling"] = whole
        if isinstance(local := rope.get("sliding_attention"), dict):
            found["rope_local_base_freq"] = local.get("rope_theta")
    if config.get("model_type") == "gpt2":
        found["n_ctx"] = config.get("n_positions")
    kinds = config.get("layer_types")
    if isinstance(kinds, list) and "sliding_attention" in kinds:
        found["sliding_window_pattern"] = _pattern([kind == "full_attention" for kind in kinds])
    # What the config says by the old name stands.
    return {key: value for key, value in found.items() if value is not None and key not in config}


def _pattern(is_full: list[bool]) -> int:
    for every in range(1, len(is_full) + 2):
        if is_full == [i % every == every - 1 for i in range(len(is_full))]:
            return every
    raise ModelError(
        "its blocks see a window in an order that mlx-lm has no setting for (every n-th sees all); "
        "take another target"
    )


def _quantization(source: Source, schemes: Mapping[str, str]) -> dict[str, Any]:
    own: dict[str, dict[str, Any]] = {}
    for name, scheme in schemes.items():
        if (parsed := rtn(scheme)) is not None:
            place = source.places[name]
            size = group_of(parsed, place.n_in)
            own[_there(place.module, source)] = {
                "group_size": size,
                "bits": parsed.bits,
                "mode": "affine",
            }
    if not own:
        return {}
    first = next(iter(own.values()))
    return {"quantization": {**first, **own}}


def _parts(place: Place, scheme: str) -> list[ToStore]:
    parsed = rtn(scheme)
    assert parsed is not None
    words = stream_bytes(place.n_in, parsed.bits) // 4
    groups = place.n_in // group_of(parsed, place.n_in)
    return [
        ToStore(place.name, "U32", (place.n_out, words)),
        ToStore(f"{place.module}.scales", "F16", (place.n_out, groups)),
        ToStore(f"{place.module}.biases", "F16", (place.n_out, groups)),
    ]


def _values(
    source: Source, place: Place, scheme: str
) -> Iterator[tuple[str, Tensor | Iterable[Tensor]]]:
    parsed = rtn(scheme)
    assert parsed is not None
    scales = list[Tensor]()
    words = packed_rows(source, place, scheme, scales)
    yield place.name, (part.view(torch.uint32) for part in words)
    yield f"{place.module}.scales", (scale := torch.cat(scales))
    yield f"{place.module}.biases", -half_scale(scale.float() * 2 ** (parsed.bits - 1), place.name)
