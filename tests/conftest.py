"""Fixtures of the command line; what needs torch is imported when one of them is first used."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from cli_samples import Ran, Run


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that learned a little."""
    from cli_samples import save_model

    return save_model(tmp_path_factory.mktemp("models") / "tiny", steps=60)


@pytest.fixture(scope="session")
def deep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained model of more blocks than all masks are scored of."""
    from cli_samples import save_model

    return save_model(tmp_path_factory.mktemp("models") / "deep", blocks=15, width=8)


@pytest.fixture(scope="session")
def kept(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a run of every verb that keeps one, on the tiny model; only to be read.

    Runs: 1 and 2 audit, the second with blocks protected; 3 map; 4 investigate; 5 and 6 theory,
    which investigates first; 7 replicate.
    """
    from bitgap.cli.main import main
    from cli_samples import write_corpus_folder

    folder = tmp_path_factory.mktemp("kept")
    corpus, store = write_corpus_folder(folder / "text"), folder / "kept.db"
    short = ("--tier", "smoke")
    for verb, *extra in (
        ("audit",), ("audit", "--protect", "0,2"), ("map",), ("investigate", *short),
        ("theory", *short), ("replicate",),
    ):  # fmt: skip
        arguments = [verb, tiny, "--corpus", corpus, "--store", store, "--no-report", *extra]
        assert main([str(a) for a in arguments]) == 0
    return store


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command in an empty folder that has a corpus called ``text``."""
    from bitgap.cli.main import main
    from bitgap.lab.engine import budget
    from cli_samples import Ran, write_corpus_folder

    monkeypatch.chdir(tmp_path)
    # It tunes the allocator of the whole process, which is that of all tests here.
    monkeypatch.setattr(budget, "tune_heap", lambda **_: None)
    write_corpus_folder(tmp_path / "text")

    def ran(*arguments: str | Path) -> Ran:
        code = main([str(a) for a in arguments])
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return ran


@pytest.fixture
def measure(run: Run, tiny: Path) -> Run:
    """Runs a verb that measures, on the tiny model and the corpus."""

    def ran(verb: str, *arguments: str | Path) -> Ran:
        return run(verb, tiny, "--corpus", "text", *arguments)

    return ran
