"""Loads a model folder with transformers and says what it holds; run by itself, not imported.

Takes a JSON request as a file: ``folder``, ``matrices`` (parameters to describe), ``texts`` (each
the token ids of a sentence and the file of the logits it should have) and ``out``, where the answer
goes. What a matrix is stored as is looked at before the first forward pass, which makes some
toolchains' weights dense for good.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
import transformers

sys.path.insert(0, str(Path(__file__).parent))
answers = import_module("answers")


def main(request_file: str) -> None:
    """Answers one request."""
    request = json.loads(Path(request_file).read_text(encoding="utf-8"))
    torch.set_num_threads(int(request.get("threads", 1)))
    transformers.logging.set_verbosity_error()
    settings = {"dtype": "float32"} | request["settings"]
    if settings.pop("read_by_auto_round", False):
        settings["quantization_config"] = transformers.AutoRoundConfig()
    model = transformers.AutoModelForCausalLM.from_pretrained(
        request["folder"], local_files_only=True, **settings
    ).eval()
    # Before the first forward, which makes some toolchains' weights dense for good.
    held = {name: described(model, name) for name in request["matrices"]}
    answer = {
        "matrices": held,
        "texts": [compared(model, text) for text in request["texts"]],
        "versions": answers.versions(),
    }
    Path(request["out"]).write_text(json.dumps(answer), encoding="utf-8")


def compared(model: Any, text: dict[str, Any]) -> dict[str, float]:
    """Returns how far logits are from those that were asked for, as sums over all of them."""
    with torch.no_grad():
        logits = model(torch.tensor([text["ids"]])).logits[0].float().numpy()
    return answers.sums(logits, text)


def described(model: Any, name: str) -> str:
    """Returns what the toolchain itself holds for a parameter, in the words of the readers."""
    path = name.removesuffix(".weight")
    module = model.get_submodule(path)
    scheme = getattr(module, "quantization_scheme", None)
    if scheme is not None and getattr(module, "weight_packed", None) is not None:
        args = scheme.weights
        strategy, kind = (str(getattr(told, "value", told)) for told in (args.strategy, args.type))
        grain = f"g{args.group_size}" if strategy == "group" else strategy
        return f"{kind}{args.num_bits} {grain}"
    if getattr(module, "qweight", None) is not None:
        # As auto-round calls it, and as GPTQModel does.
        n_in = getattr(module, "infeatures", None) or module.in_features
        size = module.group_size
        return f"int{module.bits} {'channel' if size in (-1, n_in) else f'g{size}'}"
    weight = getattr(module, "weight", None)
    if weight is None:
        return "nothing"
    kind = type(weight).__name__
    if kind in ("IntxUnpackedToInt8Tensor", "Int8Tensor"):
        return torchao(weight, kind)
    if kind == "Params4bit":
        state = weight.quant_state
        nested = " double" if getattr(state, "nested", False) else ""
        return f"{state.quant_type.upper()} b{state.blocksize}{nested}"
    if kind == "Int8Params":
        return "int8 channel"
    return str(weight.dtype).removeprefix("torch.")


def torchao(weight: Any, kind: str) -> str:
    """Returns bits and group of a torchao tensor."""
    bits = 8
    if kind == "IntxUnpackedToInt8Tensor":
        bits = int(str(weight.target_dtype).removeprefix("torch.int"))
    size = weight.block_size[-1]
    grain = "channel" if size >= weight.shape[-1] else f"g{size}"
    return f"int{bits} {grain}"


if __name__ == "__main__":
    main(sys.argv[1])
