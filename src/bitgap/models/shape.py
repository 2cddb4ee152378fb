"""How many blocks a model has, from its config alone and without torch."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any

from bitgap.errors import ModelError, NoSuchModel

# Names that families give to the number of decoder layers.
_NAMES = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")


def count_blocks(model: str | None) -> int:
    """Returns the number of decoder layers that a model's ``config.json`` states.

    Args:
        model: A local folder or a hub id, of which only the configuration is fetched; the bundled
            model when None or ``reference``.

    Raises:
        ModelError: If there is no config, or it states no number of layers.
        NoSuchModel: If there is no such folder and no such model on the hub.
    """
    path = _config_of(model)
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ModelError(
            f"{model}: cannot read its config.json ({reason}); name a folder that holds a model, a "
            f"hub id, or leave the model out for the bundled one"
        ) from None
    parts = (config, config.get("text_config") or {}) if isinstance(config, dict) else ()
    for part in parts:
        for name in _NAMES:
            if isinstance(part.get(name), int):
                return part[name]
    raise ModelError(f"{path}: states no number of layers under any of {', '.join(_NAMES)}")


def _config_of(model: str | None) -> Any:
    if model in (None, "reference"):
        return resources.files("bitgap.models") / "reference" / "config.json"
    folder = Path(str(model)).expanduser()
    if folder.is_dir():
        return folder / "config.json"
    if folder.exists():
        raise ModelError(f"{model} is a file; give the folder it is in")
    hub_id = not str(model).startswith((".", "~", "/")) and str(model).count("/") <= 1
    if not hub_id:
        raise NoSuchModel(
            f"no such folder: {str(model)!r}; give a folder that holds a model, or a hub id"
        )
    # Here, as the hub's client takes longer to import than this file to read.
    from bitgap.models.hub import fetched_config

    return fetched_config(str(model))
