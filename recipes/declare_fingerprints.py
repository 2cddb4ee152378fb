"""Writes into ``roles.toml`` which weights the models of the confirmation are.

The list names them before there are weights; as soon as there are, and before anything is scored on
them, it is to say which weights it means::

    python recipes/declare_fingerprints.py new/*

A folder without ``training.json`` is of a model that is not trained to its end and is passed over
(``--made-elsewhere`` takes it, as real checkpoints have none). One that the list has with other
weights, or does not name, is refused, and nothing is written. The model is loaded and nothing else
is done with it.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from bitgap.errors import BitgapError, UsageError
from bitgap.models.load import load_model
from bitgap.theory import roles

LIST = Path(roles.__file__).with_name("roles.toml")
FINISHED = "training.json"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns 0 when all folders that are finished stand in the list."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    parser.add_argument("--list", type=Path, default=LIST, metavar="FILE")
    help_all = "checkpoints made elsewhere, which have no training.json"
    parser.add_argument("--made-elsewhere", action="store_true", help=help_all)
    options = parser.parse_args(arguments)
    try:
        chosen = [one for one in options.folders if (one / "config.json").is_file()]
        for one in options.folders:
            if one.is_dir() and one not in chosen:
                _say(f"{one}: passed over, as it holds no model")
        if not options.made_elsewhere:
            for one in [one for one in chosen if not (one / FINISHED).is_file()]:
                chosen.remove(one)
                _say(f"{one}: passed over, as its training is not finished")
        text = options.list.read_text(encoding="utf-8")
        filled = declared(text, {one.name: one for one in chosen})
        options.list.write_text(filled, encoding="utf-8")
    except BitgapError as error:
        _say(str(error))
        return error.exit_code
    return 0


def declared(
    text: str,
    folders: Mapping[str, Path],
    fingerprint: Callable[[Path], str] = lambda folder: load_model(folder).info.fingerprint,
) -> str:
    """Returns the list with the fingerprints of some confirmation models.

    Args:
        text: Of ``roles.toml``.
        folders: By the name that the list has.
        fingerprint: Returns the fingerprint of the model in a folder.

    Raises:
        UsageError: If the list does not name a model, or has other weights of it.
    """
    head, start, rest = text.partition("[confirmation]\n")
    section, end, tail = rest.partition("\n[")
    for name, folder in folders.items():
        line = re.compile(rf'^{re.escape(name)} = "(?P<has>[0-9a-f]*)"$', re.M)
        found = line.search(section)
        if found is None:
            raise UsageError(
                f"{name} is no confirmation model by {LIST.name}; a model is to be named there "
                f"before it is trained"
            )
        told = fingerprint(folder)
        if found["has"] not in ("", told):
            raise UsageError(
                f"{LIST.name} has {name} with fingerprint {found['has']}, {folder} has {told}; "
                f"a model of other weights is another one"
            )
        section = section[: found.start()] + f'{name} = "{told}"' + section[found.end() :]
        _say(f"{name}: {told}")
    return head + start + section + end + tail


def _say(text: str) -> None:
    print(text, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
