"""A table to try things on: three blocks, an embedding, six schemes, three languages."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bitgap.protect.problem import make_problem
from bitgap.protect.records import DamageTable, Matrix, TableFacts, Unit
from bitgap.protect.sizes import plain_choice
from bitgap.protect.solve import solve
from bitgap.records import Floats, Integers, Scores, TextCounts

BITS = (2, 3, 4, 5, 6, 8)
SCHEMES = tuple(f"rtn{bits}-g64" for bits in BITS)


def _units() -> tuple[Unit, ...]:
    shapes = {"attention": (64, 64), "mlp": (128, 64)}
    of_blocks = [
        Unit(
            name=f"{block}.{kind}",
            kind=kind,
            block=block,
            matrices=(Matrix(name=f"blocks.{block}.{kind}", n_out=shape[0], n_in=shape[1]),),
        )
        for block in range(3)
        for kind, shape in shapes.items()
    ]
    embedding = Matrix(name="embedding", n_out=256, n_in=64)
    return (
        Unit(name="embedding", kind="tied", block=None, matrices=(embedding,)),
        *of_blocks,
    )


def _example() -> DamageTable:
    """Returns a table in which Hebrew is hurt by one unit that others hardly need."""
    rng, units = np.random.default_rng(0), _units()
    level = np.array([1.0, 1.4, 0.05])  # of languages
    needs = np.array([2.0, 8.0, 1.0, 0.5, 0.5, 4.0, 1.0])  # of units
    own = np.ones((3, len(units)))
    own[2, 3] = 30.0
    fall = 4.0 ** -np.array(BITS)
    mean = 0.5 * (level[:, None] * needs * own)[:, :, None] * fall
    characters = np.full(24, 50)
    noise = rng.gamma(8, 1 / 8, (3, 1, 1, 24)) * rng.gamma(20, 1 / 20, (3, len(units), 1, 24))
    sentence_bits = mean[..., None] * noise * 50
    facts = TableFacts(
        model="example",
        fingerprint="0" * 64,
        corpus="1" * 64,
        instrument="example",
        languages=("en", "de", "he"),
        reference="en",
        units=units,
        schemes=SCHEMES,
        choices=tuple(tuple(plain_choice(unit, name) for name in SCHEMES) for unit in units),
    )
    return DamageTable(
        facts=facts,
        damage_bits=sentence_bits.sum(-1) / characters.sum(),
        sentence_bits=sentence_bits,
        characters=characters,
    )


TABLE = _example()
"""What examples in docstrings are shown on."""
BUDGET_BYTES = 28_288
"""What uniform ``rtn4-g64`` takes of it, 4.25 bits a weight."""
PROBLEM = make_problem(TABLE, BUDGET_BYTES)
"""Both together."""


def made_scores(
    plans: Sequence[str], languages: Sequence[str], sentence_bits: Floats, characters: Integers
) -> Scores:
    """Returns scores of damage that was made up; harm on text equals damage, and none collapses.

    Args:
        plans: Names, (P).
        languages: The reference first, (A).
        sentence_bits: Damage of each sentence, (P x A x N).
        characters: Of the reference's sentences, (N).

    Example:
        >>> made_scores(["a"], ["en"], np.ones((1, 1, 3)), np.full(3, 10)).n_sentences
        3
    """
    shape = sentence_bits.shape[1:]
    each = np.broadcast_to(characters, shape)
    nats = sentence_bits * np.log(2)
    full: Floats = 2.0 * each.astype(np.float64)
    return Scores(
        plans=tuple(plans),
        languages=tuple(languages),
        nll_nats=full + nats,
        kl_nats=nats,
        nll_fp_nats=full,
        unigram_nats=full + 10 * nats.max(0) + each,
        counts=TextCounts(tokens=each // 4 + 1, bytes=each, characters=each),
        floor_nats=1e-9,
        arithmetic="exact",
        reference=languages[0],
        unigram_tokens=np.full(len(languages), 10**6),
    )


PLANS = ("recipe", "uniform", "language-blind")


def _confirm() -> Scores:
    assert TABLE.sentence_bits is not None and TABLE.characters is not None
    parts = np.arange(len(PROBLEM.parts))
    plans = (solve(PROBLEM, spare=None).picks, PROBLEM.uniform, solve(PROBLEM, "mean").picks)
    bits = [TABLE.sentence_bits[:, parts, np.array(picks)].sum(1) for picks in plans]
    return made_scores(PLANS, TABLE.facts.languages, np.array(bits), TABLE.characters)


CONFIRM = _confirm()
"""Scores of a recipe and two comparators; on the sentences of the table, as it is an example."""
