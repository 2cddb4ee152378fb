"""Whose folder it is: no run may go on in, or write over, what another one left."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from training_settings import Request
from training_text import write_json

from bitgap.errors import UsageError

FINISHED = "training.json"
"""Facts of a finished run; written last of all."""
_RUN = "run.json"


def identity_of(request: Request, digests: Mapping[str, str]) -> dict[str, Any]:
    """Returns what a run must have in common with one that it goes on from.

    Args:
        request: What was asked.
        digests: SHA-256 of the text files by language.
    """
    tokenizer = None
    if request.tokenizer is not None:
        content = (request.tokenizer / "tokenizer.json").read_bytes()
        tokenizer = hashlib.sha256(content).hexdigest()
    return {
        "recipe": request.recipe.as_facts(),
        "text_sha256": dict(digests),
        "tokenizer_sha256": tokenizer,
    }


def claim_folder(request: Request, identity: Mapping[str, Any]) -> dict[str, Any] | None:
    """Takes the out folder for a run; returns its facts if it is already finished, else None.

    Args:
        request: What was asked.
        identity: From :func:`identity_of`.

    Raises:
        UsageError: If the folder holds something else.
    """
    out = request.out
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out} is a file; give a folder")
    for path in (out / FINISHED, request.work / _RUN):
        if path.is_file():
            saved = _read_json(path)
            _refuse_another(out, saved, identity)
            if path.name == FINISHED:
                return saved
    if not (request.work / _RUN).is_file():
        _refuse_others_files(out)
    request.work.mkdir(parents=True, exist_ok=True)
    write_json(request.work / _RUN, identity)
    return None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise UsageError(f"{path} is damaged; give another --out, or delete the folder") from error


def _refuse_others_files(out: Path) -> None:
    # A part of run.json is what a run leaves that is killed at its very beginning.
    passed_over = (".", f"{_RUN}.part")
    files = (p for p in out.rglob("*") if p.is_file() and not p.name.startswith(passed_over))
    found = sorted(p.relative_to(out).as_posix() for p in files)
    if found:
        raise UsageError(
            f"--out {out} holds what no run here left ({', '.join(found[:4])}); give another folder"
        )


def _refuse_another(out: Path, saved: Mapping[str, Any], identity: Mapping[str, Any]) -> None:
    there, here = saved.get("recipe") or {}, identity["recipe"]
    differences = [
        f"{name} is {there.get(name)} there and {here[name]} here"
        for name in here
        if there.get(name) != here[name]
    ]
    for name, what in (("text_sha256", "the text"), ("tokenizer_sha256", "the tokenizer")):
        if saved.get(name) != identity[name]:
            differences.append(f"{what} is another")
    if differences:
        raise UsageError(
            f"--out {out} holds a run of other settings: {'; '.join(differences)}. Give another "
            f"--out, or the settings of that run, or delete the folder"
        )
