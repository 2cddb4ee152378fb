"""Names of the hub on both sides of an audit, by the hub's ordinary client from a local server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hub_server import commit, hub
from test_against import quantized

from bitgap.formats.open import local_path
from bitgap.models.hub import is_hub_file, shown_name

# One process, as starting one and importing its libraries takes most of the time.
CODE = """
import contextlib, io, json, sys
from bitgap.cli.main import main
found = []
for arguments in json.loads(sys.argv[1]):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(arguments)
        except SystemExit as ended:
            code = ended.code
    found.append([code, out.getvalue(), err.getvalue()])
json.dump(found, open(sys.argv[2], "w"))
"""


def in_one_process(commands: list[list[str]], folder: Path, **environment: str) -> list[list[str]]:
    out = folder / "found.json"
    done = subprocess.run(
        [sys.executable, "-c", CODE, json.dumps(commands), str(out)],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(out.read_text())


@pytest.mark.timeout(600)
def test_both_sides_come_from_the_hub_at_their_revisions(tiny: Path, tmp_path: Path) -> None:
    from cli_samples import write_corpus_folder

    three, eight = (quantized(tiny, tmp_path / f"q{bits}", bits=bits) for bits in (3, 8))
    (eight / "run.py").write_text("raise SystemExit('code of a repository was run')")
    (eight / "pytorch_model.bin").write_text("a pickle")
    write_corpus_folder(tmp_path / "text")
    repositories = {
        "org/tiny": {"main": tiny},
        "org/tiny-q": {"main": three, "v8": eight},
    }
    same = ["--corpus", "text", "--no-report", "--json"]
    commands = [
        ["audit", "org/tiny@main", "--against", "org/tiny-q", *same],
        ["audit", "org/tiny", "--against", "org/tiny-q@v8", *same],
        ["audit", str(tiny), "--against", str(eight), *same],
        ["contents", "org/tiny-q@none"],
        ["contents", "org/none"],
        ["contents", "org/tiny-q/q4.gguf"],
        ["audit", "org/tiny@none", "--corpus", "text"],
    ]
    with hub(repositories) as (address, asked):
        cache = {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "home"), "NO_PROXY": "*",
                 "HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_OFFLINE": "0"}  # fmt: skip
        found = in_one_process(commands, tmp_path, **cache)
    worse, better, here, *refused = found
    for code, _, err in (worse, better, here):
        assert code == 0, err
    worse, better, here = (json.loads(out) for _, out, _ in (worse, better, here))
    assert worse["languages"]["en"]["damage"] > better["languages"]["en"]["damage"]
    assert better["languages"] == here["languages"]
    assert better["contents"]["file"] == "tiny-q" and better["model"] == "org/tiny"
    told = ("no revision 'none'", "no such model", "no file 'q4.gguf'", "no revision 'none'")
    for (code, _, err), wanted in zip(refused, told, strict=True):
        assert code in (1, 2) and wanted in err and "Traceback" not in err
    fetched = [path for path in asked if path.startswith("GET") and "/resolve/" in path]
    assert not any(path.endswith((".py", ".bin")) for path in fetched)
    assert any(commit("org/tiny-q", "v8") in path for path in fetched)


def test_a_path_that_was_mistyped_is_no_name_of_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "files").mkdir()
    assert is_hub_file("org/name/q4.gguf@v1") and is_hub_file("org/name")
    for path in ("files/q", "files/sub/q.gguf", "../org/name", "org/q4.gguf", "q4.gguf", "/a/b"):
        assert not is_hub_file(path)
        assert local_path(path) == Path(path)
    assert shown_name(tmp_path / "models--a--b-c--d" / "snapshots" / "12") == "d"
