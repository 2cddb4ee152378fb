"""Figures of runs: each is drawn without a warning and shows the run's own numbers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from paper_samples import finding, investigation, small_map, theory

from bitgap.disparity.layer_map import BestSets, ScoredSet
from bitgap.experiments.catalog import CATALOG
from bitgap.experiments.synergy.figure import further_figures
from bitgap.records import Estimate, Floats
from bitgap.report.comparison import compared
from bitgap.report.figures import model as plots
from bitgap.report.figures import pareto as pareto_plots
from bitgap.report.figures import theory as theory_plots
from bitgap.report.figures.run import compare_figures, run_figures
from bitgap.report.run import Masks, Run, audit_of, map_of, read_run
from bitgap.show import draw
from bitgap.show.charts import Figure, nothing_to_draw
from bitgap.theory.forecast.scorecard import OBJECTIVES
from bitgap.theory.records import MeasuredModel
from harness import check_figure

AUDIT, MAP, INVESTIGATE, THEORY, REPLICATE = "1", "3", "4", "6", "7"
SYNERGY = finding("synergy", experiment="synergy")
HOSTILE = "x']+alert(1)//</script>"


@pytest.fixture(scope="module")
def investigated(kept: Path) -> Run:
    return read_run(INVESTIGATE, str(kept))


@pytest.fixture(scope="module")
def drawn(investigated: Run) -> dict[str, Figure]:
    return run_figures(investigated)


@pytest.fixture(scope="module")
def masks(investigated: Run) -> Masks:
    assert investigated.masks is not None
    return investigated.masks


def parts(spec: Any) -> Iterator[Mapping[str, Any]]:
    """Returns every mapping within a chart, and the chart."""
    if isinstance(spec, Mapping):
        yield spec
    values = spec.values() if isinstance(spec, Mapping) else spec
    for value in values if isinstance(spec, (Mapping, list, tuple)) else ():
        yield from parts(value)


def panels(spec: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns the charts side by side, each with its data."""
    return [{"data": spec.get("data"), **panel} for panel in spec.get("concat", [spec])]


def rows(panel: Mapping[str, Any]) -> list[dict[str, Any]]:
    return panel["data"]["values"]


def same(shown: Any, known: Any) -> bool:
    """Whether numbers agree to the digits that a chart keeps."""
    return bool(np.allclose(shown, known, rtol=6e-4, atol=0))


def ratio(shown: Any, known: Any) -> float:
    """Returns the one factor between two lists of numbers."""
    factors = np.asarray(shown, float) / np.asarray(known, float)
    assert same(factors, factors[0])
    return float(factors[0])


# -- which there are ------------------------------------------------------------------------------


def test_an_investigation_has_every_figure_in_reading_order(
    investigated: Run, drawn: Mapping[str, Figure]
):
    ids = list(drawn)
    assert ids[:4] == ["languages", "blocks", "landscape", "pareto"]
    assert ids[4:] == [finding.experiment.lower() for finding in investigated.findings]
    assert set(ids[4:]) == {experiment.id.lower() for experiment in CATALOG}
    assert [figure.id for figure in drawn.values()] == ids


@pytest.mark.parametrize(
    ("number", "ids"),
    [
        (AUDIT, ["languages"]),
        (MAP, ["blocks", "landscape", "pareto"]),
        (THEORY, ["damage-by-depth", "forest"]),
        (REPLICATE, []),
    ],
)
def test_other_verbs_have_what_applies(kept: Path, number: str, ids: list[str]):
    assert list(run_figures(read_run(number, str(kept))))[: len(ids) or 1] == ids


def test_without_masks_there_is_no_landscape(investigated: Run):
    assert not {"landscape", "pareto"} & set(run_figures(replace(investigated, masks=None)))


def test_without_any_damage_there_is_no_figure_of_languages():
    run = investigation()
    assert run.report is not None
    none = Estimate(value=None, unit="bits", reason="not finite")
    languages = tuple(replace(one, damage=none) for one in run.report.languages)
    gone = replace(run, report=replace(run.report, languages=languages))
    assert "languages" not in run_figures(gone)


def test_families_without_forecasts_are_drawn():
    assert list(run_figures(theory())) == ["damage-by-depth", "forest", "formal"]


def test_forecasts_are_drawn_by_every_objective_that_they_have():
    figures = run_figures(theory(forecasts=True))
    assert "forecasts" in figures
    spec = figures["forecasts"].spec
    assert len(spec["concat"]) == len(OBJECTIVES)
    assert draw.svg(spec).startswith("<svg")


# -- drawn ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [AUDIT, MAP, INVESTIGATE, THEORY])
def test_every_figure_is_drawn_without_a_warning(
    kept: Path, number: str, capfd: pytest.CaptureFixture[str]
):
    for figure in run_figures(read_run(number, str(kept))).values():
        for theme in draw.THEMES:
            assert draw.svg(figure.spec, theme).startswith("<svg"), figure.id
    told = capfd.readouterr()
    assert told.out + told.err == ""


def test_figures_of_families_are_drawn_without_a_warning(capfd: pytest.CaptureFixture[str]):
    for figure in run_figures(theory()).values():
        assert draw.svg(figure.spec).startswith("<svg"), figure.id
    told = capfd.readouterr()
    assert told.out + told.err == ""


def test_specs_are_plain_and_light(drawn: Mapping[str, Figure]):
    for figure in drawn.values():
        assert len(json.dumps(figure.spec, allow_nan=False)) < 400_000, figure.id
        # A set without D is no point of the right panel.
        if figure.id != "landscape":
            check_figure(figure.spec)


def test_every_figure_is_told_in_sentences(drawn: Mapping[str, Figure]):
    for figure in [*drawn.values(), *run_figures(theory()).values()]:
        assert figure.title and not figure.title.endswith("."), figure.id
        assert figure.caption.endswith((".", "?")), figure.id
        assert figure.alt.endswith(".") and len(figure.alt) > 20, figure.id
        assert "None" not in figure.alt and "nan" not in figure.alt.split(), figure.id


def test_every_point_says_its_numbers(drawn: Mapping[str, Figure]):
    for figure in drawn.values():
        if "nothing to draw" not in json.dumps(figure.spec):
            assert any("tooltip" in part for part in parts(figure.spec)), figure.id


def test_parameters_have_names_of_their_own(drawn: Mapping[str, Figure]):
    for figure in drawn.values():
        names = [p["name"] for part in parts(figure.spec) for p in part.get("params", ())]
        assert len(set(names)) == len(names), figure.id


def test_legends_to_choose_from_belong_to_the_first_layer_that_has_one(
    drawn: Mapping[str, Figure],
):
    seen = 0
    for part in (part for figure in drawn.values() for part in parts(figure.spec)):
        layers = [layer for layer in part.get("layer", ()) if "color" in layer.get("encoding", ())]
        if any("params" in layer for layer in layers):
            assert ["params" in layer for layer in layers] == [True] + [False] * (len(layers) - 1)
            seen += 1
    assert seen > 5


def test_text_of_data_is_no_expression_and_no_markup():
    run = investigation(languages=("en", "he", "ja", HOSTILE), model=HOSTILE)
    shown = run_figures(run)
    assert HOSTILE in json.dumps(shown["languages"].spec, ensure_ascii=False)
    for figure in shown.values():
        for part in parts(figure.spec):
            for key in ("expr", "test", "filter", "calculate", "labelExpr"):
                assert "alert" not in str(part.get(key, "")), (figure.id, key)
        assert "</script" not in draw.svg(figure.spec)


# -- the run's numbers ----------------------------------------------------------------------------


def test_languages_are_the_audit_s(investigated: Run, drawn: Mapping[str, Figure]):
    audit: Any = audit_of(investigated)
    known = audit["languages"]
    # Unigrams of a tiny text tell nothing of what was learned, and a panel of nothing is not drawn.
    names = [name for name in ("damage", "learned_share", "delta")
             if any(row[name] is not None for row in known.values())]  # fmt: skip
    unknown = [row["learned_share_reason"] for row in known.values()
               if row["learned_share"] is None]  # fmt: skip
    assert names[0] == "damage" and all("unigram" in why for why in unknown)
    shown = dict(zip(names, panels(drawn["languages"].spec), strict=True))
    order = sorted(known, key=lambda code: -known[code]["damage"])
    for name, panel in shown.items():
        assert [row["language"].split("(")[-1][:-1] for row in rows(panel)] == order
        factor = ratio([r["value"] for r in rows(panel)], [known[code][name] for code in order])
        ends = [known[code]["ci" if name == "damage" else f"{name}_ci"] for code in order]
        assert same([(r["low"], r["high"]) for r in rows(panel)], np.array(ends) * factor)
        assert [row["reference"] for row in rows(panel)] == [c == audit["reference"] for c in order]
        power = {"learned_share": 100.0}.get(name)
        said = json.dumps(panel["layer"][-1]["encoding"]["x"]["title"])
        known_factor = power or {"mbit": 1e3, "µbit": 1e6}.get(unit(said), 1.0)
        assert factor == pytest.approx(known_factor, rel=1e-3)


def unit(title: str) -> str:
    return next((name for name in ("mbit", "\\u00b5bit", "µbit") if name in title), "bit")


def test_layers_are_the_map_s(investigated: Run, drawn: Mapping[str, Figure]):
    found: Any = map_of(investigated)
    names = ("shapley_damage", "spread_fall", "shapley_gap")
    whole = sum(row["shapley_damage"] for row in found["blocks"])
    for name, panel in zip(names, panels(drawn["blocks"].spec), strict=True):
        known = [row[name] for row in found["blocks"]]
        factor = ratio([row["value"] for row in rows(panel)], known)
        ends = np.array([row[f"{name}_ci"] for row in found["blocks"]]) * factor
        assert same([(row["low"], row["high"]) for row in rows(panel)], ends)
        marked = [row["block"] for row in rows(panel) if row["set"] == "the origin's set"]
        assert marked == sorted(found["original_set"]["blocks"])
        if name == "shapley_damage":
            assert factor == pytest.approx(100 / whole, rel=1e-3)


def test_every_set_is_on_the_landscape(masks: Masks, drawn: Mapping[str, Figure]):
    panel = panels(drawn["landscape"].spec)[0]
    shown = rows(panel)
    assert [row["s"] for row in shown] == [plots.set_name(mask) for mask in masks.masks]
    assert [row["n"] for row in shown] == [mask.bit_count() for mask in masks.masks]
    # What is left where all is protected is rounding.
    here = slice(0, -1)
    ours = masks.damage[:, masks.languages.index(masks.reference)]
    factor = ratio([row["x"] for row in shown[here]], ours[here])
    assert factor == pytest.approx(1000.0 ** round(np.log10(factor) / 3), rel=1e-3)
    assert ratio([row["g"] for row in shown[here]], masks.gap[here]) == pytest.approx(
        factor, rel=1e-3
    )
    assert same([row["S"] for row in shown[here]], masks.spread[here])
    assert "spread" in str(panel["title"])


def made_masks(english: Floats, gap: Floats, n_blocks: int = 2) -> Masks:
    """Returns masks of two blocks with that damage to English and that gap."""
    n = len(english)
    damage = np.stack([english, english + gap], axis=1)
    d = np.log2(damage[:, 1] / damage[:, 0])
    mean, s = damage.mean(1), np.abs(d) / 2
    return Masks(
        n_blocks=n_blocks, scheme="rtn4-g128", reference="en", languages=("en", "he"),
        n_sentences=9, complete=True, masks=tuple(range(n)), damage=damage,
        counted=np.ones_like(damage, bool), mean_damage=mean,
        mean_damage_ends=np.stack([mean, mean]), disparity=d, disparity_ends=np.stack([d, d]),
        gap=gap, gap_ends=np.stack([gap, gap]), harm_mean=mean, spread=s,
        spread_ends=np.stack([s, s]), spread_per_text=s, per_token=np.ones(2),
    )  # fmt: skip


# Block 0 hurts English and closes the gap; block 1 spares both; together they do too.
LEVELLED = made_masks(np.array([0.20, 0.25, 0.15, 0.01]), np.array([0.10, 0.04, 0.05, 0.01]))
ORIGIN = small_map([0, 1])


def test_only_what_hurts_the_reference_more_is_levelling_down():
    spec = plots.landscape_chart(LEVELLED, ORIGIN)
    for panel in panels(spec):
        assert "1 of 4" in json.dumps(panel["title"])
    for panel, field in zip(panels(spec), ("S", "g"), strict=True):
        box = panel["layer"][0]["data"]["values"][0]
        assert box["x"] == 200.0
        every = rows(panel)
        assert box["y2"] == next(r[field] for r in every if r["s"] == "nothing")
        inside = [r["s"] for r in every if r["x"] > box["x"] and abs(r[field]) < box["y2"]]
        assert inside == ["{0}"]


def test_sets_to_be_found_are_named():
    spec = json.dumps(plots.landscape_chart(LEVELLED, ORIGIN), ensure_ascii=False)
    assert "nothing protected" in spec
    assert "the origin's {0-1}" in spec


def test_an_origin_s_set_that_is_best_is_told_as_both():
    both = ScoredSet(blocks=(0, 1), damage=0.1, disparity=0.1, spread=0.1)
    best = BestSets(size=2, sets=1, least_damage=both, least_spread=both, least_disparity=None)
    spec = plots.landscape_chart(LEVELLED, small_map([0, 1], best))
    told = json.dumps(spec, ensure_ascii=False)
    assert "the origin's {0-1}, least damage of its size" in told


def test_a_landscape_of_nothing_says_so():
    few = made_masks(np.array([0.2, 0.1]), np.array([0.1, 0.1]), n_blocks=1)
    assert plots.landscape_chart(few, ORIGIN) == nothing_to_draw()


def test_protected_blocks_cost_sixteen_bits_and_others_their_scheme_s():
    (panel,) = panels(pareto_plots.pareto_chart(LEVELLED, ORIGIN, ()))
    shown = rows(panel)
    # 4 bits a weight, and a scale of 16 bits for every 128.
    assert same([row["bits"] for row in shown], [4.125, (16 + 4.125) / 2])
    assert same([row["best"] for row in shown], [250.0, 175.0])
    assert same([row["worst"] for row in shown], [250.0, 270.0])
    assert [row["set"] for row in shown] == ["nothing", "{1}"]


def test_the_rate_sweep_is_t010_s(investigated: Run, drawn: Mapping[str, Figure]):
    cells = next(f.tables["cells"] for f in investigated.findings if f.experiment == "T-010")
    known = [c for c in cells if c["mean_log2_damage"] is not None]
    panel = panels(drawn["pareto"].spec)[-1]
    assert same([row["bits"] for row in rows(panel)], [c["bits_per_weight"] for c in known])
    assert same([row["damage"] for row in rows(panel)], [c["mean_log2_damage"] for c in known])


def test_the_front_of_the_sweep_is_what_nothing_beats():
    def cell(bits: float, damage: float | None) -> dict[str, Any]:
        return {"bits": int(bits), "share": 0.0, "order": "none", "bits_per_weight": bits,
                "mean_log2_damage": damage}  # fmt: skip

    cells = [cell(2, -1), cell(3, -5), cell(4, -4), cell(5, None), cell(6, -9)]
    front = panels(pareto_plots.pareto_chart(LEVELLED, ORIGIN, cells))[1]["layer"][0]
    assert [row["damage"] for row in rows(front)] == [-1, -5, -9]


def test_the_matrix_is_in_percent_with_the_ends_framed():
    values = {(0, 1): 0.02, (0, 2): -0.05, (1, 2): 0.01}
    pairs = [
        {"first": a, "second": b, "interaction": v}
        for (one, two), v in values.items()
        for a, b in ((one, two), (two, one))
    ]
    (figure,) = further_figures(replace(SYNERGY, tables={"pairs": pairs}))
    chart = figure.spec
    assert same([row["interaction"] for row in rows(chart)], [2.0, 2.0, -5.0, -5.0, 1.0, 1.0])
    frame = chart["layer"][1]["data"]["values"]
    assert [(cell["first"], cell["second"]) for cell in frame] == [(0, 2), (2, 0)]
    assert chart["layer"][0]["encoding"]["color"]["scale"]["domain"] == [-5.0, 5.0]
    assert "%" in json.dumps(chart["layer"][0]["encoding"]["color"]["title"])


def test_synergy_has_a_matrix_of_its_own_and_says_the_sentence(investigated: Run):
    pairs = [{"first": a, "second": b, "interaction": 0.1} for a, b in ((0, 1), (1, 0))]
    findings = [
        replace(f, tables={**f.tables, "pairs": pairs}) if f.experiment == "synergy" else f
        for f in investigated.findings
    ]
    shown = run_figures(replace(investigated, findings=tuple(findings)))
    sentence = next(f.sentence for f in findings if f.experiment == "synergy")
    assert shown["synergy-matrix"].alt == sentence


def test_no_pairs_give_no_matrix():
    assert further_figures(SYNERGY) == ()


# -- families -------------------------------------------------------------------------------------


def models() -> Sequence[MeasuredModel]:
    record = theory().theory
    assert record is not None
    return record.models


def test_shares_of_damage_are_those_of_single_blocks():
    chart = theory_plots.depth_chart(models())
    shown = [row for row in rows(chart) if row["model"] == "a-4"]
    assert same([row["share"] for row in shown], [50.0, 12.5, 12.5, 25.0])
    assert same([row["depth"] for row in shown[1:]], [1 / 3, 2 / 3, 1.0])


def test_the_formal_model_is_drawn_from_its_ladder_beside_chance():
    tables = theory().result["findings"][1]["tables"]
    (panel,) = panels(theory_plots.formal_chart(tables))
    assert [row["r2"] for row in rows(panel)] == [r["r2_lofo"] for r in tables["ladder"]]
    assert [row["rung"][:2] for row in rows(panel)] == ["F0", "F1", "F3"]
    assert [row["at"] for part in panel["layer"][1:] for row in rows(part)] == [0.03]


def test_a_forest_tells_hypothesis_and_verdict(kept: Path):
    run = read_run(THEORY, str(kept))
    told = {f["hypothesis"]: f["verdict"]["label"] for f in run.result["findings"]}
    titles = [" ".join(panel["title"]) for panel in panels(run_figures(run)["forest"].spec)]
    assert titles
    for title in titles:
        name = next(name for name in told if title.startswith(name))
        assert title.endswith(told[name])


def test_damage_of_nothing_is_not_drawn():
    gone = [replace(model, damage_by_block=(0.0,) * 4) for model in models()]
    assert theory_plots.depth_chart(gone) == nothing_to_draw()


# -- several runs ---------------------------------------------------------------------------------


def test_runs_are_put_beside_each_other(kept: Path, capfd: pytest.CaptureFixture[str]):
    runs = [read_run(number, str(kept)) for number in (AUDIT, INVESTIGATE)]
    shown = compare_figures(compared(runs)["runs"])
    assert list(shown) == ["languages", "blocks"]
    of = [dict.fromkeys(row["run"] for row in rows(figure.spec)) for figure in shown.values()]
    assert (len(of[0]), len(of[1])) == (2, 1)
    for run, name in zip(runs, of[0], strict=True):
        audit: Any = audit_of(run)
        values = {
            r["language"]: r["value"] for r in rows(shown["languages"].spec) if r["run"] == name
        }
        known = {code: row["damage"] for code, row in audit["languages"].items()}
        assert ratio(sorted(values.values()), sorted(known.values())) > 0
    for figure in shown.values():
        assert draw.svg(figure.spec).startswith("<svg")
        assert figure.alt.endswith(".") and "nan" not in figure.alt
    told = capfd.readouterr()
    assert told.out + told.err == ""
