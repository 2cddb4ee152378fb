"""The most memory that an audit holds of a checkpoint of any size, made on the spot.

A model of the Llama kind with random weights in bfloat16 is written block by block, so that making
it takes no more memory than one block, with the bundled model's tokenizer. ``bitgap audit`` runs on
it as a process of its own under ``--memory``, and is asked beforehand what it will read. Told are
the peak of resident memory, and bytes to read over the size of the weights: the model itself stays
in its file. Damages are thrown away.

``python benchmarks/memory.py --size 4GB --memory 1GiB`` prints one JSON object.

With ``--blocks`` each block alone is scored too, in a process that is killed when half of the walk
is done, and is then begun again on the same store: what both read from the disk, over the file, is
told, of which the first reads all of it once for the model's fingerprint.
Where the file fits in memory the system reads it from its cache, so that counts only for one that
does not: ``--size 28GB --width 6144 --memory 2GiB --blocks 2`` on a machine of 24 GiB.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import LlamaConfig

import bitgap.models
from bitgap.lab.engine.budget import parse_bytes

_REFERENCE = Path(bitgap.models.__file__).parent / "reference"
_INNER = 4  # MLP width over width


def write_model(folder: Path, n_bytes: int, width: int) -> int:
    """Writes a random model of about so many bytes, and returns how many it has."""
    folder.mkdir()
    for file in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        if (_REFERENCE / file).is_file():
            shutil.copy(_REFERENCE / file, folder)
    vocabulary = json.loads((_REFERENCE / "config.json").read_text("utf-8"))["vocab_size"]
    a_block = 2 * (4 * width * width + 3 * _INNER * width * width)
    n_blocks = max(2, round((n_bytes - 4 * vocabulary * width) / a_block))
    LlamaConfig(
        vocab_size=vocabulary, hidden_size=width, intermediate_size=_INNER * width,
        num_hidden_layers=n_blocks, num_attention_heads=width // 64,
        num_key_value_heads=width // 64, tie_word_embeddings=False, dtype="bfloat16",
        architectures=["LlamaForCausalLM"],
    ).save_pretrained(folder)  # fmt: skip
    generator, where, total = torch.Generator().manual_seed(0), dict[str, str](), 0

    def write(file: str, shapes: dict[str, tuple[int, ...]]) -> None:
        nonlocal total
        tensors = {
            name: torch.ones(shape, dtype=torch.bfloat16)
            if len(shape) == 1
            else (torch.randn(shape, generator=generator) * 0.02).bfloat16()
            for name, shape in shapes.items()
        }
        save_file(tensors, folder / file, metadata={"format": "pt"})
        where.update(dict.fromkeys(shapes, file))
        total += sum(2 * tensor.numel() for tensor in tensors.values())

    square, wide = (width, width), (_INNER * width, width)
    for i in range(n_blocks):
        names = {f"self_attn.{k}_proj": square for k in "qkvo"}
        names |= {"mlp.gate_proj": wide, "mlp.up_proj": wide, "mlp.down_proj": wide[::-1]}
        block: dict[str, tuple[int, ...]] = {f"{name}.weight": s for name, s in names.items()}
        block |= dict.fromkeys(
            ("input_layernorm.weight", "post_attention_layernorm.weight"), (width,)
        )
        write(f"model-{i:05}.safetensors", {f"model.layers.{i}.{k}": s for k, s in block.items()})
    ends = {"model.embed_tokens.weight": (vocabulary, width), "model.norm.weight": (width,)}
    write("model-ends.safetensors", {**ends, "lm_head.weight": (vocabulary, width)})
    index = {"metadata": {"total_size": total}, "weight_map": where}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return total


_BLOCKS = """
import sys
from bitgap.corpora.parallel import load_corpus
from bitgap.lab.engine.budget import parse_bytes
from bitgap.lab.lab import Lab
from bitgap.lab.settings import Settings, set_threads
from bitgap.lab.store import Store
from bitgap.models.load import load_model
from bitgap.quant.plan import Plan

model, store, memory, languages, sentences = sys.argv[1:]
set_threads(1)
text = load_corpus(None, languages=languages).select(None, range(int(sentences)))
lab = Lab.of(
    load_model(model), text, store=Store(store),
    settings=Settings(memory_bytes=parse_bytes(memory)),
)
n = lab.n_blocks
print(len(lab.score([Plan.only("rtn4-g128", n, block) for block in range(n)]).plans))
"""


def run(command: list[str], kill_now: Callable[[], bool] = lambda: False) -> dict[str, float]:
    """Runs a command to its end, or kills it once that is asked for.

    Args:
        command: What to run.
        kill_now: Asked ten times a second.

    Returns:
        Peak of resident memory, bytes read from the disk (Linux counts them), processor and wall
        seconds, and whether it was killed.

    Raises:
        SystemExit: If it ended by itself with an error.
    """
    began = time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert child.stderr is not None
    said: list[str] = []
    reader = threading.Thread(target=lambda stream=child.stderr: said.extend(stream))
    reader.start()
    killed = False
    while (found := os.wait4(child.pid, os.WNOHANG))[0] == 0:
        time.sleep(0.1)
        if not killed and kill_now():
            os.kill(child.pid, signal.SIGKILL)
            killed = True
    reader.join()
    _, status, usage = found
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode and not killed:
        raise SystemExit(f"{' '.join(command[:4])} ended with {child.returncode}: {''.join(said)}")
    return {
        "peak_bytes": usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
        "disk_read_bytes": usage.ru_inblock * 512,
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "wall_s": time.perf_counter() - began,
        "killed": killed,
    }


def _blocks_done(store: Path) -> int:
    """Returns how many blocks the walk that a store keeps has behind it."""
    done = 0
    for note in store.with_name(f"{store.name}.files").rglob("walk.json"):
        with suppress(OSError, ValueError, KeyError):  # it may just be replaced, or gone
            done = max(done, int(json.loads(note.read_text())["blocks"]))
    return done


def main() -> int:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--size", type=parse_bytes, default=parse_bytes("4GB"))
    parser.add_argument("--memory", default="1GiB")
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--sentences", default="4")
    parser.add_argument("--languages", default="de,he")
    parser.add_argument(
        "--blocks", metavar="N", help="each block alone too, on N sentences, killed and resumed"
    )
    parser.add_argument("--folder", help="where the checkpoint is made, and deleted again")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=asked.folder) as place:
        model = Path(place) / "model"
        n_bytes = write_model(model, asked.size, asked.width)
        command = [
            sys.executable, "-m", "bitgap", "audit", str(model), "--memory", asked.memory,
            "--languages", asked.languages, "--sentences", asked.sentences,
            "--store", str(Path(place) / "bitgap.db"), "--no-report", "--threads", "1",
        ]  # fmt: skip
        foreseen = subprocess.run(
            [*command, "--dry-run", "--json"], capture_output=True, text=True, check=True
        )
        preflight = json.loads(foreseen.stdout)["preflight"]
        result: dict[str, object] = {
            "weights_bytes": n_bytes,
            "memory": asked.memory,
            "predicted_beside_model_bytes": preflight["memory_bytes"],
            "reads_over_file": preflight["read_bytes"] / n_bytes,
            **run(command),
        }
        if asked.blocks:
            blocks = [
                sys.executable, "-c", _BLOCKS, str(model), str(Path(place) / "blocks.db"),
                asked.memory, asked.languages, asked.blocks,
            ]  # fmt: skip
            store, n_blocks = Path(place) / "blocks.db", len(list(model.glob("model-0*")))
            tries = [run(blocks, lambda: _blocks_done(store) >= n_blocks / 2), run(blocks)]
            result["blocks"] = [
                {**tried, "disk_reads_over_file": tried["disk_read_bytes"] / n_bytes}
                for tried in tries
            ]
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
