"""What the weights of every block look like, matrix by matrix: spectra, tails, outliers.

Fused matrices are split into what their rows do, and norm gains are folded into the columns that
read them, so that neither a layout nor a gauge makes a block look unlike others. Matrices are
taken one at a time, and no number here moves when one is multiplied by a factor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from bitgap.errors import UnsupportedArchitecture
from bitgap.models.decoder import Decoder
from bitgap.models.gauge import one_channel_per_group
from bitgap.models.roles import (
    ChannelPair,
    gain_offset,
    matrix_parts,
    norm_consumers,
    value_output_pair,
)
from bitgap.models.twins import blocks_of, random_twin
from bitgap.quant.rounding import crest_factor_sq
from bitgap.quant.schemes import Group, parse_scheme
from bitgap.records import Floats
from bitgap.stats.spectra import (
    energy_ratio,
    entropy_rank,
    fit_tail,
    noise_distance,
    singular_values,
    stable_rank,
)

SPECTRAL = ("stable_rank", "entropy_rank", "energy_ratio", "tail_exponent", "noise_distance")
"""Measures that entries in another order would change."""
MEASURES = (*SPECTRAL, "kurtosis", "crest")
"""Of every matrix, as natural logarithms but for the exponent, which is a logarithm's slope."""
_ACCEPTED = 0.1
"""p above which a power law is not rejected (Clauset 2009)."""

Matrices = Mapping[str, Tensor]


class BlockMatrices:
    """The matrices of every block of a model by kind, norm gains folded in."""

    def __init__(self, decoder: Decoder, scheme: str) -> None:
        """Finds kinds and gains; reads no matrix yet.

        Args:
            decoder: The split model.
            scheme: Whose groups crest factors are of.
        """
        self._decoder = decoder
        self._parts = [matrix_parts(decoder, i) for i in range(decoder.n_blocks)]
        self._gains = [
            {
                name: _gain(block.get_submodule(norm))
                for norm, names in consumers.items()
                for name in names
            }
            for block, consumers in zip(decoder.blocks, norm_consumers(decoder), strict=True)
        ]
        self._pairs: dict[int, ChannelPair | None] = {}
        self._group: Group = getattr(parse_scheme(scheme), "group", "tensor")
        self.kinds = [k for k in self._parts[0] if all(k in parts for parts in self._parts)]
        """Kinds that every block has."""
        if not self.kinds:
            raise UnsupportedArchitecture(
                f"blocks of {type(decoder.model).__name__} have no kind of matrix in common, so "
                f"their spectra cannot be compared"
            )

    def of(self, block: int) -> dict[str, Tensor]:
        """Returns a block's matrices by kind, (out x in), float64."""
        return self._read(block, self._decoder.blocks[block], folded=True)

    def shuffled(self, block: int, seed: int) -> dict[str, Tensor]:
        """Returns the matrices with their entries in random order, gains folded in after that."""
        generator = torch.Generator().manual_seed(seed * self._decoder.n_blocks + block)

        def shuffle(weight: Tensor) -> Tensor:
            order = torch.randperm(weight.numel(), generator=generator)
            return weight.reshape(-1)[order].view(weight.shape)

        return self._read(block, self._decoder.blocks[block], folded=True, change=shuffle)

    def random(self, seed: int) -> Iterator[dict[str, Tensor]]:
        """Yields every block's matrices of a random-init twin, whose gains are all 1."""
        twin = random_twin(self._decoder.model, seed)
        for block, module in enumerate(blocks_of(twin, self._decoder)):
            yield self._read(block, module, folded=False)

    def _read(
        self,
        block: int,
        module: torch.nn.Module,
        *,
        folded: bool,
        change: Callable[[Tensor], Tensor] = lambda weight: weight,
    ) -> dict[str, Tensor]:
        views, out = self._decoder.block_linears(block), {}
        for kind in self.kinds:
            name, rows = self._parts[block][kind]
            weight = views[name].of(module)
            weight = change(weight[torch.from_numpy(rows).to(weight.device)].double().cpu())
            gain = self._gains[block].get(name) if folded else None
            out[kind] = weight if gain is None else weight * gain
        return out

    def measures(self, matrices: Matrices, n_draws: int, seed: int) -> Floats:
        """Returns :data:`MEASURES` of every matrix in the order given, (matrices x measures).

        NaN where a measure is undefined.

        Args:
            matrices: Some of a block's.
            n_draws: Samples that decide whether a tail follows a power law.
            seed: Of the samples.
        """
        return np.array([_measures(m, self._group, n_draws, seed) for m in matrices.values()])

    def origin(self, matrices: Matrices) -> Floats:
        """Returns the origin's measures averaged over the block's attention matrices, (3).

        They are the number of singular values over .01σ₁, σ₁/σ_min, and kurtosis.
        """
        attention = [m for kind, m in matrices.items() if kind in ("q", "k", "v", "o")]
        return np.array([_origin(m) for m in attention or list(matrices.values())]).mean(0)

    def planted(
        self, block: int, matrices: Matrices, *, factor: float, width: int, seed: int
    ) -> dict[str, Tensor] | None:
        """Returns value and output matrices with the same product and one outlier in every group.

        The weights of :func:`bitgap.models.gauge.fragile_parameters` (control P1), of matrices
        that were split by kind and had gains folded in.

        Args:
            block: Number of the block.
            matrices: Its matrices.
            factor: What columns are multiplied by, and the rows they read divided by.
            width: Of a group in columns.
            seed: Chooses the columns.

        Returns:
            None where the block's values are not found.
        """
        pair = self._pair(block)
        if pair is None or not {"v", "o"} <= set(matrices):
            return None
        chosen = one_channel_per_group(pair, width, seed)
        value, output = matrices["v"].clone(), matrices["o"].clone()
        value[chosen] /= factor
        output[:, torch.from_numpy(pair.columns[chosen].ravel())] *= factor
        return {"v": value, "o": output}

    def _pair(self, block: int) -> ChannelPair | None:
        # It is proved by two forwards of the block, and planted in many times.
        if block not in self._pairs:
            self._pairs[block] = value_output_pair(self._decoder, block)
        return self._pairs[block]


def _gain(norm: torch.nn.Module) -> Tensor:
    return (norm.get_parameter("weight").detach() + gain_offset(norm)).double().cpu()


def _measures(matrix: Tensor, group: Group, n_draws: int, seed: int) -> Sequence[float]:
    values = singular_values(matrix.numpy())
    tail = fit_tail(values**2, n_draws, seed)
    rows, columns = matrix.shape
    return [
        np.log(stable_rank(values)),
        np.log(entropy_rank(values)),
        np.log(energy_ratio(values)),
        tail.exponent if tail is not None and tail.p > _ACCEPTED else np.nan,
        np.log(noise_distance(values, (rows, columns))),
        np.log(_kurtosis(matrix)),
        np.log(crest_factor_sq(matrix, group)),
    ]


def _kurtosis(matrix: Tensor) -> float:
    """Returns the fourth moment over the second's square, 3 for Gaussian entries, at least 1."""
    centred = matrix - matrix.mean()
    return float((centred**4).mean() / (centred**2).mean() ** 2)


def _origin(matrix: Tensor) -> list[float]:
    values = singular_values(matrix.numpy())
    smallest = max(float(values[-1]), 1e-8 * float(values[0]))
    above = float((values > 0.01 * values[0]).sum())
    return [above, float(values[0]) / smallest, _kurtosis(matrix) - 3]
