"""Every toolchain that a recipe can be written for, by the name that ``--to`` takes."""

from __future__ import annotations

from collections.abc import Mapping

from bitgap.errors import UsageError
from bitgap.formats.bitsandbytes_writer import BitsAndBytes
from bitgap.formats.compressed_tensors_writer import VLLM, CompressedTensors
from bitgap.formats.configurations import (
    AutoRoundSettings,
    GPTQModel,
    LlamaQuantize,
    LLMCompressor,
)
from bitgap.formats.gguf.write import GGUF
from bitgap.formats.gptq_writer import GPTQ, AutoRound
from bitgap.formats.mlx_writer import MLX
from bitgap.formats.onnx_writer import ONNXRuntime
from bitgap.formats.openvino_writer import OpenVINO
from bitgap.formats.target import Target
from bitgap.formats.torchao_writer import TorchAO

TARGETS: Mapping[str, Target] = {
    target.name: target
    for target in (
        CompressedTensors(),
        VLLM(),
        GGUF(),
        TorchAO(),
        BitsAndBytes(),
        GPTQ(),
        AutoRound(),
        MLX(),
        ONNXRuntime(),
        OpenVINO(),
    )
}
"""In the order of the help."""

CONFIGURATIONS: Mapping[str, Target] = {
    target.name: target
    for target in (LlamaQuantize(), LLMCompressor(), GPTQModel(), AutoRoundSettings())
}
"""Toolchains that round by themselves, and are told what."""


def find_target(name: str) -> Target:
    """Returns a target by its name.

    Raises:
        UsageError: If there is none of that name.

    Example:
        >>> find_target("vllm").title
        'compressed-tensors (vLLM)'
    """
    known = {**TARGETS, **CONFIGURATIONS}
    if name not in known:
        raise UsageError(f"target {name!r} is not known; there are {', '.join(known)}")
    return known[name]
