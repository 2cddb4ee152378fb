"""The readers, and good inputs of each to begin with.

Nothing here imports torch but the readers of checkpoints, which stand in
:mod:`validation.fuzz.checkpoints`.
"""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from bitgap.cli.options import duration_s
from bitgap.corpora.grammar.agreement import load_agreement
from bitgap.corpora.grammar.treebank import load_treebanks
from bitgap.corpora.parallel import load_corpus
from bitgap.corpora.unigrams import load_unigrams
from bitgap.errors import BitgapError, StoreError, UsageError
from bitgap.lab.store import Store
from bitgap.lab.store_repair import repair
from bitgap.protect.example import PROBLEM, TABLE
from bitgap.protect.recipe import make_recipe, read_recipe, write_recipe
from bitgap.protect.sizes import Budget
from bitgap.protect.solve import solve
from bitgap.protect.tables import read_table, write_table
from bitgap.quant.plan import Plan
from bitgap.quant.schemes import parse_scheme
from bitgap.records import Observations
from bitgap.report.run import read_run
from bitgap.theory.files import read_evidence
from bitgap.theory.forecast.prediction import read_prediction
from validation.fuzz.run import Target

_ROOT = Path(__file__).parents[2]

_ENGLISH = "The baker opened her shop.\nNobody had told him.\nRain fell all night.\nShe keeps it.\n"
_HEBREW = "האופה פתחה את החנות.\nאיש לא אמר לו.\nגשם ירד כל הלילה.\nהיא שומרת אותו.\n"
_TREE = """# sent_id = 1
# text = Dogs don't bark.
1\tDogs\tdog\tNOUN\t_\tNumber=Plur\t4\tnsubj\t_\t_
2-3\tdon't\t_\t_\t_\t_\t_\t_\t_\t_
2\tdo\tdo\tAUX\t_\tMood=Ind|Number=Plur\t4\taux\t_\t_
3\tn't\tnot\tPART\t_\t_\t4\tadvmod\t_\t_
4\tbark\tbark\tVERB\t_\tVerbForm=Inf\t0\troot\t_\tSpaceAfter=No
5\t.\t.\tPUNCT\t_\t_\t4\tpunct\t_\t_

# text = הכלב נבח
1-2\tהכלב\t_\t_\t_\t_\t_\t_\t_\t_
1\tה\tה\tDET\t_\t_\t2\tdet\t_\t_
2\tכלב\tכלב\tNOUN\t_\tGender=Masc|Number=Sing\t3\tnsubj\t_\t_
3\tנבח\tנבח\tVERB\t_\tGender=Masc|Number=Sing\t0\troot\t_\t_
3.1\tx\tx\tX\t_\t_\t_\t_\t_\t_

"""
_CLAMS = (
    "True\tthe author laughs\nFalse\tthe author laugh\n"
    "True\tthe pilots smile\nFalse\tthe pilots smiles\n"
)
_BLIMP = (
    "sen\twrong_sen\tphenomenon\nthe author laughs\tthe author laugh\tSV-#\n"
    "the pilots smile\tthe pilots smiles\tSV-#\n"
)
_PLANS = (
    "rtn4-g128 protect 0,2-4",
    "rtn3-channel protect 0 units 3.mlp.down_proj=rtn6-g128,embed=rtn8-channel",
    "blocks rtn3-g64 rtn4-g64 fp",
    "fp",
    "seed4",
)


def _wide(separator: str) -> bytes:
    rows = zip(("en", *_ENGLISH.splitlines()), ("he", *_HEBREW.splitlines()), strict=True)
    return "\n".join(separator.join(row) for row in rows).encode()


def _jsonl() -> bytes:
    rows = zip(_ENGLISH.splitlines(), _HEBREW.splitlines(), strict=True)
    told = (
        json.dumps({"en": en, "he": he, "document": "a"}, ensure_ascii=False) for en, he in rows
    )
    return "\n".join(told).encode()


def _parquet() -> list[bytes]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        return []
    held = io.BytesIO()
    table = pa.table({"en": _ENGLISH.splitlines(), "he": _HEBREW.splitlines()})
    pq.write_table(table, held)
    return [held.getvalue()]


def _beside_english(folder: Path) -> None:
    (folder / "corpus" / "en.txt").write_text(_ENGLISH, encoding="utf-8")


def _recipe() -> bytes:
    budget = Budget(size_bytes=28400, fixed_bytes=0, asked="28.4kB")
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "recipe.toml"
        recipe = make_recipe(TABLE, solve(PROBLEM), budget, split="2" * 64, seed=0)
        write_recipe(recipe, path)
        return path.read_bytes()


def _table() -> bytes:
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "table.zip"
        write_table(TABLE, path)
        return path.read_bytes()


def _store() -> bytes:
    from bitgap.jobs.example import STORE

    rng = np.random.default_rng(0)
    number, command, provenance, summary = STORE.runs()[0]
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "s.db"
        with Store(path) as store:
            facts = {"model": "m", "languages": ["en", "he"], "reference": "en"}
            store.put_text("t", facts, {"nll_fp_nats": rng.normal(size=(2, 4))})
            rows = [
                (f"k{i}", f"rtn4-g128 protect {i}", rng.normal(size=(2, 2, 4))) for i in range(9)
            ]
            store.put_scores("t", rows)
            store.put_observations(
                "o", Observations(experiment="T-001", version=1, arrays={"x": np.ones(3)}, facts={})
            )
            store.put_run(command, provenance, summary, STORE.findings(number))
        return path.read_bytes()


def _read_store(path: Path) -> None:
    with Store(path, read_only=True) as store:
        calls: Sequence[Callable[[], object]] = (
            store.runs,
            store.scored_texts,
            lambda: store.scored_plans("t"),
            lambda: store.get_observations("o"),
            lambda: store.findings(1),
            lambda: store.get_scores("k1", (2, 4)),
        )
        for call in calls:
            with suppress(BitgapError):
                call()
    with suppress(BitgapError):
        read_run("1", str(path))
    with suppress(StoreError):
        repair(path)


def _read_times(text: str) -> None:
    import argparse

    from bitgap.report.run import find_run

    refused = list[Exception]()
    for read in (parse_scheme, lambda t: find_run(t, "x.db"), duration_s):
        try:
            read(text)
        except (BitgapError, argparse.ArgumentTypeError) as error:
            refused.append(error)
    if len(refused) == 3:
        raise UsageError(str(refused[0]))


def _first(pattern: str, n: int = 2) -> list[bytes]:
    return [path.read_bytes() for path in sorted(_ROOT.glob(pattern))[:n]]


def targets() -> list[Target]:
    """Returns every reader that needs no torch."""
    corpus = [_HEBREW.encode()]
    found = [
        Target(name="corpus, a text a language", file="corpus/he.txt", seeds=corpus,
               read=lambda p: load_corpus(p.parent), beside=_beside_english),
        Target(name="corpus, TSV", file="x.tsv", seeds=[_wide("\t")], read=load_corpus),
        Target(name="corpus, CSV", file="x.csv", seeds=[_wide(","), _wide(";")], read=load_corpus),
        Target(name="corpus, JSON lines", file="x.jsonl", seeds=[_jsonl()], read=load_corpus),
        Target(name="corpus, Parquet", file="x.parquet", seeds=_parquet(), read=load_corpus),
        Target(name="treebank", file="en_x-ud-test.conllu", seeds=[_TREE.encode()],
               read=load_treebanks),
        Target(name="minimal pairs, CLAMS", file="p/en/simple_agrmt.txt", seeds=[_CLAMS.encode()],
               read=lambda p: load_agreement(p.parents[1])),
        Target(name="minimal pairs, MultiBLiMP", file="p/en/data.tsv", seeds=[_BLIMP.encode()],
               read=lambda p: load_agreement(p.parents[1])),
        Target(name="unigrams, counts", file="u/en.tsv", seeds=[b"0\t12\n1\t7\n2\t99\n"],
               read=lambda p: load_unigrams(p.parent, None, 64, ("en",))),
        Target(name="plan", file="text", seeds=[p.encode() for p in _PLANS],
               read=lambda t: Plan.parse(str(t), 12)),
        Target(name="scheme, run, time", file="text",
               seeds=[b"rtn4-g128", b"nf4-g64", b"other.db:12", b"2h30m"],
               read=lambda t: _read_times(str(t))),
        Target(name="recipe", file="recipe.toml", seeds=[_recipe()], read=read_recipe),
        Target(name="damage table", file="t.zip", seeds=[_table()], read=read_table),
        Target(name="prediction", file="p.json", read=read_prediction,
               seeds=_first("docs/predictions/*-weights-rtn*.json")),
        Target(name="evidence", file="m.evidence.zip", seeds=_first("evidence/*.evidence.zip", 1),
               read=read_evidence),
        Target(name="store, read and repaired", file="s.db", seeds=[_store()], read=_read_store,
               head=1 << 15),
    ]  # fmt: skip
    return [one for one in found if one.seeds]
