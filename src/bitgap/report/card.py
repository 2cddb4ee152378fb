"""A model card's part on languages: a Markdown table, and the hub's ``model-index``.

The hub reads ``model-index`` from the YAML at the head of a README.md. Its metrics are numbers with
a name; one is written for each language: K, Δ and, where they were counted, flips. Text from data
is escaped where it stands in Markdown, and quoted by the YAML writer where it stands there.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from bitgap.disparity.records import DisparityReport
from bitgap.errors import UsageError
from bitgap.languages import named
from bitgap.records import Estimate
from bitgap.report.run import Run
from bitgap.show.numbers import plan_name, short_name
from bitgap.show.table import Table
from bitgap.show.tables.audit import damage_table, flips_table, summary_rows
from bitgap.show.tables.contents import contents_line
from bitgap.show.tables.runtimes import generation_table, runtime_tables

_MARKUP = re.compile(r"([\\`*_{}\[\]()#+!|<>~$&-])")


def escaped(text: str) -> str:
    r"""Returns text of which Markdown makes nothing but itself, in one line.

    Example:
        >>> escaped("a*b*\n<script>")
        'a\\*b\\* \\<script\\>'
    """
    return _MARKUP.sub(r"\\\1", " ".join(text.split()))


def card_markdown(run: Run) -> str:
    """Returns the card of a run: YAML with a model-index, then Markdown.

    Args:
        run: Of an audit.

    Raises:
        UsageError: If the run has no damage by language.
    """
    if run.report is None:
        raise UsageError(
            f"run {run.number} is of {run.command!r}, which has no damage by language; name a run "
            f"of audit or investigate"
        )
    index = yaml.safe_dump(
        model_index(run), allow_unicode=True, sort_keys=False, width=10_000
    )  # one line a value, as the hub's own editor writes it
    return f"---\n{index}---\n\n{_text(run, run.report)}"


def model_index(run: Run) -> dict[str, Any]:
    """Returns what the hub's metadata say of a run, as plain values.

    Args:
        run: With damage by language.
    """
    assert run.report is not None
    metrics: list[dict[str, Any]] = []
    for one in run.report.languages:
        metrics += _metric("kl_divergence", f"K, bits per character of {run.report.reference}",
                           one.language, one.damage)  # fmt: skip
        metrics += _metric("nll_change", f"Δ, bits per character of {run.report.reference}",
                           one.language, one.delta)  # fmt: skip
    for changed in run.flips.languages if run.flips else ():
        metrics += _metric("top_token_changed", "share of tokens whose most likely next one "
                           "changed", changed.language, changed.share)  # fmt: skip
    metrics += _metric("spread", "S, spread over languages of log2 damage per token", "",
                       run.report.spread)  # fmt: skip
    dataset = {
        "name": str(run.about.get("corpus")),
        "type": str(run.about.get("corpus")),
        "args": {"fingerprint": str(run.about.get("corpus_fingerprint")),
                 "sentences": run.report.n_sentences},
    }  # fmt: skip
    result = {
        "task": {"type": "text-generation", "name": "Damage of quantization by language"},
        "dataset": dataset,
        "metrics": metrics,
    }
    return {"model-index": [{"name": _name(run), "results": [result]}]}


def _metric(type_: str, what: str, code: str, found: Estimate) -> list[dict[str, Any]]:
    """Returns a metric, or nothing where there is no number: the hub takes numbers only."""
    if found.value is None:
        return []
    of = f" ({code})" if code else ""
    metric: dict[str, Any] = {
        "type": f"{type_}_{code}" if code else type_,
        "name": f"{what}{of}",
        "value": found.value,
        "verified": False,
    }
    if found.low is not None and found.high is not None:
        metric["args"] = {"interval": [found.low, found.high], "level": found.level}
    return [metric]


def _name(run: Run) -> str:
    return run.contents.file if run.contents else short_name(str(run.about.get("model")))


def _text(run: Run, report: DisparityReport) -> str:
    model = escaped(short_name(str(run.about.get("model"))))
    what = escaped(run.contents.file if run.contents else plan_name(report.plan))
    lines = [
        f"## What quantization does to each language: {what}",
        f"Against {model} in full precision, on {report.n_sentences} parallel sentences of "
        f"{escaped(str(run.about.get('corpus')))} (fingerprint "
        f"{escaped(str(run.about.get('corpus_fingerprint'))[:12])}).",
    ]
    if run.contents:
        lines.append(escaped(contents_line(run.contents)))
    damage = damage_table(report).only("language", "damage", "delta", "log_from_mean")
    lines += [_table(damage), " ".join(map(escaped, damage.reading))]
    if run.flips:
        flips = flips_table(run.flips).only("language", "share")
        lines += [_table(flips), " ".join(map(escaped, flips.reading))]
    for as_run in runtime_tables(run.runtimes, report) if run.runtimes and run.contents else ():
        shown = as_run.only("language", "damage", "extra", "flips")
        lines += [f"### {escaped(as_run.title)}", _table(shown)]
        lines.append(" ".join(map(escaped, shown.reading)))
    if run.generation:
        written = generation_table(run.generation)
        shown = written.only("language", "agreement", "repetition_added", "script")
        lines += [f"### {escaped(written.title)}", _table(shown)]
        lines.append(" ".join(map(escaped, shown.reading)))
    rows = [list(row) for row in summary_rows(report.as_dict()) if row[0] in ("S", "  per text")]
    lines.append(_rows(["", "value", "meaning"], rows))
    lines += ["\n".join(f"- {escaped(caveat)}" for caveat in report.caveats)]
    made = run.provenance
    if made is not None:
        lines.append(f"Measured with bitgap {escaped(made.bitgap)}, {escaped(made.started[:10])}.")
    return "\n\n".join(lines) + "\n"


def _table(table: Table) -> str:
    rows = table.texts()
    for cells in rows:
        for i, column in enumerate(table.columns):
            cells[i] = _language(cells[i]) if column.kind == "language" else cells[i]
    return _rows([column.head for column in table.columns], rows)


def _rows(heads: list[str], rows: list[list[str]]) -> str:
    body = [[escaped(cell.strip()) for cell in row] for row in (heads, *rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (body[0], ["---"] * len(heads), *body[1:]))


def _language(code: str) -> str:
    bare = code.rstrip("*°")
    return f"{named(bare).name} ({code})"
