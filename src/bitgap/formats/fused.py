"""Matrices that a runtime makes one of when it loads a model, and so must have one scheme."""

from __future__ import annotations

from collections.abc import Mapping

from bitgap.formats.source import Place
from bitgap.formats.target import FP, Refusal, Target

_FUSED = {"qkv_proj": ("q_proj", "k_proj", "v_proj"), "gate_up_proj": ("gate_proj", "up_proj")}


def fused_siblings(places: Mapping[str, Place]) -> dict[str, tuple[str, ...]]:
    """Returns the matrices, by name, that a runtime makes one of, by the path of what it makes."""
    found: dict[str, tuple[str, ...]] = {}
    for made, leaves in _FUSED.items():
        for name in places:
            at, _, leaf = name.removesuffix(".weight").rpartition(".")
            if leaf == leaves[0]:
                names = tuple(n for n in (f"{at}.{x}.weight" for x in leaves) if n in places)
                if len(names) > 1:
                    found[f"{at}.{made}"] = names
    return found


def unlike_siblings(
    target: Target, places: Mapping[str, Place], schemes: Mapping[str, str]
) -> list[Refusal]:
    """Refuses unlike schemes of what a runtime makes one matrix of."""
    found: list[Refusal] = []
    for names in fused_siblings(places).values():
        given = {name: schemes.get(name, FP) for name in names}
        if len(set(given.values())) == 1:
            continue
        # The one that takes most bytes has no fewer bits than any.
        most = max(given, key=lambda n: (target.bytes_of(places[n], given[n])
                                         / places[n].n_weights, n))  # fmt: skip
        finest = given[most]
        fits = all(target.refusal(places[n], finest) is None for n in names)
        others = ", ".join(n.rpartition(".")[0].rpartition(".")[2] for n in names)
        found += [
            Refusal(
                place=name,
                scheme=scheme,
                why=f"{others} are one matrix there and must have one scheme",
                nearest=finest if fits else FP,
            )
            for name, scheme in given.items()
            if scheme != finest or not fits
        ]
    return found
