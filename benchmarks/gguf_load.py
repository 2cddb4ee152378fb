"""A GGUF file as a model with its tokenizer: bitgap beside transformers, in one run.

    python benchmarks/gguf_load.py FILE.gguf [ROUNDS]

Each loads the file in a process of its own, twice unless told otherwise, taking turns; the better
of each is told. CPU seconds count from after the imports, peak memory is that of the whole process.
Equal logits and ids are asserted before anything is printed.
"""

from __future__ import annotations

import json
import subprocess
import sys

COMMON = """
import json, resource, sys, time
import torch
torch.set_num_threads(1)
path = sys.argv[1]
{imports}
start = time.process_time()
{load}
spent = time.process_time() - start
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
with torch.no_grad():
    logits = model(torch.arange(5, 45)[None]).logits.double()
ids = tokenizer("Three rivers: drei Flüsse, три реки, 三条河。").input_ids
print(json.dumps([spent, peak, logits.sum().item(), logits.abs().sum().item(), ids]))
"""
SIDES = {
    "transformers": (
        "import os\nfrom transformers import AutoModelForCausalLM, AutoTokenizer",
        "folder, name = os.path.split(path)\n"
        "model = AutoModelForCausalLM.from_pretrained(\n"
        "    folder, gguf_file=name, dtype=torch.float32)\n"
        "tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=name)",
    ),
    "bitgap": (
        "from bitgap.formats.gguf.load import load_gguf",
        "loaded = load_gguf(path)\nmodel, tokenizer = loaded.model, loaded.tokenizer",
    ),
}


def measure(side: str, path: str) -> list[float]:
    imports, load = SIDES[side]
    code = COMMON.format(imports=imports, load=load)
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, path], check=True, capture_output=True, text=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    runs: dict[str, list[list[float]]] = {side: [] for side in SIDES}
    for _ in range(int(sys.argv[2]) if len(sys.argv) > 2 else 2):
        for side in SIDES:
            runs[side].append(measure(side, sys.argv[1]))
    theirs, ours = (min(runs[side]) for side in SIDES)
    assert theirs[2:] == ours[2:], (theirs[2:], ours[2:])
    for side, (spent_s, peak_bytes, *_) in (("transformers", theirs), ("bitgap", ours)):
        print(f"{side:12} {spent_s:6.1f} s of CPU, peak {peak_bytes / 2**20:6.0f} MiB")
    print(f"ratio        {ours[0] / theirs[0]:6.2f}               {ours[1] / theirs[1]:6.2f}")


if __name__ == "__main__":
    main()
