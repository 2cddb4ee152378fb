"""Loads a model folder with GPTQModel, on the CPU, and says what it holds; run by itself.

As ``transformers_folder.py``. Its kernel for processors takes float16, in which products are then.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from importlib import import_module
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))


def main(request_file: str) -> None:
    """Answers one request."""
    # It leaves folders behind, which go with the request.
    tempfile.tempdir = str(Path(request_file).parent)
    request = json.loads(Path(request_file).read_text(encoding="utf-8"))
    # One worker is too few to load anything, and compiling a kernel takes minutes, for one run.
    os.environ |= {"GPTQMODEL_CPU_WORKERS": "2", "TORCHDYNAMO_DISABLE": "1"}
    torch, gptqmodel = import_module("torch"), import_module("gptqmodel")
    answers, folder = import_module("answers"), import_module("transformers_folder")
    torch.set_num_threads(int(request.get("threads", 1)))
    model = gptqmodel.GPTQModel.load(
        request["folder"],
        backend=gptqmodel.BACKEND.TORCH,
        device="cpu",
        dtype=torch.float16,
        **request["settings"],
    ).model.eval()
    answer = {
        "matrices": {name: folder.described(model, name) for name in request["matrices"]},
        "texts": [folder.compared(model, text) for text in request["texts"]],
        "versions": answers.versions(),
    }
    Path(request["out"]).write_text(json.dumps(answer), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
