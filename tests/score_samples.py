"""Hand-made scores whose every statistic is known."""

import numpy as np

from bitgap.records import Scores, TextCounts

FP_NATS = 4.0
UNIGRAM_NATS = 7.0


def make_scores(
    kl,
    delta=None,
    *,
    tokens=20,
    n_bytes=100,
    characters=80,
    languages=None,
    fp=FP_NATS,
    unigram=UNIGRAM_NATS,
    floor_nats=1e-6,
    reference="en",
    unigram_tokens=100_000,
):
    """Returns scores from nats per token: kl and delta (P x A x N), the rest broadcast to (A x N).

    The text gets as much harder as it is damaged where delta is None.
    """
    kl = np.asarray(kl, dtype=float)
    delta = kl if delta is None else np.broadcast_to(np.asarray(delta, dtype=float), kl.shape)
    p, a, n = kl.shape
    names = tuple(languages or ("en", *(f"x{i}" for i in range(1, a))))
    tokens, n_bytes, characters = (
        np.broadcast_to(count, (a, n)).astype(np.int64) for count in (tokens, n_bytes, characters)
    )
    fp_nats = np.broadcast_to(fp, (a, n)) * tokens
    return Scores(
        plans=tuple(f"plan{i}" for i in range(p)),
        languages=names,
        nll_nats=fp_nats + delta * tokens,
        kl_nats=kl * tokens,
        nll_fp_nats=fp_nats,
        unigram_nats=np.broadcast_to(unigram, (a, n)) * tokens,
        counts=TextCounts(tokens=tokens, bytes=n_bytes, characters=characters),
        floor_nats=floor_nats,
        arithmetic="exact",
        reference=reference,
        unigram_tokens=None if unigram_tokens is None else np.broadcast_to(unigram_tokens, (a,)),
        vocabulary=8192,
    )


def random_scores(seed=0, *, plans=2, languages=4, sentences=30, scale=(1.0, 2.0, 0.5, 1.5)):
    """Returns scores with everything different everywhere; language a is damaged by scale[a]."""
    rng = np.random.default_rng(seed)
    shape = (languages, sentences)
    level = np.resize(scale, languages)[:, None]
    kl = rng.gamma(4, 0.05, (plans, *shape)) * level
    return make_scores(
        kl,
        kl + rng.normal(0, 0.02, kl.shape),
        tokens=rng.integers(8, 40, shape),
        n_bytes=rng.integers(60, 160, shape),
        characters=rng.integers(40, 120, shape),
        fp=rng.normal(FP_NATS, 0.3, shape),
        unigram=rng.normal(UNIGRAM_NATS, 0.3, shape),
    )
