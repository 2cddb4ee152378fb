"""The end of the model: hidden states in, log-likelihood and KL per token out.

Most of a small model's cost is here, and the logits of one token may take a mebibyte. So no row of
logits is ever held: a tile of the vocabulary (:data:`TILE` rows of it) meets a slab of tokens, its
logits stay in the second-level cache from product to sum, and only sums leave it. With
``p = softmax(z_fp)`` and ``m_t = Σ_v p(v|t) W_v`` (one d-vector a token, computed once),

    KL_t  = Σ_v p (log p − log q) = lse(z_q) − h_q·m_t − (lse(z_fp) − h_fp·m_t)
    NLL_t = lse(z_q) − h_q·W_y(t)

so a plan needs one product and one log-sum-exp, and full precision one product more, for m_t, which
is accumulated on the same visit: Σ_v exp(z) W_v beside Σ_v exp(z). A bias cancels in KL when head
and bias are those of the full-precision model. A head that is itself rounded has its own ``m_t``
from its own rows. Soft-capped logits are no plain product of ``h``; they take the direct form,
``Σ p (z_fp − z_q)`` by tiles.

Log-sum-exp skips the usual shift by the maximum: float32 keeps its relative precision anywhere
between 1e-38 and 1e38, so the shift is needed only when the sum leaves that range. That is checked,
and tokens where it does are summed once more, shifted by their largest logit so far (the online
form of Milakov & Gimelshein 2018). Sums over tiles are kept in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from bitgap.lab.engine.arithmetic import float32_results, products
from bitgap.models.stored import forget

TILE = 512
"""Rows of the vocabulary in a tile, and tokens in a slab: logits of both take 1 MiB."""
Seen = Callable[[slice, slice, Tensor], None]
"""Shown logits before they are summed: which tokens, which rows of the vocabulary, logits."""
# Below this the sum of exponentials may have lost terms to underflow; above, to overflow.
_SAFE_SUM = (1e-25, 1e35)


@dataclass(frozen=True, slots=True)
class Tile:
    """Some rows of a head, as they are multiplied.

    Attributes:
        columns: Which rows of the vocabulary.
        weight: Their unembedding in float32, (v x d).
        bias: Their bias, (v), or None.
        softcap: As the head's.
    """

    columns: slice
    weight: Tensor
    bias: Tensor | None
    softcap: float | None

    def logits(self, entered: Tensor, scratch: Tensor) -> Tensor:
        """Returns logits of entered states (R x d), (R x v), in the memory of ``scratch``."""
        n, v = len(entered), len(self.weight)
        z = scratch.view(-1)[: n * v].view(n, v)
        with float32_results(str(z.device)):
            if self.bias is None:
                torch.mm(entered, self.weight.T, out=z)
            else:
                torch.addmm(self.bias, entered, self.weight.T, out=z)
        return z if self.softcap is None else _capped(z, self.softcap)


@dataclass(frozen=True, slots=True)
class Head:
    """The last product: ``z = h @ weight.T + bias``, then an optional soft cap.

    Attributes:
        weight: Unembedding, (V x d), of any floating type; products are of float32.
        bias: Logit bias, (V), or None.
        softcap: ``c`` in ``z ← c·tanh(z/c)``, or None.
        rounds: Whether products round their inputs to bfloat16. Then ``h`` and ``weight`` are
            rounded up front, so that all terms of KL see the very same numbers and KL is the
            divergence of two real distributions.
        order: In which the width is summed, (d), if not as it stands; states come in it already.
    """

    weight: Tensor
    bias: Tensor | None
    softcap: float | None
    rounds: bool
    order: Tensor | None = None

    @classmethod
    def prepared(
        cls, weight: Tensor, bias: Tensor | None, softcap: float | None, rounds: bool
    ) -> Head:
        """Returns a head whose weight is rounded where products will round it."""
        rounded = rounds and weight.dtype != torch.bfloat16
        return cls(_rounded(weight) if rounded else weight, bias, softcap, rounds)

    def enter(self, hidden: Tensor) -> Tensor:
        """Returns hidden states (T x d) as the product will see them."""
        return _rounded(hidden) if self.rounds else hidden

    def tiles(self, width: int) -> Iterator[Tile]:
        """Yields the head by tiles of ``width`` rows of the vocabulary, each cast when it comes."""
        for start in range(0, len(self.weight), width):
            columns = slice(start, min(start + width, len(self.weight)))
            bias = None if self.bias is None else self.bias[columns]
            kept = self.weight[columns]
            rows = kept.float() if self.order is None else kept.float()[:, self.order]
            yield Tile(columns, rows, bias, self.softcap)
            forget(self.weight, kept)

    def chosen(self, tokens: Tensor) -> Tensor:
        """Returns the unembedding rows of some tokens, (T x d)."""
        rows = self.weight[tokens].float()
        forget(self.weight)
        return rows

    def chosen_logits(self, entered: Tensor, rows: Tensor, tokens: Tensor) -> Tensor:
        """Returns the logit of one token for each state, (.. x T).

        Args:
            entered: States, (.. x T x d).
            rows: From :meth:`chosen`, (T x d).
            tokens: Which tokens, (T).
        """
        z = (entered * rows).sum(-1)
        if self.bias is not None:
            z += self.bias[tokens]
        return z if self.softcap is None else _capped(z, self.softcap)

    def logits(self, entered: Tensor, out: Tensor) -> Tensor:
        """Writes logits of entered states (R x d) into the first R rows of ``out`` (.. x V)."""
        z, scratch = out[: len(entered)], entered.new_empty(len(entered), TILE)
        for tile in self.tiles(TILE):
            z[:, tile.columns] = tile.logits(entered, scratch)
        return z


@dataclass(frozen=True, slots=True)
class Target:
    """What full precision said of T tokens; what every plan is compared with.

    Attributes:
        tokens: The tokens that came, (T).
        entered: Full-precision states before the head, (T x d).
        lse: Log-sum-exp of the full-precision logits, (T), float64.
        mean_row: ``m_t`` for each head variant by name, (T x d); empty where logits are capped.
        chosen_row: Unembedding rows of the tokens that came, for each head variant, (T x d).
        nll: Full-precision negative log-likelihood in nats, (T), float64.
        top: The most likely token by full precision, (T); None where nobody asked.
    """

    tokens: Tensor
    entered: Tensor
    lse: Tensor
    mean_row: dict[str, Tensor]
    chosen_row: dict[str, Tensor]
    nll: Tensor
    top: Tensor | None = None

    @property
    def n_bytes(self) -> int:
        """Memory the arrays take."""
        tensors = [self.tokens, self.entered, self.lse, self.nll]
        tensors += [*self.mean_row.values(), *self.chosen_row.values()]
        return sum(t.numel() * t.element_size() for t in tensors)

    def at(self, rows: Tensor) -> Target:
        """Returns the same of some of the tokens, by their numbers."""
        return Target(
            self.tokens[rows],
            self.entered[rows],
            self.lse[rows],
            {name: values[rows] for name, values in self.mean_row.items()},
            {name: values[rows] for name, values in self.chosen_row.items()},
            self.nll[rows],
            None if self.top is None else self.top[rows],
        )


class _Top:
    """Sees logits tile by tile, and knows in the end which token of the vocabulary has the most."""

    def __init__(self, entered: Tensor) -> None:
        self.logit = torch.full((len(entered),), -torch.inf, device=entered.device)
        self.token = torch.zeros(len(entered), dtype=torch.long, device=entered.device)

    def see(self, rows: slice, columns: slice, z: Tensor) -> None:
        logit, place = z.max(-1)
        better = logit > self.logit[rows]
        self.logit[rows] = torch.where(better, logit, self.logit[rows])
        self.token[rows] = torch.where(better, place + columns.start, self.token[rows])


class _Rivals:
    """Sees logits tile by tile, and knows in the end whether some token has more than a given one.

    The given token's own logit is taken from the same products, so that nothing but its being
    smaller can make it smaller.
    """

    def __init__(self, tokens: Tensor) -> None:
        self._tokens = tokens
        self._own = torch.zeros(len(tokens), device=tokens.device)
        self._most = torch.full_like(self._own, -torch.inf)

    def see(self, rows: slice, columns: slice, z: Tensor) -> None:
        torch.maximum(self._most[rows], z.amax(-1), out=self._most[rows])
        place = self._tokens[rows] - columns.start
        here = (place >= 0) & (place < z.shape[1])
        own = z.gather(1, place.clamp(0, z.shape[1] - 1)[:, None])[:, 0]
        self._own[rows] = torch.where(here, own, self._own[rows])

    @property
    def won(self) -> Tensor:
        return self._most > self._own


def make_target(
    heads: Mapping[str, Head],
    hidden: Tensor,
    tokens: Tensor,
    scratch: Tensor,
    *,
    tops: bool = False,
) -> Target:
    """Visits the vocabulary in full precision, once, and keeps what KL and NLL need.

    Args:
        heads: Head variants by scheme name; ``fp`` must be among them.
        hidden: Full-precision states before the head, (T x d).
        tokens: The tokens that came, (T).
        scratch: For logits, (rows x tile); its shape sets how many tokens meet how much of the
            vocabulary at a time.
        tops: Whether the most likely token is kept, so that :func:`score_tokens` can tell where a
            plan has another.
    """
    full = heads["fp"]
    entered = full.enter(hidden)
    means: dict[str, Tensor] = {}
    top = _Top(entered) if tops else None
    if full.softcap is None:
        lse, means = _means(heads, entered, scratch, top and top.see)
    else:
        lse = log_sum_exp(full, entered, scratch, top and top.see)
    chosen = {name: head.chosen(tokens) for name, head in heads.items()}
    nll = lse - full.chosen_logits(entered, chosen["fp"], tokens)
    return Target(tokens, entered, lse, means, chosen, nll, top and top.token)


def _means(
    heads: Mapping[str, Head], entered: Tensor, scratch: Tensor, seen: Seen | None
) -> tuple[Tensor, dict[str, Tensor]]:
    """Returns log-sum-exp (T) and ``m_t`` of each head variant, (T x d), on one visit."""
    full = heads["fp"]
    sums = torch.zeros(len(entered), dtype=torch.float64, device=entered.device)
    means = {name: torch.zeros_like(entered) for name in heads}
    _add_weighted(heads, entered, scratch, means, sums, seen=seen)
    low, high = _SAFE_SUM
    safe = (sums > low) & (sums < high)
    lse = sums.log()
    for mean in means.values():
        mean.div_(sums.to(mean.dtype)[:, None])
    if not bool(safe.all()):
        odd = (~safe).nonzero()[:, 0]
        lse[odd] = _shifted_log_sum_exp(full, entered[odd], scratch)
        # Shifted by what is now known, the exponentials are the probabilities.
        again = {name: torch.zeros_like(entered[odd]) for name in heads}
        _add_weighted(heads, entered[odd], scratch, again, None, lse[odd])
        for name, mean in means.items():
            mean[odd] = again[name]
    return lse, means


def _add_weighted(
    heads: Mapping[str, Head],
    entered: Tensor,
    scratch: Tensor,
    means: Mapping[str, Tensor],
    sums: Tensor | None,
    shift: Tensor | None = None,
    seen: Seen | None = None,
) -> None:
    """Adds Σ exp(z − shift) W to ``means``, and Σ exp(z − shift) to ``sums``, tile by tile."""
    width = scratch.shape[1]
    every = [head.tiles(width) for head in heads.values()]
    names, place = list(heads), list(heads).index("fp")
    for tiles in zip(*every, strict=True):
        for rows in _slabs(len(entered), scratch):
            z = tiles[place].logits(entered[rows], scratch)
            if seen is not None:
                seen(rows, tiles[place].columns, z)
            if shift is not None:
                z.sub_(shift[rows, None])
            z.exp_()
            if sums is not None:
                sums[rows] += z.sum(-1)
            for name, tile in zip(names, tiles, strict=True):
                # Never in rounded arithmetic: z has too few bits there and m_t serves every plan.
                _add_exact_product(means[name][rows], z, tile.weight, heads["fp"].rounds)


def score_tokens(
    heads: Mapping[str, Head], name: str, hidden: Tensor, target: Target, scratch: Tensor
) -> tuple[Tensor, ...]:
    """Scores the states of several plans under one head.

    Args:
        heads: Head variants by scheme name.
        name: The variant to use.
        hidden: States before the head of n plans, (n x T x d).
        target: What full precision said of the same T tokens.
        scratch: As for :func:`make_target`.

    Returns:
        NLL and KL in nats, each (n x T), float64; where the target knows the most likely token,
        also 1 where some other token is more likely under the plan, else 0.
    """
    head = heads[name]
    entered = head.enter(hidden)
    rivals = None if target.top is None else _Rivals(target.top.repeat(len(entered)))
    seen = rivals and rivals.see
    if head.softcap is not None:
        lse, moved = _capped_sums(head, heads["fp"], entered, target, scratch, seen)
    else:
        lse = log_sum_exp(head, entered.flatten(0, 1), scratch, seen).view(entered.shape[:2])
        if name == "fp":
            # Differences first: each is small, so float32 keeps its digits.
            moved = (entered - target.entered).mul_(target.mean_row["fp"]).sum(-1)
        else:
            theirs = (target.entered * target.mean_row["fp"]).sum(-1)
            moved = (entered * target.mean_row[name]).sum(-1) - theirs
    nll = lse - head.chosen_logits(entered, target.chosen_row[name], target.tokens)
    kl = (lse - target.lse) - moved
    if rivals is None:
        return nll, kl
    return nll, kl, rivals.won.view(nll.shape).double()


def log_sum_exp(head: Head, entered: Tensor, scratch: Tensor, seen: Seen | None = None) -> Tensor:
    """Returns the log-sum-exp of the logits of entered states (R x d), (R), float64.

    Args:
        head: Of V rows.
        entered: States, in float32.
        scratch: As for :func:`make_target`.
        seen: Shown the logits.
    """
    sums = torch.zeros(len(entered), dtype=torch.float64, device=entered.device)
    for tile in head.tiles(scratch.shape[1]):
        for rows in _slabs(len(entered), scratch):
            z = tile.logits(entered[rows], scratch)
            if seen is not None:
                seen(rows, tile.columns, z)
            sums[rows] += z.exp_().sum(-1)
    low, high = _SAFE_SUM
    safe = (sums > low) & (sums < high)
    lse = sums.log()
    if not bool(safe.all()):
        odd = (~safe).nonzero()[:, 0]
        lse[odd] = _shifted_log_sum_exp(head, entered[odd], scratch)
    return lse


def _shifted_log_sum_exp(head: Head, entered: Tensor, scratch: Tensor) -> Tensor:
    """Returns log-sum-exp with a running maximum, whatever the size of the logits."""
    sums = torch.zeros(len(entered), dtype=torch.float64, device=entered.device)
    largest = torch.full_like(sums, -torch.inf)
    for tile in head.tiles(scratch.shape[1]):
        for rows in _slabs(len(entered), scratch):
            z = tile.logits(entered[rows], scratch)
            top = torch.maximum(largest[rows], z.amax(-1))
            new = z.sub_(top[:, None]).exp_().sum(-1)
            sums[rows] = sums[rows] * (largest[rows] - top).exp() + new
            largest[rows] = top
    return largest + sums.log()


def _capped_sums(
    head: Head,
    full: Head,
    entered: Tensor,
    target: Target,
    scratch: Tensor,
    seen: Seen | None,
) -> tuple[Tensor, Tensor]:
    """Returns log-sum-exp and ``Σ p (z_q − z_fp)`` of n plans' capped logits, (n x T) each."""
    half = max(1, len(scratch) // 2)
    theirs, mine = scratch[:half], scratch[half:] if len(scratch) > 1 else scratch.clone()
    sums = torch.zeros(entered.shape[:2], dtype=torch.float64, device=entered.device)
    moved = torch.zeros_like(sums)
    width = scratch.shape[1]
    for own, fp in zip(head.tiles(width), full.tiles(width), strict=True):
        for rows in _slabs(len(target.lse), theirs):
            z_fp = fp.logits(target.entered[rows], theirs)
            p = (z_fp - target.lse[rows, None].float()).exp_()
            for plan, states in enumerate(entered):
                z = own.logits(states[rows], mine)
                if seen is not None:
                    first = plan * len(states)
                    seen(slice(first + rows.start, first + rows.stop), own.columns, z)
                moved[plan, rows] += (z - z_fp).mul_(p).sum(-1)
                sums[plan, rows] += z.exp_().sum(-1)
    # A cap keeps logits where sums of exponentials are safe, but for caps that cap nothing.
    low, high = _SAFE_SUM
    safe = (sums > low) & (sums < high)
    lse = sums.log()
    if not bool(safe.all()):
        lse[~safe] = _shifted_log_sum_exp(head, entered[~safe], scratch)
    return lse, moved


def _slabs(n: int, scratch: Tensor) -> list[slice]:
    step = scratch.shape[0]
    return [slice(i, min(i + step, n)) for i in range(0, n, step)]


def _capped(z: Tensor, softcap: float) -> Tensor:
    return z.div_(softcap).tanh_().mul_(softcap)


def _rounded(x: Tensor) -> Tensor:
    return x.to(torch.bfloat16).to(x.dtype)


def _add_exact_product(out: Tensor, z: Tensor, weight: Tensor, rounds: bool) -> None:
    if not rounds:
        out.addmm_(z, weight)
        return
    # A switch of the whole process: turned only where products do round.
    with products("exact", str(z.device)), float32_results(str(z.device)):
        out.addmm_(z, weight)
