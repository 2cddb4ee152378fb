"""The command line as a user meets it: what every command prints, stores and writes."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import replace
from math import comb
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, get_args

import numpy as np
import pytest

from bitgap.cli.main import VERBS, make_parser
from bitgap.cli.options import TIERS
from bitgap.corpora.parallel import spread_order
from bitgap.experiments.catalog import CATALOG
from bitgap.jobs import investigate as investigate_module
from bitgap.jobs.spending import scoring_share
from bitgap.lab.bench import products_round
from bitgap.lab.settings import Settings
from bitgap.lab.store import Store
from bitgap.records import Label
from cli_samples import ENGLISH, HEBREW, TEXTS, Run, write_corpus_folder
from harness import check_figure

SCHEME = "rtn4-channel"


# ------------------------------------------------------------------------------------------- audit


def test_audit_prints_the_damage_table_as_json_and_nothing_else_on_stdout(measure: Run) -> None:
    ran = measure("audit", "--scheme", SCHEME, "--json")
    assert ran.code == 0
    found = ran.json
    assert found["scheme"] == found["plan"] == SCHEME
    assert (found["corpus"], found["sentences"], found["arithmetic"]) == ("text", 8, "exact")
    assert next(iter(found["languages"])) == "en" and set(found["languages"]) == set(TEXTS)
    rows = found["languages"].values()
    needed = "tokens bytes nll_fp_bits nll_q_bits kl_bits damage delta collapsed ci".split()
    assert all(row.keys() >= set(needed) for row in rows)
    assert found["floor_bits"] >= 0 and found["model"].endswith("tiny")
    assert "predicted" in ran.err and "run 1 in bitgap.db" in ran.err


def test_audit_s_numbers_are_what_they_are_called(measure: Run) -> None:
    found = measure("audit", "--scheme", "rtn3-channel", "--json").json
    characters = sum(map(len, ENGLISH))
    rows = found["languages"]
    for code, row in rows.items():
        assert row["bytes"] == sum(len(text.encode()) for text in TEXTS[code])
        assert row["tokens"] == sum(map(len, TEXTS[code])), "every character is a token"
        assert row["damage"] == pytest.approx(row["kl_bits"] / characters)
        harm = (row["nll_q_bits"] - row["nll_fp_bits"]) / characters
        assert row["delta"] == pytest.approx(harm)
        assert row["ci"][0] < row["damage"] < row["ci"][1]
    damages = {code: row["damage"] for code, row in rows.items()}
    logs = [np.log2(k / damages["en"]) for code, k in damages.items() if code != "en"]
    assert found["D"] == pytest.approx(np.mean(logs))
    deltas = {code: row["delta"] for code, row in rows.items()}
    assert found["H"]["mean"] == pytest.approx(np.mean(list(deltas.values())))
    others = [delta for code, delta in deltas.items() if code != "en"]
    assert found["G"] == pytest.approx(np.mean(others) - deltas["en"])
    assert found["D_original"] is not None or found["D_original_reason"]


def test_the_table_says_what_the_json_says_with_an_interval_or_a_reason(measure: Run) -> None:
    said = measure("audit", "--scheme", SCHEME).out
    found = measure("audit", "--scheme", SCHEME, "--json").json
    assert "mbit: a thousandth of a bit per English character" in " ".join(said.split())
    row = found["languages"]["he"]
    cells = next(line for line in said.splitlines() if line.startswith("he ")).split()
    assert float(cells[1]) / 1000 == pytest.approx(row["damage"], rel=0.01)
    assert float(cells[3]) / 1000 == pytest.approx(row["delta"], rel=0.01)
    for cell, ends in ((cells[2], row["ci"]), (cells[4], row["delta_ci"])):
        shown = [float(end) / 1000 for end in cell.split("…")]
        assert shown == pytest.approx(ends, rel=0.02)
    summary = [line for line in said.splitlines() if line[:2] in ("D ", "G,", "H,", "D_")]
    assert len(summary) == 5
    assert all("[" in line or "none" in line for line in summary)


def test_a_second_run_measures_nothing_and_finds_the_same(measure: Run) -> None:
    first, second = (measure("audit", "--json") for _ in range(2))
    assert "1 plan to score" in first.err and "nothing left to score" in second.err
    differ = {"cost", "provenance"}
    one, two = ({k: v for k, v in r.json.items() if k not in differ} for r in (first, second))
    assert one == two


def test_protecting_blocks_lowers_damage_and_protecting_all_leaves_none(measure: Run) -> None:
    def damage(*protect: str) -> float:
        found = measure("audit", "--scheme", SCHEME, "--json", *protect).json
        return sum(row["kl_bits"] for row in found["languages"].values())

    assert damage() > damage("--protect", "0,2") > damage("--protect", "0-2") == 0
    said = measure("audit", "--scheme", SCHEME, "--protect", "0-2")
    assert said.code == 0
    assert "below resolution" in said.out and "D            none" in said.out


def test_sentences_and_languages_can_be_chosen(measure: Run) -> None:
    found = measure("audit", "--languages", "he", "--sentences", "3", "--json").json
    assert list(found["languages"]) == ["en", "he"] and found["sentences"] == 3
    assert found["languages"]["he"]["tokens"] == sum(
        len(HEBREW[i]) for i in spread_order(len(HEBREW))[:3]
    )


def test_names_in_any_script_come_back_as_they_are(run: Run, tiny: Path, tmp_path: Path) -> None:
    write_corpus_folder(tmp_path / "קורפוס")
    ran = run("audit", tiny, "--corpus", "קורפוס", "--json", "--out", "תוצאה")
    assert ran.code == 0 and '"קורפוס"' in ran.out
    written = (tmp_path / "תוצאה" / "audit.json").read_text(encoding="utf-8")
    assert "קורפוס" in written


# --------------------------------------------------------------------------------------------- map


def test_map_scores_all_masks_and_ranks_layers_and_sets(measure: Run) -> None:
    ran = measure("map", "--scheme", SCHEME, "--arithmetic", "exact", "--json")
    found = ran.json
    assert (found["masks"], found["all_masks"], found["n_blocks"]) == (8, True, 3)
    layers = found["blocks"]
    assert [row["block"] for row in layers] == [0, 1, 2]
    # Shapley values share out what protecting everything saves: all of K with nothing protected.
    total = sum(row["shapley_damage"] for row in layers)
    assert total == pytest.approx(found["unprotected"]["damage"], rel=1e-6)
    assert [(row["size"], row["sets"]) for row in found["best_sets"]] == [(1, 3), (2, 3)]
    kept = {(row["block"],): row["protected_damage"] for row in layers}
    least = found["best_sets"][0]["least_damage"]
    assert least["blocks"] == list(min(kept, key=kept.__getitem__))
    whole = measure("audit", "--scheme", SCHEME, "--json").json
    damages = [row["damage"] for row in whole["languages"].values()]
    assert found["unprotected"]["damage"] == pytest.approx(np.mean(damages), rel=1e-6)


def test_a_map_by_matrix_says_what_each_does_to_each_language(measure: Run, run: Run) -> None:
    ran = measure("map", "--units", "--scheme", SCHEME, "--arithmetic", "exact", "--json")
    found = ran.json
    assert len(found["units"]) == found["n_blocks"] * 7  # q k v o, gate up down
    assert {row["unit"] for row in found["units"]} >= {"self_attn.q_proj", "mlp.down_proj"}
    for a in range(len(found["languages"])):
        assert sum(row["shares"][a] for row in found["units"]) == pytest.approx(1)
    shown = measure("map", "--units", "--scheme", SCHEME, "--arithmetic", "exact").out
    assert "What each matrix does alone" in shown and "L0 " in shown
    assert run("figures").code == 0
    for other in (["--within", "1h"], ["--all-masks"]):
        refused = measure("map", "--units", *other)
        assert refused.code == 2 and "give one" in refused.err


def test_the_map_s_table_has_every_layer_and_every_size(measure: Run) -> None:
    said = measure("map", "--scheme", SCHEME).out
    heads = [line.split() for line in said.splitlines() if line.startswith("block ")]
    for layer in range(3):
        assert sum(line.startswith(f"L{layer} ") for line in said.splitlines()) == len(heads) == 4
    assert "off S" in said and "φ K" in said
    assert "Best sets to keep whole" in said and "No intervals:" in said
    assert "The origin's set 0, 2 leaves less damage than" in " ".join(said.split())


def test_a_map_of_more_than_fourteen_blocks_samples_the_same_masks_for_a_seed(
    run: Run, deep: Path
) -> None:
    def mapped(*options: str) -> Any:
        ran = run(
            *("map", deep, "--corpus", "text", "--languages", "he", "--sentences", "2"),
            *("--scheme", SCHEME, "--json", *options),
        )
        assert ran.code == 0, ran.err
        return ran.json, ran.err

    found, _ = mapped()
    assert found["all_masks"] is False and found["n_blocks"] == 15
    sets = {row["size"]: row["sets"] for row in found["best_sets"]}
    assert all(sets[size] == comb(15, size) for size in (1, 2, 13, 14))
    assert {1, 2, 3, 13, 14} <= set(sets) <= set(range(1, 15)), "a sample of the other sizes"
    again, said = mapped()
    assert "nothing left to score" in said and again["blocks"] == found["blocks"]
    _, said = mapped("--seed", "1", "--dry-run")
    assert f'"plans": {found["masks"]}' not in said


# ------------------------------------------------------------------------------------- investigate


def test_investigate_gives_a_verdict_on_every_experiment(
    measure: Run, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = replace(investigate_module.TIERS["smoke"], sentences=6)
    monkeypatch.setitem(investigate_module.TIERS, "smoke", short)
    told = measure("investigate", "--tier", "smoke", "--dry-run")
    assert "for scoring; controls and statistics come on top" in " ".join(told.out.split())
    ran = measure("investigate", "--tier", "smoke", "--json", "--out", "out")
    assert ran.code == 0, ran.err
    with Store("bitgap.db", read_only=True) as store:
        share = scoring_share(store, short)
    assert share is not None and 0 < share < 1, "the next forecast knows what controls take"
    left = measure("investigate", "--tier", "smoke", "--dry-run", "--json").json["preflight"]
    assert left["plans"] == left["plans_in_store"] > 0
    assert (left["block_evaluations"], left["head_evaluations"], left["time_s"]) == (0, 0, 0)
    found = ran.json
    built = [e["id"] for e in run("list", "--json").json["experiments"]]
    assert [f["experiment"] for f in found["findings"]] == built
    labels = {f["verdict"]["label"] for f in found["findings"]}
    assert labels <= set(get_args(Label))
    assert found["operating_point"] == found["plan"] == found["audit"]["plan"]
    assert found["sentences"] == found["audit"]["n_sentences"] == 6
    figures = {p.name.removesuffix(".vl.json") for p in (tmp_path / "out").glob("*.vl.json")}
    assert figures >= {"languages", "blocks", "landscape", *(id_.lower() for id_ in built)}
    for name in ("languages", "blocks", *(id_.lower() for id_ in built)):
        check_figure(json.loads((tmp_path / "out" / f"{name}.vl.json").read_text("utf-8")))
    written = json.loads((tmp_path / "out" / "investigate.json").read_text("utf-8"))
    assert written == found
    again = run("results", "--json", "--out", "again")
    assert len(again.json["runs"][0]["findings"]) == len(built)
    for id_ in built:
        name = f"{id_.lower()}.vl.json"
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "out" / name).read_bytes()


def test_investigate_says_when_the_model_has_learned_too_little(run: Run, deep: Path) -> None:
    ran = run("investigate", deep, "--corpus", "text", "--tier", "smoke")
    ran.refused(1, "learned too little")


def test_the_tiers_offered_are_those_there_are() -> None:
    assert set(TIERS) == set(investigate_module.TIERS)


# ----------------------------------------------------------------------------- what needs no model


def test_list_shows_every_experiment_and_what_it_costs_on_this_model(run: Run, tiny: Path) -> None:
    found = run("list", tiny, "--json").json
    rows = found["experiments"]
    assert [row["id"] for row in rows] == [experiment.id for experiment in CATALOG]
    assert found["n_blocks"] == 3
    for row in rows:
        assert row.keys() >= {"hypothesis", "phase", "value"}
        assert row["block_evaluations"] >= 0
    whole = {row["id"]: row for row in run("list", "--json").json["experiments"]}
    # T-005 reads weights and runs no text.
    running = [row for row in rows if row["id"] != "T-005"]
    assert all(
        row["block_evaluations"] < whole[row["id"]]["block_evaluations"] for row in running
    ), "twelve blocks cost more than three"
    said = run("list").out
    assert all(re.search(rf"{row['id']} +{re.escape(row['hypothesis'])}", said) for row in rows)


def test_show_tells_question_method_cost_and_thresholds(run: Run) -> None:
    said = run("show", "t4").out
    assert said.startswith("T-004 · H2.1") and "Method:" in said and "declared (" in said
    found = run("show", "T-004", "--json").json
    assert all(str(value) in said for value in found["parameters"].values())
    run("show", "T-099").refused(2, "T-099", "T-001")


@pytest.mark.parametrize("verb", [verb.name for verb in VERBS])
def test_every_command_takes_the_common_options(verb: str) -> None:
    options = (
        "--corpus c --store s --out o --json --arithmetic fast --seed 3 --threads 2 --memory 1G"
    )
    needed = {
        **{"show": ["T-001"], "predict": ["m"], "check": ["f"], "compare": ["1"]},
        **{"contents": ["f"], "gate": ["--max-harm", "1"]},
        **{"export": ["r.toml", "--to", "gguf"], "verify": ["shipped/gguf"]},
    }.get(verb, [])
    found = make_parser().parse_args([verb, *needed, *options.split()])
    assert (found.corpus, found.store, found.out, found.json) == ("c", "s", "o", True)
    assert (found.arithmetic, found.seed, found.threads, found.memory) == ("fast", 3, 2, "1G")


def test_every_command_is_named_with_the_public_functions_that_it_calls() -> None:
    page = (Path(__file__).parents[1] / "docs" / "api" / "commands.md").read_text("utf-8")
    rows = [line.split("|") for line in page.splitlines() if line.startswith("| ")][2:]
    assert [name for row in rows for name in row[1].replace(",", " ").split()] == [
        verb.name for verb in VERBS
    ]
    for row in rows:
        functions = re.findall("`([^`]+)`", row[2])
        assert functions and all(callable(resolve_name(name)) for name in functions), row


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["map", "--help"]])
def test_help_is_no_failure(run: Run, arguments: list[str]) -> None:
    ran = run(*arguments)
    assert ran.code == 0 and ran.err == "" and "bitgap" in ran.out


# -------------------------------------------------------------------------------- before measuring


def test_a_dry_run_says_what_it_would_cost_and_leaves_no_trace(
    measure: Run, tmp_path: Path
) -> None:
    before = set(tmp_path.iterdir())
    exact = ("map", "--dry-run", "--arithmetic", "exact")
    found = measure(*exact, "--json", "--out", "out").json["preflight"]
    assert (found["plans"], found["plans_in_store"]) == (8, 1), "protecting all rounds nothing"
    assert (found["block_evaluations"], found["head_evaluations"]) == (13, 7)
    assert found["time_s"] > 0 and found["memory_bytes"] > 0
    fast = measure("map", "--dry-run", "--arithmetic", "fast", "--json").json["preflight"]
    # Where products round, plans that round one or two blocks share a tree of their own (12).
    light = products_round(Settings(arithmetic="fast"))
    assert fast["block_evaluations"] == (3 + 12 if light else 13)
    said = measure(*exact).out
    assert "7 to score of 8" in said and "13 to run" in said
    assert set(tmp_path.iterdir()) == before
    for verb in ("audit", "investigate"):
        ran = measure(verb, "--dry-run", "--json")
        assert ran.json["preflight"]["time_s"] > 0
        assert ran.err.count("reading ") == 1, "the model is loaded once"


def test_a_dry_run_leaves_out_what_the_store_has(measure: Run) -> None:
    assert measure("map", "--sentences", "4").code == 0
    found = measure("map", "--sentences", "4", "--dry-run", "--json").json["preflight"]
    assert found["plans_in_store"] == found["plans"] == 8
    assert found["time_s"] == 0
    other = measure("map", "--sentences", "5", "--dry-run", "--json").json["preflight"]
    assert other["plans_in_store"] == 1


def test_what_it_cost_is_told_beside_what_was_predicted(measure: Run) -> None:
    ran = measure("audit", "--json")
    assert ran.json["cost"].keys() == {"predicted_s", "took_s", "predicted_bytes", "peak_bytes"}
    assert all(value >= 0 for value in ran.json["cost"].values())
    assert "took" in ran.err and ran.err.count("predicted") == 2


# ----------------------------------------------------------------------------------------- outputs


def test_out_gets_json_and_figures_that_parse(measure: Run, run: Run, tmp_path: Path) -> None:
    for verb, figure in (("audit", "languages"), ("map", "blocks")):
        ran = measure(verb, "--json", "--out", "a/b")
        written = json.loads((tmp_path / "a" / "b" / f"{verb}.json").read_text("utf-8"))
        assert written == ran.json
        check_figure(json.loads((tmp_path / "a" / "b" / f"{figure}.vl.json").read_text("utf-8")))
    for verb, *more in (("list",), ("show", "T-002"), ("results",)):
        ran = run(verb, *more, "--json", "--out", "a/b")
        written = json.loads((tmp_path / "a" / "b" / f"{verb}.json").read_text("utf-8"))
        assert written == ran.json


def test_results_shows_runs_and_writes_tables(measure: Run, run: Run, tmp_path: Path) -> None:
    found = measure("audit", "--scheme", SCHEME, "--json").json
    said = run("results", "--parquet", "tables")
    assert said.code == 0 and "1 plan scored on 1 text" in said.out and "audit" in said.out
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = parquet.read_table(tmp_path / "tables" / "scores.parquet").to_pylist()
    for code, row in found["languages"].items():
        nats = sum(r["nll_nats"] for r in rows if r["language"] == code)
        assert nats / np.log(2) == pytest.approx(row["nll_q_bits"])
    assert len(rows) == 3 * 8


@pytest.mark.parametrize("columns", ["80", "200"])
def test_no_line_is_longer_than_eighty_columns_nor_coloured_without_a_terminal(
    measure: Run, run: Run, monkeypatch: pytest.MonkeyPatch, columns: str
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    said = [measure(verb).out for verb in ("audit", "map")]
    said += [measure("map", "--dry-run").out, run("list").out, run("results").out]
    said += [run("show", experiment.id).out for experiment in CATALOG]
    lines = [line for text in said for line in text.splitlines()]
    assert len(lines) > 100
    assert max(map(len, lines)) <= 80
    assert not any("\x1b" in line or line != line.rstrip() for line in lines)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--within", "soon"], "write for example 2h, 2h30m, 45min or 90s"),
        (["--within", "0.001s"], "too short"),
        (["--within", "1h", "--all-masks"], "give one"),
        (["--within", "1h", "--sentences", "4"], "give one"),
    ],
)
def test_a_time_that_cannot_be_kept_is_refused(measure: Run, options: list[str], said: str) -> None:
    ran = measure("investigate", "--languages", "he", *options)
    assert ran.code == 2 and said in ran.err


@pytest.mark.parametrize("name", [verb.name for verb in VERBS])
def test_the_help_of_every_verb_ends_in_an_example_that_can_be_typed(name: str, run: Run) -> None:
    ran = run(name, "--help")
    assert ran.code == 0
    heading, example = ran.out.rstrip().splitlines()[-2:]
    assert heading == "example:" and example.strip().startswith(f"bitgap {name} ")
    assert make_parser().parse_args(shlex.split(example)[1:]).command == name
