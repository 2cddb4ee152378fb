"""A model as its user names it: a folder, a hub id, the bundled one, or a GGUF file."""

from __future__ import annotations

import os

from bitgap.formats.gguf.header import is_gguf
from bitgap.models.known import Notes
from bitgap.models.load import LoadedModel, load_model


def read_model(
    model: str | os.PathLike[str] | None = None,
    *,
    allow_pickle: bool = False,
    trust_remote_code: bool = False,
    notes: Notes | None = None,
) -> LoadedModel:
    """Returns a model, read by whatever reads its files.

    Args:
        model: Folder, hub id or GGUF file; the bundled model when None.
        allow_pickle: Whether pickled weights may be read.
        trust_remote_code: Whether code that comes with the model may be run.
        notes: Where fingerprints are noted, see :func:`bitgap.models.load.load_model`.

    Raises:
        UserError: If it cannot be used; the message says why and what to do.
    """
    if is_gguf(model):
        from bitgap.formats.gguf.load import load_gguf

        return load_gguf(model)
    return load_model(
        model, allow_pickle=allow_pickle, trust_remote_code=trust_remote_code, notes=notes
    )
