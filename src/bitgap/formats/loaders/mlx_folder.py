"""Loads a model folder with mlx-lm, on the CPU, and says what it holds; run by itself.

As ``transformers_folder.py``. Products are in float32, whatever the types of the file.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))


def main(request_file: str) -> None:
    """Answers one request."""
    answers = import_module("answers")
    mx, utils = import_module("mlx.core"), import_module("mlx_lm.utils")
    request = json.loads(Path(request_file).read_text(encoding="utf-8"))
    mx.set_default_device(mx.cpu)
    model, _ = utils.load_model(Path(request["folder"]))
    modules = dict(model.named_modules())
    names = request["settings"]["names"]
    held = {
        name: described(modules.get(names[name].removesuffix(".weight")))
        for name in request["matrices"]
    }
    model.set_dtype(mx.float32)
    texts = []
    for text in request["texts"]:
        logits = model(mx.array([text["ids"]]))[0].astype(mx.float32)
        texts.append(answers.sums(np.array(logits), text))
    answer = {"matrices": held, "texts": texts, "versions": answers.versions()}
    Path(request["out"]).write_text(json.dumps(answer), encoding="utf-8")


def described(module: Any) -> str:
    """Returns what the library holds for a matrix, in the words of the readers."""
    if module is None:
        return "nothing"
    if "scales" in module:
        return f"int{module.bits} g{module.group_size} asym"
    return str(module.weight.dtype).rpartition(".")[2]


if __name__ == "__main__":
    main(sys.argv[1])
