"""Predictions that are dated and hashed before a model is measured, and checked after.

A prediction is a JSON file with the SHA-256 of its own content, so that a changed number shows. The
hash tells of accidents, not of forgery: who wants others to believe a prediction publishes its hash
before measuring. :func:`check` refuses one that was made after the measurement began.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bitgap.codec import from_json, is_object
from bitgap.errors import NoSuchPath, StoreError, UserError
from bitgap.stats.verdicts import load_thresholds
from bitgap.theory.evidence import Evidence, families_of
from bitgap.theory.forecast.expectation import KINDS, Inputs, Kind, inputs_of
from bitgap.theory.forecast.intervals import (
    LEVEL,
    QUANTITIES,
    Forecast,
    Range,
    forecast,
    random_masks,
)
from bitgap.theory.forecast.scorecard import Scorecard, score
from bitgap.version import __version__

if TYPE_CHECKING:
    from bitgap.lab.store import Store


VERSION = 2
"""Of the file's format."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """A forecast with all that is needed to hold it to account; JSON-ready."""

    version: int
    made: str
    """UTC, ISO 8601, to the second."""
    bitgap: str
    target: str
    family: str
    fingerprint: str | None
    """Of the target's weights; None where only its config was known."""
    kind: str
    scheme: str | None
    n_blocks: int
    languages: Sequence[str]
    """That S is a spread over, reference first; of a config forecast those it learned from."""
    zoo: Sequence[Mapping[str, str]]
    """Models it was learned from: name, family, fingerprint."""
    thresholds_hash: str
    seed: int
    """Of the masks."""
    level: float
    """Of the intervals."""
    protect: Mapping[str, Mapping[str, Any]]
    """By objective: ``blocks``, and with them protected ``spread`` (log2 S), ``damage`` (log2 of
    the share that is left) and ``disparity`` (D), each as value, low, high."""
    masks: Sequence[Mapping[str, Any]]
    """``protected`` blocks, and the same three numbers."""
    damage_shares: Sequence[float]
    """Expected share of each block in mean damage."""
    held_out: Mapping[str, Mapping[str, float | None]]
    """How such forecasts did in families held out of those learned from, by quantity: means over
    families of ``spearman``, ``rmse`` and ``covered``. What came out later is told beside it."""

    @property
    def digest(self) -> str:
        """The SHA-256 of the canonical JSON of all fields."""
        return _digest(asdict(self))

    def as_dict(self) -> dict[str, Any]:
        """Returns what the file holds."""
        return {**asdict(self), "sha256": self.digest}


def _digest(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def predict(
    zoo: Sequence[Evidence],
    inputs: Inputs,
    kind: Kind,
    *,
    seed: int = 0,
    now: datetime | None = None,
) -> Prediction:
    """Returns a dated prediction for a model that is not measured yet.

    Args:
        zoo: Measured models to learn from.
        inputs: What is known of the model beforehand.
        kind: Whether to use the config alone, or the weights and one forward pass.
        seed: Of the masks; that of the settings the model will be measured with.
        now: When it is made; the clock's time by default.

    Raises:
        UserError: If the zoo or the inputs do not suffice.
    """
    made = (now or datetime.now(UTC)).astimezone(UTC)
    found = forecast(zoo, inputs, kind, random_masks(inputs.n_blocks, seed=seed))
    return Prediction(
        version=VERSION,
        made=made.isoformat(timespec="seconds"),
        bitgap=__version__,
        target=inputs.target,
        family=inputs.family,
        fingerprint=inputs.fingerprint,
        kind=kind,
        scheme=inputs.scheme,
        n_blocks=inputs.n_blocks,
        languages=list(found.core.languages),
        zoo=[{"model": e.model, "family": e.family, "fingerprint": e.fingerprint} for e in zoo],
        thresholds_hash=load_thresholds().hash,
        seed=seed,
        level=LEVEL,
        protect=_protect_rows(found),
        masks=[
            {"protected": list(mask)}
            | {name: list(values[i]) for name, values in found.quantities.items()}
            for i, mask in enumerate(found.masks)
        ],
        damage_shares=[float(share) for share in found.core.damage],
        held_out=_held_out(zoo, kind),
    )


def _held_out(zoo: Sequence[Evidence], kind: Kind) -> dict[str, dict[str, float | None]]:
    zoo = [one for one in zoo if len(one.languages) > 1]
    enough = len(families_of(zoo)) > 2
    return mean_scores(leave_one_family_out(zoo, kinds=(kind,)) if enough else [])


def mean_scores(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float | None]]:
    """Returns by quantity the means over families of what scorecards say of masks.

    Args:
        rows: With ``family`` and ``masks``, such as :func:`leave_one_family_out` gives.
    """
    return {
        quantity: {
            name: _mean_over_families(
                [(row["family"], row["masks"][quantity].get(name)) for row in rows]
            )
            for name in ("spearman", "rmse", "covered")
        }
        for quantity in QUANTITIES
    }


def _mean_over_families(pairs: Sequence[tuple[str, float | None]]) -> float | None:
    by_family: dict[str, list[float]] = {}
    for family, value in pairs:
        if value is not None:
            by_family.setdefault(family, []).append(value)
    if not by_family:
        return None
    return sum(sum(v) / len(v) for v in by_family.values()) / len(by_family)


def _protect_rows(found: Forecast) -> dict[str, dict[str, Any]]:
    return {
        name: {
            "blocks": list(blocks),
            **{quantity: list(value) for quantity, value in found.triples[name].items()},
        }
        for name, blocks in found.protect.items()
    }


def write_prediction(prediction: Prediction, folder: str | os.PathLike[str]) -> Path:
    """Writes a prediction, whole or not at all, never over another, and returns its file.

    Args:
        prediction: To be written.
        folder: Made where it is not there.

    Raises:
        UserError: If it cannot be written.
    """
    stem = re.sub(r"[^a-z0-9.]+", "-", Path(prediction.target).name.lower()).strip("-.") or "model"
    day = re.sub(r"[^0-9T]", "", prediction.made.split("+")[0])
    text = json.dumps(prediction.as_dict(), indent=1, allow_nan=False) + "\n"
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=folder, prefix=".prediction-", suffix=".json")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            rounded = f"{prediction.scheme}-" if prediction.scheme else ""
            return _link_anew(Path(name), Path(folder), f"{stem}-{prediction.kind}-{rounded}{day}")
        finally:
            os.unlink(name)
    except OSError as error:
        raise UserError(
            f"cannot write a prediction into {os.fspath(folder)!r} ({error.strerror or error}); "
            f"name a folder that can be written"
        ) from error


def _link_anew(written: Path, folder: Path, stem: str) -> Path:
    """Gives a written file its first free name; linking fails where there is a file already."""
    number = 1
    while True:
        path = folder / (f"{stem}.json" if number == 1 else f"{stem}-{number}.json")
        try:
            os.link(written, path)
        except FileExistsError:
            number += 1
            continue
        path.chmod(0o644)
        return path


def stated_content(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Returns what a prediction of any version states, after its hash was checked.

    Raises:
        UserError: If it cannot be read, is no prediction, or was changed.
    """
    name = os.fspath(path)
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        kind = NoSuchPath if isinstance(error, FileNotFoundError) else UserError
        raise kind(
            f"cannot read {name!r} ({error.strerror}); name a file that `bitgap predict` wrote"
        ) from error
    except (ValueError, RecursionError):
        raise UserError(
            f"{name!r} holds no JSON; name a file that `bitgap predict` wrote"
        ) from None
    if not is_object(content) or not {"version", "sha256", "masks"} <= content.keys():
        raise UserError(f"{name!r} is no prediction; name a file that `bitgap predict` wrote")
    stated = content.pop("sha256")
    try:
        digest = _digest(content)
    except ValueError:  # JSON of Python may hold NaN
        digest = None
    if digest != stated:
        raise UserError(
            f"{name!r} was changed after it was made: its content does not have the SHA-256 that "
            f"it states; restore it from where it was published"
        )
    return content


def read_prediction(path: str | os.PathLike[str]) -> Prediction:
    """Returns the prediction that a file holds.

    Raises:
        UserError: If it cannot be read, is no prediction, is of another version, or was changed.
    """
    name, content = os.fspath(path), stated_content(path)
    if content["version"] != VERSION:
        raise UserError(
            f"{name!r} has version {content['version']!r}, this bitgap reads {VERSION}; check it "
            f"with the bitgap that made it ({content.get('bitgap')})"
        )
    if content.keys() != {f.name for f in fields(Prediction)}:
        raise UserError(f"{name!r} is no prediction; name a file that `bitgap predict` wrote")
    try:
        return from_json(Prediction, content)
    except StoreError as error:
        raise UserError(f"{name!r} is no prediction: {error}") from None


def measured_since(store: Store, fingerprint: str, model: str) -> datetime | None:
    """Returns when measuring a model began, as a store says; None if it was not measured.

    Scores carry no time, so it is what was noted when they began, or the earliest start of a run of
    any verb on these weights.

    Args:
        store: Where measurements are kept.
        fingerprint: Of the weights.
        model: Its name, by which scores without a run are found.

    Raises:
        UserError: If there are scores or evidence of the model and no run that dates them; they
            count as measured already.
    """
    started = [
        datetime.fromisoformat(provenance.started)
        for _, _, provenance, summary in store.runs()
        if summary.get("model_fingerprint") == fingerprint
    ]
    if (noted := store.began(fingerprint)) is not None:
        started.append(noted)
    if started:
        return min(started)
    gathered = store.observations_of("evidence")
    if store.has_scores_of(model) or any(
        kept.facts.get("fingerprint") == fingerprint for kept in gathered
    ):
        raise UserError(
            f"{store.path!r} holds measurements of {model} and no run that says when they were "
            f"made (one was stopped), so a prediction cannot be shown to come before them; predict "
            f"with the store they are not in, or finish the run to date them"
        )
    return None


def check(prediction: Prediction, evidence: Evidence, measured_from: datetime | None) -> Scorecard:
    """Returns how good a prediction was.

    Args:
        prediction: As it was read.
        evidence: What was measured.
        measured_from: When that began, as :func:`measured_since` tells.

    Raises:
        UserError: If the prediction was not made before, or is of another model or scheme.
    """
    if measured_from is None:
        raise UserError(
            f"nothing says when {evidence.model} was measured, so the prediction of "
            f"{prediction.made} cannot be shown to come before; check with the store of its run"
        )
    if datetime.fromisoformat(prediction.made) >= measured_from:
        raise UserError(
            f"this prediction was made {prediction.made}, after measuring {evidence.model} began "
            f"({measured_from.isoformat(timespec='seconds')}), so it predicts nothing; predict a "
            f"model that is not measured yet"
        )
    _check_subject(prediction, evidence)
    return score(
        {name: row["blocks"] for name, row in prediction.protect.items()},
        [row["protected"] for row in prediction.masks],
        {name: [Range(*row[name]) for row in prediction.masks] for name in QUANTITIES},
        evidence,
    )


def _check_subject(prediction: Prediction, evidence: Evidence) -> None:
    if prediction.fingerprint is not None and prediction.fingerprint != evidence.fingerprint:
        raise UserError(
            f"this prediction is of {prediction.target} (weights {prediction.fingerprint[:12]}), "
            f"measured was {evidence.model} (weights {evidence.fingerprint[:12]}); check it with "
            f"the model it is of"
        )
    asked = (prediction.family, prediction.n_blocks)
    found = (evidence.family, evidence.n_blocks)
    if asked != found:
        raise UserError(
            f"this prediction is of {prediction.target} ({asked[0]}, {asked[1]} blocks), measured "
            f"was {evidence.model} ({found[0]}, {found[1]} blocks); check it with its own model"
        )
    if prediction.scheme not in (None, evidence.scheme):
        raise UserError(
            f"this prediction is for blocks rounded by {prediction.scheme}, measured was "
            f"{evidence.scheme}; measure with the scheme it is for"
        )


def check_all(
    prediction: Prediction,
    measured: Sequence[Evidence],
    began: Callable[[Evidence], datetime | None],
    *,
    where: str,
) -> list[dict[str, Any]]:
    """Returns how good a prediction was for every measured model that it is of, JSON-ready.

    Beside each score stands how such forecasts did in families held out, as the prediction has it.

    Args:
        prediction: As it was read.
        measured: Evidence of the models that were measured.
        began: When measuring a model began; :func:`measured_since` of a store, or
            :func:`began_by_evidence`.
        where: Where the evidence is, for messages.

    Raises:
        UserError: If none of them is the model it is of, or it was not made before.
    """
    if prediction.fingerprint is not None:
        mine = [one for one in measured if one.fingerprint == prediction.fingerprint]
    else:
        asked = (prediction.family, prediction.n_blocks)
        mine = [one for one in measured if (one.family, one.n_blocks) == asked]
    if not mine:
        raise UserError(
            f"{where!r} holds no measurement of {prediction.target} ({prediction.family}, "
            f"{prediction.n_blocks} blocks); measure it first: `bitgap theory MODEL` with this "
            f"store"
        )
    return [
        {"model": one.model, "family": one.family, "held_out": prediction.held_out}
        | check(prediction, one, began(one)).as_dict()
        for one in mine
    ]


def began_by_evidence(evidence: Evidence) -> datetime | None:
    """Returns when measuring a model began, as its evidence says."""
    said = evidence.measured_from
    return None if said is None else datetime.fromisoformat(said)


def check_summary(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Returns by kind of forecast what all checks come to, families weighing the same, JSON-ready.

    Args:
        rows: As :func:`check_all` has them, with the prediction's ``kind``.
    """
    return [
        {
            "kind": kind,
            "models": len(mine),
            "families": len({row["family"] for row in mine}),
            "later": mean_scores(mine),
            "held_out": mine[0]["held_out"],
        }
        for kind in dict.fromkeys(row["kind"] for row in rows)
        if (mine := [row for row in rows if row["kind"] == kind])
    ]


def leave_one_family_out(
    evidence: Sequence[Evidence], *, kinds: Sequence[Kind] = KINDS
) -> list[dict[str, Any]]:
    """Returns how good forecasts of every model are, learned from the other families alone.

    Args:
        evidence: Of at least three families.
        kinds: Of forecast.

    Returns:
        A row a model and kind, JSON-ready: ``family``, ``model``, ``n_blocks``, ``kind``,
        ``learned_from``, and what :class:`~bitgap.theory.forecast.scorecard.Scorecard` has.

    Raises:
        UserError: If there are fewer than three families.
    """
    evidence = [one for one in evidence if len(one.languages) > 1]
    rows = list[dict[str, Any]]()
    for family, models in families_of(evidence).items():
        others = [one for one in evidence if one.family != family]
        rows += [_forecast_row(others, one, kind) for one in models for kind in kinds]
    return rows


def forecast_later(
    known: Sequence[Evidence], later: Sequence[Evidence], *, kinds: Sequence[Kind] = KINDS
) -> list[dict[str, Any]]:
    """Returns how good forecasts of later models are, learned from known ones, rows as above.

    They are what `bitgap predict` would have written had it learned from the known ones; of the
    later ones nothing but what may be known beforehand is used. A known sibling of the same family
    is learned from.

    Args:
        known: Of at least two families.
        later: Any number of models; those in which languages cannot be compared are left out.
        kinds: Of forecast.
    """
    usable = [one for one in later if len(one.languages) > 1]
    return [_forecast_row(known, one, kind) for one in usable for kind in kinds]


def _forecast_row(known: Sequence[Evidence], one: Evidence, kind: Kind) -> dict[str, Any]:
    found = forecast(known, inputs_of(one), kind, random_masks(one.n_blocks))
    scored = score(found.protect, found.masks, found.quantities, one)
    return {
        "family": one.family,
        "model": one.model,
        "n_blocks": one.n_blocks,
        "kind": kind,
        "learned_from": list(families_of(known)),
        **scored.as_dict(),
    }
