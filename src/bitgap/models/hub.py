"""What a name means that is no folder here: a model of the hub, or a file of it, at a revision.

``org/name`` is a repository, ``org/name/file.gguf`` one of its files, and either may end in
``@revision``, a branch, tag or commit. Only what is asked for is downloaded, by the hub's own
client, which keeps it: code and pickles come on request alone.
"""

from __future__ import annotations

import glob
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    HFValidationError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from bitgap.errors import ModelError, NoSuchModel, first_line

QUANTIZED = ["*.safetensors", "*.json", "*.gguf"]
"""What is asked for of a quantized repository; a GGUF file of several is named."""
_FILES = (".gguf", ".safetensors", ".onnx", ".xml")
_SNAPSHOT = re.compile("models--(?:.*--)?(.+)")


@dataclass(frozen=True, slots=True)
class HubName:
    """A name on the hub.

    Attributes:
        repository: Such as ``org/name``.
        file: Path of one of its files; empty for all of it.
        revision: Branch, tag or commit; None for its main one.
    """

    repository: str
    file: str = ""
    revision: str | None = None


def parse_hub_name(name: str) -> HubName:
    """Returns what a name means on the hub.

    Example:
        >>> parse_hub_name("org/name@v2")
        HubName(repository='org/name', file='', revision='v2')
        >>> parse_hub_name("org/name/sub/q4.gguf").file
        'sub/q4.gguf'
    """
    path, _, revision = name.partition("@")
    parts = path.split("/")
    return HubName("/".join(parts[:2]), "/".join(parts[2:]), revision or None)


def is_hub_file(name: str) -> bool:
    """Returns whether what a user gave as a quantized file can only be meant as one of the hub.

    Example:
        >>> is_hub_file("org/name"), is_hub_file("org/name/q4.gguf@main"), is_hub_file("q4.gguf")
        (True, True, False)
        >>> is_hub_file("./org/name"), is_hub_file("org/q4.gguf")
        (False, False)
    """
    path = name.partition("@")[0]
    parts = path.split("/")
    if len(parts) < 2 or not all(parts) or parts[0] in (".", "..", "~"):
        return False
    if len(parts) == 2 and path.lower().endswith(_FILES):
        return False
    # What begins with a folder that is here is a path that was mistyped.
    return not (os.path.exists(name) or os.path.isdir(parts[0]))


def fetched_file(name: str) -> Path:
    """Returns where a quantized file or folder of the hub is, downloaded if it was not before.

    Args:
        name: As :func:`is_hub_file` takes it.

    Raises:
        ModelError: If there is no such repository, revision or file, or no way to the hub.
    """
    asked = parse_hub_name(name)
    if asked.file:
        return _part(asked, asked.file)
    return snapshot(name, QUANTIZED, ["*/*", "consolidated*", "*.gguf"])


def snapshot(name: str, wanted: list[str], unwanted: list[str]) -> Path:
    """Returns the folder of a repository, downloaded if it was not before.

    Args:
        name: ``org/name``, with ``@revision`` if a certain one is meant.
        wanted: Patterns of the files that are asked for.
        unwanted: Patterns of those among them that are not.

    Raises:
        NoSuchModel: If there is no such repository.
        ModelError: If it is no name, has no such revision, or cannot be reached.
    """
    asked = parse_hub_name(name)
    if asked.file:
        raise ModelError(f"{name!r} names a file of the hub; a model is a repository, org/name")
    told: dict[str, Any] = {"revision": asked.revision} if asked.revision else {}
    return Path(
        _asked(
            asked,
            lambda: snapshot_download(
                asked.repository, allow_patterns=wanted, ignore_patterns=unwanted, **told
            ),
        )
    )


def fetched_config(name: str) -> Path:
    """Returns where a repository's ``config.json`` is, downloaded alone if it was not before.

    Args:
        name: As :func:`snapshot` takes it.

    Raises:
        NoSuchModel: If there is no such repository.
        ModelError: As :func:`snapshot` does.
    """
    return _part(parse_hub_name(name), "config.json")


def _part(asked: HubName, file: str) -> Path:
    """Returns where one file of a repository is; as a snapshot, which is not tried for long."""
    only = [glob.escape(file)]
    told: dict[str, Any] = {"revision": asked.revision} if asked.revision else {}
    folder = _asked(asked, lambda: snapshot_download(asked.repository, allow_patterns=only, **told))
    path = Path(folder) / file
    if not path.is_file():
        raise ModelError(
            f"the hub's {asked.repository} has no file {file!r}, or it was not downloaded before "
            f"and the hub cannot be reached"
        )
    return path


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the hub's client from telling of every time that it tries again."""
    told = logging.getLogger("huggingface_hub")
    level = told.level
    told.setLevel(logging.ERROR)
    try:
        yield
    finally:
        told.setLevel(level)


def _asked(asked: HubName, fetch: Any) -> str:
    name = asked.repository
    try:
        with _quiet():
            return str(fetch())
    except HFValidationError as error:
        raise ModelError(f"no folder {name!r} is here and it is no hub id: {error}") from error
    except RevisionNotFoundError as error:
        raise ModelError(f"the hub's {name} has no revision {asked.revision!r}") from error
    except RepositoryNotFoundError as error:
        raise NoSuchModel(
            f"no folder {name!r} is here and the hub has no such model, or it is gated: check the "
            f"spelling, or log in with an account that was granted access"
        ) from error
    except (EntryNotFoundError, OSError, ValueError) as error:
        raise ModelError(
            f"no folder {name!r} is here, it was not downloaded before, and the hub cannot be "
            f"reached; check the connection, or give a folder ({first_line(error)})"
        ) from error


def shown_name(path: Path) -> str:
    """Returns what a file or folder is called in results: of a download the repository's name.

    Example:
        >>> shown_name(Path("cache/models--org--name-gptq/snapshots/0123abc"))
        'name-gptq'
        >>> shown_name(Path("files/q4.gguf"))
        'q4.gguf'
    """
    found = (
        _SNAPSHOT.fullmatch(path.parent.parent.name) if path.parent.name == "snapshots" else None
    )
    return found[1] if found else path.name
