"""How often the intervals hold the truth, at the numbers of documents and sentences that are used.

Damage is made up with a known S: in language a, sentence i of document d has K nats a token
exp(μ_a + δ_da + ε_ia), with normal δ and ε, so that the spread of log2 damage per token is that of
μ, exactly. Documents hold different numbers of sentences and share as much of the variance as they
do in NTREX (contiguous sentences inflate it some two times). Of every size this draws texts, forms
the interval of S that reports use, and counts. Usage::

    python benchmarks/coverage.py docs/coverage.md
"""

from __future__ import annotations

import math
import sys

import numpy as np
from scipy.stats import binom

from bitgap.stats.bootstrap import (
    bootstrap_weights,
    central_range,
    few_estimates,
)

SIZES = (
    (None, 12), (None, 32), (None, 48), (None, 96), (None, 200),
    (6, 12), (12, 48), (24, 48), (48, 48), (24, 96), (63, 200), (120, 200),
)  # fmt: skip
"""Documents, None where every sentence is its own, and sentences."""
TEXTS, DRAWS = 500, 500
MU = np.array([0.0, 0.3, -0.2, 0.5, 0.1, -0.4, 0.2, 0.6])
TRUTH = float(MU.std() / math.log(2))
SHARED, OWN = 0.18, 0.40
"""Standard deviations of δ and ε: with four sentences a document, variance is some 1.6 times."""


def draw(rng: np.random.Generator, documents: int | None, sentences: int):
    """Returns units, tokens and KL by language, (N), (A x N) and (A x N)."""
    if documents is None:
        of = np.arange(sentences)
    else:
        share = rng.dirichlet(np.full(documents, 4.0))
        extra = rng.choice(documents, sentences - documents, p=share)
        of = np.sort(np.concatenate([np.arange(documents), extra]))
    units = sentences if documents is None else of
    delta = rng.normal(0, SHARED, (len(MU), of.max() + 1))[:, of]
    log_k = MU[:, None] + delta + rng.normal(0, OWN, (len(MU), sentences))
    tokens = np.ceil(rng.lognormal(3.2, 0.4, sentences)) * np.ones((len(MU), 1))
    return units, tokens, tokens * np.exp(log_k)


def covered(documents: int | None, sentences: int, seed: int) -> tuple[float, float]:
    """Returns the shares of texts whose BCa and whose percentile interval of S hold the truth."""
    rng = np.random.default_rng(seed)
    bca = percentile = 0
    for _ in range(TEXTS):
        units, tokens, kl = draw(rng, documents, sentences)

        def s(weights, kl=kl, tokens=tokens):
            return np.log2((weights @ kl.T) / (weights @ tokens.T)).std(1)[:, None]

        (one,) = few_estimates(s, units, unit="log2 ratio", seed=0, draws=DRAWS)
        assert one.low is not None and one.high is not None
        bca += one.low <= TRUTH <= one.high
        low, high = central_range(s(bootstrap_weights(units, DRAWS, 0)), units)[:, 0]
        percentile += low <= TRUTH <= high
    return bca / TEXTS, percentile / TEXTS


def main() -> None:
    rows = list[str]()
    for seed, (documents, sentences) in enumerate(SIZES):
        shares = covered(documents, sentences, seed)
        cells = [str(documents or "not known"), str(sentences)]
        for share in shares:
            low, high = binom.ppf([0.025, 0.975], TEXTS, share) / TEXTS
            cells.append(f"{share:.1%} ({low:.0%} to {high:.0%})")
        rows.append("| " + " | ".join(cells) + " |")
        print(rows[-1], flush=True)
    page = PAGE.format(rows="\n".join(rows), texts=TEXTS, draws=DRAWS)
    if len(sys.argv) > 1:
        with open(sys.argv[1], "w", encoding="utf-8") as file:
            file.write(page)


PAGE = """# How often intervals hold the truth

Made by `python benchmarks/coverage.py docs/coverage.md`: {texts} texts of each size with a known \
S, the spread of log2 damage per token over eight languages; {draws} draws an interval, which aims \
at 95 %. Documents share a part of the variance, as they do in NTREX, and are what is resampled \
where they are known. *BCa* are the intervals of estimates, *percentile* those of numbers read off \
tables by the thousand; in brackets what chance leaves open.

| documents | sentences | BCa | percentile |
|---|---|---|---|
{rows}

The tier `smoke` takes 12 sentences, `standard` 64 and `full` 200, spread over the documents. On \
12 sentences, or of 12 documents and fewer, intervals hold the truth less often than they say.
"""


if __name__ == "__main__":
    main()
