"""Runs a quantized folder or a GGUF file with transformers; run by itself, not imported.

Weights are as the toolchain of the folder has them and run as it runs them: in the folder's own
type, activations rounded where the toolchain rounds them. A GGUF file is dequantized to float32.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
import transformers

sys.path.insert(0, str(Path(__file__).parent))

PACKAGES = ("torch", "transformers", "gguf", "accelerate", "compressed-tensors", "torchao",
            "bitsandbytes", "hqq", "optimum", "gptqmodel", "auto-round")  # fmt: skip


def load(request: dict[str, Any]) -> Any:
    """Returns what runs the file."""
    torch.set_num_threads(int(request["threads"]))
    transformers.logging.set_verbosity_error()
    place = Path(request["file"])
    folder, more = (place, {}) if place.is_dir() else (place.parent, {"gguf_file": place.name})
    found = sorted(place.glob("*.gguf")) if place.is_dir() else []
    if found and not list(place.glob("*.safetensors")):
        more = {"gguf_file": found[0].name}
    dtype = "float32" if more else "auto"
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=dtype, local_files_only=True, **more
    ).eval()

    def logits(ids: Sequence[int]) -> Any:
        with torch.inference_mode():
            return model(input_ids=torch.tensor([ids]), use_cache=False).logits[0].float().numpy()

    return logits


if __name__ == "__main__":
    import_module("answering").answer(PACKAGES, load)
