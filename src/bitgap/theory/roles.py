"""Which models the thresholds were declared after, and which they are tried on.

``roles.toml`` lists both by name, and what some were trained on. A model that was seen before a
version of the thresholds was declared is *exploratory* for it: its numbers suggested what is asked.
Verdicts that count are of *confirmation* models alone. A model that neither list has is
exploratory, as nothing shows that its test was declared before it was looked at.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Literal

Role = Literal["exploratory", "confirmation"]


@cache
def declared_roles() -> Mapping[str, Mapping[str, str]]:
    """Returns by role the models' fingerprints by name, an empty one where it is not known yet.

    Under ``mix`` it is what they were trained on.
    """
    file = resources.files("bitgap.theory") / "roles.toml"
    return tomllib.loads(file.read_text(encoding="utf-8"))


def declared_mix(model: str) -> str | None:
    """Returns what a model was trained on, where the list says; by name or folder."""
    return declared_roles()["mix"].get(model.rstrip("/").rsplit("/", 1)[-1])


def role_of(model: str, fingerprint: str) -> Role:
    """Returns a model's role.

    Args:
        model: Its name or folder; the last part of a path is its name.
        fingerprint: Of its weights: where the list has one, a model of the name with other weights
            is not the one that is meant.
    """
    name = model.rstrip("/").rsplit("/", 1)[-1]
    declared = declared_roles()["confirmation"].get(name)
    return "confirmation" if declared in ("", fingerprint) else "exploratory"
