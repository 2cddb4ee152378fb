"""A command that is stopped: at any moment, by whom it may be, within a second, with one line."""

from __future__ import annotations

import contextlib
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cli_samples import Ran, Run, save_model, stored_plans

SCHEME = "rtn4-channel"


def started(arguments: list[str], **how: signal.Handlers) -> subprocess.Popen[str]:
    """Starts Python with SIGINT and SIGHUP as a terminal leaves them.

    What runs in the background has SIGINT ignored, what nohup starts SIGHUP, and that is inherited.
    """

    def as_a_terminal() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        signal.signal(signal.SIGINT, how.get("sigint", signal.SIG_DFL))

    return subprocess.Popen(
        [sys.executable, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=as_a_terminal,
    )  # fmt: skip


def stopped(child: subprocess.Popen[str], timeout_s: float = 60) -> Ran:
    out, err = child.communicate(timeout=timeout_s)
    return Ran(child.returncode, out, err)


# ----------------------------------------------------------------------------------- at the start

INTERRUPTED = """
import runpy, signal, sys

class Finder:
    def find_spec(self, name, *_):
        if name == module:
            signal.raise_signal(getattr(signal, which))

which, module = sys.argv.pop(1), sys.argv.pop(1)
sys.meta_path.insert(0, Finder())
runpy.run_module("bitgap", run_name="__main__")
"""
"""Runs ``python -m bitgap``, and interrupts it when it begins to import a module."""


@pytest.mark.parametrize(
    ("which", "module", "arguments"),
    [
        ("SIGINT", "bitgap.cli.main", "--help"),
        ("SIGTERM", "bitgap.cli.main", "--help"),
        ("SIGINT", "argparse", "--help"),
        ("SIGINT", "bitgap.report.run", "report 1"),
        ("SIGTERM", "bitgap.experiments.catalog", "list"),
        ("SIGINT", "torch", "audit"),
        ("SIGINT", "numpy", "audit"),
    ],
)
def test_a_stop_while_modules_are_imported_ends_in_one_line(
    which: str, module: str, arguments: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = stopped(started(["-c", INTERRUPTED, which, module, *arguments.split()]))
    assert (ran.code, ran.out) == (128 + getattr(signal, which), "")
    # What is about to be read is told before torch is imported.
    told = ran.err.removeprefix("reading the bundled model\n")
    how = "stopped by SIGTERM" if which == "SIGTERM" and module.endswith("catalog") else "stopped"
    assert told == f"bitgap: {how} before anything was measured\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.alone
def test_a_few_interrupts_at_random_moments_leave_no_traceback() -> None:
    # A hundred of them: python -m validation.interrupts
    draw = random.Random(0)
    for _ in range(6):
        child = started(["-m", "bitgap", "list"])
        time.sleep(draw.uniform(0, 0.5))
        child.send_signal(signal.SIGINT)
        ran = stopped(child)
        assert ran.code in (0, 1, 130, -signal.SIGINT)
        assert "/bitgap/" not in ran.err, ran.err  # what stands before are words of Python's own


# ---------------------------------------------------------------------------------- while it works

WATCHED = """
import signal, sys, threading
from bitgap.cli.stopping import Stop, Watch

def why(stop):
    return f"{stop.how}; told"

def hang():
    import hashlib
    hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)  # in C, where no signal is heard

class Deaf:
    def __del__(self):
        import time
        time.sleep(30)  # what is raised here, Python shows and passes over

def deaf():
    Deaf()
    import time
    time.sleep(30)

def wrapped():
    import time
    try:
        time.sleep(30)
    except KeyboardInterrupt:
        raise RuntimeError("a library that knows better")

def plain():
    import time
    time.sleep(30)

with Watch(why, alone=True) as watch:
    watch.winds_up()
    watch.limit(float(sys.argv[2]) if len(sys.argv) > 2 else None)
    print("ready", flush=True)
    try:
        globals()[sys.argv[1]]()
    except (Exception, KeyboardInterrupt) as error:
        cause = watch.asked or error
        print(why(cause), file=sys.stderr)
        sys.exit(cause.exit_code)
"""


def watched(what: str, *arguments: str, **how: signal.Handlers) -> subprocess.Popen[str]:
    child = started(["-c", WATCHED, what, *arguments], **how)
    assert child.stdout is not None and child.stdout.readline() == "ready\n"
    return child


@pytest.mark.alone
@pytest.mark.parametrize("work", ["plain", "hang", "deaf", "wrapped"])
@pytest.mark.parametrize("which", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_whatever_is_being_done_ends_within_a_second(work: str, which: str) -> None:
    child = watched(work)
    time.sleep(0.1)
    began = time.monotonic()
    child.send_signal(getattr(signal, which))
    ran = stopped(child)
    # .75 s are given to wind up; the rest is what a busy machine takes to end a process.
    assert time.monotonic() - began < 1.5
    how = "stopped" if which == "SIGINT" else f"stopped by {which}"
    assert (ran.code, ran.err) == (128 + getattr(signal, which), f"{how}; told\n")


@pytest.mark.alone
def test_a_second_interrupt_ends_at_once() -> None:
    child = watched("hang")
    child.send_signal(signal.SIGINT)
    time.sleep(0.1)
    child.send_signal(signal.SIGINT)
    assert stopped(child).code == 130


def test_who_has_asked_for_a_signal_to_be_ignored_is_obeyed() -> None:
    child = watched("plain", sigint=signal.SIG_IGN)
    child.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        child.wait(timeout=1.5)
    child.send_signal(signal.SIGTERM)
    assert stopped(child).code == 143


@pytest.mark.alone
@pytest.mark.parametrize("sigint", [signal.SIG_DFL, signal.SIG_IGN])
def test_a_time_limit_ends_what_can_be_ended(sigint: signal.Handlers) -> None:
    began = time.monotonic()
    ran = stopped(watched("plain", "0.5", sigint=sigint))
    assert (ran.code, ran.err) == (124, "the time limit is up; told\n")
    assert 0.4 < time.monotonic() - began < 10


NOT_ALONE = """
import os, signal, time
from bitgap.cli.stopping import Stop, Watch
try:
    with Watch(str) as watch:
        print("ready", flush=True)
        time.sleep(60)
except Stop:
    time.sleep(1.5)
    print("alive", signal.getsignal(signal.SIGINT) is signal.default_int_handler)
"""


@pytest.mark.alone
def test_a_process_that_is_somebody_else_s_is_not_ended() -> None:
    child = started(["-c", NOT_ALONE])
    assert child.stdout is not None and child.stdout.readline() == "ready\n"
    child.send_signal(signal.SIGINT)
    assert stopped(child).out == "alive True\n"


# -------------------------------------------------------------------------------- what is measured


@pytest.mark.alone
@pytest.mark.timeout(600)
@pytest.mark.parametrize("which", ["SIGINT", "SIGTERM", "limit"])
def test_a_long_map_that_is_stopped_says_what_is_kept_and_goes_on(
    run: Run, tmp_path: Path, which: str
) -> None:
    model = save_model(tmp_path / "long", blocks=14, width=16)
    options = [str(model), "--corpus", "text", "--scheme", SCHEME, "--arithmetic", "exact"]
    limit = ["--time-limit", "20s"] if which == "limit" else []
    child = started(["-m", "bitgap", "map", *options, "--all-masks", *limit])
    if which != "limit":
        wait_until(lambda: Path("bitgap.db").exists() and bool(stored_plans("bitgap.db")), child)
        child.send_signal(getattr(signal, which))
    ran = stopped(child, 240)
    if which == "limit" and "before anything was measured" in ran.err:
        pytest.skip("this machine is too busy to begin within the limit")
    code, how = {
        "SIGINT": (130, "bitgap: stopped;"),
        "SIGTERM": (143, "bitgap: stopped by SIGTERM;"),
        "limit": (124, "bitgap: the time limit is up;"),
    }[which]
    ran.refused(code, how, "kept in bitgap.db", "Run the same command again to go on")
    kept = len(stored_plans("bitgap.db"))
    assert kept < 2**14 - 1
    found = run("map", *options, "--all-masks", "--dry-run", "--json").json["preflight"]
    assert found["plans_in_store"] == kept + 1, "and the plan that protects all"
    if which == "limit":
        assert f"left: {2**14 - 1 - kept:,}".replace(",", "") in ran.err.replace(",", "")


def wait_until(ready: Callable[[], bool], child: subprocess.Popen[str]) -> None:
    # Patient, as a machine that measures something else beside gives little of itself.
    until = time.monotonic() + 240
    while time.monotonic() < until:
        with contextlib.suppress(sqlite3.OperationalError):
            if ready():
                return
        assert child.poll() is None, "the run ended before it could be interrupted"
        time.sleep(0.05)
    raise AssertionError("nothing was committed in four minutes")


@pytest.mark.parametrize("text", ["0", "-5m", "soon", "30 parsecs"])
def test_a_time_limit_that_is_no_time_is_misuse(run: Run, text: str) -> None:
    run("audit", f"--time-limit={text}").refused(2, "--time-limit", "is no time")


def test_a_limit_that_is_up_says_that_no_plan_was_finished(
    measure: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bitgap.cli.stopping import TimeIsUp

    def up(*_: object, **__: object) -> None:
        raise TimeIsUp

    monkeypatch.setattr("bitgap.lab.scores.score_and_keep", up)
    measure("audit").refused(124, "no plan was finished, so give it longer; left: 1 plan to score")
