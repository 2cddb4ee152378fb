"""Loads a GGUF file with transformers and says what it holds; run by itself, not imported.

As ``transformers_folder.py``; what a tensor is stored as is what the gguf library's reader says.
``settings`` names the file's tensors by the model's.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path

import torch
import transformers

sys.path.insert(0, str(Path(__file__).parent))


def main(request_file: str) -> None:
    """Answers one request."""
    shared = import_module("transformers_folder")
    request = json.loads(Path(request_file).read_text(encoding="utf-8"))
    torch.set_num_threads(int(request.get("threads", 1)))
    transformers.logging.set_verbosity_error()
    folder, names = Path(request["folder"]), request["settings"]["names"]
    file = next(folder.glob("*.gguf"))
    reader = import_module("gguf").GGUFReader(file)
    kinds = {tensor.name: tensor.tensor_type.name for tensor in reader.tensors}
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, gguf_file=file.name, dtype=torch.float32, local_files_only=True
    ).eval()
    answer = {
        "matrices": {name: kinds.get(names.get(name), "") for name in request["matrices"]},
        "texts": [shared.compared(model, text) for text in request["texts"]],
        "versions": shared.answers.versions(),
    }
    Path(request["out"]).write_text(json.dumps(answer), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
