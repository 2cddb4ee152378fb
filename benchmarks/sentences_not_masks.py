"""Masks or sentences: what the layer map's old design and the new one spend, and how sure they are.

The old standard tier scored 4,096 masks of 12 blocks, or 906 of 24, on the first four sentences;
the new one scores few masks on many sentences spread over the documents of the text. From one run,
this prints beside each other masks, sentences, head evaluations (masks times sentences), and the
standard error of S, the spread of log2 damage per token over languages, with nothing protected and
with single blocks protected, some spread over the depth.

The new design's is the bootstrap over its own units, documents where they are known. The old
design's is how S scatters over runs of four sentences in a row, each from another document, as the
first four of another text would have been: that is the error it had. What such four sentences say
of their own error, by the bootstrap, is printed too, the mean over the runs: four sentences know
their spread badly, and of one document cannot know how documents differ. Usage::

    python benchmarks/sentences_not_masks.py models/llama-24 --corpus ntrex --languages en,de,he
"""

from __future__ import annotations

import argparse
import math
from dataclasses import replace

import numpy as np

from bitgap import Lab
from bitgap.disparity.formulas import Sums, spread
from bitgap.jobs.investigate import operating_point
from bitgap.jobs.spending import in_all, spent_by
from bitgap.jobs.tiers import TIERS
from bitgap.lab.settings import Settings
from bitgap.quant.plan import mask_plans
from bitgap.records import Integers, Scores
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


def runs_of_four(documents: Integers, n: int) -> list[np.ndarray]:
    """Returns n runs of four sentences in a row, each from another document, spread evenly."""
    starts = [s for s in range(len(documents) - FOUR + 1) if len({*documents[s : s + FOUR]}) == 1]
    firsts = [s for i, s in enumerate(starts) if i == 0 or documents[s] != documents[starts[i - 1]]]
    chosen = np.unique(np.linspace(0, len(firsts) - 1, n).round().astype(int))
    return [np.arange(firsts[i], firsts[i] + FOUR) for i in chosen]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", nargs="?")
    parser.add_argument("--corpus")
    parser.add_argument("--languages")
    parser.add_argument("--store", help="where scores are kept, so that a second run is short")
    parser.add_argument("--runs", type=int, default=24, help="runs of four sentences")
    parser.add_argument("--blocks", type=int, default=6, help="single blocks that are protected")
    parser.add_argument("--sentences", type=int, help="of the new design; the tier's when left out")
    asked = parser.parse_args()
    whole = Lab.from_pretrained(
        asked.model,
        asked.corpus,
        languages=asked.languages,
        store=asked.store,
        settings=Settings(arithmetic="fast"),
    )
    n, corpus = whole.n_blocks, whole.corpus
    tier = TIERS["standard"]
    if asked.sentences:
        tier = replace(tier, sentences=asked.sentences, map_sentences=asked.sentences)
    tier = tier.fitted(n, corpus.n_sentences)
    design = tier.design(n)
    old_masks = 2**n if n <= LARGEST_FACTORIAL else len(design_of_orders(n).masks)
    scheme = operating_point(whole.spread(12), load_thresholds())[0]
    alone = np.unique(np.linspace(0, n - 1, asked.blocks).round().astype(int)).tolist()
    plans = list(mask_plans(scheme, n, [0, *(1 << i for i in alone)]))
    # Without documents every run of four sentences is taken for one.
    documents = corpus.documents or tuple(i // FOUR for i in range(corpus.n_sentences))
    fours = runs_of_four(np.array(documents), asked.runs)
    rows = np.concatenate(fours)
    pool = whole.on(sentences=rows.tolist()).score(plans)
    if pool.n_sentences != len(rows):
        raise SystemExit("some sentences are empty; name fewer --languages")
    old = [pool.select(sentences=np.arange(i, i + FOUR)) for i in range(0, len(rows), FOUR)]
    new = whole.spread(tier.map_sentences).score(plans)
    errors = {
        "old": np.std([spread(four) for four in old], axis=0, ddof=1),
        "old, as its own four say": np.mean([standard_errors(four) for four in old], axis=0),
        "new": standard_errors(new),
    }
    sizes = {"new": (len(design.masks), tier.map_sentences)}
    print(f"{whole.info.name}, {n} blocks, {scheme}, {corpus.name}, {len(whole.languages)} "
          f"languages, {len(fours)} runs of four, new: {n_units(new.units)} units; "
          f"S(none) = {spread(new)[0]:.3f} log2\n")  # fmt: skip
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
    print("\n| the whole investigation | plans first asked for | head evaluations x sentences |")
    print("|---|---|---|")
    whole_run = spent_by(TIERS["standard"], n, corpus.n_sentences)
    for name, spent in (whole_run | {"all": in_all(whole_run.values())}).items():
        print(f"| {name} | {spent.plans:,} | {spent.heads:,.0f} |")


if __name__ == "__main__":
    main()
