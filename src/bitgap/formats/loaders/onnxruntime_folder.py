"""Runs an ONNX model with ONNX Runtime and says what it holds; run by itself, not imported.

As ``transformers_folder.py``. What a matrix is is read off the graph, and that the operator of that
name was *run* off the profile of the session. Each text is run in two parts, the second with the
cache that the first left, as it is served.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
_FLOATS = {1: "float32", 10: "float16", 16: "bfloat16"}


def main(request_file: str) -> None:
    """Answers one request."""
    answers = import_module("answers")
    ort, onnx = import_module("onnxruntime"), import_module("onnx")
    request = json.loads(Path(request_file).read_text(encoding="utf-8"))
    file = next(Path(request["folder"]).glob("*.onnx"))
    graph = onnx.load(file, load_external_data=False).graph
    options = ort.SessionOptions()
    options.intra_op_num_threads = int(request.get("threads", 1))
    options.log_severity_level = 3
    options.enable_profiling = True
    session = ort.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    texts = [answers.sums(logits(session, text["ids"]), text) for text in request["texts"]]
    profile = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    run = {
        (one["args"]["op_name"], one["name"].removesuffix("_kernel_time"))
        for one in profile
        if one.get("cat") == "Node" and "op_name" in one.get("args", {})
    }
    answer = {
        "matrices": {name: described(graph, name, run) for name in request["matrices"]},
        "texts": texts,
        "versions": answers.versions(),
    }
    Path(request["out"]).write_text(json.dumps(answer), encoding="utf-8")


def logits(session: Any, ids: list[int]) -> np.ndarray:
    """Returns the logits of a text, run in two parts."""
    asked = {one.name: one for one in session.get_inputs()}
    names = [one.name for one in session.get_outputs()]
    past = {
        name: np.zeros((1, one.shape[1], 0, one.shape[3]), np.float32)
        for name, one in asked.items()
        if name.startswith("past_key_values.")
    }
    found, middle = [], len(ids) // 2
    for start, end in ((0, middle), (middle, len(ids))):
        feed = {
            "input_ids": np.array([ids[start:end]], np.int64),
            "attention_mask": np.ones((1, end), np.int64),
            "position_ids": np.arange(start, end, dtype=np.int64)[None],
        }
        out = dict(zip(names, session.run(None, {k: v for k, v in feed.items() if k in asked}
                                          | past), strict=True))  # fmt: skip
        found.append(out["logits"][0])
        past = {name: out[name.replace("past_key_values", "present")] for name in past}
    return np.concatenate(found)


def described(graph: Any, name: str, run: set[tuple[str, str]]) -> str:
    """Returns what the graph holds for a parameter and was run, in the words of the readers."""
    module = name.removesuffix(".weight")
    for node in graph.node:
        kind, _, operator = node.name.rpartition("/")
        if kind == module and operator in ("MatMulNBits", "GatherBlockQuantized"):
            if (operator, node.name) not in run:
                return f"{operator}, which was not run"
            told = {one.name: one.i for one in node.attribute}
            size = next(int(t.dims[1]) for t in graph.initializer if t.name == f"{name}_scales")
            return f"int{told['bits']} {'channel' if size == 1 else 'g' + str(told['block_size'])}"
    for tensor in graph.initializer:
        if tensor.name == name:
            return _FLOATS.get(tensor.data_type, str(tensor.data_type))
    return "nothing"


if __name__ == "__main__":
    main(sys.argv[1])
