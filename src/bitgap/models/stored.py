"""Parameters kept as their file has them, and cast to float32 for the moment they are used.

A checkpoint in bfloat16 or float16 is mapped, not read: its tensors are pages of the file, which
the system brings in when they are touched. The modules that own them say float32 to whoever asks
(``module.weight`` is a cast made on the spot), so that every forward computes in float32, bit for
bit as if the whole model had been cast, while never more than a matrix or so is. What is iterated
(``named_parameters``) is what is stored. Pages that were cast are given back at once, but for
models so small that all of their file may stay.

The token table is different: it casts the rows that come, into a table of which only those rows
take memory. A linear of many rows, such as a head, multiplies some rows at a time. Experts that are
one parameter are cast one by one where a module takes them so (:class:`Stacked`). A deep copy of a
whole model is a plain one in float32, as whoever changes weights needs it.
"""

from __future__ import annotations

import copy
import ctypes
import mmap
import sys
import threading
from collections.abc import Container, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only
from transformers import PreTrainedModel

from bitgap.models.kinds import is_within, text_part

HALVES = (torch.bfloat16, torch.float16)
"""The types of float that are kept and cast; others are run as they are."""
_TILE_NUMBERS = 2**22
_KEPT_BYTES = 2**30
"""Weights that take no more of their file than this stay in memory once they were read: to give
pages back after each cast, and to fault them in for the next, takes longer than a small product."""
_MAPPED = "bitgap_mapped"
_DONTNEED, _WILLNEED = 4, 3
_CAST = "bitgap_cast"
_LOCK = threading.RLock()
_T = TypeVar("_T", bound=Tensor)


def stored(module: nn.Module, name: str = "weight") -> Tensor:
    """Returns a parameter as it is kept, without gradient; not to be written to."""
    kept = module.get_submodule(name.rpartition(".")[0])._parameters[name.rpartition(".")[2]]
    assert kept is not None
    return _noted(kept.detach(), kept)


def run_type(tensor: Tensor) -> torch.dtype:
    """Returns the type a parameter is run in: float32 of what is kept in half the bits."""
    return torch.float32 if tensor.dtype in HALVES else tensor.dtype


def as_run(tensor: Tensor) -> Tensor:
    """Returns a parameter in the type it is run in."""
    return tensor.to(run_type(tensor))


def keep_as_stored(model: Any) -> Any | None:
    """Returns a model whose parameters stay as they were loaded and which computes in float32.

    Args:
        model: As transformers loaded it in the type of its file. Its parameters are taken over.

    Returns:
        The model, or None where its text part has parameters that this cannot keep (those of
        torch's recurrent layers, which go by other names inside), or it cannot be made without its
        weights.
    """
    base, _ = text_part(model)
    # Towers for images and sound are not run: what they are made of costs nothing to cast.
    if not all(_can_keep(m) or not is_within(path, base) for path, m in model.named_modules()):
        return None
    try:
        # What is no parameter (angles, scales, slopes) is made as a model in float32 makes it.
        with _parameters_without_memory():
            made: Any = type(model)._from_config(
                copy.deepcopy(model.config),
                dtype=torch.float32,
                attn_implementation=model.config._attn_implementation,
            )
    except Exception:
        return None
    if not _take_over(made, model):
        return None
    mark_mapped(made)
    module: Any
    for module in made.modules():
        if isinstance(module, PreTrainedModel):
            made_float32: Any = module
            made_float32.__class__ = _float32_model(type(module), tuple(module._parameters))
        elif any(p is not None and p.dtype in HALVES for p in module._parameters.values()):
            by_rows = module is made.get_input_embeddings()
            module.__class__ = _casting(type(module), tuple(module._parameters), by_rows)
    return made.eval().requires_grad_(False)


def _can_keep(module: nn.Module) -> bool:
    if isinstance(module, PreTrainedModel):
        return not any(p is not None for p in module._parameters.values())
    return not isinstance(module, nn.RNNBase)


def _take_over(made: nn.Module, loaded: nn.Module) -> bool:
    """Gives a model the parameters and loaded buffers of another of its class."""
    mine, its = dict(made.named_modules()), dict(loaded.named_modules())
    if mine.keys() != its.keys():
        return False
    for name, module in its.items():
        own = mine[name]
        if own._parameters.keys() != module._parameters.keys():
            return False
        # The very same objects, so that what is tied stays tied.
        own._parameters.update(module._parameters)
        for key, buffer in module._buffers.items():
            if buffer is not None and key not in module._non_persistent_buffers_set:
                own._buffers[key] = as_run(buffer)
    return True


@contextmanager
def _parameters_without_memory() -> Iterator[None]:
    """Has every parameter that is registered in the body be one without numbers."""
    register = nn.Module.register_parameter

    def empty(self: nn.Module, name: str, param: nn.Parameter | None) -> None:
        register(self, name, param)
        if param is not None:
            there = nn.Parameter(param.to("meta"), requires_grad=param.requires_grad)
            self._parameters[name] = there

    with _LOCK:
        nn.Module.register_parameter = empty  # type: ignore[method-assign]
        try:
            yield
        finally:
            nn.Module.register_parameter = register  # type: ignore[method-assign]


# -- modules that cast ---------------------------------------------------------------------------


def _cast_property(name: str) -> property:
    def get(self: nn.Module) -> Any:
        kept = self._parameters[name]
        if kept is None or kept.dtype not in HALVES:
            return kept
        if kept.ndim > 2:
            return Stacked.of(kept)
        cast = nn.Parameter(kept.detach().float(), requires_grad=False)
        forget(kept)
        return cast

    return property(get)


class Stacked(Tensor):
    """Several matrices of half the bits that say they are float32, and are cast as they are taken.

    ``stack[i]`` is a cast of matrix i alone, so that a loop over the experts that tokens reached
    casts no other. Whatever else is asked of it is asked of a cast of the whole.
    """

    @classmethod
    def of(cls, kept: Tensor) -> Stacked:
        """Returns a parameter (.. x rows x columns) as a stack; the numbers are shared."""
        made: Any = torch.Tensor._make_subclass(cls, kept.detach())
        made._is_param = True  # what nn.Module takes for a parameter of its own
        return _noted(made, kept)

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Answers by shape, by a cast of what is taken, or by a cast of all."""
        kwargs = kwargs or {}
        with torch._C.DisableTorchFunctionSubclass():
            own = args[0] if args and isinstance(args[0], Stacked) else None
            if own is not None and func in _OF_SHAPE:
                return func(*args, **kwargs)
            if own is not None and func in (Tensor.__getitem__, Tensor.select):
                kept = own.as_subclass(Tensor)
                taken = func(kept, *args[1:], **kwargs)
                cast = taken.float()
                if taken.is_contiguous():
                    forget(own, taken)
                return cast
            args, kwargs = tree_map_only(Stacked, _cast_whole, (args, kwargs))
            return func(*args, **kwargs)


def _cast_whole(stack: Stacked) -> Tensor:
    cast = stack.as_subclass(Tensor).float()
    forget(stack)
    return cast


_OF_SHAPE = frozenset(
    {
        *(getattr(Tensor, name) for name in ("size", "dim", "numel", "nelement", "data_ptr")),
        *(getattr(Tensor, name) for name in ("ndimension", "__len__", "is_contiguous", "stride")),
        *(getattr(Tensor, name).__get__ for name in ("shape", "ndim", "device", "is_cuda")),
        *(getattr(Tensor, name).__get__ for name in ("requires_grad", "is_leaf", "layout")),
    }
)


class _Rows(nn.Module):
    """Adds to a token embedding a float32 table of the rows that were asked for."""

    def _table(self) -> Tensor:
        kept = self._parameters["weight"]
        assert kept is not None
        table = self.__dict__.get("_bitgap_table")
        if table is None or table.shape != kept.shape:
            memory = mmap.mmap(-1, 4 * kept.numel())
            table = torch.frombuffer(memory, dtype=torch.float32).view(kept.shape)
            self.__dict__["_bitgap_table"] = table
            self.__dict__["_bitgap_rows"] = torch.zeros(len(kept), dtype=torch.bool)
        return table

    def forward(self, input: Tensor) -> Tensor:
        kept = self._parameters["weight"]
        if kept is not None and kept.dtype in HALVES and kept.device.type == "cpu":
            with torch.no_grad(), _LOCK:
                table, there = self._table(), self.__dict__["_bitgap_rows"]
                rows = input.detach().unique().cpu()
                rows = rows[~there[rows]]
                if len(rows):
                    table[rows] = kept.detach()[rows].float()
                    there[rows] = True
                    forget(kept)
        return super().forward(input)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        hidden = {k: self.__dict__.pop(k, None) for k in ("_bitgap_table", "_bitgap_rows")}
        try:
            made = self.__class__.__new__(self.__class__)
            memo[id(self)] = made
            made.__dict__.update(copy.deepcopy(self.__dict__, memo))
            return made
        finally:
            self.__dict__.update({k: v for k, v in hidden.items() if v is not None})


def _rows_property() -> property:
    def get(self: Any) -> Any:
        kept = self._parameters["weight"]
        if kept is None or kept.dtype not in HALVES:
            return kept
        table = self._table() if kept.device.type == "cpu" else kept.detach().float()
        return nn.Parameter(table, requires_grad=False)

    return property(get)


class _Tiles(nn.Module):
    """Has a linear of many rows cast and multiply some of them at a time."""

    def forward(self, input: Tensor) -> Tensor:
        weight = self._parameters["weight"]
        if weight is None or weight.dtype not in HALVES or weight.numel() <= 4 * _TILE_NUMBERS:
            return super().forward(input)
        bias: Any = getattr(self, "bias", None)
        step = max(1, _TILE_NUMBERS // weight.shape[1])
        out = input.new_empty(*input.shape[:-1], len(weight))
        for start in range(0, len(weight), step):
            rows = slice(start, start + step)
            part = None if bias is None else bias[rows]
            out[..., rows] = F.linear(input, weight.detach()[rows].float(), part)
        forget(weight)
        return out


@cache
def _casting(kind: type[nn.Module], names: tuple[str, ...], by_rows: bool) -> type[nn.Module]:
    parts: dict[str, Any] = {name: _cast_property(name) for name in names}
    bases: tuple[type, ...] = (kind,)
    if by_rows and issubclass(kind, nn.Embedding):
        # The token table; tables of positions are small, and asked in ways of their own.
        parts["weight"], bases = _rows_property(), (_below(kind, _Rows),)
    elif issubclass(kind, nn.Linear):
        bases = (_below(kind, _Tiles),)
    # The same name: a module is known by its class's, in refusals and fingerprints too.
    return type(kind.__name__, bases, parts | {"_bitgap_plain": kind})


@cache
def _below(kind: type[nn.Module], mixin: type[nn.Module]) -> type[nn.Module]:
    return type(kind.__name__, (mixin, kind), {})


@cache
def _float32_model(kind: type[nn.Module], names: tuple[str, ...]) -> type[nn.Module]:
    def deep(self: Any, memo: dict[int, Any]) -> Any:
        made = self.__class__.__new__(self.__class__)
        memo[id(self)] = made
        made.__dict__.update(copy.deepcopy(self.__dict__, memo))
        # One table for a model and the models inside it, or what is tied between them would part.
        shared: Any = memo
        return _plain_model(made, shared.setdefault(_CAST, {}))

    parts = {"dtype": property(lambda self: torch.float32), "__deepcopy__": deep}
    parts |= {name: _cast_property(name) for name in names}
    return type(kind.__name__, (kind,), parts | {"_bitgap_plain": kind})


def _plain_model(model: nn.Module, cast: dict[int, tuple[nn.Parameter, nn.Parameter]]) -> nn.Module:
    for module in model.modules():
        plain(module)
        for name, kept in module._parameters.items():
            if kept is not None and kept.dtype in HALVES:
                if id(kept) not in cast:
                    # Held beside its cast, so that no other comes to have its id meanwhile.
                    cast[id(kept)] = kept, nn.Parameter(kept.detach().float(), requires_grad=False)
                module._parameters[name] = cast[id(kept)][1]
    return model


def plain(module: nn.Module) -> None:
    """Makes a module, such as one of a copied block, of its own class again: as torch would run it.

    Its parameters stay what they are; whoever calls this sees to their type.
    """
    module.__class__ = getattr(type(module), "_bitgap_plain", type(module))


# -- pages of the file ---------------------------------------------------------------------------


def mark_mapped(model: nn.Module) -> None:
    """Notes which parameters are pages of a mapped weights file; others are left alone.

    Of a model that takes little of its file none is noted, so that its pages are never given back.
    """
    ranges = _mapped_files()
    found = [p for p in model.parameters() if p.device.type == "cpu" and _lies_in(p, ranges)]
    if sum(p.numel() * p.element_size() for p in found) > _KEPT_BYTES:
        for parameter in found:
            setattr(parameter, _MAPPED, parameter.data_ptr())


def lies_in_a_file(tensor: Tensor) -> bool:
    """Whether a tensor's numbers are pages of some mapped file; asks the system each time."""
    return _lies_in(tensor, _mapped_files())


def _lies_in(tensor: Tensor, ranges: list[tuple[int, int]]) -> bool:
    start = tensor.data_ptr()
    end = start + tensor.numel() * tensor.element_size()
    return any(a <= start and end <= b for a, b in ranges)


def _noted(out: _T, kept: Tensor) -> _T:
    """Notes of what shares a parameter's numbers that they lie in a mapped file, if they do."""
    if is_mapped(kept):
        setattr(out, _MAPPED, out.data_ptr())
    return out


def is_mapped(tensor: Tensor) -> bool:
    """Whether a parameter, or a tensor from :func:`stored`, lies in a mapped file."""
    # By where it lay: a copy takes the note along, and is elsewhere.
    return getattr(tensor, _MAPPED, None) == tensor.data_ptr()


def forget(tensor: Tensor, part: Tensor | None = None) -> None:
    """Gives the pages of a mapped tensor back; they are read again when they are touched again.

    Args:
        tensor: A parameter, or what :func:`stored` gave; nothing happens where it is not mapped.
        part: The rows of it that are meant; all when None.
    """
    _advise(tensor, part, _DONTNEED)


def prefetch(module: nn.Module) -> None:
    """Asks the system to begin reading a module's mapped parameters, without waiting for them."""
    for parameter in module.parameters():
        _advise(parameter, None, _WILLNEED)


def forget_files(folder: Path) -> None:
    """Gives the pages of a folder's weights back, but for files of which pages were written to."""
    # On the hub's shelves they are links to files elsewhere.
    names = {str(file.resolve()) for file in folder.glob("*.safetensors")}
    for start, end in _mapped_files(names):
        _advise_range(start, end, _DONTNEED)


def _advise(tensor: Tensor, part: Tensor | None, advice: int) -> None:
    if not is_mapped(tensor) or tensor.device.type != "cpu":
        return
    part = tensor if part is None else part
    start = part.data_ptr()
    _advise_range(start, start + part.numel() * part.element_size(), advice)


def _advise_range(start: int, end: int, advice: int) -> None:
    libc = _libc()
    # Pages that are wholly its own: neighbours may be in use.
    first, last = -(-start // mmap.PAGESIZE), end // mmap.PAGESIZE
    if libc is None or last <= first:
        return
    if advice == _WILLNEED or _are_of_a_file(first, last):
        size = (last - first) * mmap.PAGESIZE
        libc.madvise(ctypes.c_void_p(first * mmap.PAGESIZE), ctypes.c_size_t(size), advice)


def _are_of_a_file(first: int, last: int) -> bool:
    """Whether all pages of a range that are in memory are a file's, so that none was written to.

    Giving a page back that somebody wrote to would undo it. A private page that was written is no
    file's page any more, which the system tells of every page of its own process.
    """
    try:
        with open("/proc/self/pagemap", "rb", buffering=0) as pages:
            pages.seek(8 * first)
            found = np.frombuffer(pages.read(8 * (last - first)), dtype="<u8")
    except OSError:
        return False
    present, swapped, of_a_file = (found >> bit & 1 for bit in (63, 62, 61))
    return len(found) == last - first and not bool(((present | swapped) & (1 - of_a_file)).any())


@cache
def _libc() -> Any:
    if sys.platform != "linux":
        return None
    try:
        return ctypes.CDLL(None)
    except OSError:
        return None


def _mapped_files(names: Container[str] | None = None) -> list[tuple[int, int]]:
    """Returns the ranges of memory that are mapped files, or those of some paths."""
    try:
        lines = Path("/proc/self/maps").read_text().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        where, _, rest = line.partition(" ")
        # Files on the hub's shelves are links to blobs without an ending.
        slash = rest.find("/")
        if slash >= 0 and rest[:1] == "r" and (names is None or rest[slash:] in names):
            start, _, end = where.partition("-")
            found.append((int(start, 16), int(end, 16)))
    return _joined(found)


def _joined(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    out: list[tuple[int, int]] = []
    for start, end in sorted(ranges):
        if out and out[-1][1] == start:
            out[-1] = out[-1][0], end
        else:
            out.append((start, end))
    return out
