"""Runs an ONNX file of a whole causal model with ONNX Runtime; run by itself, not imported.

The graph takes ``input_ids`` and, if it asks for them, ``attention_mask``, ``position_ids`` and an
empty cache; its first output, or the one called ``logits``, is what is sent.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

TYPES = {"tensor(int64)": np.int64, "tensor(int32)": np.int32, "tensor(float)": np.float32,
         "tensor(float16)": np.float16, "tensor(bool)": np.bool_}  # fmt: skip


def load(request: dict[str, Any]) -> Any:
    """Returns what runs the file."""
    runtime = import_module("onnxruntime")
    how = runtime.SessionOptions()
    how.intra_op_num_threads = int(request["threads"])
    how.inter_op_num_threads = 1
    session = runtime.InferenceSession(
        str(request["file"]), how, providers=["CPUExecutionProvider"]
    )
    inputs, outputs = session.get_inputs(), [one.name for one in session.get_outputs()]
    if "input_ids" not in {one.name for one in inputs}:
        raise SystemExit(
            f"the graph has no input called input_ids; it has {', '.join(i.name for i in inputs)}"
        )
    name = "logits" if "logits" in outputs else outputs[0]

    def logits(ids: Sequence[int]) -> Any:
        feeds = {one.name: given(one, ids) for one in inputs}
        return session.run([name], feeds)[0][0]

    return logits


def given(one: Any, ids: Sequence[int]) -> Any:
    """Returns what an input of the graph is given for one sentence."""
    dtype = TYPES.get(one.type)
    if one.name == "input_ids":
        return np.array([ids], dtype=dtype)
    if one.name == "attention_mask":
        return np.ones((1, len(ids)), dtype=dtype)
    if one.name == "position_ids":
        return np.arange(len(ids), dtype=dtype)[None]
    if one.name.startswith("past_key_values"):
        _, heads, _, size = one.shape
        numbers = [size_ for size_ in (heads, size) if isinstance(size_, int)]
        if len(numbers) == 2:
            return np.zeros((1, heads, 0, size), dtype=dtype)
    raise SystemExit(f"the graph asks for {one.name} ({one.type}), which is not known")


if __name__ == "__main__":
    import_module("answering").answer(("onnxruntime", "numpy"), load)
