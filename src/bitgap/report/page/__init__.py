"""``report.html``: one file that holds everything it shows and asks for nothing from anywhere.

Text is on the page as it is served, charts as pictures in it; where scripts run, the pictures
become charts that answer to the pointer, and any set of layers can be tried. All that comes from
data is escaped by the template engine, and a policy in the page forbids it to fetch anything.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
from collections.abc import Mapping
from typing import Any

import jinja2
from markupsafe import Markup

from bitgap.errors import BitgapError
from bitgap.languages import named
from bitgap.quant.schemes import parse_scheme
from bitgap.report.figures.run import compare_figures, run_figures
from bitgap.report.page.explorer import explorer_data
from bitgap.report.page.first_screen import anchor, chips, first_panels
from bitgap.report.page.tables_html import (
    best_set_rows,
    language_rows,
    layer_rows,
    ledger_rows,
    model_rows,
)
from bitgap.report.run import Run, audit_of, map_of
from bitgap.report.words.answers import answers
from bitgap.report.words.sections import chapters, claim
from bitgap.show import draw
from bitgap.show.charts import Figure
from bitgap.show.numbers import MISSING, short_name, told
from bitgap.show.packaged import packaged
from bitgap.show.withdrawn import withdrawal, withdrawn_outcome, withdrawn_suggestion

Json = Mapping[str, Any]


GLYPHS = {"supported": "✓", "refuted": "✗", "inconclusive": "?", "not testable": "–"}
"""A verdict's sign, so that it is not told by colour alone."""


# A specification of more characters than this has thousands of marks, which weigh less as pixels.
_HEAVY_CHARACTERS = 150_000


def report_html(run: Run) -> str:
    """Returns a run's page; every kind of run has one."""
    figures = run_figures(run)
    audit, found = audit_of(run), map_of(run)
    first = first_panels(run)
    data = explorer_data(run.masks, found) if run.masks is not None and found else None
    findings = run.result.get("findings", ())
    return _page(
        "report.html.j2",
        figures={**{f.id: f for panel in first for f in panel["figures"]}, **figures},
        run=run,
        result=run.result,
        title=_title(run),
        lead_line=_lead_line(run),
        answers={answer.key: answer for answer in answers(run)},
        first=first,
        chips=chips(findings),
        chapters=chapters(findings),
        explorer=data,
        lead=[figures[id_] for id_ in _lead(run) if id_ in figures],
        languages=language_rows(audit) if audit else None,
        layers=layer_rows(found) if found and found["layers"] else None,
        best_sets=best_set_rows(found) if found and found["best_sets"] else None,
        caveats=[*(audit["caveats"] if audit else ()), *(found["caveats"] if found else ())],
        ledger=ledger_rows(run.result) if run.command == "replicate" else None,
        models=model_rows(run.result) if run.command == "theory" else None,
        facts=_facts(run),
        provenance=run.result["provenance"],
    )


def compare_html(result: Json) -> str:
    """Returns a page that shows runs side by side, with the same first screen.

    Args:
        result: As :func:`bitgap.report.comparison.compared` has it.
    """
    rows = result["runs"]
    return _page(
        "compare.html.j2",
        figures=compare_figures(rows),
        title=f"{len(rows)} runs side by side",
        rows=rows,
        changes=result["changes"],
        hypotheses=list(dict.fromkeys(h for row in rows for h in row["verdicts"])),
        codes=list(dict.fromkeys(code for row in rows for code in row["languages"])),
        claim=claim,
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
    result, model = run.result, short_name(str(run.result.get("model")))
    if run.command == "theory":
        return f"Why these layers? {model} asked together"
    if run.command == "replicate":
        return f"The origin's claims, replayed on {model}"
    audit = audit_of(run)
    if audit:
        return f"What {_rounding(result)} does to {len(audit['languages'])} languages in {model}"
    return f"What each layer of {model} does under {_rounding(result)}"


def _rounding(result: Json) -> str:
    """Returns how weights were rounded, in words where a scheme has a name that is understood."""
    plan = str(result.get("plan"))
    try:
        bits = parse_scheme(plan.split()[0]).weight_bits
    except (BitgapError, IndexError):
        return plan
    kept = plan.partition("protect ")[2]
    return f"rounding to {bits} bits" + (f", blocks {kept} kept," if kept else "")


def _lead_line(run: Run) -> str:
    """Returns what was measured on what."""
    result, audit, found = run.result, audit_of(run), map_of(run)
    parts = [f"{result['n_blocks']} blocks"] if result.get("n_blocks") else []
    if audit:
        parts.append(f"{audit['n_sentences']} sentences each of corpus {result['corpus']}")
    if found:
        parts.append(f"{found['masks']:,} sets of protected layers on {found['sentences']} of them")
    if result.get("plan") and run.command not in ("theory", "replicate"):
        parts.append(str(result["plan"]))
    return " · ".join([*parts, str(result["provenance"]["started"])[:10], f"run {run.number}"])


def _lead(run: Run) -> tuple[str, ...]:
    """Returns the figures shown before the chapters."""
    if run.command == "theory":
        return ("damage-by-depth", "forest", "formal", "forecasts")
    return ("landscape", "pareto", "languages", "layers", "synergy-matrix")


def _facts(run: Run) -> list[tuple[str, str]]:
    result = run.result
    names = (
        ("model", "model"), ("model_fingerprint", "the model's fingerprint"),
        ("n_blocks", "blocks"), ("plan", "plan"), ("tier", "tier"), ("corpus", "text"),
        ("corpus_fingerprint", "the text's fingerprint"), ("sentences", "sentences"),
    )  # fmt: skip
    return [(said, str(result[key])) for key, said in names if result.get(key) is not None]


def _number(value: float | None, digits: int = 3) -> str:
    return MISSING if value is None else f"{value:.{digits}g}"


def _interval(estimate: Json) -> str:
    if estimate["value"] is None:
        return MISSING
    return told(estimate["value"], (estimate["low"], estimate["high"]))


@functools.cache
def _templates() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("bitgap.report", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"number": _number, "interval": _interval, "short": short_name,
                            "anchor": anchor, "withdrawal": withdrawal}  # fmt: skip
    environment.globals |= {
        "withdrawn_outcome": withdrawn_outcome,
        "withdrawn_suggestion": withdrawn_suggestion,
    }
    environment.globals |= {"named": named, "glyphs": GLYPHS, "missing": MISSING}
    return environment
