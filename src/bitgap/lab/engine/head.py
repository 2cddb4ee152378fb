"""The end of the model: hidden states in, log-likelihood and KL per token out.

Most of a small model's cost is here, so the whole vocabulary is visited once per token. With
``p = softmax(z_fp)`` and ``m_t = Σ_v p(v|t) W_v`` (one d-vector a token, computed once),

    KL_t  = Σ_v p (log p − log q) = lse(z_q) − h_q·m_t − (lse(z_fp) − h_fp·m_t)
    NLL_t = lse(z_q) − h_q·W_y(t)

so both need one product and one log-sum-exp. A bias cancels in KL when head and bias are those of
the full-precision model. A head that is itself rounded has its own ``m_t`` from its own rows.
Soft-capped logits are no plain product of ``h``; they take the direct form, which visits the
vocabulary once more for ``Σ p z_q``.

Log-sum-exp skips the usual shift by the maximum: float32 keeps its relative precision anywhere
between 1e-38 and 1e38, so the shift is needed only when the sum leaves that range; that is checked.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bitgap.lab.engine.arithmetic import float32_results, products

_CACHED_BYTES = 2**20
# Below this the sum of exponentials may have lost terms to underflow; above, to overflow.
_SAFE_SUM = (1e-25, 1e35)


@dataclass(frozen=True, slots=True)
class Head:
    """The last product: ``z = h @ weight.T + bias``, then an optional soft cap.

    Attributes:
        weight: Unembedding, (V x d).
        bias: Logit bias, (V), or None.
        softcap: ``c`` in ``z ← c·tanh(z/c)``, or None.
        rounds: Whether products round their inputs to bfloat16. Then ``h`` and ``weight`` are
            rounded up front, so that all terms of KL see the very same numbers and KL is the
            divergence of two real distributions.
    """

    weight: Tensor
    bias: Tensor | None
    softcap: float | None
    rounds: bool

    @classmethod
    def prepared(
        cls, weight: Tensor, bias: Tensor | None, softcap: float | None, rounds: bool
    ) -> Head:
        """Returns a head whose weight is rounded where products will round it."""
        return cls(_rounded(weight) if rounds else weight, bias, softcap, rounds)

    def enter(self, hidden: Tensor) -> Tensor:
        """Returns hidden states (T x d) as the product will see them."""
        return _rounded(hidden) if self.rounds else hidden

    def logits(self, entered: Tensor, out: Tensor) -> Tensor:
        """Writes logits of entered states (R x d) into the first R rows of ``out`` (.. x V)."""
        z = out[: entered.shape[0]]
        with float32_results(str(z.device)):
            if self.bias is None:
                torch.mm(entered, self.weight.T, out=z)
            else:
                torch.addmm(self.bias, entered, self.weight.T, out=z)
        if self.softcap is not None:
            z.div_(self.softcap).tanh_().mul_(self.softcap)
        return z


@dataclass(frozen=True, slots=True)
class Target:
    """What full precision said of T tokens; what every plan is compared with.

    Attributes:
        tokens: The tokens that came, (T).
        entered: Full-precision states before the head, (T x d).
        lse: Log-sum-exp of the full-precision logits, (T).
        mean_row: ``m_t`` for each head variant by name, (T x d); empty where logits are capped.
        chosen_row: Unembedding rows of the tokens that came, for each head variant, (T x d).
        nll: Full-precision negative log-likelihood in nats, (T).
    """

    tokens: Tensor
    entered: Tensor
    lse: Tensor
    mean_row: dict[str, Tensor]
    chosen_row: dict[str, Tensor]
    nll: Tensor

    @property
    def n_bytes(self) -> int:
        """Memory the arrays take."""
        tensors = [self.tokens, self.entered, self.lse, self.nll]
        tensors += [*self.mean_row.values(), *self.chosen_row.values()]
        return sum(t.numel() * t.element_size() for t in tensors)


def make_target(heads: dict[str, Head], hidden: Tensor, tokens: Tensor, buffer: Tensor) -> Target:
    """Visits the vocabulary in full precision and keeps what KL and NLL need.

    Args:
        heads: Head variants by scheme name; ``fp`` must be among them.
        hidden: Full-precision states before the head, (T x d).
        tokens: The tokens that came, (T).
        buffer: Scratch, (rows x V); its rows set how many tokens go through at once.
    """
    full = heads["fp"]
    entered = full.enter(hidden)
    lse = torch.empty(len(tokens), device=hidden.device)
    nll = torch.empty_like(lse)
    capped = full.softcap is not None
    means = {} if capped else {name: torch.empty_like(entered) for name in heads}
    for rows in _row_slices(len(tokens), buffer):
        z = full.logits(entered[rows], buffer)
        lse[rows] = torch.logsumexp(z, -1)
        nll[rows] = lse[rows] - z.gather(1, tokens[rows, None])[:, 0]
        if means:
            p = z.sub_(lse[rows, None]).exp_()
            for name, mean in means.items():
                # Never in rounded arithmetic: p has too few bits there and m_t serves every plan.
                mean[rows] = _exact_product(p, heads[name].weight)
    chosen = {} if capped else {name: head.weight[tokens] for name, head in heads.items()}
    return Target(tokens, entered, lse, means, chosen, nll)


def score_tokens(
    heads: dict[str, Head], name: str, hidden: Tensor, target: Target, buffer: Tensor
) -> tuple[Tensor, Tensor]:
    """Scores the states of several plans under one head.

    Args:
        heads: Head variants by scheme name.
        name: The variant to use.
        hidden: States before the head of n plans, (n x T x d).
        target: What full precision said of the same T tokens.
        buffer: Scratch, (rows x V).

    Returns:
        NLL and KL in nats, each (n x T).
    """
    head = heads[name]
    entered = head.enter(hidden)
    if head.softcap is not None:
        pairs = [_score_capped(head, heads["fp"], plan, target, buffer) for plan in entered]
        return torch.stack([nll for nll, _ in pairs]), torch.stack([kl for _, kl in pairs])
    lse = log_sum_exp(head, entered.flatten(0, 1), buffer).view(entered.shape[:2])
    nll = lse - (entered * target.chosen_row[name]).sum(-1)
    if head.bias is not None:
        nll -= head.bias[target.tokens]
    if name == "fp":
        # Differences first: each is small, so float32 keeps its digits.
        moved = (entered - target.entered).mul_(target.mean_row["fp"]).sum(-1)
        return nll, (lse - target.lse) - moved
    mine = (entered * target.mean_row[name]).sum(-1)
    theirs = (target.entered * target.mean_row["fp"]).sum(-1)
    return nll, (lse - target.lse) - (mine - theirs)


def log_sum_exp(head: Head, entered: Tensor, buffer: Tensor) -> Tensor:
    """Returns the log-sum-exp of the logits of entered states (R x d), (R)."""
    sums = torch.empty(len(entered), device=entered.device)
    few = max(1, _CACHED_BYTES // (4 * buffer.shape[1]))
    for rows in _row_slices(len(entered), buffer):
        # A few rows at a time, so that the sum finds in cache what the exponential just wrote.
        parts = zip(
            head.logits(entered[rows], buffer).split(few), sums[rows].split(few), strict=True
        )
        for z, total in parts:
            torch.sum(z.exp_(), -1, out=total)
    low, high = _SAFE_SUM
    if bool(((sums > low) & (sums < high)).all()):
        return sums.log_()
    for rows in _row_slices(len(entered), buffer):
        sums[rows] = torch.logsumexp(head.logits(entered[rows], buffer), -1)
    return sums


def _score_capped(
    head: Head, full: Head, entered: Tensor, target: Target, buffer: Tensor
) -> tuple[Tensor, Tensor]:
    nll = torch.empty(len(entered), device=entered.device)
    kl = torch.empty_like(nll)
    half = buffer.shape[0] // 2
    for rows in _row_slices(len(entered), buffer[:half]):
        z = head.logits(entered[rows], buffer[:half])
        lse = torch.logsumexp(z, -1)
        nll[rows] = lse - z.gather(1, target.tokens[rows, None])[:, 0]
        fp = full.logits(target.entered[rows], buffer[half:])
        moved = z.sub_(fp)
        p = fp.sub_(target.lse[rows, None]).exp_()
        kl[rows] = (lse - target.lse[rows]) - moved.mul_(p).sum(-1)
    return nll, kl


def _row_slices(n: int, buffer: Tensor) -> list[slice]:
    step = buffer.shape[0]
    return [slice(i, min(i + step, n)) for i in range(0, n, step)]


def _rounded(x: Tensor) -> Tensor:
    return x.to(torch.bfloat16).to(x.dtype)


def _exact_product(p: Tensor, weight: Tensor) -> Tensor:
    with products("exact", str(p.device)):
        return p @ weight
