r"""Counts the tokens of a text in every language, for the bundled unigrams.

    python recipes/count_unigrams.py TEXT MODEL OUT

TEXT is a folder of ``<language>.txt`` or ``.txt.xz``, MODEL a folder whose tokenizer cuts it, and
OUT a folder that is made: one ``<language>.tsv.xz`` of token ids and counts, and ``about.json``.
It holds token counts and no text. Of each language a million tokens are counted, from lines drawn
at random. For the models of this repository::

    python recipes/count_unigrams.py ../shared/data/corpus src/bitgap/models/reference \
        src/bitgap/corpora/bundled_unigrams/reference
    python recipes/count_unigrams.py ../shared/data/corpus models/gpt_neox-12 \
        src/bitgap/corpora/bundled_unigrams/gpt_neox-12
"""

from __future__ import annotations

import argparse
import json
import lzma
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from transformers import AutoTokenizer

from bitgap.corpora.unigrams import count_tokens, tokenizer_fingerprint
from bitgap.languages import language

TOKENS = 1_000_000
"""Tokens of each language that are counted, or a few more: a portion of lines is counted whole."""
SOURCE = (
    "How often tokens come in the 16-language text that the models of this repository were trained "
    "on, lines drawn at random. None of it shares eight words in a row with NTREX-128."
)
LICENCE = (
    "Apache-2.0, as all of bitgap: numbers and no text, from which no sentence can be told. What "
    "was counted is of many sources, each under its own free licence or in the public domain."
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Counts, and writes the folder."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    for name in ("text", "model", "out"):
        parser.add_argument(name, type=Path)
    asked = parser.parse_args(arguments)
    tokenizer = AutoTokenizer.from_pretrained(asked.model, local_files_only=True)
    vocabulary = int(tokenizer.vocab_size)
    asked.out.mkdir(parents=True, exist_ok=True)
    tokens: dict[str, int] = {}
    for file in sorted(asked.text.glob("*.txt*")):
        code = language(file.name.split(".")[0]).code
        read = lzma.open if file.suffix == ".xz" else open
        with read(file, "rt", encoding="utf-8") as lines:
            counts = count_tokens(lines.read().splitlines(), tokenizer, vocabulary, TOKENS)
        ids = np.flatnonzero(counts)
        rows = "".join(f"{i}\t{counts[i]}\n" for i in ids)
        packed = lzma.compress(rows.encode(), preset=9 | lzma.PRESET_EXTREME)
        (asked.out / f"{code}.tsv.xz").write_bytes(packed)
        tokens[code] = int(counts.sum())
        print(f"{code}: {tokens[code]:,} tokens, {len(ids):,} types, {len(packed):,} bytes")
    about = {
        "tokenizer": tokenizer_fingerprint(tokenizer),
        "vocabulary": vocabulary,
        "tokens": tokens,
        "source": SOURCE,
        "licence": LICENCE,
    }
    text = json.dumps(about, indent=1, ensure_ascii=False)
    (asked.out / "about.json").write_text(f"{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
