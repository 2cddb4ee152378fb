"""Masks or sentences: what the layer map's old design and the new one spend, and how sure they are.

The old standard tier scored 4,096 masks of 12 blocks, or 906 of 24, on the first four sentences;
the new one scores few masks on many sentences spread over the documents of the text. From one run,
this prints beside each other masks, sentences, head evaluations (masks times sentences), and the
standard error of S, the spread of log2 damage per token over languages, with nothing protected and
with each block protected alone: by the bootstrap over each design's own units, documents where they
are known. Four sentences of one document cannot know how documents differ, so the old design is
also given the scatter of S over further choices of four contiguous sentences. Usage::

    python benchmarks/sentences_not_masks.py models/llama-24 --corpus ntrex --languages en,de,he
"""

from __future__ import annotations

import argparse
import math

import numpy as np

from bitgap import Lab
from bitgap.disparity.formulas import Sums, spread
from bitgap.jobs.investigate import operating_point
from bitgap.jobs.tiers import TIERS
from bitgap.lab.settings import Settings
from bitgap.quant.plan import mask_plans
from bitgap.records import Scores
from bitgap.stats.bootstrap import bootstrap_weights, n_units
from bitgap.stats.mask_design import LARGEST_FACTORIAL, design_of_orders
from bitgap.stats.verdicts import load_thresholds

FOUR = 4
DRAWS = 2000


def standard_errors(scores: Scores) -> np.ndarray:
    """Returns the bootstrap standard error of S of every plan, (P), over sentences or documents."""
    n = n_units(scores.units)
    units = scores.units if n > 1 else scores.n_sentences
    draws = spread(Sums(scores, bootstrap_weights(units, DRAWS, 0)))
    # Resamples of n units vary by (n - 1)/n too little.
    n = n_units(units)
    return draws.std(0, ddof=1) * math.sqrt(n / (n - 1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", nargs="?")
    parser.add_argument("--corpus")
    parser.add_argument("--languages")
    parser.add_argument("--pool", type=int, default=64, help="first sentences, of which fours are")
    asked = parser.parse_args()
    whole = Lab.from_pretrained(
        asked.model, asked.corpus, languages=asked.languages, settings=Settings(arithmetic="fast")
    )
    n = whole.n_blocks
    tier = TIERS["standard"].fitted(n, whole.corpus.n_sentences)
    design = tier.design(n)
    old_masks = 2**n if n <= LARGEST_FACTORIAL else len(design_of_orders(n).masks)
    scheme = operating_point(whole.spread(12), load_thresholds())[0]
    plans = list(mask_plans(scheme, n, [0, *(1 << i for i in range(n))]))
    pool = whole.on(sentences=range(min(asked.pool, whole.corpus.n_sentences))).score(plans)
    new = whole.spread(tier.map_sentences).score(plans)
    fours = [np.arange(i, i + FOUR) for i in range(0, pool.n_sentences - FOUR + 1, FOUR)]
    scattered = np.std([spread(pool.select(sentences=rows)) for rows in fours], axis=0, ddof=1)
    errors = {"old": standard_errors(pool.select(sentences=fours[0])),
              "old, over choices of four": scattered, "new": standard_errors(new)}  # fmt: skip
    sizes = {"new": (len(design.masks), tier.map_sentences)}
    print(f"{whole.info.name}, {n} blocks, {scheme}, {whole.corpus.name}, "
          f"{len(whole.languages)} languages; S(none) = {spread(new)[0]:.3f} log2\n")  # fmt: skip
    print("| design | masks | sentences | head evaluations | SE of S(none) | of S({l}), median |")
    print("|---|---|---|---|---|---|")
    for name, error in errors.items():
        masks, sentences = sizes.get(name, (old_masks, FOUR))
        print(f"| {name} | {masks:,} | {sentences} | {masks * sentences:,} | {error[0]:.3f} | "
              f"{np.median(error[1:]):.3f} |")  # fmt: skip
    spent = len(design.masks) * tier.map_sentences / (old_masks * FOUR)
    print(f"\nhead evaluations: {spent:.2f} of the old")
    for name in list(errors)[:2]:
        ratio = errors["new"] / errors[name]
        print(f"standard error of S against '{name}': {ratio[0]:.2f} with nothing protected, "
              f"{np.median(ratio[1:]):.2f} with one block (median)")  # fmt: skip


if __name__ == "__main__":
    main()
