"""What the README promises is there: files of its tree, commands, options, the Python example."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from bitgap.cli.main import make_parser

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str = "") -> list[str]:
    """Returns what stands between fences, of one language."""
    parts = README.split("```")[1::2]
    heads = [part.partition("\n") for part in parts]
    return [body for head, _, body in heads if head == language]


def tree() -> list[Path]:
    (listing,) = [block for block in blocks() if block.startswith("src/bitgap/")]
    found = []
    for line in listing.splitlines():
        base = ROOT / "src" / "bitgap" if line.startswith(" ") else ROOT
        names = line.strip().split("   ")[0].split()
        found += [base / name for name in names if name.endswith(("/", ".py"))]
    return found


def test_every_path_of_the_tree_exists() -> None:
    paths = tree()
    assert len(paths) > 15
    assert [str(path) for path in paths if not path.exists()] == []


def test_every_source_file_or_folder_has_its_line() -> None:
    told = {path.name for path in tree()}
    package = ROOT / "src" / "bitgap"
    there = {p.name for p in package.iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()}
    assert there - told <= {"__init__.py", "__main__.py"}


def test_every_command_shown_is_understood() -> None:
    lines = [
        line for block in blocks() for line in block.splitlines() if line.startswith("bitgap ")
    ]
    assert len(lines) >= 6
    for line in lines:
        words = line.split("#")[0].split()[1:]
        make_parser().parse_args(words)


def test_every_make_target_shown_is_there() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"\bmake (\w+)", "\n".join(blocks())))
    assert targets >= {"demo", "test"}
    assert [name for name in targets if not re.search(rf"^{name}:", makefile, re.MULTILINE)] == []


def test_no_placeholder_is_left() -> None:
    assert re.findall(r"\b[A-Z]+_[A-Z]+\b", README.replace("LC_ALL", "")) == []


@pytest.mark.parametrize("code", blocks("python"))
def test_the_python_example_runs(code: str, tmp_path: Path) -> None:
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert out.returncode == 0, out.stderr
    assert "Estimate(value=" in out.stdout
