"""Asks whether a version that is used here is known to be vulnerable: ``make audit-dependencies``.

It runs pip-audit, which asks the package index, and where that tells nothing OSV, of all versions
that constraints.txt names and of all that are installed. Both answer from what they hold at that
moment, so that the date of the data is the moment of asking. pip-audit passes over packages that
the service does not know and then says that nothing was found; here only those count as audited of
which something was answered. Where no service can be reached, that is told and is no failure
(with ``--strict`` it is).
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

SERVICES = ("pypi", "osv")
NOT_AUDITED = 3
"""Exit code of ``--strict`` where nothing was audited."""
_LIMIT_S = 120
_WHY_CHARACTERS = 160
_OURS = "bitgap"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a service said.

    Attributes:
        audited: Packages of which it told something, if only that nothing is known.
        passed_over: Packages of which it told nothing.
        found: Identifiers of what is known of a version, by ``name version``.
        why: In a line why nothing was told, where nothing was.
    """

    audited: int = 0
    passed_over: tuple[str, ...] = ()
    found: Mapping[str, tuple[str, ...]] | None = None
    why: str = ""


def pinned(text: str) -> dict[str, str]:
    """Returns versions by name, as a file of constraints has them.

    Args:
        text: Lines of ``name==version``; comments and empty ones are passed over.
    """
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    found = (re.fullmatch(r"([\w.-]+)==([\w.!+-]+)", line) for line in lines)
    return {_canonical(one[1]): one[2] for one in found if one}


def installed() -> dict[str, str]:
    """Returns versions by name of all packages of this environment but bitgap itself."""
    found = {_canonical(one.metadata["Name"]): one.version for one in distributions()}
    found.pop(_OURS, None)
    return found


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def requirements(versions: Sequence[Mapping[str, str]]) -> str:
    """Returns versions as pip-audit takes them, each once.

    A service knows no local part, such as ``+cpu``, which says how a version was built.
    """
    told = {(name, v.partition("+")[0]) for held in versions for name, v in held.items()}
    return "".join(f"{name}=={version}\n" for name, version in sorted(told))


def answer_of(told: Mapping[str, Any]) -> Answer:
    """Returns what a service said, from pip-audit's JSON."""
    known = [one for one in told["dependencies"] if "skip_reason" not in one]
    skipped = [one for one in told["dependencies"] if "skip_reason" in one]
    found = {
        f"{one['name']} {one['version']}": tuple(vuln["id"] for vuln in one["vulns"])
        for one in known
        if one["vulns"]
    }
    why = "" if known else f"it passed over all {len(skipped)} packages"
    return Answer(len(known), tuple(one["name"] for one in skipped), found, why)


def ask(python: str, service: str, wanted: str) -> Answer:
    """Has pip-audit ask a service.

    Args:
        python: Of an environment that has pip-audit.
        service: One of :data:`SERVICES`.
        wanted: What to ask of, as :func:`requirements` gives it.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "versions.txt"
        file.write_text(wanted, encoding="utf-8")
        how = ["--no-deps", "--disable-pip", "--progress-spinner", "off", "--format", "json"]
        words = [python, "-m", "pip_audit", "-r", str(file), "-s", service, *how]
        try:
            run = subprocess.run(
                words, capture_output=True, text=True, check=False, timeout=_LIMIT_S
            )
        except subprocess.TimeoutExpired:
            return Answer(why=f"no answer within {_LIMIT_S} s")
    try:
        return answer_of(json.loads(run.stdout))
    except (ValueError, KeyError, TypeError):
        last = [line.strip() for line in run.stderr.splitlines() if line.strip()]
        why = last[-1] if last else f"pip-audit ended with {run.returncode}"
        return Answer(why=textwrap.shorten(why, _WHY_CHARACTERS, placeholder=" ..."))


def report(asked: Sequence[tuple[str, Answer]], when: datetime) -> tuple[list[str], bool | None]:
    """Returns what to print, and whether all is well; None where nothing was audited.

    Args:
        asked: Services in the order in which they were asked, with what they said.
        when: The last of them was asked.
    """
    service, last = asked[-1]
    if not last.audited:
        whys = "; ".join(f"{name}: {answer.why}" for name, answer in asked)
        return [f"NOT REACHED: nothing was audited ({whys})"], None
    lines = [
        f"{last.audited} versions audited by {service} as of {when:%Y-%m-%d %H:%M} UTC, the date "
        f"of its data; {len(last.found or {})} with known vulnerabilities"
    ]
    lines += [f"VULNERABLE: {name}: {', '.join(ids)}" for name, ids in (last.found or {}).items()]
    if last.passed_over:
        lines.append(f"not audited, unknown to {service}: {', '.join(last.passed_over)}")
    return lines, not last.found


def main(argv: Sequence[str] | None = None) -> int:
    """Prints what is known; 1 where a version is known to be vulnerable."""
    parser = argparse.ArgumentParser(prog="python -m validation.dependencies", description=__doc__)
    parser.add_argument("--python", default=sys.executable, help="of an environment with pip-audit")
    parser.add_argument("--constraints", type=Path, default=Path("constraints.txt"))
    parser.add_argument(
        "--strict", action="store_true", help=f"exit {NOT_AUDITED} where nothing was audited"
    )
    given = parser.parse_args(argv)
    wanted = requirements([pinned(given.constraints.read_text(encoding="utf-8")), installed()])
    asked: list[tuple[str, Answer]] = []
    for service in SERVICES:
        asked.append((service, ask(given.python, service, wanted)))
        if asked[-1][1].audited:
            break
    lines, well = report(asked, datetime.now(UTC))
    print("\n".join(lines))
    if well is None:
        return NOT_AUDITED if given.strict else 0
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
