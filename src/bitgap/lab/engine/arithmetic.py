"""How matrix products are computed, and who restores it afterwards.

``exact`` is float32 throughout. ``fast`` lets matrix products round their inputs to bfloat16 and
accumulate in float32, where the processor has instructions for that; elsewhere it *is* float32,
and says so through :func:`fast_products_round`. Rounding only ever pays where the hardware has it:
on a processor without, a bfloat16 product is emulated and about a hundred times slower.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch

from bitgap.records import Arithmetic


@cache
def fast_products_round(device: str = "cpu") -> bool:
    """Whether ``fast`` differs from ``exact`` on this device (it has bfloat16 products)."""
    if torch.device(device).type == "cuda":
        return torch.cuda.is_bf16_supported()
    if not torch.backends.mkldnn.is_available():
        return False
    # What the processor has the library may have been told not to use (ONEDNN_MAX_CPU_ISA); its
    # bfloat16 products are then some hundred times slower than those in float32.
    if not getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: True)():
        return False
    checks = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return any(getattr(torch.cpu, name, lambda: False)() for name in checks)


@contextmanager
def products(arithmetic: Arithmetic, device: str = "cpu") -> Iterator[None]:
    """Runs the body with the chosen arithmetic and restores the caller's settings after it.

    Where products round on the CPU, linears and attention run under autocast: in and out in
    bfloat16, sums inside in float32, norms and the residual stream in float32.

    Args:
        arithmetic: ``exact`` or ``fast``.
        device: Where the products run, such as ``cpu`` or ``cuda:0``.
    """
    rounds = arithmetic == "fast" and fast_products_round(device)
    kind = torch.device(device).type
    cast = torch.autocast(
        kind, torch.bfloat16, enabled=rounds and kind == "cpu", cache_enabled=False
    )
    with _precision("bf16" if rounds else "ieee", kind), cast:
        yield


@contextmanager
def float32_results(device: str = "cpu") -> Iterator[None]:
    """Runs the body without autocast: products may round what goes in, never what comes out."""
    with torch.autocast(torch.device(device).type, enabled=False):
        yield


@contextmanager
def _precision(wanted: str, kind: str) -> Iterator[None]:
    # One switch per backend, and the older global one where a backend has none of its own.
    backend = torch.backends.cuda if kind == "cuda" else torch.backends.mkldnn
    switch = getattr(backend, "matmul", None)
    if switch is not None and hasattr(switch, "fp32_precision"):
        before = switch.fp32_precision
        # CUDA knows no "bf16" for float32 products; TF32 holds every bfloat16 number exactly.
        switch.fp32_precision = "tf32" if (kind == "cuda" and wanted == "bf16") else wanted
        try:
            yield
        finally:
            switch.fp32_precision = before
        return
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium" if wanted == "bf16" else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
