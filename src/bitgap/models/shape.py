"""How many blocks a model has, from its config alone and without torch."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

from bitgap.errors import ModelError

# Names that families give to the number of decoder layers.
_NAMES = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")


def count_blocks(model: str | None) -> int:
    """Returns the number of decoder layers that a model's ``config.json`` states.

    Args:
        model: A local folder; the bundled model when None or ``reference``.

    Raises:
        ModelError: If there is no such folder or config, or it states no number of layers.
    """
    bundled = model in (None, "reference")
    folder = resources.files("bitgap.models") / "reference" if bundled else Path(str(model))
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{model}: cannot read its config.json ({error}); name a local folder, or leave the "
            f"model out for the bundled one"
        ) from None
    for part in (config, config.get("text_config") or {}):
        for name in _NAMES:
            if isinstance(part.get(name), int):
                return part[name]
    raise ModelError(f"{path}: states no number of layers under any of {', '.join(_NAMES)}")
