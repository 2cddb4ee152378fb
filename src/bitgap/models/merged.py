"""What loading makes and no file holds, kept on disk: experts that a file has one by one.

A mixture's checkpoint mostly has a tensor for each expert, and its model one parameter for all of
them. What is loaded is then a copy in memory and no page of the checkpoint, as large as the model
itself. So copies beyond :data:`IN_MEMORY_BYTES` go, each as soon as it is made, to a file in the
temporary folder (``TMPDIR``) that is mapped and has no name any more: the system drops it with the
process, however that ends. A GGUF file's weights, dequantized, go the same way.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from transformers import core_model_loading

from bitgap.errors import ModelError
from bitgap.models.stored import forget_files, lies_in_a_file

IN_MEMORY_BYTES = 2**28
"""Copies that stay in memory, all together."""
_HOOK = "set_param_for_module"
_LOCK = threading.RLock()


@contextmanager
def merged_on_disk(folder: Path) -> Iterator[None]:
    """Has parameters that are loaded meanwhile, and are copies, lie on disk beyond some size.

    Args:
        folder: Of the checkpoint, whose pages are given back as copies of them are made.

    Raises:
        ModelError: If the temporary folder has no room for them.
    """
    own = getattr(core_model_loading, _HOOK, None)
    if own is None:  # another version of transformers: then in memory
        yield
        return
    held, since = 0, 0

    def set_param(model: Any, name: str, value: Tensor, *rest: Any, **named: Any) -> None:
        nonlocal held, since
        n_bytes = value.numel() * value.element_size()
        if value.device.type == "cpu" and value.ndim > 2 and not lies_in_a_file(value):
            if held + n_bytes > IN_MEMORY_BYTES:
                value = moved_to_disk(value.detach(), "experts of this model are merged")
                since += n_bytes
                if since > IN_MEMORY_BYTES:
                    forget_files(folder)
                    since = 0
            else:
                held += n_bytes
        own(model, name, value, *rest, **named)

    with _LOCK, patch.object(core_model_loading, _HOOK, set_param):
        yield


def moved_to_disk(value: Tensor, what: str) -> Tensor:
    """Returns the same numbers in a mapped file without a name.

    Args:
        value: What is moved.
        what: What is done on disk, for the message.

    Raises:
        ModelError: If the temporary folder has no room for it.
    """
    folder, n_bytes = tempfile.gettempdir(), value.numel() * value.element_size()
    room = shutil.disk_usage(folder).free
    if room < n_bytes:
        raise ModelError(
            f"the {what} on disk, and {folder} has {room / 2**30:.1f} GiB left where the next of "
            f"them take {n_bytes / 2**30:.1f} GiB; give another folder as TMPDIR"
        )
    number, name = tempfile.mkstemp(prefix="bitgap-merged-", dir=folder)
    try:
        with os.fdopen(number, "wb") as file:
            file.write(value.contiguous().view(torch.uint8).numpy().data)
        made = torch.from_file(name, shared=True, size=value.numel(), dtype=value.dtype)
    finally:
        Path(name).unlink()
    return made.view(value.shape)
