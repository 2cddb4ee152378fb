"""Kills commands at random moments and runs them again: ``python -m validation.kills --kills 200``.

Every verb that leaves something is run whole once; then, in a new folder each time, it is ended by
SIGKILL at a random moment and given again. What it leaves then has to be the same to the bit, and
what was committed when it was killed must not be made again. All runs are forks of one process, as
importing torch takes longer than most of them.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from zipfile import ZipFile

from bitgap.show.to_markdown import rows_of
from validation.reliability import PAGE, Trial, keep, put_section, table_of_runs, trial

# The tiny model and its text stand beside the tests.
sys.path.append(str(Path(__file__).parents[1] / "tests"))

MADE = "made.txt"
_KEPT = {"scores": "key, sha256", "observations": "key, sha256", "texts": "key, sha256"}
_TELL_TIME = ("bitgap-verification.json", "report.html", MADE)
"""Files in which the time that a run took is told, or that are this command's own."""
_EVIDENCE = "evidence.json"
"""In evidence, the part that tells when a model began to be measured."""
_FEW = ("--choices", "rtn3-g32,rtn4-g32,rtn5-g32", "--instrument", "screen", "--budget", "4.6")

VERBS: dict[str, tuple[str, ...]] = {
    "audit": ("audit", "MODEL", "--scheme", "rtn4-channel"),
    "map": ("map", "MODEL", "--scheme", "rtn4-channel", "--arithmetic", "exact", "--all-masks"),
    "protect": ("protect", "MODEL", "--languages", "en,de", *_FEW, "--out", "out"),
    "export": (
        *("export", "RECIPE", "--model", "MODEL", "--to", "vllm", "--nearest", "--no-load"),
        *("--out", "out"),
    ),
    "theory": ("theory", "MODEL", "--tier", "smoke", "--export", "out"),
}


@dataclass(slots=True)
class Row:
    """What became of one verb's kills."""

    verb: str
    took_s: float
    kills: int = 0
    caught: int = 0
    """Killed while it ran; the others were done by then."""
    differ: int = 0
    redone: int = 0
    """Rows of scores and observations that were committed and made again."""
    committed: int = 0
    failed: int = 0


def _run(words: Sequence[str], folder: Path) -> None:
    """Runs a command in this process, in a folder, and notes each row that it puts in the store."""
    from bitgap.cli.main import main
    from bitgap.lab.store import Store

    os.chdir(folder)
    made = (folder / MADE).open("a", buffering=1)
    write: Callable[..., None] = Store._write

    def noted(self: Store, table: str, row: dict[str, Any], how: str = "INSERT OR REPLACE") -> None:
        if table in ("scores", "observations"):
            made.write(f"{row['key']}\n")
        write(self, table, row, how)

    Store._write = noted
    with (folder / "err.txt").open("w") as err, open(os.devnull, "w") as out:
        sys.stdout, sys.stderr = out, err
        code = main(list(words))
    (folder / MADE).with_suffix(".code").write_text(str(code))


def fork(words: Sequence[str], folder: Path, kill_after_s: float | None) -> bool:
    """Runs a command in a child; returns whether it was killed."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            _run(words, folder)
            status = 0
        finally:
            os._exit(status)
    if kill_after_s is not None:
        time.sleep(kill_after_s)
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def committed(folder: Path) -> set[str]:
    """Returns the keys of scores and observations that a store holds."""
    if not (folder / "bitgap.db").is_file():
        return set()
    with closing(sqlite3.connect(folder / "bitgap.db")) as db:
        there = {name for (name,) in db.execute("SELECT name FROM sqlite_master")}
        return {
            key
            for table in ("scores", "observations")
            if table in there
            for (key,) in db.execute(f"SELECT key FROM {table}")
        }


def digest(folder: Path) -> str:
    """Returns the SHA-256 of all that a command left, but for the times that it tells."""
    held: list[Any] = []
    if (folder / "bitgap.db").is_file():
        with closing(sqlite3.connect(folder / "bitgap.db")) as db:
            for table, columns in _KEPT.items():
                held.append(sorted(db.execute(f"SELECT {columns} FROM {table}").fetchall()))
    out = folder / "out"
    for path in sorted(out.rglob("*")) if out.is_dir() else ():
        plain = path.is_file() and path.name not in _TELL_TIME and path.suffix != ".json"
        if plain or path.name == "config.json":
            held.append([str(path.relative_to(out)), *_told(path)])
    return hashlib.sha256(json.dumps(held).encode()).hexdigest()


def _told(path: Path) -> list[str]:
    """Returns the SHA-256 of a file; of evidence that of its parts, less when it was begun."""
    if path.suffix != ".zip":
        return [hashlib.sha256(path.read_bytes()).hexdigest()]
    told = list[str]()
    with ZipFile(path) as parts:
        for name in parts.namelist():
            data = parts.read(name)
            if name == _EVIDENCE:
                found = json.loads(data)
                found["facts"].pop("measured_from", None)
                data = json.dumps(found, sort_keys=True).encode()
            told.append(f"{name} {hashlib.sha256(data).hexdigest()}")
    return told


def _code(folder: Path) -> str:
    file = (folder / MADE).with_suffix(".code")
    return file.read_text() if file.is_file() else "none"


def _is_there(folder: Path) -> bool:
    """Whether a command was refused as what it writes is whole: killed after that."""
    return "is there already" in (folder / "err.txt").read_text()


def killed_again_and_again(
    verb: str, words: Sequence[str], home: Path, n: int, draw: random.Random, seconds: float
) -> Row:
    """Kills one verb up to so many times, for about so many seconds."""
    until = time.monotonic() + seconds
    whole = home / f"{verb}-whole"
    whole.mkdir()
    began = time.monotonic()
    fork(words, whole, None)
    row = Row(verb, time.monotonic() - began)
    if _code(whole) != "0":
        raise SystemExit(f"{verb} fails unkilled: {(whole / 'err.txt').read_text()}")
    wanted = digest(whole)
    for i in range(n):
        if time.monotonic() > until:
            break
        folder = home / f"{verb}-{i}"
        folder.mkdir()
        row.caught += fork(words, folder, draw.uniform(0, row.took_s))
        row.kills += 1
        before = committed(folder)
        row.committed += len(before)
        (folder / MADE).unlink(missing_ok=True)
        if _code(folder) != "0":
            fork(words, folder, None)
        again = set((folder / MADE).read_text().split()) if (folder / MADE).is_file() else set()
        row.redone += len(again & before)
        same = digest(folder) == wanted
        row.differ += not same
        row.failed += _code(folder) != "0" and not (same and _is_there(folder))
        shutil.rmtree(folder)
    return row


def prepare(home: Path, *, recipe_too: bool) -> dict[str, tuple[str, ...]]:
    """Makes the model, the text and, for exports, a recipe; returns each verb's words."""
    from bitgap.cli.main import main
    from cli_samples import (  # pyright: ignore[reportMissingImports]
        save_model,
        write_longer_corpus,
    )

    model = save_model(home / "model", steps=40)
    text = write_longer_corpus(home / "text", turns=4)
    recipe = home / "recipe" / "recipe.toml"

    def filled(words: Sequence[str]) -> tuple[str, ...]:
        given = {"MODEL": str(model), "RECIPE": str(recipe)}
        corpus = ("--corpus", str(text), "--no-report")
        return (*(given.get(word, word) for word in words), *corpus)

    store = ("--store", str(home / "recipe.db"))
    made = filled(VERBS["protect"][:-2])
    if recipe_too and main([*made, "--out", str(recipe.parent), *store]) != 0:
        raise SystemExit("no recipe was made, so that nothing can be exported")
    return {verb: filled(words) for verb, words in VERBS.items()}


def main(argv: Sequence[str] | None = None) -> int:
    """Prints a table; 1 where a repeat differs, fails, or makes anything again."""
    parser = argparse.ArgumentParser(prog="python -m validation.kills", description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="for all verbs together")
    parser.add_argument("--seconds", type=float, default=1e9, help="for all verbs together")
    parser.add_argument("--only", nargs="+", choices=list(VERBS), default=list(VERBS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--page", type=Path, nargs="?", const=PAGE, metavar="FILE")
    asked = parser.parse_args(argv)
    import torch

    from bitgap.lab.engine import budget

    torch.set_num_threads(1)
    budget._MAX_NODES = 2  # many moments between commits to be killed at
    draw, found = random.Random(asked.seed), list[Row]()
    with tempfile.TemporaryDirectory(prefix="bitgap-kills-") as place:
        words = prepare(Path(place), recipe_too="export" in asked.only)
        n, seconds = -(-asked.kills // len(asked.only)), asked.seconds / len(asked.only)
        for verb in asked.only:
            found.append(killed_again_and_again(verb, words[verb], Path(place), n, draw, seconds))
            print(found[-1], flush=True)
    rows = [row_of(one) for one in found]
    print(table(rows))
    if asked.page:
        words = argv if argv is not None else sys.argv[1:]
        made = trial("kills", f"python -m validation.kills {' '.join(words)}", rows)
        put_section("kills", section(keep(made, asked.page)), asked.page)
    return 1 if any(one.differ or one.redone or one.failed for one in found) else 0


def row_of(found: Row) -> dict[str, Any]:
    """Returns what became of one verb's kills, as it is kept."""
    return asdict(found) | {"took_s": round(found.took_s, 1)}


_COUNTS = (
    ("killed", "kills"),
    ("while it ran", "caught"),
    ("rows committed then", "committed"),
    ("made again", "redone"),
    ("repeats that differ", "differ"),
    ("that fail", "failed"),
)


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Returns what became of all kills, over all runs, as a Markdown table.

    Args:
        rows: As :func:`row_of` makes them; those of one verb are added up.
    """
    held = {verb: [row for row in rows if row["verb"] == verb] for verb in VERBS}
    shown: list[tuple[object, ...]] = [
        (name, *(f"{sum(row[count] for row in of_one):,}" for _, count in _COUNTS))
        for name, of_one in (
            *((f"`bitgap {verb}`", of_one) for verb, of_one in held.items() if of_one),
            ("all", rows),
        )
    ]
    return rows_of(("command", *(heading for heading, _ in _COUNTS)), shown)


def section(found: Sequence[Trial]) -> str:
    """Returns the page's section.

    Args:
        found: The runs that it adds up.
    """
    return "\n\n".join(
        (
            "## Killed and given again",
            "SIGKILL at a random moment of each command, then the same command again: scores, "
            "observations, recipes, exported files and evidence are compared with those of a run "
            "that nobody killed, to the bit.",
            table([row for one in found for row in one.rows]),
            "The runs that are added up:",
            table_of_runs(found, _COUNTS),
        )
    )


if __name__ == "__main__":
    sys.exit(main())
