"""What a store holds, as one summary or as tidy tables; findings are judged again.

Nothing here measures and nothing needs torch: verdicts come from stored observations and today's
declared thresholds, so a store from years ago can still be read and judged.
"""

# Not strict: pyarrow has no types.
# pyright: standard
from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np

from bitgap.errors import MissingExtra
from bitgap.experiments.catalog import NEED_DISPARITY, find
from bitgap.lab.store import Store
from bitgap.records import Finding, Floats, Integers, Provenance
from bitgap.show.numbers import short_name
from bitgap.stats.verdicts import gated, load_thresholds, scoped, with_holm

Judged = Mapping[int, Sequence[Finding]]
"""Every run's findings, as :func:`all_judged_again` gives them."""
Columns = Mapping[str, str]
"""Name to the Arrow type of each column."""
Batch = Mapping[str, Sequence[Any] | Floats | Integers]
"""Some rows, by column."""

# Rows held at once: a layer map can have millions.
_BATCH_ROWS = 200_000

_SCORES: Columns = {
    **dict.fromkeys(("model", "corpus", "arithmetic", "text", "plan", "language"), "string"),
    "sentence": "int64",
    **dict.fromkeys(("nll_nats", "kl_nats", "nll_fp_nats"), "float64"),
    **dict.fromkeys(("tokens", "bytes", "characters"), "int64"),
}
_FINDINGS: Columns = {
    "run": "int64",
    **dict.fromkeys(("experiment", "hypothesis", "verdict"), "string"),
    **dict.fromkeys(("p", "p_holm"), "float64"),
    "estimate": "string",
    **dict.fromkeys(("value", "low", "high"), "float64"),
    **dict.fromkeys(("unit", "reason"), "string"),
}
_RUNS: Columns = {
    "run": "int64",
    "command": "string",
    **{
        field.name: {"int": "int64", "float": "float64"}.get(str(field.type), "string")
        for field in fields(Provenance)
    },
}


def judged_together(
    findings: Sequence[Finding], nothing_to_explain: bool | None, about: Mapping[str, Any] = {}
) -> list[Finding]:
    """Returns one run's findings as the family they are: gates closed, Holm over all of them, for
    support and for refutation, and what was looked at in every scope and sentence.

    Args:
        findings: As each was judged alone.
        nothing_to_explain: Whether the run's audit found no disparity; None where it cannot tell.
        about: What the run is about, for :func:`model_scope`.

    Example:
        >>> [finding.verdict.p_holm for finding in judged_together([FINDING, FINDING], None)]
        [0.06, 0.06]
    """
    thresholds = load_thresholds()
    open_ones = gated(findings, bool(nothing_to_explain), NEED_DISPARITY)
    adjusted = with_holm(open_ones, thresholds.alpha, exploratory=thresholds.exploratory)
    return [scoped(finding, model_scope(about)) for finding in adjusted]


def model_scope(about: Mapping[str, Any]) -> str:
    """Returns what a verdict on one model speaks of, in words; empty where nothing is known.

    Args:
        about: What a run is about, with ``model``, ``n_blocks``, ``corpus`` and ``sentences``
            where they are known.

    Example:
        >>> model_scope({"model": "zoo/opt-12", "n_blocks": 12, "corpus": "ntrex", "sentences": 32})
        'opt-12, 12 blocks, ntrex text, 32 sentences'
    """
    said = list[str]()
    if model := about.get("model"):
        said.append(short_name(model))
    for key, words in (
        ("n_blocks", "{} blocks"), ("corpus", "{} text"), ("sentences", "{} sentences"),
    ):  # fmt: skip
        if (value := about.get(key)) is not None:
            said.append(words.format(value))
    return ", ".join(said)


def judged_again(store: Store, run: int) -> list[Finding]:
    """Returns a run's findings, judged anew where observations of today's version are there.

    The gates are those of the run: where its audit found nothing to explain, nothing is.

    Example:
        >>> [finding.verdict.label for finding in judged_again(STORE, 1)]
        ['supported']
    """
    findings = list[Finding]()
    for finding, key in store.findings(run):
        experiment, observations = find(finding.experiment), store.get_observations(key)
        # Observations of another version of the measurement mean something else to today's judge.
        if observations is not None and observations.version == experiment.version:
            finding = experiment.judge(observations, load_thresholds())
        findings.append(finding)
    summary = store.run(run)[3]
    return judged_together(findings, _nothing_to_explain(summary), summary)


def _nothing_to_explain(summary: Mapping[str, Any]) -> bool:
    # Before 2026-11-29 a run held no records but its JSON.
    kept = summary.get("records", {}).get("investigation", {}).get("report")
    return bool((kept or summary.get("audit") or {}).get("nothing_to_explain"))


def all_judged_again(store: Store) -> dict[int, list[Finding]]:
    """Returns the findings of every run by its number, as :func:`judged_again` gives them.

    Example:
        >>> {run: len(findings) for run, findings in all_judged_again(STORE).items()}
        {1: 1}
    """
    return {number: judged_again(store, number) for number in store.run_numbers()}


def summary(store: Store, findings: Judged | None = None) -> dict[str, Any]:
    """Returns every run, its findings judged anew, and what was scored, as JSON.

    Args:
        store: What to read.
        findings: Every run's, where they were judged before.

    Example:
        >>> (run,) = summary(STORE)["runs"]
        >>> run["command"], run["model"], run["thresholds_changed"]
        ('investigate', 'toy', False)
    """
    judged = all_judged_again(store) if findings is None else findings
    runs = list[dict[str, Any]]()
    for number, command, provenance, result in store.runs():
        runs.append(
            {
                "run": number,
                "command": command,
                "model": result.get("model"),
                "corpus": result.get("corpus"),
                "plan": result.get("plan"),
                "provenance": asdict(provenance),
                "thresholds_changed": provenance.thresholds_hash != load_thresholds().hash,
                "findings": [asdict(finding) for finding in judged[number]],
            }
        )
    texts = [
        {"text": key, **facts, "plans": len(store.scored_plans(key))}
        for key, facts, _ in store.scored_texts()
    ]
    return {"store": store.path, "runs": runs, "texts": texts}


def write_parquet(store: Store, folder: Path, findings: Judged | None = None) -> list[Path]:
    """Writes tidy tables: a row a (plan, language, sentence), a finding's estimate, and a run.

    A table without rows has its columns all the same. A table is written whole or not at all.

    Args:
        store: What to read.
        folder: Made where it is not there.
        findings: Every run's, where they were judged before.

    Raises:
        MissingExtra: If pyarrow is not installed.
        StoreError: If a row of the store is damaged.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     [path.name for path in write_parquet(STORE, Path(folder))]
        ['scores.parquet', 'findings.parquet', 'runs.parquet']
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise MissingExtra(
            "--parquet needs pyarrow, which is not installed; pip install 'bitgap[parquet]'"
        ) from None
    folder.mkdir(parents=True, exist_ok=True)
    judged = all_judged_again(store) if findings is None else findings
    paths = list[Path]()
    for name, (columns, batches) in _tables(store, judged).items():
        schema = pa.schema([(column, getattr(pa, kind)()) for column, kind in columns.items()])
        path, part = folder / f"{name}.parquet", folder / f".{name}.parquet.part"
        try:
            with pq.ParquetWriter(part, schema) as out:
                for batch in batches:
                    out.write_table(pa.Table.from_pydict(batch, schema=schema))
            os.replace(part, path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        paths.append(path)
    return paths


def _tables(store: Store, judged: Judged) -> dict[str, tuple[Columns, Iterable[Batch]]]:
    runs = [{"run": n, "command": c, **asdict(p)} for n, c, p, _ in store.runs()]
    return {
        "scores": (_SCORES, _scores(store)),
        "findings": (_FINDINGS, [_batch(_FINDINGS, list(_findings(judged)))]),
        "runs": (_RUNS, [_batch(_RUNS, runs)]),
    }


def _batch(columns: Columns, rows: Sequence[Mapping[str, Any]]) -> Batch:
    return {name: [row[name] for row in rows] for name in columns}


def _scores(store: Store) -> Iterator[Batch]:
    for key, facts, arrays in store.scored_texts():
        shape = arrays["nll_fp_nats"].shape
        n_languages, n_sentences = shape
        plans = store.scored_plans(key)
        step = max(1, _BATCH_ROWS // (n_languages * n_sentences))
        for start in range(0, len(plans), step):
            some = plans[start : start + step]
            both = np.stack([store.get_scores(plan_key, shape) for _, plan_key in some])
            n_rows = both[:, 0].size
            fixed = {name: facts[name] for name in ("model", "corpus", "arithmetic")}
            codes = [code for code in facts["languages"] for _ in range(n_sentences)]
            of_text = ("nll_fp_nats", "tokens", "bytes", "characters")
            yield {
                **{name: [value] * n_rows for name, value in fixed.items()},
                "text": [key[:12]] * n_rows,
                "plan": [plan for plan, _ in some for _ in range(n_languages * n_sentences)],
                "language": codes * len(some),
                "sentence": np.tile(np.arange(n_sentences), n_languages * len(some)),
                "nll_nats": both[:, 0].ravel(),
                "kl_nats": both[:, 1].ravel(),
                **{name: np.tile(arrays[name].ravel(), len(some)) for name in of_text},
            }


def _findings(judged: Judged) -> Iterator[dict[str, Any]]:
    for number, findings in judged.items():
        for finding in findings:
            verdict = finding.verdict
            of_finding = {
                "run": number,
                "experiment": finding.experiment,
                "hypothesis": finding.hypothesis,
                "verdict": verdict.label,
                "p": verdict.p,
                "p_holm": verdict.p_holm,
            }
            for name, estimate in finding.estimates.items():
                yield of_finding | {"estimate": name} | asdict(estimate)
