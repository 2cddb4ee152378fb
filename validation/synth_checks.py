"""The toolkit's estimators against SynthLM's truth."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from bitgap.disparity.formulas import Sums
from bitgap.records import Floats
from bitgap.stats.interactions import banzhaf_interactions
from bitgap.stats.similarity import debiased_cka
from validation.synth_lm import SynthLM, additive_synth, cancelling_synth, make_synth


@dataclass(frozen=True, slots=True)
class Check:
    """One number that is known, and its estimate."""

    name: str
    truth: float
    found: float


def checks(seed: int, *, tokens: int = 2000) -> list[Check]:
    """Returns estimates beside the truth: damage, error correlation, interaction, geometry.

    Args:
        seed: Of models and tokens.
        tokens: Sentences drawn; sampling errors fall with their root.
    """
    return [*_damage(seed, tokens), *_geometry(seed, tokens)]


def damage_nats(model: SynthLM, seed: int, tokens: int) -> Floats:
    """Returns K per token of every mask and language as the scores have it, (2^L x A)."""
    sums = Sums(model.scores(seed, sentences=tokens, per_sentence=4))
    return sums.kl_bits * np.log(2) / sums.tokens


def _damage(seed: int, tokens: int) -> list[Check]:
    model = additive_synth(seed, n_blocks=4)
    small = replace(model, sizes=model.sizes / 4)
    only = 15 ^ (1 << np.arange(4))  # all but one layer protected
    ratio = damage_nats(small, seed, tokens)[only] / (
        small.sizes[:, None] ** 2 * small.sensitivities
    )
    cancelling = cancelling_synth(seed, -0.8, n_blocks=4)
    k = damage_nats(cancelling, seed, tokens)
    both, first, last = k[0b0110], k[0b1110], k[0b0111]
    rho = (both - first - last) / (2 * np.sqrt(first * last))
    theta = banzhaf_interactions(-k.mean(1))[0b1001] / k[0].mean()
    truth = cancelling.damage_nats(np.arange(16)).mean(1)
    return [
        Check("k / (α t²), mean over blocks and languages", 1.0, float(ratio.mean())),
        Check("ρ of first and last block, from K of two, one and the other", -0.8,
              float(rho.mean())),
        Check("Banzhaf interaction of the ends over K(none), cancellation planted",
              float(banzhaf_interactions(-truth)[0b1001] / truth[0]), float(theta)),
    ]  # fmt: skip


def bottleneck_synth(seed: int, *, labels: bool) -> SynthLM:
    """Returns a model whose dimension falls and rises with depth, as does what languages share.

    Gains of all but two content coordinates fall to a fifth in the middle; tokens' own noise sits
    in those others. With labels, coordinates that tell the languages apart are dropped one by one.

    Args:
        seed: Of basis and head.
        labels: Whether languages differ in label coordinates; geometry is plainer without.
    """
    squeeze = np.array([1.0, 0.6, 0.2, 0.6, 1.0])
    gains = np.repeat(squeeze[:, None], 10, axis=1)
    gains[:, :2] = 1.0
    noise = np.where(np.arange(10) < 2, 0.2, 1.0)
    return make_synth(
        seed,
        # So small that readers add nothing to the state's variance.
        sensitivities=np.full((4, 2), 1e-12),
        sizes=np.full(4, 0.1),
        gains=gains,
        noise=noise,
        label_left=(3, 3, 2, 1, 1) if labels else (0,) * 5,
        label_shift=1.5,
    )


def _geometry(seed: int, tokens: int) -> list[Check]:
    model = bottleneck_synth(seed, labels=False)
    start = model.tokens(np.random.default_rng(seed), tokens, 1)[:, :, 0]
    found = []
    for depth in (0, 2):
        one, other = start @ model.paths[depth].T
        spectrum = np.linalg.eigvalsh(np.cov(one.T))
        ratio = float(spectrum.sum() ** 2 / (spectrum**2).sum())
        cka = debiased_cka(one[:1500], other[:1500])
        found += [
            Check(f"participation ratio at depth {depth}", model.participation_ratio(depth), ratio),
            Check(f"alignment (CKA) at depth {depth}", model.alignment(depth), cka or 0.0),
        ]
    return [*found, *_information(seed, tokens)]


def _information(seed: int, tokens: int) -> list[Check]:
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss

    model = bottleneck_synth(seed, labels=True)
    start = model.tokens(np.random.default_rng(seed), tokens, 1)[:, :, 0]
    language = np.repeat([0, 1], tokens)
    # Parallel sentences share content, so both halves of the split hold both languages of each.
    fitted = np.tile(np.arange(tokens) % 2 == 0, 2)
    found = []
    for depth in (0, 4):
        states = (start @ model.paths[depth].T).reshape(2 * tokens, -1)
        probe = LogisticRegression(C=1.0, max_iter=500).fit(states[fitted], language[fitted])
        left = log_loss(language[~fitted], probe.predict_proba(states[~fitted])) / np.log(2)
        name = f"linear probe's bits about the language at depth {depth}"
        found.append(Check(name, model.language_bits(depth), 1 - float(left)))
    return found
