"""The package as users install it: a wheel of the checkout, in an environment of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]


def ran(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(
        [str(word) for word in command],
        capture_output=True, text=True, cwd=cwd, check=False, env={"PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ``bitgap`` command of an environment that holds the wheel and what it depends on.

    The dependencies are those of this environment, put behind the wheel on the path, as torch
    alone is gigabytes; nothing of the checkout is reachable, as paths added so are not read for
    editable installs.
    """
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check",
         "--no-deps", "--wheel-dir", str(folder), str(ROOT)],
        check=True,
    )  # fmt: skip
    (wheel,) = folder.glob("bitgap-*.whl")
    venv.create(folder / "env", with_pip=False, symlinks=True)
    python = folder / "env" / "bin" / "python"
    (site,) = (folder / "env" / "lib").glob("python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet",
         "--disable-pip-version-check", "--no-deps", "--no-index", "--force-reinstall", str(wheel)],
        check=True,
    )  # fmt: skip
    return folder / "env" / "bin" / "bitgap"


def test_it_is_the_wheel_that_runs(installed: Path, tmp_path: Path) -> None:
    python = installed.with_name("python")
    where = ran(python, "-c", "import bitgap; print(bitgap.__file__)", cwd=tmp_path).strip()
    assert Path(where).is_relative_to(installed.parents[1])


def test_what_a_release_needs_is_in_the_wheel(installed: Path, tmp_path: Path) -> None:
    listed = json.loads(ran(installed, "list", "--json", cwd=tmp_path))
    assert len(listed["experiments"]) >= 12
    report: Any = json.loads(
        ran(installed, "audit", "--languages", "en,he", "--sentences", "3", "--json", cwd=tmp_path)
    )
    assert set(report["languages"]) == {"en", "he"}
    # The page's templates, and the styles and scripts beside them, came along too.
    assert "<html" in (tmp_path / "report.html").read_text(encoding="utf-8")
