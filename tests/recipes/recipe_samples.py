"""A small text in three scripts and a tiny recipe that trains on it in a second."""

from __future__ import annotations

import lzma
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from training_settings import Recipe, Request

torch.set_num_threads(1)

WORDS = {
    "en": "the cat sleeps while rain falls on a quiet old house and we read".split(),
    "he": "החתול ישן בזמן שגשם יורד על בית ישן ושקט ואנחנו קוראים".split(),
    "zh": "猫 在 安静 的 老 房子 里 睡觉 外面 下雨 我们 读书".split(),
}
TINY = Recipe(
    blocks=2,
    width=16,
    heads=2,
    vocabulary=300,
    context=16,
    tokens=16 * 4 * 30,
    batch=4,
    held_out=5,
)


def write_texts(folder: Path, n_lines: int = 60) -> Path:
    """Random lines, more in English than elsewhere; the Chinese ones are compressed."""
    folder.mkdir(parents=True)
    draw = random.Random(0)
    for language, words in WORDS.items():
        n = n_lines * (2 if language == "en" else 1)
        lines = [" ".join(draw.choices(words, k=draw.randint(4, 12))) for _ in range(n)]
        content = ("\n".join(lines) + "\n").encode()
        if language == "zh":
            (folder / "zh.txt.xz").write_bytes(lzma.compress(content))
        else:
            (folder / f"{language}.txt").write_bytes(content)
    return folder


def request(folder: Path, name: str = "out", recipe: Recipe = TINY, **options: Any) -> Request:
    """A request that trains ``recipe`` on the texts beside ``name``, one thread, not compiled."""
    settings: dict[str, Any] = {"text": folder / "text", "out": folder / name, "threads": 1}
    settings |= {"arithmetic": "float32", "compile": False}
    return Request(recipe=recipe, **(settings | options))


def tiny(**changes: Any) -> Recipe:
    """The tiny recipe with some of it changed."""
    return replace(TINY, **changes)
