"""SynthLM: a language model small enough that its truth can be written down.

A linear residual stream h_{l+1} = h_l + A_l h_l over Gaussian tokens with a softmax head, and two
Gaussian "languages". What rounding does is replaced by ΔA_l of set relative size
t_l = ‖ΔA_l‖/‖A_l‖, in one direction of the state that the head reads, times one *reader*: a
coordinate of the token that no block changes and the head does not see. So with only the layers in
Q rounded, the logits of a token move by a·Σ_{l∈Q} t_l κ_l r_l, with a the head's reading of that
direction, and to second order in t

    K_λ(Q) = ½ Σ_{i,j∈Q} t_i t_j κ_i κ_j Cov_λ(r_i, r_j) · E_λ Var_p(a),

where Var_p is the Fisher matrix of the softmax, diag(p) − ppᵀ, applied to a. Hence everything that
experiments estimate is set by choice: the sensitivity α_{lλ} = K_λ({l})/t_l² by the reader's
variance, the error correlation ρ_ij by the readers' correlation; and by the gains of the content
coordinates at each depth the participation ratio and the alignment of languages; and, by how many
label coordinates are left at a depth, what a linear probe can know of the language.

With uncorrelated readers damage is additive: there is no synergy and no cancellation. In such a
model the origin's ratio still says "the last block alone harms, with the first it helps" (method,
section 0, A2), which is the error this toolkit was made to avoid.

Text is what full precision says: a token's loss is its expectation under the full-precision
distribution, so harm on real text equals damage, with no sampling of targets. Pure numpy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from bitgap.quant.plan import mask_plans
from bitgap.records import Floats, Integers, Scores, TextCounts

LANGUAGES = ("en", "xx")
SCHEME = "rtn4-g128"
"""What the plans of its masks are called; nothing is rounded, the set errors are used."""
FLOOR_NATS = 1e-12
"""Numerical floor that its scores state: float64 and no batching."""
_REFERENCE_TOKENS = 4096
"""Tokens over which E Var_p(a) is taken; fixed draws, so the truth is a number."""


@dataclass(frozen=True, kw_only=True)
class SynthLM:
    """One model; see the module's text. d = L readers + C contents + K labels, in this order.

    Attributes:
        paths: State after l blocks as a function of the token, P_l, (L+1 x d x d).
        head: Logits from the last state, (V x d).
        direction: Where errors go, a unit vector over contents, (C).
        sizes: t_l, (L).
        sensitivities: α_{lλ} in nats per token, (L x A).
        correlations: ρ_ij, (L x L).
        noise: Standard deviation of what tokens have of their own in each content coordinate,
            against 1 of what parallel sentences share, (C).
        label_shift: Distance of the languages' means in each label coordinate, in its SDs.
        label_left: Label coordinates left at each depth, (L+1).
        gains: Of each content coordinate at each depth, (L+1 x C).
    """

    paths: Floats
    head: Floats
    direction: Floats
    sizes: Floats
    sensitivities: Floats
    correlations: Floats
    noise: Floats
    label_shift: float
    label_left: tuple[int, ...]
    gains: Floats

    @property
    def n_blocks(self) -> int:
        """Number of blocks L."""
        return len(self.sizes)

    @property
    def n_contents(self) -> int:
        """Number of content coordinates C."""
        return self.gains.shape[1]

    # -- blocks and errors ------------------------------------------------------------------------

    @cached_property
    def blocks(self) -> Floats:
        """A_l, (L x d x d)."""
        steps = [after @ np.linalg.pinv(before) for before, after in self._pairs()]
        return np.array(steps) - np.eye(self.paths.shape[1])

    @cached_property
    def errors(self) -> Floats:
        """ΔA_l, (L x d x d), with ‖ΔA_l‖ = t_l ‖A_l‖."""
        made = []
        for i, block in enumerate(self.blocks):
            out, read = self._lead(i + 1), self.paths[i][:, i]
            size = self.sizes[i] * np.linalg.norm(block)
            made.append(size * np.outer(out, read) / np.linalg.norm(out))
        return np.array(made)

    def _pairs(self) -> zip[tuple[Floats, Floats]]:
        return zip(self.paths[:-1], self.paths[1:], strict=True)

    def _lead(self, depth: int) -> Floats:
        """Returns where the error direction has come to at a depth, (d)."""
        contents = slice(self.n_blocks, self.n_blocks + self.n_contents)
        return self.paths[depth][:, contents] @ self.direction

    @cached_property
    def strength(self) -> Floats:
        """κ_l: error along the direction per unit of t_l and of the reader, (L)."""
        leads = [np.linalg.norm(self._lead(i + 1)) for i in range(self.n_blocks)]
        return np.linalg.norm(self.blocks, axis=(1, 2)) / np.array(leads)

    # -- tokens -----------------------------------------------------------------------------------

    @cached_property
    def fisher(self) -> Floats:
        """E_λ Var_p(a) by language, (A), over fixed draws."""
        rng = np.random.default_rng(0)
        found = []
        for row in range(len(LANGUAGES)):
            tokens = self._token(rng, row, 1, _REFERENCE_TOKENS, np.zeros(self.n_blocks))
            logits = tokens @ self.paths[-1].T @ self.head.T
            p = np.exp(logits - logits.max(-1, keepdims=True))
            p /= p.sum(-1, keepdims=True)
            a = self.head @ self._lead(self.n_blocks)
            found.append(float((p @ a**2 - (p @ a) ** 2).mean()))
        return np.array(found)

    @cached_property
    def reader_sd(self) -> Floats:
        """Standard deviation of each reader, (L x A): what sets α_{lλ} = ½ κ² sd² E Var_p(a)."""
        return np.sqrt(2 * self.sensitivities / self.fisher) / self.strength[:, None]

    def tokens(self, rng: np.random.Generator, sentences: int, per_sentence: int) -> Floats:
        """Draws tokens, (A x N x T x d); parallel sentences share a part of their content."""
        shared = rng.normal(size=(sentences, 1, self.n_contents))
        rows = [
            self._token(rng, row, sentences, per_sentence, self.reader_sd[:, row], shared)
            for row in range(len(LANGUAGES))
        ]
        return np.array(rows)

    def _token(
        self,
        rng: np.random.Generator,
        row: int,
        n: int,
        t: int,
        sd: Floats,
        shared: Floats | None = None,
    ) -> Floats:
        labels = len(self.paths[0]) - self.n_blocks - self.n_contents
        # A token that shares nothing with anything has as much content as one that does.
        common = rng.normal(size=(n, t, self.n_contents)) if shared is None else shared
        root = np.linalg.cholesky(self.correlations + 1e-12 * np.eye(self.n_blocks))
        readers = rng.normal(size=(n, t, self.n_blocks)) @ root.T * sd
        content = common + self.noise * rng.normal(size=(n, t, self.n_contents))
        side = self.label_shift * (row - 0.5)
        return np.concatenate([readers, content, side + rng.normal(size=(n, t, labels))], axis=-1)

    # -- what is true -----------------------------------------------------------------------------

    def damage_nats(self, masks: Integers) -> Floats:
        """Returns K_λ per token to second order of each protected mask (P), (P x A)."""
        rounded = 1.0 - (masks[:, None] >> np.arange(self.n_blocks) & 1)
        single = self.sizes[:, None] * np.sqrt(self.sensitivities)  # (L x A), roots of k
        parts = rounded[:, :, None] * single
        return np.einsum("pia,ij,pja->pa", parts, self.correlations, parts)

    def participation_ratio(self, depth: int) -> float:
        """Returns (tr Σ)²/tr Σ² of the content at a depth within one language."""
        spectrum = self.gains[depth] ** 2 * (1 + self.noise**2)
        return float(spectrum.sum() ** 2 / (spectrum**2).sum())

    def alignment(self, depth: int) -> float:
        """Returns linear CKA of parallel tokens of two languages, of the content at a depth.

        ‖Σ_xy‖²/(‖Σ_xx‖ ‖Σ_yy‖) of Gaussians; 1/(1+σ²)² where noise is even, as both sides have it.
        """
        shared = self.gains[depth] ** 2
        return float((shared**2).sum() / ((shared * (1 + self.noise**2)) ** 2).sum())

    def language_bits(self, depth: int) -> float:
        """Returns what a linear probe can know of the language at a depth, in bits per token.

        Languages are equally likely and differ in the means of the label coordinates left, Δ apart
        in all: the capacity of a channel with input ±Δ/2 and unit Gaussian noise.
        """
        half = self.label_shift * np.sqrt(self.label_left[depth]) / 2
        nodes, weights = np.polynomial.hermite_e.hermegauss(80)
        unknown = np.logaddexp(0.0, -2 * half * (half + nodes)) / np.log(2)
        return float(1 - weights @ unknown / weights.sum())

    # -- scores -----------------------------------------------------------------------------------

    def scores(
        self,
        seed: int,
        *,
        masks: Sequence[int] | None = None,
        sentences: int = 24,
        per_sentence: int = 8,
    ) -> Scores:
        """Returns scores of masks on tokens drawn from a seed, by running the stream.

        Args:
            seed: Of the tokens.
            masks: Bit sets of protected layers; all 2^L when None.
            sentences: Parallel sentences.
            per_sentence: Tokens of each.
        """
        wanted = range(2**self.n_blocks) if masks is None else masks
        start = self.tokens(np.random.default_rng(seed), sentences, per_sentence)
        full = _log_softmax(start @ (self.head @ self.paths[-1]).T)
        p = np.exp(full)
        runs = self._runs()[list(wanted)]
        shape = (len(runs), len(LANGUAGES), sentences)
        kl, nll = np.empty(shape), np.empty(shape)
        # A state enters the first block as P_0 h.
        for row, run in enumerate(runs):
            moved = _log_softmax(start @ (self.head @ run @ self.paths[0]).T)
            nll[row] = -(p * moved).sum((2, 3))
            kl[row] = (p * (full - moved)).sum((2, 3))
        counts = np.full(shape[1:], per_sentence)
        usual = np.log(p.mean((1, 2)))  # what is said at all, by language
        return Scores(
            plans=tuple(plan.text for plan in mask_plans(SCHEME, self.n_blocks, wanted)),
            languages=LANGUAGES,
            nll_nats=nll,
            kl_nats=kl,
            nll_fp_nats=-(p * full).sum((2, 3)),
            unigram_nats=-(p * usual[:, None, None]).sum((2, 3)),
            counts=TextCounts(tokens=counts, bytes=4 * counts, characters=4 * counts),
            floor_nats=FLOOR_NATS,
            arithmetic="exact",
        )

    def _runs(self) -> Floats:
        """Returns all blocks in a row under every mask, (2^L x d x d)."""
        d = self.paths.shape[1]
        runs = np.eye(d)[None]
        for block, error in zip(self.blocks, self.errors, strict=True):
            step = np.eye(d) + block
            # Bit l of a mask says that block l is protected, so rounded comes first.
            runs = np.concatenate([(step + error) @ runs, step @ runs])
        return runs


def _log_softmax(logits: Floats) -> Floats:
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


# -- making models --------------------------------------------------------------------------------


def make_synth(
    seed: int,
    *,
    sensitivities: Floats,
    sizes: Floats,
    correlations: Floats | None = None,
    gains: Floats | None = None,
    label_left: tuple[int, ...] | None = None,
    noise: Floats | float = 0.5,
    label_shift: float = 1.0,
    n_contents: int = 10,
    vocabulary: int = 24,
) -> SynthLM:
    """Returns a model whose truth is as given, in a random basis that turns from block to block.

    Args:
        seed: Of basis and head.
        sensitivities: α_{lλ}, nats per token, (L x A).
        sizes: t_l, (L).
        correlations: ρ_ij, (L x L); none when None.
        gains: Of content by depth, (L+1 x C), all above 0; even when None.
        label_left: Label coordinates left at each depth, never more than before; all 3 when None.
        noise: Of tokens in content.
        label_shift: Distance of the languages in each label coordinate.
        n_contents: C, where gains are not given.
        vocabulary: V.
    """
    n = len(sizes)
    rng = np.random.default_rng(seed)
    gains = np.ones((n + 1, n_contents)) if gains is None else gains
    left = (3,) * (n + 1) if label_left is None else label_left
    direction = rng.normal(size=gains.shape[1])
    paths = np.array(_paths(rng, n, gains, left))
    read = rng.normal(size=(vocabulary, gains.shape[1])) / np.sqrt(gains.shape[1])
    contents = np.linalg.pinv(paths[-1])[n : n + gains.shape[1]]
    return SynthLM(
        paths=paths,
        head=1.5 * read @ contents,
        direction=direction / np.linalg.norm(direction),
        sizes=sizes,
        sensitivities=sensitivities,
        correlations=np.eye(n) if correlations is None else correlations,
        noise=np.broadcast_to(np.asarray(noise, dtype=np.float64), gains.shape[1:]),
        label_shift=label_shift,
        label_left=left,
        gains=gains,
    )


def _paths(rng: np.random.Generator, n: int, gains: Floats, left: tuple[int, ...]) -> list[Floats]:
    """Returns P_l for every depth: gains, then a basis that turns a little at every block."""
    d = n + gains.shape[1] + left[0]
    basis, _ = np.linalg.qr(rng.normal(size=(d, d)))
    paths = []
    for gain, labels in zip(gains, left, strict=True):
        kept = np.concatenate([np.ones(n), gain, np.arange(left[0]) < labels])
        paths.append(basis * kept)
        turn = 0.1 * rng.normal(size=(d, d))
        # Cayley's transform: a rotation, exactly.
        skew = turn - turn.T
        basis = np.linalg.solve(np.eye(d) - skew, np.eye(d) + skew) @ basis
    return paths


def additive_synth(seed: int, *, n_blocks: int = 8, damage_nats: float = 0.02) -> SynthLM:
    """Returns a model without synergy or cancellation, of sensitivities as trained models have.

    log2 α varies with SD 1 over blocks, log2 of its ratio between languages with SD 1.5 (a trained
    toy model's ratios were .07, .21 and 1.04), and the first block is sensitive, the more so to the
    language that is not English; nothing else is planted.

    Args:
        seed: Of all of it.
        n_blocks: L.
        damage_nats: K of English per token with nothing protected: small, so quadratic.
    """
    rng = np.random.default_rng(seed)
    level, ratio = rng.normal(0, 1, n_blocks), rng.normal(0, 1.5, n_blocks)
    level[0], ratio[0] = level[0] + 3, ratio[0] + 3
    return _scaled(seed, level, ratio, damage_nats, np.eye(n_blocks))


def cancelling_synth(seed: int, rho: float, *, bias: float = 2.0, n_blocks: int = 8) -> SynthLM:
    """Returns such a model in which the errors of the first and the last block correlate by ρ.

    Both are equally large, in each language. Where ρ < 0, protecting one leaves the error of the
    other uncancelled and protecting both saves more than the two savings add up to: the Banzhaf
    interaction is −2ρk on every background.

    Args:
        seed: Of all else.
        rho: ρ of the ends; 0 between all others.
        bias: log2 ratio of the ends' sensitivities between the languages. At 0 the languages
            cancel alike, so that damage has an interaction and the ratio of languages hardly any.
        n_blocks: L.
    """
    rng = np.random.default_rng(seed)
    level, ratio = rng.normal(0, 0.5, n_blocks), rng.normal(0, 0.5, n_blocks)
    level[[0, -1]], ratio[[0, -1]] = 2.0, bias
    correlations = np.eye(n_blocks)
    correlations[0, -1] = correlations[-1, 0] = rho
    return _scaled(seed, level, ratio, 0.02, correlations)


def _scaled(
    seed: int, level: Floats, ratio: Floats, damage_nats: float, correlations: Floats
) -> SynthLM:
    """Returns the model of these log2 sensitivities whose unprotected English damage is as said."""
    sizes = np.full(len(level), 0.1)
    english = 2.0**level
    english *= damage_nats / (english.sum() * sizes[0] ** 2)
    sensitivities = np.stack([english, english * 2.0**ratio], axis=1)
    return make_synth(seed, sensitivities=sensitivities, sizes=sizes, correlations=correlations)
