"""A GGUF file as a model: what ``models.load`` gives of a folder, from one file.

The weights are the file's own, dequantized: whatever is rounded further is rounded from there, and
``ModelInfo.note`` says so. Matrices are read one at a time into a model whose memory is taken but
not yet touched, so the peak is the float32 model and one matrix; a model that is large in float32
is moved to a mapped file, matrix by matrix.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM
from transformers.initialization import no_init_weights
from transformers.pytorch_utils import Conv1D

from bitgap.errors import ModelError
from bitgap.formats.checkpoint import Checkpoint, times
from bitgap.formats.contents import contents_of
from bitgap.formats.gguf.config import config_of
from bitgap.formats.gguf.header import GGUFFile
from bitgap.formats.gguf.read import architecture_of, open_gguf
from bitgap.formats.gguf.tokenizer import tokenizer_of
from bitgap.models.load import LoadedModel, describe, fingerprint
from bitgap.models.merged import moved_to_disk
from bitgap.models.silence import silenced
from bitgap.models.stored import mark_mapped

IN_MEMORY_BYTES = 2**31
"""Weights in float32 that stay in memory."""


def load_gguf(path: str | os.PathLike[str]) -> LoadedModel:
    """Loads a GGUF file in float32 on the CPU, with the tokenizer that it holds.

    Weights that take more than :data:`IN_MEMORY_BYTES` in float32 are pages of a file in the
    temporary folder (``TMPDIR``), as those of a checkpoint are of theirs.

    Args:
        path: The file.

    Raises:
        ModelError: If it cannot be read as a checkpoint, or its configuration or tokenizer cannot
            be rebuilt from what it says, or a tensor does not fit them, or the temporary folder
            has no room for it.
        MissingExtra: If the gguf library is not installed.
    """
    place = Path(os.path.expanduser(os.fspath(path)))
    file = GGUFFile(place)
    checkpoint = open_gguf(place, file)
    with silenced():
        config = config_of(file)
        _check_shapes(file, checkpoint, config)
        # First, as building it takes memory that is free again when the weights are there.
        with _no_collection():
            tokenizer = tokenizer_of(file, rows=config.vocab_size)
        model = _filled(checkpoint, config, transposed=architecture_of(file).transposed)
    held = contents_of(checkpoint)
    types = dict.fromkeys(unit.stored for unit in checkpoint.units)
    note = (
        f"weights are those of a GGUF file ({checkpoint.claim or 'no file type'}: "
        f"{', '.join(types) or 'floats'}; {held.bits:.2f} bits a weight), dequantized: what is "
        f"rounded further is rounded from there"
    )
    name = os.fspath(path)
    info = replace(describe(name, model, fingerprint(model, name)), note=note)
    return LoadedModel(model, tokenizer, info)


@contextmanager
def _no_collection() -> Generator[None]:
    """Keeps Python from looking for garbage among the half million pairs of a vocabulary."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _check_shapes(file: GGUFFile, checkpoint: Checkpoint, config: Any) -> None:
    """Compares the shapes that the configuration makes with the file's, before memory is taken."""
    with torch.device("meta"), no_init_weights():
        try:
            empty = AutoModelForCausalLM.from_config(config)
            empty.tie_weights()
        except Exception as error:
            raise ModelError(f"{file.path.name}: its metadata make no model ({error})") from error
    wanted = _parameters(empty)
    transposed = _transposed_names(empty)
    found = {unit.name: unit for unit in (*checkpoint.units, *checkpoint.whole)}
    for name, parameter in wanted.items():
        if name not in found:
            raise ModelError(
                f"{file.path.name}: the model needs {name}, which the file does not have; it is "
                f"incomplete, or of a variant that is not understood"
            )
        shape = tuple(parameter.shape)
        shape = shape[::-1] if name in transposed else shape
        if found[name].shape != shape:
            raise ModelError(
                f"{file.path.name}: {name} has shape {times(found[name].shape)} where its metadata "
                f"make {times(shape)}"
            )
    if over := found.keys() - wanted.keys():
        raise ModelError(f"{file.path.name}: the model has no place for {sorted(over)[0]}")


def _filled(checkpoint: Checkpoint, config: Any, *, transposed: bool) -> nn.Module:
    attention = "eager" if getattr(config, "attn_logit_softcapping", None) else "sdpa"
    with no_init_weights():
        model = AutoModelForCausalLM.from_config(
            config, dtype=torch.float32, attn_implementation=attention
        )
    model.tie_weights()
    parameters = _parameters(model)
    turned = _transposed_names(model) if transposed else frozenset[str]()
    units = (*checkpoint.whole, *checkpoint.units)
    large = torch.float32.itemsize * sum(unit.n_weights for unit in units) > IN_MEMORY_BYTES
    for unit in units:
        value = unit.weight()
        value = value.T.contiguous() if unit.name in turned else value
        if large:
            value = moved_to_disk(value, "weights of this file are dequantized")
        # Memory that nothing has written to is not in use yet; the matrix read takes its place.
        parameters[unit.name].data = value
    if large:
        mark_mapped(model)
    return model.eval().requires_grad_(False)


def _parameters(model: nn.Module) -> Mapping[str, nn.Parameter]:
    """Returns the parameters that a file holds: a tied head is the embedding once more."""
    return dict(model.named_parameters())


def _transposed_names(model: nn.Module) -> frozenset[str]:
    return frozenset(
        f"{name}.weight" for name, module in model.named_modules() if isinstance(module, Conv1D)
    )
