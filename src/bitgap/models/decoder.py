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
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from bitgap.errors import EngineError, ModelError, UnsupportedArchitecture, UsageError
from bitgap.models.alike import few_weights
from bitgap.models.base import Base
from bitgap.models.context import Context, ContextCache
from bitgap.models.families import FAMILIES, Family, context_length, text_config
from bitgap.models.matrices import (
    Matrices,
    UnreadMatrix,
    Uses,
    find_matrices,
    learn_uses,
    unknown_parameters,
)
from bitgap.models.observe import observe_family, own_logits, probe_ids
from bitgap.models.packing import Unpackable
from bitgap.models.silence import hushed_log
from bitgap.models.stored import prefetch, stored
from bitgap.models.tail import Tail
from bitgap.models.visits import Visits, send_ends
from bitgap.models.weights import (
    LinearView,
    as_float32,
    check_replacements,
    clone_sharing,
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
        width: Width d of what one block hands to the next.
        state_width: Numbers that a state holds for each token; d unless ``packing`` says otherwise.
        packing: How states are laid out where blocks hand on more than (B x S x d), or None.
        vocabulary: Number of logits V.
        context: Longest sequence in tokens, or None.
        visits: How blocks come to the device where they are run, if they do not lie there.
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
            self._base = Base(model, self.family)
            self.blocks: list[nn.Module] = self.family.blocks_of(model)
            self.n_blocks = len(self.blocks)
            self.context = context_length(text_config(model))
            self._contexts, self._matrices = ContextCache(), dict[int, Matrices]()
            self._uses: Uses = {}
            self._lock, self.packing = threading.RLock(), None
            self.visits: Visits | None = None
            with torch.no_grad():
                self.packing = None if self.family.plain else self._base.find_packing(self.context)
                self.tail = Tail.of(model, self.family, self._before_tail())
                self.vocabulary = self.tail.weight.shape[0]
                self.state_width = int(self.embed(self._constant_ids(1, 1)).shape[-1])
            packing = self.packing
            self.width = self.state_width if packing is None else packing.hidden.rest[-1]

    @classmethod
    def from_model(
        cls, model: nn.Module, info: ModelInfo | None = None, *, family: Family | None = None
    ) -> Decoder:
        """Splits a model and proves the split.

        Proved are: recomposed logits equal the model's own, on random ids, for two lengths and two
        sequences; what follows a token does not change its logits; every matrix of every block is
        a linear. Costs about four forwards of a few tokens; those of a model that is mapped from a
        large file read one block of each kind (:func:`bitgap.models.alike.few_weights`).

        Args:
            model: A transformers causal LM, on the device it stays on. It is put in eval mode.
            info: What it is, if known.
            family: Where its parts are; by default the row for the model's class.

        Raises:
            UnsupportedArchitecture: If any of this fails; says what was tried and what to add.
        """
        with few_weights(model) as fewer:
            try:
                return cls._proved(model, info, family)
            except ModelError:
                if not fewer:
                    raise
        # Whatever the reason, a model is refused for what it does with all of its own weights.
        return cls._proved(model, info, family)

    @classmethod
    def _proved(cls, model: nn.Module, info: ModelInfo | None, family: Family | None) -> Decoder:
        decoder = cls(model, info, family=family)
        with decoder._refusing(), torch.no_grad():
            decoder._prove()
        return decoder

    def let_blocks_visit(self, device: torch.device | str) -> None:
        """Sends all but the blocks to a device without room for those, which visit it in turn.

        Args:
            device: Where states are, and everything is run, from now on.
        """
        send_ends(self.model, self.family, device)
        self.visits = Visits(self.blocks, device)
        with torch.no_grad():
            self._contexts = ContextCache()
            self.tail = Tail.of(self.model, self.family, self._before_tail())

    def whole_model(self, what: str) -> Any:
        """Returns the model for what runs all of it at once.

        Args:
            what: Who asks, for the message.

        Raises:
            UsageError: If its blocks visit their device, where all of them have no room.
        """
        if self.visits is not None:
            raise UsageError(
                f"{what} needs the whole model on {self.visits.device}, which has no room for it; "
                f"give --device cpu, or leave that out"
            )
        return self.model

    def bring(self, i: int) -> None:
        """Has block i where it is run, so that what is made of its weights is there too."""
        if self.visits is not None:
            self.visits.bring(i)

    def expect(self, i: int) -> None:
        """Begins to read block i, which comes next, without waiting for it."""
        if self.visits is not None:
            self.visits.expect(i)
        else:
            prefetch(self.blocks[i])

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
        caught = self._base.catch(input_ids, replacements)
        assert caught.entered is not None
        if self.packing is None:
            return caught.entered
        return self.packing.enter(caught.entered, caught.context)

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
                made = self._base.catch(self._constant_ids(n_rows, length)).context
                return tuple(made if self.packing is None else self.packing.without_tokens(made))

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
        self.bring(i)
        module = self.blocks[i] if module is None else module
        if self.packing is not None:
            return self.packing.run(i, hidden, context[i], module)
        args, kwargs = context[i]
        out = module(hidden, *args, **kwargs)
        return out[0] if isinstance(out, (tuple, list)) else out

    def logits(self, input_ids: Tensor) -> Tensor:
        """Returns logits (B x S x V) of token ids (B x S), recomposed from the parts."""
        hidden = self.embed(input_ids)
        context = self.context_for(*input_ids.shape)
        for i in range(self.n_blocks):
            hidden = self.run_block(i, hidden, context)
        return self.tail.logits(hidden)

    def residual(self, state: Tensor) -> Tensor:
        """Returns what one block hands to the next, (B x S x d), of a state.

        Raises:
            UnsupportedArchitecture: If that is several streams, so that there is no one residual.
        """
        if self.packing is None:
            return state
        slot = self.packing.hidden
        if len(slot.rest) != 1 or slot.axes != (0, 1):
            raise UnsupportedArchitecture(
                f"the blocks of {type(self.model).__name__} hand on "
                f"{' x '.join(map(str, slot.rest[:-1])) or 'several'} streams and no one residual "
                f"stream"
            )
        return slot.read(state)

    # -- weights --------------------------------------------------------------------------------

    def block_linears(self, i: int) -> dict[str, LinearView]:
        """Returns every matrix product of block i by name: attention, MLP and every expert.

        Raises:
            UnsupportedArchitecture: If the block has a matrix whose rows and columns cannot be
                told from the products that read it.
        """
        return dict(self.block_matrices(i).views)

    def block_matrices(self, i: int) -> Matrices:
        """Returns what of block i is rounded, what is left whole and why, and its experts.

        Raises:
            UnsupportedArchitecture: As :meth:`block_linears`.
        """
        with self._lock:
            if i not in self._matrices:
                try:
                    self._learn_uses(i)
                    self._matrices[i] = find_matrices(self.blocks[i], self._uses)
                except UnreadMatrix as error:
                    raise self._refusal(
                        f"block {i}: {error}, so a plan could not round it whole"
                    ) from None
            return self._matrices[i]

    def _learn_uses(self, i: int) -> None:
        """Runs block i, and others of its kind where no token reached all of it, on some tokens."""
        for j in (i, *(j for j in range(self.n_blocks) if j != i)):
            if not unknown_parameters(self.blocks[i], self._uses):
                return
            if type(self.blocks[j]) is type(self.blocks[i]):
                block = as_float32(self.blocks[j])
                learn_uses(block, lambda j=j, b=block: self._run_probe(j, b), self._uses)

    def block_weights(self, i: int) -> dict[str, Tensor]:
        """Returns every parameter of block i named ``*weight``, norm gains too, as stored."""
        return named_weights(self.blocks[i])

    def embedding_weights(self) -> dict[str, Tensor]:
        """Returns every parameter named ``*weight`` that acts before block 0, as stored.

        Token and position tables, and the norm or projection that follows them where a family has
        one. Names are those in the base model, such as ``wte.weight``.
        """
        inside = f"{self.family.base}." if self.family.base else ""
        others = (self.family.blocks, *self.family.finish)
        taken = tuple(f"{path.removeprefix(inside)}." for path in others)
        found = named_weights(self._base.module)
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
        self.bring(i)
        clone = clone_sharing(self.blocks[i])
        for name, value in (weights or {}).items():
            set_weight(clone, name, value)
        views = self.block_matrices(i).views if linears else {}
        for name, value in (linears or {}).items():
            if name not in views:
                raise EngineError(f"block {i} has no linear {name!r}; it has {', '.join(views)}")
            views[name].set_on(clone, value)
        return clone

    # -- the parts ------------------------------------------------------------------------------

    def _run_probe(self, i: int, module: nn.Module) -> Tensor:
        """Runs block i, or a copy of it, on a state that need not be its own."""
        shape = (4, min(16, self.context or 16))
        ids = probe_ids(self.model, *shape)
        return self.run_block(i, self.embed(ids), self.context_for(*shape), module)

    def _before_tail(self) -> Callable[[Tensor], Tensor] | None:
        packing = self.packing
        if self.family.replay:
            return self._replay
        return None if packing is None else packing.leave

    def _replay(self, state: Tensor) -> Tensor:
        """Returns what the head is given, (n x T x d_out), by the model's own code."""
        rows = state.reshape(-1, 1, state.shape[-1])
        ended = self._base.end(rows if self.packing is None else self.packing.leave(rows))
        return ended.view(*state.shape[:-1], -1)

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
        own = self._own_logits(ids)
        whole, part = self.logits(ids), self.logits(ids[:, :short])
        self._compare(whole, own, f"at length {long} logits are not its own")
        self._compare(
            part, self._own_logits(ids[:, :short]), f"at length {short} logits are not its own"
        )
        self._compare(whole[:, :short], part, "logits of a token depend on tokens after it")

    def _proof_lengths(self) -> tuple[int, int]:
        short, long = (min(n, self.context or n) for n in _PROOF_LENGTHS)
        return (short, long) if short < long else (max(1, long - 1), long)

    def _own_logits(self, ids: Tensor) -> Tensor:
        with hushed_log():
            own = own_logits(self.model, ids)
        if not own.isfinite().all():
            raise ModelError(
                f"{type(self.model).__name__}: its own logits are not finite on {ids.numel()} "
                f"random tokens, before anything is split or rounded (found NaN or infinity in "
                f"{int((~own.isfinite()).sum()):,} of {own.numel():,}); its weights are damaged, "
                f"or too large for float32"
            )
        return own

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
        except (ModelError, torch.OutOfMemoryError):
            raise
        except Unpackable as error:
            raise self._refusal(str(error)) from error
        except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            raise self._refusal(f"{type(error).__name__}: {error}") from error

    def _refusal(self, found: str) -> UnsupportedArchitecture:
        return UnsupportedArchitecture(
            f"{type(self.model).__name__} cannot be split into embed, blocks and tail. "
            f"Tried {self.family}. Found: {found}. "
            f"Mend or add the row for this class in bitgap/models/families.py"
        )


def _family_of(model: nn.Module) -> Family:
    # Under another name, or none, the parts are looked for; the proof decides either way.
    return FAMILIES.get(type(model).__name__) or observe_family(model)
