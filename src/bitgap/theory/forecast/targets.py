"""What can be predicted: an architecture known by name, or a model from its weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from bitgap.errors import ModelError, UserError
from bitgap.theory.evidence import Evidence
from bitgap.theory.forecast.cards import all_cards, find_card, inputs_of_card
from bitgap.theory.forecast.expectation import Inputs, Kind
from bitgap.theory.forecast.prediction import Prediction, predict

if TYPE_CHECKING:
    from bitgap.lab.lab import Lab

SCHEME = "rtn3-g128"
"""How blocks will be rounded, where nothing else is said."""


def known_beforehand(
    target: str,
    open_lab: Callable[[str], Lab],
    *,
    scheme: str = SCHEME,
    sentences: int | None = None,
) -> tuple[Inputs, Kind]:
    """Returns what may be known of a target before it is measured, and of what kind that is.

    An architecture by name, in any case, is known by its config; anything else is a model, of which
    the weights are read and one pass of full precision is made. No plan is scored.

    Args:
        target: An architecture such as ``Llama-2-70B``, or a model's folder or hub id.
        open_lab: Returns a lab of a model; it should keep nothing.
        scheme: How the model's blocks will be rounded.
        sentences: Of the text, spread over it; all when None.

    Raises:
        UserError: If it is neither; names the architectures there are.
    """
    if target.casefold() in {name.casefold() for name in all_cards()}:
        return inputs_of_card(find_card(target)), "config"
    # Imported here: a config takes no torch.
    from bitgap.theory.gather import inputs_of_lab

    try:
        lab = open_lab(target)
    except ModelError as error:
        known = ", ".join(all_cards())
        raise UserError(f"{error}. Architectures known by name: {known}") from None
    return inputs_of_lab(lab.spread(sentences), scheme), "weights"


def predict_target(
    target: str,
    zoo: Sequence[Evidence],
    open_lab: Callable[[str], Lab],
    *,
    scheme: str = SCHEME,
    sentences: int | None = None,
    seed: int = 0,
    now: datetime | None = None,
) -> Prediction:
    """Returns a dated prediction for an architecture or a model that is not measured yet.

    Args:
        target: As in :func:`known_beforehand`.
        zoo: Measured models to learn from; the target itself is left out of them.
        open_lab: Returns a lab of a model, such as ``Lab.from_pretrained``.
        scheme: How the model's blocks will be rounded.
        sentences: Of the text, spread over it; all when None.
        seed: Of the masks.
        now: When it is made; the clock's time by default.

    Raises:
        UserError: If the target is neither, or the zoo does not suffice.
    """
    inputs, kind = known_beforehand(target, open_lab, scheme=scheme, sentences=sentences)
    others = [one for one in zoo if one.fingerprint != inputs.fingerprint]
    return predict(others, inputs, kind, seed=seed, now=now)
