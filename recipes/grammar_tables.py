"""Makes the minimal pairs and tagged sentences that the package ships, from ``grammar/*.yaml``.

Run from anywhere as ``python recipes/grammar_tables.py``, it writes two tables a language into
``src/bitgap/corpora/grammar/bundled``, and ``SHA256SUMS``, which ``sha256sum -c`` reads:

* ``he.pairs.tsv``: one minimal pair a line, mirrored pairs one after the other;
* ``he.tagged.tsv``: one sentence a line. ``lemmas`` has one for each word, with spaces between;
  ``features`` likewise, as Universal Dependencies write them: ``Number=Plur|Case=Dat``, ``_`` for
  none.

The same grammars give the same bytes everywhere and always; a test makes them again and compares.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from grammar_lexicon import read_grammar
from grammar_sentences import make_pairs, make_tagged

from bitgap.corpora.grammar.agreement import BUNDLED, PAIR_COLUMNS, TAGGED_COLUMNS
from bitgap.corpora.grammar.pairs import MinimalPair, TaggedSentence

GRAMMARS = Path(__file__).parent / "grammar"
N_TAGGED = 320
"""Tagged sentences of each language: every noun and verb of the lexicon, several times."""
SUMS = "SHA256SUMS"


def tables(grammars: Path = GRAMMARS) -> dict[str, str]:
    """Returns the text of every file by its name.

    Args:
        grammars: Folder of one YAML file a language.

    Raises:
        CorpusError: If a grammar is broken, or a word lacks a form that a template needs.
        ValueError: If a cell holds what a table cannot.
    """
    found: dict[str, str] = {}
    for path in sorted(grammars.glob("*.yaml")):
        grammar = read_grammar(path)
        pairs, tagged = make_pairs(grammar), make_tagged(grammar, N_TAGGED)
        found[f"{path.stem}.pairs.tsv"] = _table(PAIR_COLUMNS, map(_pair_cells, pairs))
        found[f"{path.stem}.tagged.tsv"] = _table(TAGGED_COLUMNS, map(_tagged_cells, tagged))
    sums = (f"{hashlib.sha256(text.encode()).hexdigest()}  {name}" for name, text in found.items())
    return {**found, SUMS: "".join(line + "\n" for line in sums)}


def _pair_cells(pair: MinimalPair) -> tuple[str, ...]:
    return pair.phenomenon, pair.template, pair.item, pair.good, pair.bad


def _tagged_cells(sentence: TaggedSentence) -> tuple[str, ...]:
    if any(not lemma or " " in lemma for lemma in sentence.lemmas):
        raise ValueError(f"{sentence.text}: a lemma is empty or has a space: {sentence.lemmas}")
    return sentence.text, " ".join(sentence.lemmas), " ".join(map(_features, sentence.features))


def _features(features: Mapping[str, str]) -> str:
    return "|".join(f"{name}={value}" for name, value in features.items()) or "_"


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["\t".join(columns)]
    for cells in rows:
        if any("\t" in cell or "\n" in cell for cell in cells):
            raise ValueError(f"a tab or line break in a cell of {cells}")
        lines.append("\t".join(cells))
    return "".join(line + "\n" for line in lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the tables and returns the command's exit code."""
    parser = argparse.ArgumentParser(description="Makes the bundled minimal pairs anew.")
    parser.add_argument("--out", type=Path, default=BUNDLED, help="folder; that of the package")
    folder = parser.parse_args(arguments).out
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in tables().items():
        (folder / name).write_bytes(text.encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
