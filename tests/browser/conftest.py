"""A real Chromium, and pages in it that notice every request and every complaint."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_ARGUMENTS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip


@dataclass
class Opened:
    """A page that was opened, with what it asked for and complained of."""

    page: Any
    asked: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    loaded_s: float = 0.0


Open = Callable[..., Opened]


def executable() -> str | None:
    """Returns where a Chromium is, or None."""
    found = os.environ.get("BITGAP_CHROMIUM") or next(filter(None, map(shutil.which, _NAMES)), None)
    return found


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A headless Chromium with a profile of its own."""
    path = executable()
    if path is None:
        pytest.skip("no Chromium here (`make browser` installs one): pages were not opened")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path, headless=True, args=list(_ARGUMENTS)
        )
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium: Any) -> Iterator[Open]:
    """Opens a file in a new context; closes it afterwards."""
    contexts: list[Any] = []

    def opened(path: Path, **how: Any) -> Opened:
        context = chromium.new_context(**{"viewport": {"width": 1280, "height": 800}} | how)
        contexts.append(context)
        found = Opened(context.new_page())
        page = found.page
        page.on("request", lambda request: found.asked.append(request.url))
        page.on("pageerror", lambda error: found.complaints.append(str(error)))
        page.on(
            "console",
            lambda said: (
                found.complaints.append(said.text) if said.type in ("error", "warning") else None
            ),
        )
        page.goto(path.as_uri(), wait_until="load")
        return found

    yield opened
    for context in contexts:
        context.close()


@pytest.fixture(scope="session")
def pages(kept: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The page of every kind of run, as a process without torch writes it."""
    folder = tmp_path_factory.mktemp("pages")
    found = {}
    runs = {"audit": "1", "map": "3", "investigate": "4", "theory": "6", "replicate": "7"}
    for name, run in runs.items():
        _bitgap("report", run, "--store", kept, "--out", folder / name)
        found[name] = folder / name / "report.html"
    _bitgap("compare", "1", "2", "4", "--store", kept, "--out", folder)
    return found | {"compare": folder / "compare.html"}


def _bitgap(*arguments: str | Path) -> None:
    command = [sys.executable, "-m", "bitgap", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
