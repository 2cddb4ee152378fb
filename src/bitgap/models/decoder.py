"""A causal LM as embed | blocks | tail; the only module, with its families table, that knows how.

``embed`` is everything up to block 0: token embedding, positions, scaling, embedding norm or
projection. ``blocks`` are the model's own decoder layers. ``tail`` is everything after the last:
final norm, projection, head, logit scale, soft cap. The split is proved, not trusted:
:meth:`Decoder.from_model` recomposes logits and compares them with the model's own.

Shapes: B sequences, S tokens, d width, V vocabulary. Sequences are padded on the right and no
padding mask is used: in a causal model a pad cannot reach a real token before it.

Threads may share a decoder: what exchanges the model's block list for the length of a call (and
puts it back) happens one call at a time. The model itself must rest meanwhile.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from bitgap.errors import EngineError, UnsupportedArchitecture
from bitgap.models.context import Catcher, Caught, Context, ContextCache
from bitgap.models.families import FAMILIES, Family, context_length
from bitgap.models.silence import hushed_log
from bitgap.models.stored import stored
from bitgap.models.tail import Tail
from bitgap.models.weights import (
    LinearView,
    check_replacements,
    clone_sharing,
    linear_views,
    matrices_without_view,
    named_weights,
    set_weight,
)
from bitgap.records import ModelInfo

__all__ = ["Context", "Decoder", "LinearView", "Tail"]

_TOLERANCE = 1e-4
"""Largest difference of recomposed logits, relative to the largest logit, in float32."""
_PROOF_LENGTHS = (7, 19)


class Decoder:
    """A causal LM split into embed, blocks and tail.

    Attributes:
        model: The whole model, in eval mode. Its weights are never written to.
        info: What :func:`bitgap.models.load.load_model` said of it, or None.
        family: Where its parts are.
        blocks: The model's own decoder layers.
        tail: Final norm and head.
        n_blocks: Number of blocks L.
        width: Width d of the state between blocks.
        vocabulary: Number of logits V.
        context: Longest sequence in tokens, or None.
    """

    def __init__(
        self, model: nn.Module, info: ModelInfo | None = None, *, family: Family | None = None
    ) -> None:
        """Splits a model without proof; see :meth:`from_model`.

        Args:
            model: A transformers causal LM, on the device it stays on. It is put in eval mode.
            info: What it is, if known.
            family: Where its parts are; by default the row for the model's class.

        Raises:
            UnsupportedArchitecture: If there is no such row, or the row's paths do not lead.
        """
        self.model, self.info = model.eval(), info
        self.family = family or _family_of(model)
        with self._refusing():
            self._base = model.get_submodule(self.family.base)
            owner, _, attribute = self.family.blocks.rpartition(".")
            self._catcher = Catcher(model.get_submodule(owner), attribute)
            self.blocks: list[nn.Module] = list(model.get_submodule(self.family.blocks).children())
            self.tail = Tail.of(model, self.family)
            self.n_blocks, self.vocabulary = len(self.blocks), self.tail.weight.shape[0]
            self.context = context_length(model.config)
            self._contexts = ContextCache()
            self._lock = threading.RLock()
            with torch.no_grad():
                self.width = int(self.embed(self._constant_ids(1, 1)).shape[-1])

    @classmethod
    def from_model(
        cls, model: nn.Module, info: ModelInfo | None = None, *, family: Family | None = None
    ) -> Decoder:
        """Splits a model and proves the split.

        Proved are: recomposed logits equal the model's own, on random ids, for two lengths and two
        sequences; what follows a token does not change its logits; every matrix of every block is
        a linear. Costs about four forwards of a few tokens.

        Args:
            model: A transformers causal LM, on the device it stays on. It is put in eval mode.
            info: What it is, if known.
            family: Where its parts are; by default the row for the model's class.

        Raises:
            UnsupportedArchitecture: If any of this fails; says what was tried and what to add.
        """
        decoder = cls(model, info, family=family)
        with decoder._refusing(), torch.no_grad():
            decoder._prove()
        return decoder

    @property
    def eager_heads(self) -> int:
        """Attention heads whose scores are held as a matrix; 0 where attention is fused."""
        model: Any = self.model
        config = model.config.get_text_config()
        if getattr(config, "_attn_implementation", "eager") != "eager":
            return 0
        names = ("num_attention_heads", "n_head", "n_heads", "num_heads")
        return next((n for n in (getattr(config, k, None) for k in names) if n), 1)

    # -- running --------------------------------------------------------------------------------

    def embed(self, input_ids: Tensor) -> Tensor:
        """Returns the state that enters block 0, (B x S x d), of token ids (B x S)."""
        return self.embed_with(input_ids, {})

    def embed_with(self, input_ids: Tensor, replacements: Mapping[str, Tensor]) -> Tensor:
        """Returns the state that enters block 0 under other embedding weights.

        Args:
            input_ids: Token ids, (B x S).
            replacements: New tensors by their names in :meth:`embedding_weights`. They are in
                place for this call only, and never in the head, even where that is tied.

        Raises:
            EngineError: If a name or shape is not that of an embedding weight.
        """
        check_replacements(self.embedding_weights() if replacements else {}, replacements)
        entered = self._run_base(input_ids, replacements).entered
        assert entered is not None
        return entered

    def context_for(self, n_rows: int, length: int) -> Context:
        """Returns what blocks are given beside the state, for n_rows sequences of one length.

        Depends on the shape alone, so it serves any text; the last used are kept.

        Args:
            n_rows: Sequences B, those of several plans together.
            length: Padded length S in tokens.
        """

        def make() -> Context:
            # Not as inference tensors even if the caller is in that mode: others will use them.
            with torch.inference_mode(False), torch.no_grad():
                return tuple(self._run_base(self._constant_ids(n_rows, length), {}).context)

        with self._lock:
            return self._contexts.get((n_rows, length), make)

    def run_block(
        self, i: int, hidden: Tensor, context: Context, module: nn.Module | None = None
    ) -> Tensor:
        """Returns the state after block i.

        Args:
            i: Number of the block.
            hidden: State before it, (B x S x d); not written to.
            context: From :meth:`context_for` with the same B and S.
            module: What to run in the block's place, such as a :meth:`clone_block` of it.
        """
        args, kwargs = context[i]
        out = (self.blocks[i] if module is None else module)(hidden, *args, **kwargs)
        return out[0] if isinstance(out, tuple) else out

    def logits(self, input_ids: Tensor) -> Tensor:
        """Returns logits (B x S x V) of token ids (B x S), recomposed from the parts."""
        hidden = self.embed(input_ids)
        context = self.context_for(*input_ids.shape)
        for i in range(self.n_blocks):
            hidden = self.run_block(i, hidden, context)
        return self.tail.logits(hidden)

    # -- weights --------------------------------------------------------------------------------

    def block_linears(self, i: int) -> dict[str, LinearView]:
        """Returns every matrix product of block i by name: attention and MLP, fused or not.

        Raises:
            UnsupportedArchitecture: If the block has a matrix that no linear owns, such as the
                stacked experts of a mixture.
        """
        if missed := matrices_without_view(self.blocks[i]):
            raise self._refusal(
                f"block {i} has matrices that are no linear's ({', '.join(missed)}), so a plan "
                f"could not round it whole"
            )
        return linear_views(self.blocks[i])

    def block_weights(self, i: int) -> dict[str, Tensor]:
        """Returns every parameter of block i named ``*weight``, norm gains too, as stored."""
        return named_weights(self.blocks[i])

    def embedding_weights(self) -> dict[str, Tensor]:
        """Returns every parameter named ``*weight`` that acts before block 0, as stored.

        Token and position tables, and the norm or projection that follows them where a family has
        one. Names are those in the base model, such as ``wte.weight``.
        """
        inside = f"{self.family.base}."
        others = (self.family.blocks, *self.family.finish)
        taken = tuple(f"{path.removeprefix(inside)}." for path in others)
        found = named_weights(self._base)
        return {name: weight for name, weight in found.items() if not name.startswith(taken)}

    @property
    def token_embedding_names(self) -> tuple[str, ...]:
        """Names of the token tables among :meth:`embedding_weights`; one in every family so far."""
        table = self._token_table()
        return tuple(n for n, w in self.embedding_weights().items() if w.is_set_to(table))

    def clone_block(
        self,
        i: int,
        weights: Mapping[str, Tensor] | None = None,
        *,
        linears: Mapping[str, Tensor] | None = None,
    ) -> nn.Module:
        """Returns block i with some weights replaced, for :meth:`run_block`.

        Every other tensor is shared with the model, so memory grows by what is replaced only.

        Args:
            i: Number of the block.
            weights: New parameters as stored, by their names in :meth:`block_weights`.
            linears: New matrices (out x in), by their names in :meth:`block_linears`.

        Raises:
            EngineError: If a name or shape is not that of the block.
        """
        clone = clone_sharing(self.blocks[i])
        for name, value in (weights or {}).items():
            set_weight(clone, name, value)
        views = linear_views(self.blocks[i])
        for name, value in (linears or {}).items():
            if name not in views:
                raise EngineError(f"block {i} has no linear {name!r}; it has {', '.join(views)}")
            views[name].set_on(clone, value)
        return clone

    # -- the parts ------------------------------------------------------------------------------

    def _run_base(self, input_ids: Tensor, replacements: Mapping[str, Tensor]) -> Caught:
        given = {"input_ids": input_ids, "use_cache": False}
        # Without the hush GPT-2 advises an attention mask as soon as it sees a pad.
        with self._lock, hushed_log(), self._catcher.catching() as caught:
            if replacements:
                functional_call(self._base, dict(replacements), (), given)
            else:
                self._base(**given)
        if len(caught.context) != self.n_blocks:
            raise RuntimeError(f"{len(caught.context)} of {self.n_blocks} blocks were called")
        return caught

    def _token_table(self) -> Tensor:
        model: Any = self.model
        return stored(model.get_input_embeddings())

    def _constant_ids(self, n_rows: int, length: int) -> Tensor:
        return torch.zeros(n_rows, length, dtype=torch.long, device=self._token_table().device)

    # -- the proof ------------------------------------------------------------------------------

    def _prove(self) -> None:
        for i in range(self.n_blocks):
            self.block_linears(i)
        short, long = self._proof_lengths()
        table = self._token_table()
        ids = torch.randint(
            min(self.vocabulary, len(table)), (2, long), generator=torch.Generator().manual_seed(0)
        ).to(table.device)
        whole, part = self.logits(ids), self.logits(ids[:, :short])
        self._compare(whole, self._own_logits(ids), f"at length {long} logits are not its own")
        self._compare(
            part, self._own_logits(ids[:, :short]), f"at length {short} logits are not its own"
        )
        self._compare(whole[:, :short], part, "logits of a token depend on tokens after it")

    def _proof_lengths(self) -> tuple[int, int]:
        short, long = (min(n, self.context or n) for n in _PROOF_LENGTHS)
        return (short, long) if short < long else (max(1, long - 1), long)

    def _own_logits(self, ids: Tensor) -> Tensor:
        with hushed_log():
            return self.model(input_ids=ids, use_cache=False, return_dict=True).logits

    def _compare(self, mine: Tensor, own: Tensor, failure: str) -> None:
        if mine.shape != own.shape:
            raise self._refusal(f"{failure}: shape {tuple(mine.shape)}, not {tuple(own.shape)}")
        error, scale = float((mine - own).abs().max()), float(own.abs().max())
        # Written so that NaN fails too.
        if not error <= max(_TOLERANCE, 8 * torch.finfo(own.dtype).eps) * scale:
            raise self._refusal(f"{failure}: off by {error:.3g} where the largest is {scale:.3g}")

    @contextmanager
    def _refusing(self) -> Iterator[None]:
        # A row that does not fit shows as whatever error the model's code happens to run into.
        try:
            yield
        except (UnsupportedArchitecture, torch.OutOfMemoryError):
            raise
        except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            raise self._refusal(f"{type(error).__name__}: {error}") from error

    def _refusal(self, found: str) -> UnsupportedArchitecture:
        return UnsupportedArchitecture(
            f"{type(self.model).__name__} cannot be split into embed, blocks and tail. "
            f"Tried {self.family}. Found: {found}. "
            f"Mend or add the row for this class in bitgap/models/families.py"
        )


def _family_of(model: nn.Module) -> Family:
    name = type(model).__name__
    if name not in FAMILIES:
        raise UnsupportedArchitecture(
            f"{name} has no row in the families table, so nothing was tried. Supported are "
            f"{', '.join(FAMILIES)}. Add a row to bitgap/models/families.py that says where its "
            f"blocks, final norm and head are"
        )
    return FAMILIES[name]
