r"""Trains the zoo that ``bitgap theory`` is run on, and writes its manifest.

Every model of ``zoo.toml`` is trained by ``train_reference.py``, a few side by side. A stopped run
goes on where it was when the command is given again, and finished models are left as they are::

    python recipes/train_zoo.py --text ../shared/data/corpus --out models

and so are those of ``confirmation.toml``, which the theory's second version is tried on::

    python recipes/train_zoo.py --zoo recipes/confirmation.toml --text TEXT --out new

On two cores that takes an hour and a half. ``models/manifest.json`` lists every finished model with
the SHA-256 of its files, what it was trained on, and its held-out bits per byte.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from run_folder import FINISHED
from training_text import write_json

from bitgap.errors import BitgapError, UsageError
from bitgap.theory.zoo import MANIFEST, sha256_of

HERE = Path(__file__).parent
REFERENCE = HERE.parent / "src" / "bitgap" / "models" / "reference"
LARGEST_ZOO_BYTES = 120_000_000
"""Cloning should stay easy."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns 0 when all models are trained, else 1 or 2."""
    options = _parser().parse_args(arguments)
    try:
        members = read_zoo(options.zoo, options.only)
        options.out.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(options.workers) as pool:
            codes = list(pool.map(lambda m: _train(m, options), members))
        write_manifest(options.out, options.zoo)
    except BitgapError as error:
        _say(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        _say("interrupted; give the same command again to go on")
        return 130
    failed = [m["name"] for m, code in zip(members, codes, strict=True) if code]
    if failed:
        _say(f"not finished: {', '.join(failed)}; their logs say why")
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="train_zoo.py", description="Trains the models of a zoo, such as zoo.toml."
    )
    add = parser.add_argument
    add("--text", type=Path, required=True, help="folder of <lang>.txt or <lang>.txt.xz")
    add("--out", type=Path, required=True, help="folder for the models and their manifest")
    add("--zoo", type=Path, default=HERE / "zoo.toml", help="which models (default: zoo.toml)")
    add("--workers", type=int, default=2, help="models trained side by side (%(default)s)")
    add("--only", metavar="NAMES", help="some models, such as llama-8,opt-12 (default: all)")
    return parser


def read_zoo(path: Path, only: str | None = None) -> list[dict[str, Any]]:
    """Returns every model's name and options, those of ``[common]`` included.

    Raises:
        UsageError: If a name is asked for that is not there.
    """
    content = tomllib.loads(path.read_text(encoding="utf-8"))
    members = [content["common"] | one for one in content["model"]]
    names = [one["name"] for one in members]
    wanted = names if only is None else [name.strip() for name in only.split(",")]
    if unknown := [name for name in wanted if name not in names]:
        raise UsageError(f"no model {unknown[0]!r} in {path.name}; there are {', '.join(names)}")
    return [one for one in members if one["name"] in wanted]


def command_of(member: Mapping[str, Any], text: Path, out: Path) -> list[str]:
    """Returns the command line that trains one model."""
    words = [sys.executable, str(HERE / "train_reference.py"), "--text", str(text)]
    words += ["--out", str(out / member["name"]), "--cache", str(out / "tokens")]
    options = {k: v for k, v in member.items() if k != "name"}
    if "vocabulary" in options:  # it trains a tokenizer of its own
        options.pop("tokenizer")
    elif options.get("tokenizer") == "reference":
        options["tokenizer"] = REFERENCE
    for name, value in options.items():
        words += [f"--{name}", str(value)]
    return words


def _train(member: Mapping[str, Any], options: argparse.Namespace) -> int:
    log = options.out / f"{member['name']}.log"
    _say(f"{member['name']}: see {log}")
    with log.open("a", encoding="utf-8") as file:
        command = command_of(member, options.text, options.out)
        code = subprocess.run(command, stdout=file, stderr=file, check=False).returncode
    if code == 0:
        log.unlink()
    return code


def write_manifest(out: Path, zoo: Path = HERE / "zoo.toml") -> None:
    """Writes the manifest of the finished models in a folder, in the order of their zoo.

    Raises:
        UsageError: If they are larger together than a clone should be.
    """
    order = [one["name"] for one in read_zoo(zoo)]
    finished = {p.parent.name: p for p in out.glob(f"*/{FINISHED}")}
    names = [n for n in order if n in finished] + sorted(finished.keys() - set(order))
    entries = [_entry(finished[name]) for name in names]
    size = sum(p.stat().st_size for n in names for p in (out / n).iterdir() if p.is_file())
    if size > LARGEST_ZOO_BYTES:
        raise UsageError(
            f"the models take {size / 1e6:.0f} MB together, more than {LARGEST_ZOO_BYTES / 1e6:.0f}"
            f"; make them smaller in {zoo.name}"
        )
    write_json(out / MANIFEST, {"recipe": f"recipes/{zoo.name}", "bytes": size, "models": entries})


def _entry(facts_path: Path) -> dict[str, Any]:
    folder = facts_path.parent
    facts = json.loads(facts_path.read_text(encoding="utf-8"))
    recipe, scores = facts["recipe"], facts["bits_per_byte"]
    return {
        "folder": folder.name,
        "family": recipe["family"],
        "blocks": recipe["blocks"],
        "width": recipe["width"],
        "parameters": facts["n_parameters"],
        "tokens": facts["tokens_seen"],
        "mix": recipe["mix"],
        "bits_per_byte_mean": statistics.mean(scores.values()),
        "sha256": {p.name: sha256_of(p) for p in sorted(folder.iterdir()) if p.is_file()},
    }


def _say(text: str) -> None:
    print(f"train_zoo: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
