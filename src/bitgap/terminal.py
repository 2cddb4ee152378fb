"""How results look in a terminal: tables of at most 80 columns, and a progress bar.

Each ``*_view`` takes the JSON result of a verb and returns what to show, so a table never says
anything that ``--json`` does not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console, Group
from rich.padding import Padding
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

_WIDTH = 80
_STYLES = {"supported": "green", "refuted": "red", "inconclusive": "yellow", "not testable": "dim"}


def show(what: Any) -> None:
    """Prints a result to stdout, at most 80 columns wide, in colour only on a terminal."""
    console = Console(highlight=False)
    console = Console(highlight=False, width=min(console.width, _WIDTH))
    console.print(what)


def say(text: str) -> None:
    """Prints a line to stderr."""
    Console(stderr=True, highlight=False, soft_wrap=True).print(Text(text, style="dim"))


class Bar:
    """A progress bar on stderr with the time left; silent when stderr is no terminal."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    def start(self, label: str, total_s: float) -> None:
        """Shows the bar."""
        if not self._console.is_terminal:
            return
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
        )
        self._progress.start()
        self._task = self._progress.add_task(label, total=max(total_s, 1e-9))

    def advance(self, seconds: float) -> None:
        """Moves it by predicted seconds."""
        if self._progress is not None and self._task is not None:
            self._progress.advance(self._task, seconds)

    def stop(self) -> None:
        """Takes it away."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


# -- lines ----------------------------------------------------------------------------------------


def preflight_line(cost: Mapping[str, Any]) -> str:
    """Returns what is about to happen, in one line."""
    saved = cost["block_evaluations_without_sharing"] / max(cost["block_evaluations"], 1)
    return (
        f"{cost['plans']} plans, {cost['plans_in_store']} of them known; "
        f"{cost['block_evaluations']} block evaluations (sharing saves {saved:.1f}x); "
        f"about {duration(cost['time_s'])} and {size(cost['memory_bytes'])}"
    )


def cost_line(cost: Mapping[str, Any], run: int, store: str) -> str:
    """Returns what happened beside what was predicted, in one line."""
    return (
        f"took {duration(cost['took_s'])} (predicted {duration(cost['predicted_s'])}), "
        f"{size(cost['peak_bytes'])} beside the model (predicted "
        f"{size(cost['predicted_bytes'])}); run {run} in {store}"
    )


def duration(seconds: float) -> str:
    """Returns a time as people say it."""
    if seconds < 90:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def size(n_bytes: float) -> str:
    """Returns an amount of memory."""
    return f"{n_bytes / 2**20:.0f} MiB" if n_bytes < 2**30 else f"{n_bytes / 2**30:.1f} GiB"


# -- views ----------------------------------------------------------------------------------------


def preflight_view(result: Mapping[str, Any]) -> Any:
    """Shows ``--dry-run``."""
    return Text(preflight_line(result["preflight"]))


def audit_view(result: Mapping[str, Any]) -> Any:
    """Shows damage by language, and what sums it up."""
    table = Table(
        title=f"{result['model']}: {result['plan']}", title_justify="left", box=None, pad_edge=False
    )
    for name in ("language", "damage K", "95 %", "K/learned", "ΔNLL", "tokens", ""):
        table.add_column(name, justify="left" if name in ("language", "") else "right")
    for code, row in result["languages"].items():
        table.add_row(
            code,
            _short(row["damage"]),
            _interval(row["ci"]),
            _percent(row.get("learned_share")),
            _signed(row["delta"]),
            f"{row['tokens']}",
            Text(_flags(row), style="yellow"),
        )
    notes = [Text("K and ΔNLL in bits per English character", style="dim"), Text("")]
    summary = Table(box=None, pad_edge=False, show_header=False)
    for name, meaning in (
        ("D", "mean log2 damage ratio to the reference"),
        ("D_share", "the same of damage over what was learned"),
        ("G", "gap on real text, bits per English character"),
        ("H", "harm, mean over languages"),
        ("D_seed", "the origin's measure"),
    ):
        if name in result:
            summary.add_row(name, _estimate(result[name]), Text(meaning, style="dim"))
    caveats = [Text(f"· {line}", style="dim") for line in result.get("caveats", ())]
    return Group(table, *notes, summary, Text(""), *caveats)


def _flags(row: Mapping[str, Any]) -> str:
    said = [name.replace("_", " ") for name in ("collapsed", "below_resolution") if row.get(name)]
    return ", ".join(said)


def map_view(result: Mapping[str, Any]) -> Any:
    """Shows what each layer contributes, and the best sets."""
    layers = Table(
        title=f"{result['masks']} masks at {result['scheme']}, {result['sentences']} sentences",
        title_justify="left", box=None, pad_edge=False,
    )  # fmt: skip
    for name in ("layer", "φ damage", "95 %", "φ gap", "φ |D|", "alone K", "D if kept"):
        layers.add_column(name, justify="right")
    for row in result["layers"]:
        layers.add_row(
            f"L{row['layer']}",
            _short(row["shapley_damage"]),
            _interval(row["shapley_damage_ci"]),
            _signed(row["shapley_gap"]),
            _signed(row["shapley_disparity"]),
            _short(row["single_damage"]),
            _signed(row["protected_disparity"]),
        )
    best = Table(title="Best sets to keep", title_justify="left", box=None, pad_edge=False)
    for name in ("size", "least damage", "K", "least |D|, nobody worse off", "D"):
        best.add_column(name, justify="left" if "l" in name else "right")
    for row in result["best_sets"][:6]:
        least, even = row["least_damage"], row["least_disparity"]
        best.add_row(
            str(row["size"]),
            _layers(least["layers"]),
            _short(least["damage"]),
            _layers(even["layers"]) if even else "none",
            _signed(even["disparity"]) if even else "",
        )
    notes = [
        "φ: Shapley value, how much keeping the layer whole lowers damage (bits per English "
        "character, mean over languages), gap, and |D|; alone K: damage when only it is rounded.",
        _origin_line(result["origin_set"]),
        *result["caveats"],
    ]
    said = [Text(f"· {line}", style="dim") for line in notes if line]
    return Group(layers, Text(""), best, Text(""), *said)


def _origin_line(origin: Mapping[str, Any]) -> str:
    layers = _layers(origin["layers"])
    if origin.get("rank_damage") is None:
        return f"The origin's set {layers}: no rank, {origin.get('reason')}."
    told = f"rank {origin['rank_damage']} of {origin['sets']} by damage"
    if origin.get("rank_disparity") is not None:
        told += f", {origin['rank_disparity']} by |D|"
    return f"The origin's set {layers}: {told}."


def investigation_view(result: Mapping[str, Any]) -> Any:
    """Shows the audit, the map and the verdicts."""
    head = Text(f"Operating point {result['operating_point']}, tier {result['tier']}", style="bold")
    audit = audit_view(result["audit"] | {"model": result["model"], "plan": "nothing protected"})
    return Group(head, Text(""), audit, Text(""), map_view(result["map"]), Text(""),
                 *_verdicts(result["findings"]))  # fmt: skip


def _verdicts(findings: Sequence[Mapping[str, Any]]) -> list[Any]:
    out: list[Any] = []
    for finding in findings:
        verdict = finding["verdict"]
        line = Text(f"{finding['experiment']} {finding['hypothesis']} {finding['title']}: ")
        line.append(verdict["label"], style=_STYLES.get(verdict["label"], ""))
        out.append(line)
        body = [Text(finding["sentence"]), Text(verdict["reason"], style="dim")]
        main = finding["estimates"][finding["primary"]]
        effect = f"effect {_estimate(main)} {main['unit']}"
        ps = [
            f"{name} {verdict[key]:.3g}"
            for name, key in (("p", "p"), ("Holm p", "p_holm"), ("smallest p", "p_minimum"))
            if verdict[key] is not None
        ]
        body.append(Text(", ".join([effect, *ps]), style="dim"))
        for control in finding["controls"]:
            mark = {True: "held", False: "FAILED", None: "not run"}[control["passed"]]
            body.append(Text(f"{control['kind']} control {control['name']}: {mark}", style="dim"))
        out.append(Padding(Group(*body), (0, 0, 1, 2)))
    return out


def list_view(result: Mapping[str, Any]) -> Any:
    """Shows the catalog."""
    model = result["model"] or "the bundled model"
    table = Table(
        title=f"Experiments on {model}, {result['n_blocks']} blocks",
        title_justify="left", box=None, pad_edge=False,
    )  # fmt: skip
    for name in ("id", "hypothesis", "what", "phase", "value", "blocks", "heads"):
        table.add_column(name, justify="right" if name in ("blocks", "heads") else "left")
    for row in result["experiments"]:
        cost = [_count(row["block_evaluations"]), _count(row["head_evaluations"])]
        table.add_row(
            row["id"], row["hypothesis"], row["title"], str(row["phase"]), row["value"], *cost,
            style=None if row["built"] else "dim",
        )  # fmt: skip
    note = "blocks, heads: evaluations on the whole text before sharing; a dash: not built yet"
    return Group(table, Text(note, style="dim"))


def show_view(result: Mapping[str, Any]) -> Any:
    """Shows one experiment."""
    lines = [Text(f"{result['id']} · {result['hypothesis']} · {result['title']}", style="bold")]
    lines += [Text(result["question"]), Text("")]
    if result["method"]:
        lines += [Text(result["method"].strip()), Text("")]
    else:
        lines += [Text("Not built yet in this version."), Text("")]
    lines.append(Text(f"phase {result['phase']}: {result['phase_name']}; value {result['value']}"))
    if result["block_evaluations"] is not None:
        lines.append(
            Text(f"cost: {result['block_evaluations']} blocks, {result['head_evaluations']} heads")
        )
    lines += [Text(f"{name} = {value}") for name, value in result["parameters"].items()]
    declared = ", ".join(f"{name} {value}" for name, value in result["declared"].items())
    lines.append(Text(f"declared ({result['thresholds_hash']}): {declared}", style="dim"))
    return Group(*lines)


def results_view(result: Mapping[str, Any]) -> Any:
    """Shows what a store holds."""
    table = Table(title=result["store"], title_justify="left", box=None, pad_edge=False)
    for name in ("run", "command", "model", "plan", "started", "took"):
        table.add_column(name)
    for run in result["runs"]:
        provenance = run["provenance"]
        table.add_row(
            str(run["run"]), run["command"], str(run["model"]), str(run["plan"]),
            provenance["started"], duration(provenance["wall_s"]),
        )  # fmt: skip
    out: list[Any] = [table, Text("")]
    for run in result["runs"]:
        if run["findings"]:
            changed = ", thresholds changed since" if run["thresholds_changed"] else ""
            out.append(Text(f"Run {run['run']}, judged again{changed}:", style="bold"))
            out += _verdicts(run["findings"])
    scored = sum(text["plans"] for text in result["texts"])
    out.append(Text(f"{scored} plans scored on {len(result['texts'])} texts", style="dim"))
    return Group(*out)


# -- numbers --------------------------------------------------------------------------------------


def _short(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.1e}" if 0 < abs(value) < 1e-4 else f"{value:.4f}"


def _signed(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:+.1e}" if 0 < abs(value) < 1e-4 else f"{value:+.4f}"


def _percent(value: Any) -> str:
    number = value.get("value") if isinstance(value, Mapping) else value
    return "–" if number is None else f"{number:.2%}"


def _interval(ends: Sequence[float | None] | None) -> str:
    if not ends or ends[0] is None or ends[1] is None:
        return "–"
    return f"{_short(ends[0])}…{_short(ends[1])}"


def _estimate(value: Any) -> str:
    if not isinstance(value, Mapping):
        return _short(value)
    if "mean" in value:
        return _estimate(value["mean"])
    if value["value"] is None:
        return f"none: {value['reason']}"
    if value["low"] is None:
        return f"{value['value']:+.4g}"
    return f"{value['value']:+.4g} [{value['low']:+.4g}, {value['high']:+.4g}]"


def _layers(layers: Sequence[int]) -> str:
    return ",".join(str(layer) for layer in layers)


def _count(value: int | None) -> str:
    return "–" if value is None else str(value)
