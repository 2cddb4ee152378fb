"""Tasks for lm-evaluation-harness, by language: bits per character, and minimal pairs.

Whoever scores models with lm-eval scores exports with it too: the same text by language as an
audit's, in a folder that ``--include_path`` takes. Bits per character are those of whole sentences,
each begun as lm-eval begins a text (with BOS, or EOS where a tokenizer has none); an audit begins
them as the tokenizer does, so that the two differ by what the first token costs. Minimal pairs are
judged as BLiMP's: the right sentence must have the higher likelihood.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bitgap.errors import UsageError
from bitgap.files import write_text
from bitgap.languages import language

if TYPE_CHECKING:
    from bitgap.corpora.grammar.pairs import AgreementSet
    from bitgap.corpora.parallel import ParallelCorpus

_SCORING = "bitgap_scoring.py"
_SCORING_TEXT = '''"""What the tasks beside this file call; it needs lm-eval and nothing else."""

from pathlib import Path

import datasets


def load(file, **_):
    """Returns the documents of one language, from a file beside this one."""
    path = Path(__file__).parent / "data" / file
    return datasets.DatasetDict({"test": datasets.Dataset.from_json(str(path))})


def of_text(doc, results):
    """Returns what a sentence's likelihood is divided by."""
    (likelihood,) = results
    text = doc["text"]
    return {
        "bits_per_character": (likelihood, len(text)),
        "bits_per_byte": (likelihood, len(text.encode("utf-8"))),
    }
'''


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSet:
    """What was written."""

    folder: str
    groups: Mapping[str, tuple[str, ...]]
    """Tasks by the group that runs them all, as ``lm_eval --tasks`` takes either."""
    languages: tuple[str, ...]
    without_pairs: tuple[str, ...]
    """Languages that have no minimal pairs."""


def write_tasks(
    corpus: ParallelCorpus, out: str | os.PathLike[str], pairs: AgreementSet | None = None
) -> TaskSet:
    """Writes tasks for every language of a corpus.

    Args:
        corpus: Its sentences.
        out: The folder; it must not be there, or be empty.
        pairs: Minimal pairs, of the languages that have them.

    Raises:
        UsageError: If the folder holds something, or cannot be written.

    Example:
        >>> import tempfile
        >>> from bitgap.corpora.parallel import load_corpus
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     made = write_tasks(load_corpus(languages="en,de"), folder)
        >>> dict(made.groups)
        {'bitgap_bundled_text': ('bitgap_bundled_text_en', 'bitgap_bundled_text_de')}
    """
    folder = Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise UsageError(f"--out {os.fspath(out)} holds something already; name another")
        (folder / "data").mkdir()
    except OSError as error:
        raise UsageError(
            f"--out {os.fspath(out)}: cannot write there ({error.strerror or error}); name a "
            f"folder that can be made or written"
        ) from None
    write_text(folder / _SCORING, _SCORING_TEXT)
    stem = f"bitgap_{_slug(corpus.name)}"
    groups: dict[str, tuple[str, ...]] = {}
    made: list[str] = []
    for code in corpus.languages:
        name = f"{stem}_text_{_slug(code)}"
        docs = ({"text": text} for text in corpus.sentences[code])
        _write(folder, name, _text_task(name, code), docs)
        made.append(name)
    groups[f"{stem}_text"] = tuple(made)
    paired = [] if pairs is None else [c for c in corpus.languages if pairs.pairs.get(c)]
    if pairs is not None and paired:
        own = f"bitgap_{_slug(pairs.name)}_pairs"
        for code in paired:
            docs = ({"good": one.good, "bad": one.bad} for one in pairs.pairs[code])
            _write(folder, f"{own}_{_slug(code)}", _pairs_task(f"{own}_{_slug(code)}", code), docs)
        groups[own] = tuple(f"{own}_{_slug(code)}" for code in paired)
    for group, tasks in groups.items():
        listed = "".join(f"  - {task}\n" for task in tasks)
        write_text(folder / f"{group}.yaml", f"group: {group}\ntask:\n{listed}")
    return TaskSet(
        folder=os.fspath(folder),
        groups=groups,
        languages=corpus.languages,
        without_pairs=tuple(c for c in corpus.languages if c not in paired),
    )


def _slug(name: str) -> str:
    """Returns a name as tasks have them."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "text"


def _write(folder: Path, name: str, task: str, docs: Iterable[Mapping[str, str]]) -> None:
    lines = "".join(json.dumps(doc, ensure_ascii=False) + "\n" for doc in docs)
    write_text(folder / "data" / f"{name}.jsonl", lines)
    write_text(folder / f"{name}.yaml", task)


def _head(name: str, code: str) -> str:
    return (
        f"# {language(code).name}\n"
        f"task: {name}\n"
        f"custom_dataset: !function bitgap_scoring.load\n"
        f"dataset_kwargs:\n  file: {name}.jsonl\n"
        f"test_split: test\n"
        f"num_fewshot: 0\n"
    )


def _text_task(name: str, code: str) -> str:
    return _head(name, code) + (
        'output_type: loglikelihood_rolling\ndoc_to_text: ""\ndoc_to_target: "{{text}}"\n'
        "process_results: !function bitgap_scoring.of_text\n"
        "metric_list:\n"
        "  - metric: bits_per_character\n"
        "    aggregation: bits_per_byte  # -log2 of the likelihood over what it is divided by\n"
        "    higher_is_better: false\n"
        "  - metric: bits_per_byte\n"
        "    aggregation: bits_per_byte\n"
        "    higher_is_better: false\n"
        "metadata:\n  version: 1.0\n"
    )


def _pairs_task(name: str, code: str) -> str:
    return _head(name, code) + (
        'output_type: multiple_choice\ndoc_to_text: ""\ndoc_to_target: 0\n'
        'doc_to_choice: "{{[good, bad]}}"\n'
        "metric_list:\n  - metric: acc\n    aggregation: mean\n    higher_is_better: true\n"
        "metadata:\n  version: 1.0\n"
    )
