"""A folder of model families, with a manifest that says what is in it.

``manifest.json`` lists each model's folder, family and the SHA-256 of its files; a model whose
files are others than the manifest says is refused, so that results in ``docs/results.md`` are of
the weights they say. A folder without a manifest is taken as it is, a model a subfolder.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from bitgap.errors import ModelError, UsageError

MANIFEST = "manifest.json"


def zoo_models(paths: Sequence[str]) -> list[str]:
    """Returns the models that some paths name, in order.

    Args:
        paths: Each a model's folder or hub id, ``reference`` for the bundled model, or a folder of
            models.

    Raises:
        UsageError: If a folder holds no model.
        ModelError: If a model's files differ from its manifest.
    """
    found: list[str] = []
    for path in paths:
        folder = Path(path)
        if not folder.is_dir() or (folder / "config.json").is_file():
            found.append(path)
            continue
        if (folder / MANIFEST).is_file():
            inside = _listed(folder)
        else:
            inside = sorted(p.parent for p in folder.glob("*/config.json"))
        if not inside:
            raise UsageError(
                f"{path} holds no model; name a model's folder, or a folder of such folders "
                f"(each with a config.json)"
            )
        found += [str(p) for p in inside]
    return list(dict.fromkeys(found))


def _listed(folder: Path) -> list[Path]:
    try:
        entries = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["models"]
        listed = [(folder / e["folder"], e["sha256"]) for e in entries]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{folder / MANIFEST} cannot be read ({type(error).__name__}); restore it, or make it "
            f"again with recipes/train_zoo.py"
        ) from None
    for path, digests in listed:
        check_files(path, digests)
    return [path for path, _ in listed]


def check_files(folder: Path, digests: dict[str, str]) -> None:
    """Checks a model's files against their digests.

    Raises:
        ModelError: If one is missing or another.
    """
    for name, wanted in digests.items():
        path = folder / name
        if not path.is_file():
            raise ModelError(f"{path} is missing; the manifest lists it. Restore it from git")
        if sha256_of(path) != wanted:
            raise ModelError(
                f"{path} is not the file that the manifest lists; restore it from git, or name the "
                f"model's folder itself to use it as it is"
            )


def sha256_of(path: Path) -> str:
    """Returns the SHA-256 of a file (hex)."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
