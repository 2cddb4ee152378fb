"""Which parameters of a block are matrix products, found by looking, not by name.

A linear says so by its class. Other parameters do not: the experts of a mixture are one tensor with
an axis for the expert, stored (out x in) by some families and (in x out) by others; a recurrence
has decay rates and convolution kernels that no product ever reads. So the block is run once on a
few tokens and every product is looked at that reads such a parameter: the side on which it stands
says which axis is the input, and its strides how it is stored. What products read is rounded, each
expert on its own; what they do not read is left whole, and both are listed.

Routers are left whole though they are products: they choose, and no toolchain rounds them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from bitgap.models.stored import as_run, forget, run_type, stored
from bitgap.models.weights import LinearView, T, check_replacements, linear_views, set_weight

_PRODUCTS = {
    # Name of the operation, and where among its arguments its two factors are.
    "mm": (0, 1),
    "bmm": (0, 1),
    "mv": (0, 1),
    "addmm": (1, 2),
    "addmv": (1, 2),
    "baddbmm": (1, 2),
    "addbmm": (1, 2),
    "_grouped_mm": (0, 1),
    "grouped_mm_fallback": (0, 1),
}
_MOVES = frozenset(
    "alias cat clone contiguous copy_ detach expand gather index index_select permute reshape"
    " select slice split split_with_sizes squeeze stack t to _to_copy transpose unbind unsafe_view"
    " unsqueeze view _unsafe_view _reshape_alias".split()
)
"""Operations that hand on the numbers of a tensor as they are."""


@dataclass(frozen=True, slots=True)
class StackView(LinearView):
    """One matrix of a parameter that holds several, or that no linear owns.

    Attributes:
        parameter: The parameter's name in its block.
        index: Which of its matrices this is.
        stored: Rows and columns of each, as stored.
    """

    parameter: str
    index: int
    stored: tuple[int, int]

    @property
    def shape(self) -> tuple[int, int]:
        """Outputs and inputs."""
        a, b = self.stored
        return (b, a) if self.transposed else (a, b)

    def get(self) -> Tensor:
        """Returns the matrix (out x in) in float32: the model's own memory, not to be written to,
        or where that is of another type a cast of it.
        """
        return self._of(self._own())

    def use(self, reader: Callable[[Tensor], T]) -> T:
        """Returns what a reader makes of the matrix (out x in) as it is kept, without a cast.

        The reader must make something of its own: pages of a mapped file are given back after it.
        """
        own = self._own()
        part = own.view(-1, *self.stored)[self.index]
        made = reader(part.T if self.transposed else part)
        forget(own, part)
        return made

    def of(self, block: nn.Module) -> Tensor:
        """Returns the same matrix of another block of this shape, such as a twin's, (out x in)."""
        return self._of(stored(block, self.parameter))

    def set_on(self, block: nn.Module, weight: Tensor) -> None:
        """Replaces this matrix in a copy of its block; the copy's other matrices stay.

        Args:
            block: A copy from ``Decoder.clone_block``, never the model's own.
            weight: The new matrix, (out x in).

        Raises:
            EngineError: If the shape differs from the matrix's own.
        """
        check_replacements({self.name: torch.empty(self.shape, device="meta")}, {self.name: weight})
        own = self._own()
        if stored(block, self.parameter).is_set_to(own):
            # The first matrix of the stack to be replaced: until now the copy shares the stack.
            set_weight(block, self.parameter, own.to(run_type(own), copy=True))
        stack = stored(block, self.parameter).view(-1, *self.stored)
        stack[self.index].copy_(weight.T if self.transposed else weight)

    def _own(self) -> Tensor:
        return stored(self.module, self.parameter.rpartition(".")[2])

    def _of(self, kept: Tensor) -> Tensor:
        part = kept.view(-1, *self.stored)[self.index]
        matrix = as_run(part)
        forget(kept, part)
        return matrix.T if self.transposed else matrix


@dataclass(frozen=True, slots=True)
class Matrices:
    """What a block consists of, as far as rounding goes.

    Attributes:
        views: Every matrix that is rounded, by name; experts one by one.
        whole: Parameters of two or more dimensions that are left whole, by name, and why.
        experts: Modules that hold experts, by name, and how many each has.
    """

    views: Mapping[str, LinearView]
    whole: Mapping[str, str]
    experts: Mapping[str, int]

    @property
    def linears(self) -> dict[str, LinearView]:
        """The views that are a linear's own, which can be watched and renamed; no experts."""
        return {n: view for n, view in self.views.items() if not isinstance(view, StackView)}

    @property
    def see_some_tokens(self) -> tuple[str, ...]:
        """Names of matrices that are given some tokens and not others: those of experts."""
        inside = tuple(f"{path}." for path in self.experts)
        return tuple(name for name in self.views if name.startswith(inside)) if inside else ()

    @property
    def see_all_tokens(self) -> tuple[str, ...]:
        """Names of linears that can be watched and are given every token."""
        some = frozenset(self.see_some_tokens)
        return tuple(name for name in self.linears if name not in some)


class UnreadMatrix(ValueError):
    """A parameter enters products in a way from which its rows and columns cannot be told."""


Layout = tuple[tuple[int, int], bool]
"""Rows and columns of each matrix as stored, and whether it is stored (in x out)."""
Use = Layout | str
"""How products read a parameter, or why it is left whole."""
Uses = dict[tuple[str, str, tuple[int, ...]], Use]
"""Uses by class of the owner, name in the block and shape: equal in all blocks of a kind."""


def unknown_parameters(block: nn.Module, uses: Uses) -> dict[str, nn.Parameter]:
    """Returns the parameters of which neither their module nor ``uses`` says what they do."""
    return {
        name: parameter
        for name, parameter in _without_linear(block)
        if _known_use(block, name) is None and _key(block, name) not in uses
    }


def learn_uses(block: nn.Module, run: Callable[[], Any], uses: Uses) -> None:
    """Adds to ``uses`` what one run of a block shows of the parameters that are unknown yet.

    Args:
        block: One block of a model, all of it in the type it is run in
            (:func:`bitgap.models.weights.as_float32`); not written to.
        run: Runs it on some tokens. What no token reaches, such as an expert, stays unknown.
        uses: Of the model; added to.

    Raises:
        UnreadMatrix: If a product reads a parameter through a copy, or as two kinds of matrix.
    """
    for name, found in _traced(unknown_parameters(block, uses), run).items():
        uses[_key(block, name)] = found


def find_matrices(block: nn.Module, uses: Uses) -> Matrices:
    """Returns what of a block is rounded, and what is not.

    Args:
        block: One block of a model; not written to.
        uses: What :func:`learn_uses` found of parameters that are no linear's.

    Raises:
        UnreadMatrix: If it is not known what a parameter does.
    """
    views: dict[str, LinearView] = dict(linear_views(block))
    whole: dict[str, str] = {}
    for name, _ in _without_linear(block):
        use = _known_use(block, name) or uses.get(_key(block, name))
        if use is None:
            raise UnreadMatrix(f"{name} was read by nothing, so what it does is not known")
        if isinstance(use, str):
            whole[name] = use
        else:
            views.update(_stack(block, name, *use))
    experts = _experts(block, views)
    for name in [n for n, view in views.items() if _routes(block, view, experts)]:
        del views[name]
        whole[name] = "router"
    return Matrices(views, whole, experts)


def _without_linear(block: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Yields parameters of two or more dimensions that are no linear's weight."""
    linears = {f"{name}.weight" for name in linear_views(block)}
    for name, parameter in block.named_parameters():
        if parameter.ndim > 1 and name not in linears:
            yield name, parameter


def _key(block: nn.Module, name: str) -> tuple[str, str, tuple[int, ...]]:
    owner = block.get_submodule(name.rpartition(".")[0])
    return type(owner).__name__, name, tuple(stored(block, name).shape)


# -- what modules say of themselves ---------------------------------------------------------------


def _known_use(block: nn.Module, name: str) -> str | None:
    """Returns what a parameter does where its name or module says that it is no product, or None.

    Biases are told by name, since some are read by long texts only.
    """
    owner = block.get_submodule(name.rpartition(".")[0])
    if name.endswith("bias"):
        return "bias"
    if type(owner).__name__.endswith("Norm"):
        # A gain may have two dimensions (Cohere's is heads x width); it multiplies elementwise.
        return "gain"
    if isinstance(owner, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
        return "convolution"
    return "table" if isinstance(owner, nn.Embedding) else None


def _experts(block: nn.Module, views: Mapping[str, LinearView]) -> dict[str, int]:
    """Returns the modules that hold experts, with their number: stacked, or a list of modules."""
    found: dict[str, int] = {}
    for view in views.values():
        if isinstance(view, StackView):
            path = view.parameter.rpartition(".")[0]
            hint = f"{path} {type(view.module).__name__}".lower()
            n = stored(view.module, view.parameter.rpartition(".")[2]).numel()
            n //= math.prod(view.stored)
            if n > 1 and ("expert" in hint or "moe" in hint):
                found[path] = n
    for path, module in block.named_modules():
        if isinstance(module, nn.ModuleList) and "expert" in path.rpartition(".")[2]:
            n = len(module)
            if n > 1 and any(name.startswith(f"{path}.") for name in views):
                found[path] = n
    return found


def _routes(block: nn.Module, view: LinearView, experts: Mapping[str, int]) -> bool:
    """Whether a matrix chooses among experts, or weighs a shared one."""
    names = view.name.split(".")
    path = view.parameter.rpartition(".")[0] if isinstance(view, StackView) else view.name
    inside = [".".join(path.split(".")[:i]) for i in range(1, path.count(".") + 2)]
    if any("Router" in type(block.get_submodule(name)).__name__ for name in inside):
        return True
    for path, n in experts.items():
        mixture = _mixture_of(path)
        # A mixture may lie in the block itself, with attention beside it; then names must say it.
        beside = not mixture or view.name.startswith(f"{mixture}.")
        if not beside or view.name.startswith(f"{path}."):
            continue
        gate = any(name == "gate" or name.endswith("_gate") for name in names)
        n_out = view.shape[0]
        if "router" in names or (n_out == n and (mixture or gate)) or (n_out == 1 and gate):
            return True
    return False


def _mixture_of(path: str) -> str:
    """Returns the module that has experts and router, of the path to what holds experts."""
    names = path.split(".")
    first = next((i for i, name in enumerate(names) if "expert" in name.lower()), len(names) - 1)
    return ".".join(names[:first])


# -- what products say ----------------------------------------------------------------------------


def _stack(
    block: nn.Module, name: str, shape: tuple[int, int], transposed: bool
) -> dict[str, LinearView]:
    path = name.rpartition(".")[0]
    module, n = block.get_submodule(path), stored(block, name).numel()
    n //= math.prod(shape)
    keys = [name] if n == 1 else [f"{name}.{i}" for i in range(n)]
    return {key: StackView(key, module, transposed, name, i, shape) for i, key in enumerate(keys)}


class _Watch(TorchDispatchMode):
    """Sees which parameters products read, and how they lie in them."""

    def __init__(self, parameters: Mapping[str, nn.Parameter]) -> None:
        super().__init__()
        self._own = {p.untyped_storage().data_ptr(): (n, p) for n, p in parameters.items()}
        self._shapes = {name: tuple(p.shape) for name, p in parameters.items()}
        self._copies: dict[int, str] = {}
        # Copies are kept, so that no memory is used twice and an address means one tensor.
        self._kept: list[Tensor] = []
        self.layouts: dict[str, set[Layout]] = {name: set() for name in parameters}
        self.copied: set[str] = set()
        self.uses: dict[str, set[str]] = {name: set() for name in parameters}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func._schema.name.rpartition("::")[2]
        if name in _PRODUCTS:
            for side, place in enumerate(_PRODUCTS[name]):
                self._see(args[place], is_left=side == 0)
            if _PRODUCTS[name][0] == 1 and (known := self._known(args[0])):
                self.uses[known].add("addend")
        elif name in _MOVES:
            self._follow(args, out)
        else:
            for tensor in _tensors((args, kwargs)):
                if known := self._known(tensor):
                    self.uses[known].add(name)
        return out

    def _known(self, tensor: Tensor) -> str | None:
        address = tensor.untyped_storage().data_ptr()
        return self._own[address][0] if address in self._own else self._copies.get(address)

    def _see(self, factor: Tensor, *, is_left: bool) -> None:
        address = factor.untyped_storage().data_ptr()
        if address in self._copies:
            self._see_copy(self._copies[address], factor, is_left=is_left)
        if address not in self._own or factor.ndim < 2:
            return
        name, parameter = self._own[address]
        # out x in on the left of a product, in x out on its right.
        (n_out, n_in), (by_out, by_in) = factor.shape[-2:], factor.stride()[-2:]
        if not is_left:
            n_out, n_in, by_out, by_in = n_in, n_out, by_in, by_out
        if by_in == 1 and by_out == n_in:
            self.layouts[name].add(((n_out, n_in), False))
        elif by_out == 1 and by_in == n_out:
            self.layouts[name].add(((n_in, n_out), True))
        else:
            # Part of a matrix: its own rows and columns are those of the parameter.
            rows, columns = parameter.shape[-2:]
            self.layouts[name].add(((rows, columns), by_in != 1))

    def _see_copy(self, name: str, factor: Tensor, *, is_left: bool) -> None:
        """Notes a factor that holds a parameter's matrices anew, such as one for each sequence."""
        rows, columns = self._shapes[name][-2:]
        wanted = tuple(factor.shape[-2:]) if is_left else tuple(factor.shape[-2:])[::-1]
        # A square matrix may have been turned on the way, which its shape does not tell.
        if rows != columns and sorted(wanted) == sorted((rows, columns)):
            self.layouts[name].add(((rows, columns), wanted != (rows, columns)))
        else:
            self.copied.add(name)

    def _follow(self, args: Any, out: Any) -> None:
        known = next(filter(None, map(self._known, _tensors(args))), None)
        for tensor in _tensors(out):
            address = tensor.untyped_storage().data_ptr()
            if address not in self._own and known:
                self._copies[address] = known
                self._kept.append(tensor)


def _traced(parameters: Mapping[str, nn.Parameter], run: Callable[[], Any]) -> dict[str, Use]:
    """Returns the use of each parameter that anything read."""
    watch = _Watch(parameters)
    with torch.no_grad(), watch:
        run()
    found: dict[str, Use] = {}
    for name, layouts in watch.layouts.items():
        if not layouts and name in watch.copied:
            raise UnreadMatrix(f"{name} enters products through a copy")
        if len({transposed for _, transposed in layouts}) > 1:
            raise UnreadMatrix(f"{name} enters products both as it is and transposed")
        if layouts:
            found[name] = _whole_matrices(parameters[name], layouts)
        elif watch.uses[name]:
            convolved = any("conv" in use for use in watch.uses[name])
            found[name] = "convolution" if convolved else "no matrix product"
    return found


def _whole_matrices(parameter: Tensor, layouts: set[Layout]) -> Layout:
    """Returns how a parameter's matrices are stored, of what products read of them.

    Products may read a matrix in parts, as those of gate and up. Two dimensions are one matrix
    unless all that is read is one equal share of it; of more, the last two are.
    """
    (shape, transposed), own = max(layouts), (parameter.shape[-2], parameter.shape[-1])
    one_share = len(layouts) == 1 and parameter.numel() % math.prod(shape) == 0
    if not one_share or (parameter.ndim > 2 and math.prod(shape) < math.prod(own)):
        shape = own
    return shape, transposed


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))
