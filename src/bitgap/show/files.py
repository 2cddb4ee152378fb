"""Files written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path


def write_text(path: Path, text: str) -> None:
    """Writes a file in UTF-8, whole or not at all, and never half over an older one."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file, whole or not at all, and never half over an older one.

    Raises:
        OSError: If it cannot be written; it names the file that was asked for.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_bytes(content)
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        # A full disk is told without the name of the file that filled it.
        raise OSError(error.errno, error.strerror, str(path)) from error
    except BaseException:  # as when somebody interrupts
        part.unlink(missing_ok=True)
        raise
