"""Runs stored before 2026-11-29, which hold their verb's JSON and no records.

This file goes when nobody has such a store any more; :func:`records_of` is all that is asked of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any

from bitgap.codec import from_json
from bitgap.disparity.layer_map import (
    BestSets,
    BlockEffects,
    Effect,
    LayerMap,
    OriginalRank,
    ScoredSet,
)
from bitgap.disparity.records import DisparityReport, LanguageDamage
from bitgap.errors import StoreError
from bitgap.jobs.records import Investigation, Link
from bitgap.records import Estimate
from bitgap.stats.mask_design import design_of_orders, make_design
from bitgap.theory.origin.ledger import Ledger
from bitgap.theory.records import Theory

Json = Mapping[str, Any]


def records_of(command: str, summary: Json, seed: int) -> dict[str, Any]:
    """Returns the records of a run stored before 2026-11-29, rebuilt from its JSON, by name.

    All that such a run said is in them; what it did not store of an estimate, its method and how
    many units were resampled, is what the run says of all its estimates.

    Args:
        command: The verb.
        summary: What the store holds of it.
        seed: The run's.

    Raises:
        StoreError: If the JSON is not what that verb stored.
    """
    try:
        match command:
            case "audit":
                return {"report": _report(summary)}
            case "map":
                return {"layer_map": _layer_map(summary, seed)}
            case "investigate":
                return {"investigation": _investigation(summary, seed)}
            case "theory":
                return {"theory": from_json(Theory, _fields_of(Theory, summary))}
            case "replicate":
                return {"ledger": from_json(Ledger, _fields_of(Ledger, summary))}
            case _:
                return {}
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(f"a stored run of {command!r} does not fit: {error!r}") from error


def _fields_of(kind: Any, row: Json) -> dict[str, Any]:
    names = {f.metadata.get("formerly", f.name) for f in fields(kind)}
    return {name: row[name] for name in names if name in row}


def _names(kind: Any, of: str) -> Iterable[str]:
    return (f.name for f in fields(kind) if f.type == of)


def _report(found: Json) -> DisparityReport:
    units, n = found["units"], found["n_sentences"]

    def estimate(row: Json, name: str, unit: str, ends: str = "") -> Estimate:
        low, high = row[ends or f"{name}_ci"] or (None, None)
        return Estimate(value=row[name], low=low, high=high, unit=unit, level=found["level"], n=n,
                        method=found["method"], reason=row[f"{name}_reason"])  # fmt: skip

    def language(code: str) -> LanguageDamage:
        row = found["languages"][code]
        measured: dict[str, Any] = {
            name: estimate(row, name, units[name], "ci" if name == "damage" else "")
            for name in _names(LanguageDamage, "Estimate")
            if name in row
        }
        return LanguageDamage(**_fields_of(LanguageDamage, row) | measured)

    named = {
        "disparity": (found, "D", "D"), "gap": (found, "G", "G"),
        "harm_mean": (found["H"], "mean", "H"), "harm_max": (found["H"], "max", "H"),
        "original_disparity": (found, "D_seed", "D_seed"),
        "share_disparity": (found, "D_share", "D_share"),
        "disparity_per_token": (found["decomposition"], "kl_per_token", "D"),
        "token_premium": (found["decomposition"], "token_premium", "D"),
        "disparity_per_byte": (found, "D_per_byte", "D"),
        "disparity_per_character": (found, "D_per_character", "D"),
    }  # fmt: skip
    # Keys were stored in order of the alphabet; the reference came first when it was measured.
    codes = sorted(found["languages"], key=lambda code: (code != found["reference"], code))
    plain: dict[str, Any] = _fields_of(DisparityReport, found) | {
        "languages": tuple(map(language, codes)),
        "caveats": tuple(found["caveats"]),
    }
    plain |= {name: estimate(row, key, units[of]) for name, (row, key, of) in named.items()}
    return DisparityReport(**plain)


_METHOD = "central 95 % of 400 bootstrap draws over sentences"
_UNDEFINED = "it has no value under some of these masks, or in too many draws"
_RANK = "rank among sets of this size, the best being 1"


def _layer_map(found: Json, seed: int) -> LayerMap:
    n, sentences = found["n_blocks"], found["sentences"]
    design = make_design(n, complete=True) if found["all_masks"] else design_of_orders(n, seed=seed)
    if len(design.masks) != found["masks"]:
        raise StoreError(
            f"a stored layer map is of {found['masks']} sets of blocks, of which this bitgap would "
            f"score {len(design.masks)}; map the model again"
        )

    def estimate(row: Json, name: str, unit: str) -> Estimate:
        low, high = row[f"{name}_ci"]
        reason = _UNDEFINED if None in (row[name], low) else None
        return Estimate(value=row[name], low=low, high=high, unit=unit, n=sentences,
                        method=_METHOD, reason=reason)  # fmt: skip

    def effect(row: Json, prefix: str = "") -> Effect:
        return Effect(**{
            name: estimate(row, f"{prefix}{name}", found["units"][name.split("_")[0]])
            for name in _names(Effect, "Estimate")
            if f"{prefix}{name}" in row
        })  # fmt: skip

    def scored(row: Json) -> ScoredSet:
        return ScoredSet(
            blocks=tuple(row["layers"]), damage=row.get("damage"), disparity=row.get("disparity")
        )

    games = ("damage", "gap", "disparity")
    origin = found["origin_set"]
    unranked = Estimate(value=None, unit=_RANK, reason=origin.get("reason", _UNDEFINED))
    ranks: dict[str, Any] = {
        name: estimate(origin, name, _RANK) if "sets" in origin else unranked
        for name in ("rank_damage", "rank_disparity")
    }
    return LayerMap(
        scheme=found["scheme"],
        design=design,
        blocks=tuple(
            BlockEffects(
                block=row["layer"],
                depth=row["depth"],
                single=effect(row, "single_"),
                protected=effect(row, "protected_"),
                shapley={g: estimate(row, f"shapley_{g}", found["units"][g]) for g in games},
            )
            for row in found["layers"]
        ),
        best=tuple(
            BestSets(
                size=row["size"],
                sets=row["sets"],
                least_damage=scored(row["least_damage"]),
                least_disparity=row["least_disparity"] and scored(row["least_disparity"]),
            )
            for row in found["best_sets"]
        ),
        unprotected=effect(found["unprotected"]),
        origin=OriginalRank(of=scored(origin), sets=origin.get("sets"), **ranks),
        n_sentences=sentences,
        caveats=tuple(found["caveats"]),
    )


def _investigation(found: Json, seed: int) -> Investigation:
    n = found["n_blocks"]
    return Investigation(
        scheme=found["operating_point"],
        tier=found["tier"],
        report=_report(found["audit"]),
        layer_map=_layer_map(found["map"], seed),
        rejected={scheme: tuple(codes) for scheme, codes in found["collapsed_below"].items()},
        links=tuple(_link(row, n) for row in found["links"]),
        work=found["work"],
    )


def _link(row: Json, n_blocks: int) -> Link:
    low, high = row["r_ci"]
    r = Estimate(value=row["r"], low=low, high=high, n=n_blocks, reason=row["r_reason"],
                 unit="correlation over blocks, detrended in depth", method="Fisher z")  # fmt: skip
    return Link(experiment=row["experiment"], title=row["title"], game=row["game"], r=r)
