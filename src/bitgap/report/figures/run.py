"""All figures of a run, in reading order, each with its title, caption and a text in its place."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from bitgap.disparity.file_map import FileMap
from bitgap.disparity.layer_map import LayerMap
from bitgap.disparity.unit_map import UnitMap
from bitgap.experiments.catalog import find
from bitgap.experiments.t010_rate_distortion import ID as RATE_SWEEP
from bitgap.quant.sets import mask_of
from bitgap.records import Finding
from bitgap.report.figures import calibration as calibration_plots
from bitgap.report.figures import model as plots
from bitgap.report.figures import pareto as pareto_plots
from bitgap.report.figures import parts as part_plots
from bitgap.report.figures import protect as recipe_plots
from bitgap.report.figures import theory as theory_plots
from bitgap.report.run import Run
from bitgap.report.words.answers import answers, language_name
from bitgap.show.charts import Chart, Figure
from bitgap.show.numbers import short_name
from bitgap.theory.formal import HYPOTHESIS as FORMAL
from bitgap.theory.records import Theory

Json = Mapping[str, Any]


def run_figures(run: Run) -> dict[str, Figure]:
    """Returns every figure that a run has, by id, in reading order."""
    drawn = _of_model(run) if run.theory is None else _of_theory(run.theory)
    return {figure.id: figure for figure in drawn}


def finding_figures(findings: Iterable[Finding]) -> dict[str, Figure]:
    """Returns the figures of findings, by id; of two of one experiment, the later's."""
    return {figure.id: figure for finding in findings for figure in _of_finding(finding)}


def compare_figures(rows: Sequence[Json]) -> dict[str, Figure]:
    """Returns the figures that put runs beside each other.

    Args:
        rows: ``runs`` of :func:`bitgap.report.comparison.compared`.
    """
    names = {c: f"{language_name(c)} ({c})" for row in rows for c in row["languages"]}
    hurt = _most(rows, "languages", "Hurt most", lambda row: {
        names[c]: one["damage"] for c, one in row["languages"].items()})  # fmt: skip
    heavy = _most(rows, "damage_by_block", "Carrying most of the damage", lambda row: {
        f"L{i}": share for i, share in enumerate(row["damage_by_block"])})  # fmt: skip
    found = [
        _figure("bytes", "Bytes against damage, by language",
                "A dot a file and language, with its 95 % interval over sentences; lines join the "
                "files of a language by size. Who falls steepest gains most from the next larger "
                "file.",
                f"{hurt}.",
                theory_plots.bytes_chart(rows, names)),
        _figure("languages", "Who is hurt, run by run",
                "Damage K with 95 % intervals over sentences, a colour and a shape for each run.",
                f"{hurt}.",
                theory_plots.damage_by_run_chart(rows, names)),
        _figure("blocks", "Which blocks matter, run by run",
                "Shapley share of the damage that each block carries, over relative depth.",
                f"{heavy}.",
                theory_plots.damage_share_chart(rows)),
    ]  # fmt: skip
    return {figure.id: figure for figure in found if figure}


def _most(
    rows: Sequence[Json],
    key: str,
    start: str,
    numbers: Callable[[Json], Mapping[str, float | None]],
) -> str:
    """Returns what has the largest number in each run that has ``key``."""
    told = list[str]()
    for row in rows:
        known = {name: n for name, n in numbers(row).items() if n is not None} if row[key] else {}
        if known:
            told.append(f"{max(known, key=lambda name: known[name])} ({row['label']})")
    return f"{start}: {', '.join(told) or 'not known'}"


def _figure(id_: str, title: str, caption: str, alt: str, spec: Chart | None) -> Figure | None:
    return None if spec is None else Figure(id_, title, caption, alt, spec)


def _of_model(run: Run) -> Iterator[Figure]:
    told = {answer.key: answer.short for answer in answers(run)}
    report = run.report
    if report and any(one.damage.value is not None for one in report.languages):
        yield Figure(
            "languages",
            "Who is hurt, and how much",
            "Dots are estimates, bars 95 % intervals over sentences. The diamond and the dashed "
            f"line are {language_name(report.reference)}, the reference. Damage K is KL to full "
            "precision; beside it as a share of what the model had learned, and the signed change "
            "on real text.",
            told.get("languages", ""),
            plots.languages_chart(report),
        )
    if run.layer_map:
        yield from _of_map(run, run.layer_map, told)
    if run.unit_map:
        yield _of_units(run.unit_map)
    if run.calibration:
        yield from calibration_plots.calibration_figures(run.calibration)
    if run.file_map:
        yield _of_parts(run.file_map)
    if run.outcome:
        yield from recipe_plots.recipe_figures(run.outcome)
    for finding in run.findings:
        yield from _of_finding(finding)


def _of_units(found: UnitMap) -> Figure:
    largest = max(found.units, key=lambda one: one.share.value or 0.0)
    return Figure(
        "units",
        "Which matrices hurt whom",
        "Each matrix alone is rounded. Left: its share of the damage that matrices do alone, by "
        "language. Right: that share off the languages' mean in points, blue where the matrix "
        "spares a language and orange where it hits it harder. Shares are the same per text and "
        "per token.",
        f"{largest.unit.label} does the most, {largest.share.value or 0:.0%} of the damage that "
        f"single matrices do.",
        plots.units_chart(found),
    )


def _of_parts(found: FileMap) -> Figure:
    names = part_plots.part_names(found)
    best = [names[one.part.label] for one in part_plots.best_buys(found.parts, 3)]
    told = f"A byte buys most in {', '.join(best)}." if best else (
        "Keeping no single part whole takes off more than chance may.")  # fmt: skip
    return Figure(
        "parts",
        f"Which parts of {found.file} hurt whom, and what keeping them whole buys",
        "Left: damage that a part does alone in the full-precision model, and what keeping it "
        "whole takes off the file's, means over languages with 95 % intervals over sentences. "
        "Middle: which languages a part hits harder than others (orange) or spares (blue), in "
        "log2. Right: what is taken off against what the file would grow by; the parts named take "
        "most off for each byte.",
        told,
        part_plots.parts_chart(found),
    )


def _of_map(run: Run, found: LayerMap, told: Mapping[str, str]) -> Iterator[Figure]:
    yield Figure(
        "blocks",
        "Which blocks matter",
        "What keeping a block whole takes off; below zero it adds. Off damage and gap: Shapley "
        "values over sets of protected blocks. Off S, the spread over languages of log2 damage per "
        "token: where it alone is kept whole. Diamonds are the origin's set, bars 95 % intervals "
        "over sentences.",
        told.get("blocks", ""),
        plots.layers_chart(found),
    )
    masks = run.masks
    if masks is None or len(masks.languages) < 2:
        return
    reference = language_name(masks.reference)
    worse = int(plots.levelling_down(masks, masks.spread).sum())
    origin = mask_of(found.origin.of.blocks)
    unseen = "" if origin in masks.masks else " The origin's set is not among the scored ones."
    yield Figure(
        "landscape",
        "What every set of protected blocks does",
        f"A dot a set: damage to {reference} against S, the spread over languages of log2 damage "
        f"per token, and against the gap on real text. In the shaded region languages are more "
        f"even than with nothing protected and {reference} is hurt more: levelling down, never an "
        f"improvement.{unseen}",
        f"Of {len(masks.masks):,} sets of protected blocks, {worse:,} "
        f"{'makes' if worse == 1 else 'make'} S smaller and {reference} worse.",
        plots.landscape_chart(masks, found),
    )
    cells = next(
        (f.tables.get("cells", ()) for f in run.findings if f.experiment == RATE_SWEEP), ()
    )
    yield Figure(
        "pareto",
        "Bits against damage",
        "What damage is left for the bits that are spent: the best set of each size of protected "
        "blocks (grey: from the best to the worst of that size, and the median), and, where a "
        "sweep over bits was run, schemes that spend them everywhere or on some blocks. Dashed: "
        "what nothing beats for as few bits.",
        _pareto_alt(run),
        pareto_plots.pareto_chart(masks, found, cells),
    )


def _pareto_alt(run: Run) -> str:
    masks = run.masks
    assert masks is not None
    ones = [i for i, mask in enumerate(masks.masks) if mask.bit_count() == 1]
    if not ones:
        return "Damage against bits."
    best = min(ones, key=lambda i: masks.mean_damage[i])
    left = masks.mean_damage[best] / masks.mean_damage[0] if masks.mean_damage[0] > 0 else 0.0
    return (
        f"Protecting the single best block, {plots.set_name(masks.masks[best])}, leaves "
        f"{left:.0%} of the damage."
    )


def _with_language_names(spec: Chart) -> Chart:
    """Returns a chart whose rows tell languages by name as well as by code."""
    if "concat" in spec:
        return spec | {"concat": [_with_language_names(inner) for inner in spec["concat"]]}
    rows = spec.get("data", {}).get("values", ())
    if not any("language" in row for row in rows):
        return spec
    told = [
        row | {"language": f"{language_name(row['language'])} ({row['language']})"}
        if row.get("language") else row
        for row in rows
    ]  # fmt: skip
    return spec | {"data": {"values": told}}


def _of_finding(finding: Finding) -> Iterator[Figure]:
    experiment = find(finding.experiment)
    yield from experiment.further_figures(finding)
    named = experiment.hypothesis.id != experiment.id
    yield Figure(
        experiment.id.lower(),
        f"{finding.hypothesis}: {finding.title}" if named else finding.title,
        experiment.figure_reading,
        finding.sentence,
        _with_language_names(dict(experiment.figure(finding))),
    )


def _of_theory(theory: Theory) -> Iterator[Figure]:
    told = [
        f"L{max(range(len(shares)), key=lambda i: shares[i])} in {short_name(m.model)}"
        for m in theory.models
        if (shares := m.damage_by_block)
    ]
    # As the page's first answer: of later models where there are some.
    forecasts = theory.later or theory.forecasts
    successes = [
        f"{row.who.replace('_', ' ')} {row.successes} of {row.families} families"
        for row in forecasts.summary
        if row.kind == "config" and row.objective == "damage"
    ]
    formal = next((f for f in theory.findings if f.hypothesis == FORMAL.id), None)
    labels = [f"{f.hypothesis} {f.verdict.label}" for f in theory.findings]
    drawn: list[tuple[str, str, str, str, Callable[[], Chart]]] = [
        ("damage-by-depth", "Which blocks do the damage",
         "Each block's share of what single blocks do when rounded alone, over relative depth; the "
         "shaded window is where the theory puts a bottleneck.",
         f"The block that does most damage alone: {', '.join(told)}.",
         lambda: theory_plots.depth_chart(theory.models)),
        ("forest", "Every hypothesis, family by family",
         "Dots are models with 95 % intervals, the diamond all families together (grey: a model "
         "whose family another speaks for). Dotted: zero; dashed: the smallest effect of "
         "interest, declared beforehand; shaded: where the theory puts the place.",
         f"Verdicts over families: {'; '.join(labels)}.",
         lambda: theory_plots.forest_chart(theory.findings)),
    ]  # fmt: skip
    if formal and any(r["r2_lofo"] is not None for r in formal.tables.get("ladder", ())):
        drawn.append(
            ("formal", "The formal model",
             "R² in families held out, by what predicts; the theory's own formula is set apart. "
             "Below zero it is worse than the mean. Dashed: what random features as smooth in "
             "depth reach in one of 20 draws.", formal.sentence,
             lambda: theory_plots.formal_chart(formal.tables))
        )  # fmt: skip
    if forecasts.rows:
        drawn.append(
            ("forecasts", "Triples named before measuring",
             "A dot a family: where the triple that each rule names stands among all triples.",
             f"Triples among the best tenth by damage: {'; '.join(successes)}.",
             lambda: theory_plots.forecasts_chart(forecasts))
        )  # fmt: skip
    for id_, title, caption, alt, chart in drawn:
        yield Figure(id_, title, caption, alt, chart())
