"""Weights and schemes that the tests of rounding share."""

import torch
from hypothesis import settings
from hypothesis import strategies as st

torch.set_num_threads(1)
quick = settings(max_examples=60, deadline=None)

GROUPS = ("tensor", "channel", 4, 32, 128)
NEAREST = (
    *(f"rtn{b}-{g}{c}" for b in (2, 3, 4, 8) for g in ("tensor", "g32") for c in ("", "-mse")),
    *("rtn5-channel", "rtn6-g64", "rtn7-g128-mse", "seed4", "seed3"),
)
RANDOM = ("noise0.05-s3", "stoch4-g32-s0", "stoch2-tensor-s1")


def gaussian(n_out, n_in, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n_out, n_in, generator=generator, dtype=torch.float64).to(dtype)


@st.composite
def matrices(draw):
    """Matrices of many sizes and shapes of distribution, with outliers, zero rows and ties."""
    weight = gaussian(draw(st.integers(1, 6)), draw(st.integers(1, 150)), draw(st.integers(0, 999)))
    weight = weight.sign() * weight.abs() ** draw(st.sampled_from([0.3, 1.0, 3.0]))
    if draw(st.booleans()):
        weight = (weight * 4).round()  # many ties and exact zeros
    if draw(st.booleans()):
        weight[0] = 0
    return weight * 10.0 ** draw(st.integers(-6, 6))
