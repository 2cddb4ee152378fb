"""A run as a paper: Typst source with its figures and references, and the PDF of it.

Everything comes from a stored run; no number and no result is typed in, and the same run gives
the same bytes.
"""

# Not strict: jinja2's filters and globals are typed as its own defaults alone.
# pyright: standard
from __future__ import annotations

import datetime
import shlex
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bitgap.errors import MissingExtra, UsageError
from bitgap.files import write_text
from bitgap.jobs.records import Investigation
from bitgap.records import Provenance
from bitgap.report.paper.figures import PaperFigure, paper_figures
from bitgap.report.paper.findings import (
    failed_controls,
    failed_forecasts,
    formal_sentences,
    gap_sections,
    refuted,
)
from bitgap.report.paper.story import Story, story, suggestions
from bitgap.report.paper.text import model_name, sentence
from bitgap.report.run import Run
from bitgap.show.packaged import packaged
from bitgap.show.table import Table
from bitgap.show.tables.audit import damage_table
from bitgap.show.tables.findings import (
    control_table,
    estimate_table,
    family_table,
    verdict_table,
)
from bitgap.show.tables.layer_map import best_sets_table, map_table
from bitgap.show.tables.theory import (
    budget_table,
    forecasts_table,
    ladder_table,
    models_table,
    pillars_table,
    regression_table,
    slopes_table,
)
from bitgap.show.to_typst import Markup, signs, string_literal, to_typst, written
from bitgap.stats.verdicts import load_thresholds

Json = Mapping[str, Any]
_MAIN, _REFERENCES = "paper.typ", "references.yaml"
_OF_EXAMPLES = ("languages", "blocks", "landscape")


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperFiles:
    """A paper's sources by file name, all of one folder."""

    started: str
    """When the run began, UTC, ISO 8601; the date of the paper."""
    files: Mapping[str, str]
    """``paper.typ``, the references and the figures, as text."""

    def write(self, folder: Path) -> None:
        """Writes the sources into a folder, which is made if need be."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in self.files.items():
            write_text(folder / name, text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One model's run, told beside the families."""

    name: str
    story: Story
    figures: Mapping[str, PaperFigure]


def paper_source(run: Run, beside: Sequence[Run] = ()) -> PaperFiles:
    """Returns the sources of a paper.

    Args:
        run: An ``investigate`` or a ``theory`` run.
        beside: ``investigate`` runs to tell as worked examples.

    Raises:
        UsageError: If a run is neither.
    """
    _check(run, ("investigate", "theory"))
    for other in beside:
        _check(other, ("investigate",))
    figures = paper_figures(run)
    examples = [_example(other, i) for i, other in enumerate(beside, start=1)]
    context = _context(run, figures, examples, beside)
    drawn = [*figures.values(), *(f for e in examples for f in e.figures.values())]
    template = _environment().get_template("paper.typ.j2")
    files = {_MAIN: template.render(context), _REFERENCES: packaged(_REFERENCES)}
    files |= {figure.file: figure.svg for figure in drawn}
    return PaperFiles(started=_provenance(run).started, files=files)


def paper_pdf(files: PaperFiles) -> bytes:
    """Returns the paper as PDF; the network is never asked.

    Raises:
        MissingExtra: If typst is not installed.
    """
    try:
        import typst
    except ImportError:
        raise MissingExtra("a PDF needs typst; pip install 'bitgap[paper]'") from None
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        files.write(root)
        compiler = typst.Compiler(
            root / _MAIN,
            root=root,
            ignore_system_fonts=True,
            package_path=root / "no-packages",
            package_cache_path=root / "no-packages",
        )
        made = compiler.compile(format="pdf", timestamp=_moment(files.started))
    assert isinstance(made, bytes)
    return made


def _moment(started: str) -> datetime.datetime:
    found = datetime.datetime.fromisoformat(started)
    return found if found.tzinfo else found.replace(tzinfo=datetime.UTC)


def _check(run: Run, verbs: Sequence[str]) -> None:
    if run.command not in verbs:
        raise UsageError(
            f"run {run.number} of {run.store} is of `bitgap {run.command}`, and a paper needs "
            f"verdicts: give a run of `bitgap {'` or `bitgap '.join(verbs)}`"
        )
    if not run.result.get("findings"):
        raise UsageError(
            f"run {run.number} of {run.store} has no finding to write of; give an investigation "
            f"that ran its experiments"
        )


def _provenance(run: Run) -> Provenance:
    assert run.provenance is not None, "a run that is kept says where it came from"
    return run.provenance


def _environment() -> Any:
    import jinja2

    # HTML escaping would spoil Typst; `written` escapes for Typst whatever is no markup of ours.
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(packaged),
        finalize=written,
        autoescape=False,
        undefined=jinja2.StrictUndefined,
        comment_start_string="{##",
        comment_end_string="##}",
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals["tabular"] = to_typst
    environment.filters |= {
        "typst_string": string_literal,
        "markup": Markup,
        "signs": signs,
        "sentence": sentence,
        "percent": lambda share: f"{100 * share:g}\u00a0%",
        "thousands": lambda n: f"{n:,}",
    }
    return environment


def _context(
    run: Run,
    figures: Mapping[str, PaperFigure],
    examples: Sequence[Example],
    beside: Sequence[Run],
) -> dict[str, Any]:
    result, families = run.result, run.command == "theory"
    findings = result["findings"]
    return {
        "run": run,
        "families": families,
        "story": story(run),
        "figures": figures,
        "examples": examples,
        "gaps": gap_sections(findings, families=families),
        "formal": formal_sentences(findings),
        "suggestions": suggestions(result),
        "refuted": refuted(findings),
        "failed_nulls": failed_controls(findings, positive=False),
        "missed_plants": failed_controls(findings, positive=True),
        "failed_forecasts": failed_forecasts(result),
        "thresholds": load_thresholds(),
        "provenance": _provenance(run),
        "date": _moment(_provenance(run).started),
        "summary": replace(
            verdict_table(findings).only("name", "verdict", "effect", "p_holm"), id="summary"
        ),
        "tables": _tables(run, beside),
        "commands": _commands(run, beside),
    }


def _commands(run: Run, beside: Sequence[Run]) -> list[str]:
    """Returns how to make the run, and this paper from it."""
    one = [str(run.about["model"])]
    models = one if run.theory is None else [model.model for model in run.theory.models]
    tier = next(record.tier for record in (run.theory, run.investigation) if record)
    others = "".join(f" --beside {other.number}" for other in beside)
    made = ["bitgap", run.command, *map(shlex.quote, models), "--tier", tier]
    return [
        f"{' '.join(made)} --store {run.store}",
        f"bitgap paper {run.number}{others} --store {run.store}",
    ]


def _tables(run: Run, beside: Sequence[Run]) -> list[Table]:
    """Returns the tables of the appendix."""
    findings = run.result["findings"]
    columns = ("hypothesis", "verdict", "effect", "unit", "sesoi", "p", "p_holm", "why")
    tables = [verdict_table(findings).only(*columns)]
    if run.command == "theory":
        tables += _family_tables(run.result)
    for one in (run, *beside):
        if one.investigation is not None:
            tables += _model_tables(one, one.investigation)
    estimates = estimate_table(findings).only("hypothesis", "estimate", "measure", "value", "unit")
    return [t for t in (*tables, estimates, control_table(findings)) if t.rows]


def _model_tables(run: Run, found: Investigation) -> list[Table]:
    name = model_name(str(run.about["model"]))
    damage = ("language", "damage", "delta", "learned_share", "log_from_mean", "log_token_premium")
    blocks = ("block", "shapley_damage", "shapley_gap", "spread_fall", "spread_fall_per_text",
              "single_damage")  # fmt: skip
    return [
        damage_table(found.report, name).only(*damage),
        map_table(found.layer_map, name).only(*blocks),
        best_sets_table(found.layer_map, name),
    ]


def _family_tables(result: Json) -> list[Table]:
    models = ("model", "family", "n_blocks", "scheme", "bits_per_byte", "disparity", "damage",
              "shares")  # fmt: skip
    verdicts = ("hypothesis", "model", "verdict", "effect", "unit")
    regression = ("source", "n", "r2", "r2_leave_one_out", "r2_null", "p")
    formal = [f["tables"] for f in result["findings"] if f["hypothesis"] == "formal"]
    makers = (ladder_table, budget_table, slopes_table)
    return [
        models_table(result["models"]).only(*models),
        pillars_table(result["pillars"]),
        family_table(result["findings"]).only(*verdicts),
        *(make(tables) for tables in formal for make in makers),
        forecasts_table(result["forecasts"]["summary"]),
        regression_table(result["original_regression"]).only(*regression),
    ]


def _example(run: Run, place: int) -> Example:
    found = paper_figures(run, prefix=f"example-{place}-", only=_OF_EXAMPLES)
    return Example(name=model_name(str(run.about["model"])), story=story(run), figures=found)
