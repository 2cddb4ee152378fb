"""Keeps transformers quiet while bitgap works with it, and leaves its settings as they were."""

from __future__ import annotations

import logging as levels
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub.utils import (
    are_progress_bars_disabled,
    disable_progress_bars,
    enable_progress_bars,
)
from transformers.utils import logging


@contextmanager
def hushed_log() -> Iterator[None]:
    """Lets only errors of transformers through to the log; cheap enough for every call."""
    before = logging.get_verbosity()
    logging.set_verbosity(max(before, levels.ERROR))
    try:
        yield
    finally:
        logging.set_verbosity(before)


@contextmanager
def silenced() -> Iterator[None]:
    """Suppresses progress bars, Python warnings and log lines of transformers below error."""
    own_bars, hub_bars_off = logging.is_progress_bar_enabled(), are_progress_bars_disabled()
    with hushed_log(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable_progress_bar()
        try:
            yield
        finally:
            # transformers switches the hub's bars along with its own, so the hub's come last.
            if own_bars:
                logging.enable_progress_bar()
            (disable_progress_bars if hub_bars_off else enable_progress_bars)()
