"""What a store holds, as one summary or as tidy tables; findings are judged again.

Nothing here measures and nothing needs torch: verdicts come from stored observations and today's
declared thresholds, so a store from years ago can still be read and judged.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bitgap.errors import MissingExtra
from bitgap.experiments.catalog import find
from bitgap.lab.store import Store
from bitgap.records import Finding
from bitgap.stats.verdicts import load_thresholds, with_holm


def judged_again(store: Store, run: int) -> list[Finding]:
    """Returns a run's findings, judged anew where observations of today's version are there."""
    thresholds = load_thresholds()
    findings = []
    for finding, key in store.findings(run):
        observations = store.get_observations(key)
        experiment = find(finding.experiment)
        # Observations of another version of the measurement mean something else to today's judge.
        same = observations is not None and observations.version == experiment.version
        if observations is not None and same and experiment.judge is not None:
            finding = experiment.judge(observations, thresholds)
        findings.append(finding)
    return with_holm(findings, thresholds.alpha)


def summary(store: Store) -> dict[str, Any]:
    """Returns every run, its findings judged anew, and what was scored, as JSON."""
    runs = []
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
                "findings": [asdict(finding) for finding in judged_again(store, number)],
            }
        )
    texts = [
        {"text": key, **facts, "plans": len(store.scored_plans(key))}
        for key, facts, _ in store.scored_texts()
    ]
    return {"store": store.path, "runs": runs, "texts": texts}


def write_parquet(store: Store, folder: Path) -> list[Path]:
    """Writes tidy tables: one row a (plan, language, sentence), a finding, and a run.

    Args:
        store: What to read.
        folder: Made where it is not there.

    Raises:
        MissingExtra: If pyarrow is not installed.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise MissingExtra(
            "--parquet needs pyarrow, which is not installed; pip install 'bitgap[parquet]'"
        ) from None
    folder.mkdir(parents=True, exist_ok=True)
    tables = {
        "scores": _scores(store),
        "findings": _findings(store),
        "runs": ({"run": n, "command": c, **asdict(p)} for n, c, p, _ in store.runs()),
    }
    paths = []
    for name, rows in tables.items():
        path = folder / f"{name}.parquet"
        pq.write_table(pa.Table.from_pylist(list(rows)), path)
        paths.append(path)
    return paths


def _scores(store: Store) -> Iterator[dict[str, Any]]:
    for key, facts, arrays in store.scored_texts():
        shape = arrays["nll_fp_nats"].shape
        for plan, plan_key in store.scored_plans(key):
            nll, kl = store.get_scores(plan_key, shape)
            for a, language in enumerate(facts["languages"]):
                for s in range(shape[1]):
                    yield {
                        "model": facts["model"],
                        "corpus": facts["corpus"],
                        "arithmetic": facts["arithmetic"],
                        "text": key[:12],
                        "plan": plan,
                        "language": language,
                        "sentence": s,
                        "nll_nats": float(nll[a, s]),
                        "kl_nats": float(kl[a, s]),
                        "nll_fp_nats": float(arrays["nll_fp_nats"][a, s]),
                        "tokens": int(arrays["tokens"][a, s]),
                        "bytes": int(arrays["bytes"][a, s]),
                        "characters": int(arrays["characters"][a, s]),
                    }


def _findings(store: Store) -> Iterator[dict[str, Any]]:
    for number, *_ in store.runs():
        for finding in judged_again(store, number):
            for name, estimate in finding.estimates.items():
                yield {
                    "run": number,
                    "experiment": finding.experiment,
                    "hypothesis": finding.hypothesis,
                    "verdict": finding.verdict.label,
                    "p": finding.verdict.p,
                    "p_holm": finding.verdict.p_holm,
                    "estimate": name,
                    "value": estimate.value,
                    "low": estimate.low,
                    "high": estimate.high,
                    "unit": estimate.unit,
                    "reason": estimate.reason,
                }
