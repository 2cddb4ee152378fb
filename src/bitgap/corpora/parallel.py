"""Multi-parallel sentences: the same sentences in several languages, line by line.

This is the text every measurement is made on. :func:`load_corpus` reads the bundled corpus, a
folder, NTREX-128, a table, or a dataset of the Hugging Face hub; whatever the source, sentences
are in NFC, without surrounding whitespace, equally many in every language, and the reference
language comes first.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from bitgap.corpora import hub, readers, tables
from bitgap.corpora.intake import (
    Request,
    Text,
    clean_sentence,
    order_codes,
    parse_languages,
)
from bitgap.corpora.layouts import Layout, beginning_layout, find_layout, with_scripts
from bitgap.errors import CorpusError, LanguageError, NoSuchText, UsageError
from bitgap.languages import language, matching
from bitgap.records import CorpusInfo, Integers

BUNDLED = Path(__file__).parent / "bundled"

CALIBRATION_EVERY = 4
"""Every fourth sentence, from the first, is for calibration; the other three quarters are test."""

_FILES = {
    ".tsv": tables.read_tsv,
    ".tab": tables.read_tsv,
    ".csv": tables.read_csv,
    ".jsonl": tables.read_jsonl,
    ".ndjson": tables.read_jsonl,
    ".parquet": tables.read_parquet,
}


@dataclass(frozen=True)
class ParallelCorpus:
    """The same sentences in two or more languages.

    Raises:
        CorpusError: If there are fewer than two languages, no sentences, texts of different
            length, or a sentence that is empty or holds a control character.
        LanguageError: If the reference is not among the languages.
    """

    name: str
    """What reports call it."""
    sentences: Mapping[str, tuple[str, ...]]
    """Code to sentences; put in NFC, and in the order of :attr:`languages`, when made."""
    source: str
    """Who wrote it."""
    licence: str
    """SPDX id or the source's own words."""
    reference: str = "en"
    """Code of the language that damage is compared with and normalised by."""
    documents: tuple[int, ...] | None = None
    """Number of the document that each sentence is from; None where every sentence counts as a
    document of its own. It does not enter the fingerprint: the text is the same."""
    ranks: tuple[int, ...] | None = field(default=None, repr=False)
    """Of part of a corpus: each sentence's place in the order in which the whole is spread over, so
    that few sentences of the part are those few of the whole; see :meth:`spread`."""

    def __post_init__(self) -> None:
        codes = order_codes(tuple(self.sentences), None, self.reference, f"corpus {self.name}")
        object.__setattr__(self, "reference", codes[0])
        cleaned = {
            code: tuple(
                clean_sentence(text, f"corpus {self.name}, {code}, sentence {number}")
                for number, text in enumerate(self.sentences[code], start=1)
            )
            for code in codes
        }
        counts = {code: len(texts) for code, texts in cleaned.items()}
        if len(set(counts.values())) > 1 or not counts[self.reference]:
            listing = ", ".join(f"{code} {count}" for code, count in counts.items())
            raise CorpusError(
                f"corpus {self.name}: every language needs the same sentences, at least one; "
                f"found {listing}"
            )
        if self.documents is not None and len(self.documents) != counts[self.reference]:
            raise CorpusError(
                f"corpus {self.name}: {len(self.documents)} documents were named for "
                f"{counts[self.reference]} sentences; name one for each, or none at all"
            )
        object.__setattr__(self, "sentences", cleaned)

    def __hash__(self) -> int:
        return hash(self.info.fingerprint)

    @property
    def languages(self) -> tuple[str, ...]:
        """Codes in the order of the rows of every array, the reference first."""
        return tuple(self.sentences)

    @property
    def n_sentences(self) -> int:
        """Number of aligned sentences, the same in every language."""
        return len(self.sentences[self.reference])

    @property
    def n_documents(self) -> int:
        """Number of documents; of sentences, where documents are not known."""
        return self.n_sentences if self.documents is None else len(set(self.documents))

    @functools.cached_property
    def info(self) -> CorpusInfo:
        """What results depend on.

        The fingerprint is the SHA-256 of the codes and sentences, in order, as compact JSON in
        UTF-8; name, source and licence do not enter, so a renamed folder is the same corpus.
        """
        content = json.dumps(
            list(self.sentences.items()), ensure_ascii=False, separators=(",", ":")
        )
        return CorpusInfo(
            name=self.name,
            languages=self.languages,
            n_sentences=self.n_sentences,
            source=self.source,
            licence=self.licence,
            fingerprint=hashlib.sha256(content.encode("utf-8")).hexdigest(),
        )

    def select(
        self,
        languages: str | Sequence[str] | None = None,
        sentences: Sequence[int] | Integers | None = None,
    ) -> ParallelCorpus:
        """Returns the same corpus with some languages and sentences only.

        Args:
            languages: In any spelling, the reference being added and put first; all when None.
            sentences: Sentence numbers from 0, in the order wanted; all when None.

        Raises:
            LanguageError: If a language is absent or named twice.
            UsageError: If a sentence number is not a whole number from 0 to ``n_sentences - 1``,
                or there is none.
        """
        wanted = parse_languages(languages)
        codes = order_codes(self.languages, wanted, self.reference, f"corpus {self.name}")
        rows = range(self.n_sentences) if sentences is None else self._rows(sentences)
        chosen = {code: tuple(self.sentences[code][i] for i in rows) for code in codes}
        told, ranks = self.documents, self._spread_ranks
        return replace(
            self,
            sentences=chosen,
            documents=None if told is None else tuple(told[i] for i in rows),
            ranks=tuple(ranks[i] for i in rows),
        )

    def _rows(self, sentences: Sequence[int] | Integers) -> list[int]:
        rows = np.asarray(sentences)
        whole = rows.ndim == 1 and rows.size > 0 and np.issubdtype(rows.dtype, np.integer)
        if not whole or rows.min() < 0 or rows.max() >= self.n_sentences:
            raise UsageError(
                f"corpus {self.name}: sentences must be a list of whole numbers from 0 to "
                f"{self.n_sentences - 1}, found {sentences!r}"
            )
        return rows.tolist()

    def split(self) -> tuple[Integers, Integers]:
        """Returns the sentence numbers for calibration and for test.

        Every fourth document, from the first, is for calibration: gauges, lenses, probes and
        thresholds are fitted there and nothing is tested there. Where documents are not known, or
        all is one, it is every fourth sentence (number % 4 == 0). The rule needs no seed, keeps
        about three quarters for the test, and no document is in both.

        Raises:
            CorpusError: If there are fewer than two sentences, so that no test remains.
        """
        if self.n_sentences < 2:
            raise CorpusError(f"corpus {self.name}: one sentence cannot be split; give more")
        numbers = np.arange(self.n_sentences, dtype=np.int64)
        place = np.array(by_first(self._clusters()), dtype=np.int64)
        calibration = place % CALIBRATION_EVERY == 0
        return numbers[calibration], numbers[~calibration]

    def spread(self, n: int) -> Integers:
        """Returns the numbers of n sentences spread over the text, ascending.

        Documents are taken in an order that halves the gaps between those that were taken, one
        sentence of each, chosen in it by the same rule, and then another of each; so
        sentences come of as many documents as there can be, and a smaller choice is part of any
        larger one.

        Source: van der Corput 1935, for the order.

        Args:
            n: How many; all of them where there are no more.
        """
        return np.sort(np.argsort(self._spread_ranks, kind="stable")[:n])

    @functools.cached_property
    def _spread_ranks(self) -> tuple[int, ...]:
        """Each sentence's place in the order in which the corpus is spread over."""
        if self.ranks is not None:
            return self.ranks
        members: dict[int, list[int]] = {}
        clusters = range(self.n_sentences) if self.documents is None else self.documents
        for number, document in enumerate(clusters):
            members.setdefault(document, []).append(number)
        documents = list(members.values())
        order = sorted(
            (k, turn, documents[document][i])
            for turn, document in enumerate(spread_order(len(documents)))
            for k, i in enumerate(spread_order(len(documents[document])))
        )
        ranks = [0] * self.n_sentences
        for rank, (*_, number) in enumerate(order):
            ranks[number] = rank
        return tuple(ranks)

    def _clusters(self) -> Sequence[int]:
        one = self.documents is None or len(set(self.documents)) < 2
        return range(self.n_sentences) if one or self.documents is None else self.documents

    def split_of(self, kept: Integers) -> tuple[Integers, Integers]:
        """Returns :meth:`split` as places among the sentences that were kept.

        Sentences dropped for their length shift the places; the rule is by number in the corpus.

        Args:
            kept: Numbers of the kept sentences, in their order.
        """
        calibration, _ = self.split()
        fitted = np.isin(kept, calibration)
        return np.flatnonzero(fitted), np.flatnonzero(~fitted)

    def text(self, code: str) -> tuple[str, ...]:
        """Returns the sentences of one language, in any spelling.

        Raises:
            LanguageError: If the corpus does not have it.
        """
        found = matching(code, self.sentences)
        if len(found) != 1:
            raise LanguageError(
                f"corpus {self.name} has no {code} ({language(code).code}); it has "
                f"{', '.join(self.languages)}"
            )
        return self.sentences[found[0]]


def by_first(clusters: Sequence[int]) -> list[int]:
    """Returns clusters numbered from 0 in the order in which they are met."""
    numbers: dict[int, int] = {}
    return [numbers.setdefault(cluster, len(numbers)) for cluster in clusters]


def spread_order(n: int) -> list[int]:
    """Returns 0 to n − 1 in an order whose every beginning is spread evenly over them.

    It is that of their numbers with binary digits read backwards, the first in the middle of what
    is left between those before. Source: van der Corput 1935.

    Example:
        >>> spread_order(6)
        [0, 4, 2, 1, 5, 3]
    """
    digits = max(n - 1, 1).bit_length()
    turned = (int(f"{i:0{digits}b}"[::-1], 2) for i in range(2**digits))
    return [place for place in turned if place < n]


def load_corpus(
    spec: str | os.PathLike[str] | None = None,
    *,
    languages: str | Sequence[str] | None = None,
    reference: str = "en",
) -> ParallelCorpus:
    """Reads a parallel corpus.

    Args:
        spec: None or ``bundled`` for our own sentences; a folder in a layout of
            :mod:`bitgap.corpora.layouts`; what the files of a text begin with (``data/train`` of
            ``data/train.en``); a file ``.tsv``, ``.csv``, ``.jsonl`` or
            ``.parquet``; or a Hugging Face dataset such as ``openlanguagedata/flores_plus`` (short:
            ``flores+``), with its split after a colon if need be. A path that exists comes before
            a dataset.
        languages: Which to read, as ``"en,he"`` or a list, in any spelling; all when None.
        reference: The language that damage is compared with; always read.

    Raises:
        CorpusError: If there is no such corpus or its text cannot be used; names file and line.
        LanguageError: If a language is unknown, absent or named twice.
        MissingExtra: If the format needs a library that is not installed.
    """
    language(reference)  # what is no language is told as such, whatever the corpus has
    request = Request(parse_languages(languages), reference)
    if spec is None or spec == "bundled":
        layout = find_layout(BUNDLED)
        texts = readers.read_folder(layout, request, "the bundled corpus")
        return _corpus("bundled", texts, "written for bitgap", "Apache-2.0")
    path = _existing(os.fspath(spec))
    if path is not None and path.is_dir():
        return _from_folder(path, request)
    if path is not None and path.suffix.lower() in _FILES:
        return _from_file(path, request)
    layout = _beginning(os.fspath(spec))
    if layout is not None:
        return _from_layout(layout, request, layout.split)
    return _from_hub(os.fspath(spec), request) if path is None else _from_file(path, request)


def _corpus(name: str, text: Text, source: str, licence: str) -> ParallelCorpus:
    sentences = with_scripts(text.sentences, name)
    reference = next(iter(sentences))  # readers put it first
    return ParallelCorpus(name, sentences, source, licence, reference, text.documents)


def _from_folder(folder: Path, request: Request) -> ParallelCorpus:
    ntrex = readers.ntrex_folder(folder)
    if ntrex:
        source = "NTREX-128, Federmann, Kocmi & Xin 2022"
        texts = readers.read_ntrex(ntrex, request)
        return _corpus("NTREX-128", texts, source, "CC-BY-SA-4.0")
    return _from_layout(find_layout(folder), request, folder.resolve().name)


_FLORES = ("FLORES+, Open Language Data Initiative; NLLB Team 2022", "CC-BY-SA-4.0")


def _from_layout(layout: Layout, request: Request, name: str) -> ParallelCorpus:
    source, licence = f"text files in {layout.folder.resolve().name}", "not stated"
    if layout.kind.startswith("FLORES"):
        source, licence = _FLORES
        name = f"{layout.kind} {layout.split}"
    texts = readers.read_folder(layout, request)
    return _corpus(name, texts, source, licence)


def _beginning(spec: str) -> Layout | None:
    try:
        return beginning_layout(Path(spec).expanduser())
    except (OSError, ValueError, RuntimeError):  # as in _existing
        return None


def _from_file(path: Path, request: Request) -> ParallelCorpus:
    reader = _FILES.get(path.suffix.lower())
    if reader is None:
        raise CorpusError(
            f"{path}: one file must be {', '.join(_FILES)}, with all languages in it; for "
            "<language>.txt files name their folder, for corpus.en beside corpus.de what they "
            "begin with"
        )
    texts = reader(path, request)
    return _corpus(path.stem, texts, f"file {path.name}", "not stated")


def _from_hub(spec: str, request: Request) -> ParallelCorpus:
    name = hub.parse_hub_name(spec)
    if name is None:
        raise NoSuchText(
            f"{spec}: no such file or folder, and no Hugging Face dataset is named like that "
            "(owner/name); leave the corpus out for the bundled one"
        )
    texts = hub.read_hub(name, request)
    flores = name.dataset == hub.FLORES
    source, licence = _FLORES if flores else (name.dataset, "see the dataset's card")
    return _corpus(spec, texts, source, licence)


def _existing(spec: str) -> Path | None:
    try:
        path = Path(spec).expanduser()
        return path if spec and path.exists() else None
    except (OSError, ValueError, RuntimeError):  # Too long, a NUL, or the home of nobody.
        return None
