"""Pages that are made from the package while the site is built, so that they cannot drift.

A page asks for one by a Markdown comment on a line of its own::

    % generated: commands              every verb and option, from the argument parser
    % generated: experiments           every card, from the catalog and the declared thresholds
    % generated: rules                 the numbers all verdicts share
    % generated: schemes               the names of schemes
    % excerpt: audit; D; D_share       what a command printed, from one line to another

Excerpts are rendered from results in ``excerpts/``, as ``bitgap … --out`` wrote them, by the code
that prints them in a terminal; ``record.py`` beside them makes them anew.
"""

from __future__ import annotations

import argparse
import contextlib
import inspect
import io
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bitgap.cli import console as terminal
from bitgap.cli.main import make_parser
from bitgap.experiments.catalog import CATALOG, describe
from bitgap.experiments.protocol.experiment import PHASES, Experiment
from bitgap.quant.schemes import KNOWN_SCHEMES
from bitgap.show import views
from bitgap.stats.verdicts import load_thresholds

if TYPE_CHECKING:
    from sphinx.application import Sphinx

DOCS = Path(__file__).parents[1]
EXCERPTS = DOCS / "excerpts"
BLOCKS = 12
"""L of the bundled model, whose costs are shown."""

_COLUMNS = 80
_MARK = re.compile(r"^% (generated|excerpt): (.+)$", re.MULTILINE)


def expanded(text: str) -> str:
    """Returns a page with everything in it that it asks for."""

    def made(found: re.Match[str]) -> str:
        kind, what = found[1], [part.strip() for part in found[2].split(";")]
        return _GENERATED[what[0]]() if kind == "generated" else excerpt(*what)

    return _MARK.sub(made, text)


# -- commands -------------------------------------------------------------------------------------


def commands() -> str:
    """Returns every verb with its options, and once those that all verbs have."""
    parser = make_parser()
    (verbs,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    by_name: dict[str, argparse.ArgumentParser] = dict(verbs.choices)
    count = Counter(_key(action) for verb in by_name.values() for action in _shown(verb))
    parts = []
    for name, verb in by_name.items():
        own = [action for action in _shown(verb) if count[_key(action)] < len(by_name)]
        # What it works on, then what only it can be told, then what many can.
        own.sort(key=lambda action: (bool(action.option_strings), count[_key(action)]))
        usage = _wrapped(f"bitgap {name}", [*map(_usage, own), "[OPTIONS]"])
        parts += [f"## bitgap {name}", str(verb.description), f"```text\n{usage}\n```"]
        example = str(verb.epilog).removeprefix("example:").strip()
        parts += [f"Such as `{example}`."] if example else []
        parts += [_options(own)] if own else []
    first = next(iter(by_name.values()))
    common = [action for action in _shown(first) if count[_key(action)] == len(by_name)]
    parts += ["## Options of every command", _options(common)]
    return "\n\n".join(parts)


def _wrapped(start: str, parts: list[str]) -> str:
    lines, indent = [start], " " * len(start)
    for part in parts:
        if len(lines[-1]) + len(part) + 1 > _COLUMNS:
            lines.append(indent)
        lines[-1] += f" {part}"
    return "\n".join(lines)


def _shown(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    return [a for a in parser._actions if not isinstance(a, argparse._HelpAction)]


def _key(action: argparse.Action) -> str:
    return action.option_strings[0] if action.option_strings else f"<{action.dest}>"


def _value(action: argparse.Action) -> str:
    if action.nargs == 0:
        return ""
    if action.choices:
        return "{" + ",".join(map(str, action.choices)) + "}"
    name = str(action.metavar or action.dest.upper())
    return f"{name} …" if action.nargs in ("+", "*") else name


def _usage(action: argparse.Action) -> str:
    told = " ".join(filter(None, [*action.option_strings[:1], _value(action)]))
    needed = action.required and action.nargs != "*"
    return told if needed else f"[{told}]"


def _options(actions: Iterable[argparse.Action]) -> str:
    rows = []
    for action in actions:
        told = " ".join(filter(None, [*action.option_strings[:1], _value(action)]))
        rows.append(f"`{told}`\n: {plain(action.help or '')}")
    return "\n\n".join(rows)


# -- experiments ----------------------------------------------------------------------------------


def experiments() -> str:
    """Returns the card of every experiment."""
    return "\n\n".join(_card(experiment) for experiment in CATALOG)


def _card(experiment: Experiment) -> str:
    row = describe(experiment, BLOCKS, full=True)
    about = [experiment.id, f"hypothesis {experiment.hypothesis.id}"]
    if experiment.id == experiment.hypothesis.id:
        about = [experiment.id]
    told = {"sesoi": "smallest effect of interest"}
    declared = "; ".join(
        f"{told.get(name, name)} {value}"
        for name, value in row["declared"].items()
        if name != "experiment"
    )
    cost = (
        f"{row['block_evaluations']:,} blocks and {row['head_evaluations']:,} heads on a model of "
        f"{BLOCKS} blocks (phase {experiment.phase}: {PHASES[experiment.phase]})"
    )
    parts = [
        f"### {experiment.title}",
        f"*{plain(' · '.join(about))}.* {plain(experiment.question)}",
        *_paragraphs(row["method"] or ""),
        f"**Cost:** {cost}.",
        f"**Declared:** {plain(declared)}.",
    ]
    chosen = _parameters(experiment)
    if chosen:
        parts += [":::{dropdown} Parameters", chosen, ":::"]
    return "\n\n".join(parts)


def _paragraphs(docstring: str) -> list[str]:
    """Returns the paragraphs of a module's docstring but its title, as Markdown."""
    found = re.split(r"\n\s*\n", inspect.cleandoc(docstring))[1:]
    return [plain(" ".join(part.split())) for part in found]


def _parameters(experiment: Experiment) -> str:
    from sphinx.pycode import ModuleAnalyzer

    if experiment.params is None:
        return ""
    kind = type(experiment.params)
    told = ModuleAnalyzer.for_module(kind.__module__).find_attr_docs()
    rows = []
    for name, value in _fields(experiment.params):
        why = " ".join(told.get((kind.__name__, name), [])).strip()
        rows.append(f"`{name} = {value!r}`\n: {plain(why) or '–'}")
    return "\n\n".join(rows)


def _fields(params: Any) -> list[tuple[str, Any]]:
    return [(name, getattr(params, name)) for name in type(params).__dataclass_fields__]


_ROLE = re.compile(r":\w+:`~?(?:[\w.]*\.)?(\w+)`")
_LITERAL = re.compile(r"``?([^`]+)``?")
_EMPHASIS = re.compile(r"(?<![\w*\\])\\\*(\w[\w ]*)\\\*(?![\w*])")


def plain(text: str) -> str:
    """Returns text of a docstring as Markdown: literals, emphasis, all else as it stands."""
    text = _ROLE.sub(r"``\1``", text)
    pieces = []
    for number, piece in enumerate(_LITERAL.split(text)):
        escaped = re.sub(r"([\\*_{}\[\]<>|#$~])", r"\\\1", piece)
        pieces.append(f"`{piece}`" if number % 2 else _EMPHASIS.sub(r"*\1*", escaped))
    return "".join(pieces)


# -- thresholds and schemes -----------------------------------------------------------------------

_RULES = {
    "alpha": "family-wise error rate, by Holm over the hypotheses judged together",
    "level": "of every interval",
    "draws": "bootstrap draws",
    "window": "relative depth that counts as “about three quarters”",
    "detection_share": "share of planted effects that a positive control must find",
    "planted_strength": "size of a planted effect, in smallest effects of interest",
    "halves": "random halves of the reference's text that the A/A control compares",
    "unigram_tokens_min": "tokens that a language's unigrams must be counted on",
    "families_min": "families that a verdict on the theory needs",
    "agreement_share": "share of families that must agree in sign",
    "operating_bits": "the smallest of these at which no language collapses is used",
}


def rules() -> str:
    """Returns the numbers that all verdicts share, and each hypothesis' own."""
    found = load_thresholds()
    shared = [[f"`{name}`", _listed(getattr(found, name)), why] for name, why in _RULES.items()]
    own = [
        [plain(name), str(entry["experiment"]), plain(str(entry["statistic"])),
         f"{entry['sesoi']:g}"]
        for name, entry in found.hypotheses.items()
    ]  # fmt: skip
    return "\n\n".join(
        [
            f"Version {found.version}, hash `{found.hash}`.",
            _table(["", "value", "what it is"], shared),
            _table(["hypothesis", "experiment", "statistic", "smallest effect of interest"], own),
        ]
    )


def _listed(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def schemes() -> str:
    """Returns the forms of scheme names, as ``--scheme`` takes them."""
    forms: list[tuple[str, list[str]]] = []
    for line in KNOWN_SCHEMES.splitlines():
        if line.startswith(" "):
            forms[-1][1].append(line.strip())
        else:
            forms.append((line, []))
    return "\n\n".join(f"`{form}`\n: {plain(' '.join(told))}" for form, told in forms)


# -- excerpts -------------------------------------------------------------------------------------

_VIEWS: Mapping[str, Callable[[Mapping[str, Any]], Any]] = {
    "audit": views.audit_view,
    "map": views.map_view,
    "investigate": views.investigation_view,
}


def printed(name: str) -> str:
    """Returns what a command printed whose result was kept in ``excerpts/``."""
    result = json.loads((EXCERPTS / f"{name}.json").read_text(encoding="utf-8"))
    screen, before = io.StringIO(), os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = str(_COLUMNS)
    try:
        with contextlib.redirect_stdout(screen):
            terminal.show(_VIEWS[name](result))
    finally:
        os.environ.pop("COLUMNS")
        if before is not None:
            os.environ["COLUMNS"] = before
    return screen.getvalue()


def excerpt(name: str, first: str = "", last: str = "") -> str:
    """Returns a part of what a command printed, as a block of text.

    Args:
        name: Of a file in ``excerpts/``.
        first: How the first line shown begins; the very first when empty.
        last: How the last line shown begins, at or after the first; ``…`` for the last before an
            empty one; the very last when empty.

    Raises:
        ValueError: If no line begins like that.
    """
    lines = [*printed(name).rstrip().splitlines(), ""]
    start = _find(lines, first, 0, name) if first else 0
    end = _find(lines, last, start, name) if last else len(lines) - 1
    body = "\n".join(lines[start : end + 1]).strip("\n")
    return f"```text\n{body}\n```"


def _find(lines: list[str], start_of: str, start: int, name: str) -> int:
    for number in range(start, len(lines)):
        line = lines[number].strip().removeprefix("· ")
        if (line.startswith(start_of) and line) or (start_of == "…" and not line):
            return number
    raise ValueError(f"excerpt {name}: no line from {start} on begins with {start_of!r}")


_GENERATED: Mapping[str, Callable[[], str]] = {
    "commands": commands,
    "experiments": experiments,
    "rules": rules,
    "schemes": schemes,
}

# -- Sphinx ---------------------------------------------------------------------------------------

_CHILDREN = "\n\n```{toctree}\n:hidden:\n:glob:\n\n0*\n```\n"


def _read(app: Sphinx, name: str, source: list[str]) -> None:
    text = expanded(source[0])
    # The notebook of what was tried lies beside the README and is a page of its own here.
    text = text.replace("](../../LOG.md)", "](../log.md)")
    if name == "adr/README":
        text += _CHILDREN
    source[0] = text


def _bars(app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Keeps |x| in docstrings an absolute value; to docutils it is a substitution."""
    lines[:] = [
        "".join(
            part if number % 2 else part.replace("|", r"\|")
            for number, part in enumerate(re.split(r"(``.*?``)", line))
        )
        for line in lines
    ]


def setup(app: Sphinx) -> dict[str, Any]:
    """Makes Sphinx expand pages as it reads them."""
    app.connect("source-read", _read)
    app.connect("autodoc-process-docstring", _bars)
    return {"version": "1", "parallel_read_safe": True}
