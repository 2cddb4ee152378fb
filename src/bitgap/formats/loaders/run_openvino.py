"""Runs an OpenVINO model (``.xml`` beside its ``.bin``) on the processor; run by itself.

Products are of float32, as the processor's own choice, bfloat16 where it has it, is no part of the
file.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))


def load(request: dict[str, Any]) -> Any:
    """Returns what runs the file."""
    openvino = import_module("openvino")
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": request["threads"]}
    model = openvino.Core().compile_model(str(request["file"]), "CPU", settings)
    names = [one.get_any_name() for one in model.inputs]
    if "input_ids" not in names:
        raise SystemExit(f"the model has no input called input_ids; it has {', '.join(names)}")
    outputs = {name for one in model.outputs for name in one.get_names()}
    place = "logits" if "logits" in outputs else 0
    running = model.create_infer_request()

    def logits(ids: Sequence[int]) -> Any:
        known = {
            "input_ids": np.array([ids], dtype=np.int64),
            "attention_mask": np.ones((1, len(ids)), dtype=np.int64),
            "position_ids": np.arange(len(ids), dtype=np.int64)[None],
            "beam_idx": np.zeros(1, dtype=np.int32),
        }
        if odd := [name for name in names if name not in known]:
            raise SystemExit(f"the model asks for {odd[0]}, which is not known")
        running.reset_state()
        return running.infer({name: known[name] for name in names})[place][0]

    return logits


if __name__ == "__main__":
    import_module("answering").answer(("openvino", "numpy"), load)
