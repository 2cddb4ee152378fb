"""``report.html``: one file that holds everything it shows and asks for nothing from anywhere.

Text is on the page as it is served, charts as pictures in it; where scripts run, the pictures
become charts that answer to the pointer, and any set of blocks can be tried. All that comes from
data is escaped by the template engine, and a policy in the page forbids it to fetch anything.
"""

# Not strict: jinja2's filters and globals are typed as its own defaults alone.
# pyright: standard
from __future__ import annotations

import base64
import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import jinja2
from markupsafe import Markup

from bitgap.errors import BitgapError
from bitgap.quant.schemes import parse_scheme
from bitgap.report.figures.run import compare_figures, run_figures
from bitgap.report.page.explorer import explorer_data
from bitgap.report.page.first_screen import anchor, chips, first_panels
from bitgap.report.run import Run
from bitgap.report.words.answers import answers
from bitgap.report.words.sections import chapters, claim
from bitgap.show import draw
from bitgap.show.charts import Figure
from bitgap.show.numbers import MISSING, plan_name, short_name, told_estimate
from bitgap.show.packaged import packaged
from bitgap.show.table import Table
from bitgap.show.tables.audit import damage_table, flips_table
from bitgap.show.tables.calibration import calibration_table, gains_table
from bitgap.show.tables.contents import places_table, tensors_table
from bitgap.show.tables.file_map import part_languages_table, parts_table
from bitgap.show.tables.findings import control_table, estimate_table, family_table
from bitgap.show.tables.gate import gate_table
from bitgap.show.tables.layer_map import best_sets_table, map_table
from bitgap.show.tables.origin import ledger_table
from bitgap.show.tables.protect import (
    frontier_table,
    proof_table,
    recipe_languages_table,
    recipe_table,
    steps_table,
)
from bitgap.show.tables.runs import change_table, damages_table, files_table, verdicts_table
from bitgap.show.tables.runtimes import (
    examples_table,
    generation_table,
    runtime_failures,
    runtime_tables,
)
from bitgap.show.tables.theory import models_table
from bitgap.show.tables.unit_map import unit_languages_table, unit_table
from bitgap.show.to_html import to_html, verdict
from bitgap.show.withdrawn import caveat_of, withdrawal
from bitgap.show.words import equivalence_words, part_reason

Json = Mapping[str, Any]


# A specification of more characters than this has thousands of marks, which weigh less as pixels.
_HEAVY_CHARACTERS = 150_000


def report_html(run: Run) -> str:
    """Returns a run's page; every kind of run has one."""
    figures = run_figures(run)
    report, layer_map, provenance = run.report, run.layer_map, run.provenance
    first = first_panels(run)
    data = explorer_data(run.masks, layer_map) if run.masks and layer_map else None
    findings = run.result.get("findings", ())
    return _page(
        "report.html.j2",
        figures={**{f.id: f for panel in first for f in panel["figures"]}, **figures},
        run=run,
        theory=run.theory and run.theory.as_dict(),
        title=_title(run),
        lead_line=_lead_line(run),
        answers={answer.key: answer for answer in answers(run)},
        first=first,
        chips=chips(findings),
        chapters=chapters(findings),
        explorer=data,
        lead=[figures[id_] for id_ in _lead(run) if id_ in figures],
        tables=_tables(run),
        caveats=[
            *runtime_failures(run.runtimes),
            *(report.caveats if report else ()),
            *(layer_map.caveats if layer_map else ()),
        ],
        facts=_facts(run),
        provenance=None if provenance is None else asdict(provenance),
    )


def _tables(run: Run) -> list[Table]:
    """Returns the tables at the end of a page: every number of the run."""
    tables: list[Table] = []
    if run.theory is not None:
        columns = (
            "model", "family", "n_blocks", "scheme", "spread", "disparity", "damage", "left_out",
        )  # fmt: skip
        tables.append(models_table(run.theory.as_dict()["models"]).only(*columns))
    if run.ledger is not None:
        columns = ("claim", "text", "outcome", "outcome_here", "how")
        tables.append(ledger_table(run.ledger).only(*columns))
    if run.gate is not None:
        tables.append(gate_table(run.gate))
    if run.report is not None:
        tables.append(damage_table(run.report).largest_first("damage"))
    if run.flips is not None:
        tables.append(flips_table(run.flips).largest_first("share"))
    if run.runtimes is not None:
        tables += runtime_tables(run.runtimes, run.report if run.contents else None)
    if run.generation is not None:
        tables += [generation_table(run.generation), examples_table(run.generation)]
    if run.contents is not None:
        tables += [places_table(run.contents), tensors_table(run.contents)]
    if run.layer_map is not None and run.layer_map.blocks:
        tables += [map_table(run.layer_map), best_sets_table(run.layer_map)]
    if run.unit_map is not None:
        tables += [unit_languages_table(run.unit_map), unit_table(run.unit_map)]
    if run.calibration is not None:
        tables += [calibration_table(run.calibration), gains_table(run.calibration)]
    if run.outcome is not None:
        tables += [
            proof_table(run.outcome),
            recipe_languages_table(run.outcome),
            recipe_table(run.outcome),
            frontier_table(run.outcome),
            steps_table(run.outcome),
        ]
    if run.file_map is not None:
        tables += [part_languages_table(run.file_map), parts_table(run.file_map)]
    return [table for table in tables if table.rows]


def compare_html(result: Json) -> str:
    """Returns a page that shows runs side by side, with the same first screen.

    Args:
        result: As :func:`bitgap.report.comparison.compared` has it.
    """
    rows = result["runs"]
    labels = [row["label"] for row in rows]
    return _page(
        "compare.html.j2",
        figures=compare_figures(rows),
        title=f"{len(rows)} runs side by side",
        rows=rows,
        changes=result["changes"],
        verdicts=verdicts_table(rows, labels, claim),
        change_table=change_table,
        damages=damages_table(rows, labels),
        files=files_table(rows),
    )


def _page(template: str, *, figures: Mapping[str, Figure], **context: Any) -> str:
    shown = {id_: _drawn(figure) for id_, figure in figures.items()}
    scripted = {id_: {"spec": figure.spec} for id_, figure in figures.items()}
    payload = {"figures": scripted, "themes": draw.THEMES, "explorer": context.get("explorer")}
    # The library is most of a page's weight, and a page without figures needs none.
    library = draw.bundle().replace("</script", "<\\/script") if figures else ""
    script = packaged("report.js")
    return _templates().get_template(template).render(
        figures=shown,
        payload=_script_json(payload),
        library=Markup(library),
        script=Markup(script),
        allowed=" ".join(map(_hash, (library, script))),
        style=Markup(packaged("report.css")),
        **context,
    )  # fmt: skip


def _script_json(value: Any) -> Markup:
    """Returns JSON that stands in a script and cannot end it."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def _hash(script: str) -> Markup:
    """Returns what a policy calls a script that may run."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return Markup(f"'sha256-{digest}'")


def _drawn(figure: Figure) -> dict[str, Any]:
    """Returns a figure with its picture, so that it is seen without a script and in print."""
    heavy = len(json.dumps(figure.spec)) > _HEAVY_CHARACTERS
    if heavy:
        kind, content = "png", draw.png(figure.spec, scale=1.4)
    else:
        kind, content = "svg+xml", draw.svg(draw.roomy(figure.spec)).encode()
    picture = f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
    return {"id": figure.id, "title": figure.title, "caption": figure.caption, "alt": figure.alt,
            "picture": picture}  # fmt: skip


def _title(run: Run) -> str:
    model = short_name(str(run.about.get("model")))
    if run.theory is not None:
        return f"Why these blocks? {model} asked together"
    if run.ledger is not None:
        return f"The origin's claims, replayed on {model}"
    how = run.contents.file if run.contents else _rounding(str(run.about.get("plan")))
    if run.report is not None and run.gate is None:
        return f"What {how} does to {len(run.report.languages)} languages in {model}"
    if run.outcome is not None:
        return f"{model} in {run.outcome.recipe.budget}, so that the worst hit are hurt least"
    if run.gate is not None:
        return f"May {how} replace {model}? {run.gate.outcome.capitalize()}"
    if run.file_map is not None:
        return f"Which parts of {run.file_map.file} hurt whom in {model}"
    if run.calibration is not None:
        return f"Which language's text should calibrate {model}?"
    part = "block" if run.unit_map is None else "matrix"
    return f"What each {part} of {model} does under {how}"


def _rounding(plan: str) -> str:
    """Returns how weights were rounded, in words where a scheme has a name that is understood."""
    try:
        bits = parse_scheme(plan.split()[0]).weight_bits
    except (BitgapError, IndexError):
        return plan_name(plan)
    kept = plan.partition("protect ")[2]
    return f"rounding to {bits} bits" + (f", blocks {kept} kept," if kept else "")


def _lead_line(run: Run) -> str:
    """Returns what was measured on what."""
    about, report, layer_map = run.about, run.report, run.layer_map
    parts = [f"{about['n_blocks']} blocks"] if about.get("n_blocks") else []
    if report:
        parts.append(f"{report.n_sentences} sentences each of corpus {about['corpus']}")
    if layer_map:
        masks = len(layer_map.design.masks)
        parts.append(f"{masks:,} sets of protected blocks on {layer_map.n_sentences} of them")
    if run.unit_map is not None:
        parts.append(f"{len(run.unit_map.units)} matrices on {run.unit_map.n_sentences} sentences")
    if run.calibration is not None:
        parts.append(
            f"calibrated on {run.calibration.n_calibrating} sentences each of corpus "
            f"{about['corpus']}, measured on {run.calibration.n_sentences} others"
        )
    if run.outcome is not None:
        n = run.outcome.n_sentences
        parts.append(
            f"found on {n['calibrate'] + n['search']} sentences each of corpus {about['corpus']}, "
            f"proved on {n['confirm']} others"
        )
    if run.file_map is not None:
        parts.append(f"{len(run.file_map.parts)} parts on {run.file_map.n_sentences} sentences")
    if run.outcome is None and about.get("plan") and run.theory is None and run.ledger is None:
        parts.append(plan_name(str(about["plan"])))
    started = [] if run.provenance is None else [run.provenance.started[:10]]
    return " · ".join([*parts, *started, f"run {run.number}"])


def _lead(run: Run) -> tuple[str, ...]:
    """Returns the figures shown before the chapters."""
    if run.theory is not None:
        return ("damage-by-depth", "forest", "formal", "forecasts")
    return (
        "landscape",
        "pareto",
        "languages",
        "blocks",
        "units",
        "calibration",
        "parts",
        "synergy-matrix",
        "recipe",
        "gains",
        "frontier",
        "stability",
    )


def _facts(run: Run) -> list[tuple[str, str]]:
    judged = run.investigation or run.theory
    result = {**run.about, "tier": judged.tier if judged else None}
    names = (
        ("model", "model"), ("model_fingerprint", "the model's fingerprint"),
        ("n_blocks", "blocks"), ("plan", "plan"), ("tier", "tier"), ("corpus", "text"),
        ("corpus_fingerprint", "the text's fingerprint"), ("sentences", "sentences"),
    )  # fmt: skip
    told = {**result, "plan": plan_name(str(result["plan"]))} if result.get("plan") else result
    return [(said, str(told[key])) for key, said in names if told.get(key) is not None]


def _of_finding(finding: Json) -> list[Table]:
    """Returns what stands under a verdict: estimates, each model's own verdict, controls."""
    estimates = estimate_table([finding]).where("measure", lambda cell: cell == "ours")
    tables = (
        estimates.only("estimate", "value", "unit", "how"),
        family_table([finding]).only("model", "verdict", "effect", "why"),
        control_table([finding]).only("control", "kind", "outcome", "detail"),
    )
    return [table for table in tables if table.rows]


def _number(value: float | None, digits: int = 3) -> str:
    return MISSING if value is None else f"{value:.{digits}g}"


@functools.cache
def _templates() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("bitgap.report", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"number": _number, "interval": told_estimate, "short": short_name,
                            "anchor": anchor, "withdrawal": withdrawal,
                            "equivalence": equivalence_words,
                            "part_reason": part_reason}  # fmt: skip
    environment.globals |= {
        "caveat_of": caveat_of,
        "table": to_html,
        "verdict": verdict,
        "experiment_tables": _of_finding,
    }
    return environment
