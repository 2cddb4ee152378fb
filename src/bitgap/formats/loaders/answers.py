"""What every script here answers with: how far logits are off, and what is installed."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from importlib import metadata
from typing import Any

import numpy as np

PACKAGES = ("torch", "transformers", "compressed-tensors", "torchao", "bitsandbytes", "accelerate",
            "gguf", "optimum", "gptqmodel", "auto-round", "mlx", "mlx-lm", "onnxruntime", "onnx",
            "openvino")  # fmt: skip


def versions(packages: Iterable[str] = PACKAGES) -> dict[str, str]:
    """Returns what is installed of some packages, and of Python."""
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def sums(logits: Any, text: dict[str, Any]) -> dict[str, float]:
    """Returns how far logits (tokens x vocabulary) are from those asked for, over all of them."""
    wanted = np.load(text["logits"], mmap_mode="r").astype(np.float64)
    found = np.asarray(logits).astype(np.float64)
    if found.shape != wanted.shape:
        raise ValueError(f"logits are {found.shape} where {wanted.shape} were expected")
    difference = np.abs(found - wanted)
    return {
        "largest": float(difference.max()),
        "sum": float(difference.sum()),
        "squares": float(np.square(difference).sum()),
        "squares_of_wanted": float(np.square(wanted).sum()),
        "count": float(difference.size),
    }
