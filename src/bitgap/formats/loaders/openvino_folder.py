"""Runs an OpenVINO model with OpenVINO and says what it holds; run by itself, not imported.

As ``transformers_folder.py``. What a matrix is is read off the graph that OpenVINO has read, and
that the operator of that name is run off the graph that it has compiled. Each text is run in two
parts, the second with the state that the first left, as it is served. Products are of float32 and
activations are not rounded, so that nothing but the file is compared.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
_BITS = {"u2": 2, "i4": 4, "i8": 8}
_FLOATS = {"f16": "float16", "bf16": "bfloat16", "f32": "float32", "f64": "float64"}
_USED_BY = (("aten::embedding/Gather", 0), ("aten::linear/MatMul", 1))


def main(request_file: str) -> None:
    """Answers one request."""
    answers, openvino = import_module("answers"), import_module("openvino")
    request = json.loads(Path(request_file).read_text(encoding="utf-8"))
    core = openvino.Core()
    model = core.read_model(Path(request["folder"]) / "openvino_model.xml")
    compiled = core.compile_model(
        model,
        "CPU",
        {
            "INFERENCE_PRECISION_HINT": "f32",
            "KV_CACHE_PRECISION": "f32",
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0",
            "INFERENCE_NUM_THREADS": int(request.get("threads", 1)),
        },
    )
    run = {
        name
        for one in compiled.get_runtime_model().get_ops()
        for name in str(one.get_rt_info()["originalLayersNames"].astype(str)).split(",")
    }
    read = {one.get_friendly_name(): one for one in model.get_ops()}
    running = compiled.create_infer_request()
    answer = {
        "matrices": {name: described(read, name, run) for name in request["matrices"]},
        "texts": [answers.sums(logits(running, text["ids"]), text) for text in request["texts"]],
        "versions": answers.versions(),
    }
    Path(request["out"]).write_text(json.dumps(answer), encoding="utf-8")


def logits(running: Any, ids: list[int]) -> np.ndarray:
    """Returns the logits of a text, run in two parts."""
    running.reset_state()
    found, middle = [], len(ids) // 2
    for start, end in ((0, middle), (middle, len(ids))):
        feed = {
            "input_ids": np.array([ids[start:end]], np.int64),
            "attention_mask": np.ones((1, end), np.int64),
            "position_ids": np.arange(start, end, dtype=np.int64)[None],
            "beam_idx": np.zeros(1, np.int32),
        }
        found.append(running.infer(feed)["logits"][0].copy())
    return np.concatenate(found)


def described(read: dict[str, Any], name: str, run: set[str]) -> str:
    """Returns what the graph holds for a parameter and is run, in the words of the readers."""
    for kind, port in _USED_BY:
        operator = f"__module.{name.removesuffix('.weight')}/{kind}"
        if operator not in read:
            continue
        # A product and the bias after it are one operator by then, of the name of the latter.
        if run.isdisjoint((operator, operator.replace("/MatMul", "/Add"))):
            return f"{kind}, which is not run"
        constants = constants_of(read[operator].input_value(port).get_node())
        types = [one.get_element_type().get_type_name() for one in constants]
        codes = next((i for i, kind in enumerate(types) if kind in _BITS), None)
        if codes is None:
            return str(_FLOATS.get(types[0], types[0]))
        shape = [int(n) for n in constants[codes].get_output_shape(0)]
        grain = f"g{shape[2]}" if len(shape) > 2 else "channel"
        zeros = " asym" if len(constants) > 2 else ""
        return f"int{_BITS[types[codes]]} {grain}{zeros}"
    return "nothing"


def constants_of(node: Any) -> list[Any]:
    """Returns the constants that a value is made of; what a Reshape makes of it is none."""
    if node.get_type_name() == "Constant":
        return [node]
    n_values = 1 if node.get_type_name() == "Reshape" else node.get_input_size()
    return [one for i in range(n_values) for one in constants_of(node.input_value(i).get_node())]


if __name__ == "__main__":
    main(sys.argv[1])
