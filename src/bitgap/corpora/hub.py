"""Parallel datasets from the Hugging Face hub, through the optional ``datasets`` library.

Two layouts are read. FLORES+ has one configuration a language (``heb_Hebr``) whose rows carry an
``id`` and a ``text``; languages are joined on the id. Other datasets have one column a language
(``en``, or ``sentence_eng_Latn``). Columns and configurations that name no language are passed
over.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bitgap.corpora import documents
from bitgap.corpora.intake import (
    CORE_LANGUAGES,
    DOCUMENT_COLUMN,
    WORDS,
    Request,
    Text,
    clean_sentences,
    is_guess,
    is_numbering,
)
from bitgap.corpora.layouts import SPLITS
from bitgap.corpora.tables import TEXT_COLUMNS, require_same_ids
from bitgap.errors import CorpusError, LanguageError, import_extra
from bitgap.languages import language

FLORES = "openlanguagedata/flores_plus"

_SHORT_NAMES: dict[str, str] = dict.fromkeys(("flores+", "flores_plus", "flores-plus"), FLORES)


@dataclass(frozen=True, slots=True)
class HubName:
    """A dataset and, if named, its split: ``openlanguagedata/flores_plus:dev``."""

    dataset: str
    split: str | None = None


def parse_hub_name(spec: str) -> HubName | None:
    """Returns the dataset that a text names, or None where it cannot name one."""
    name, _, split = spec.partition(":")
    name = _SHORT_NAMES.get(name.lower(), name)
    if not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name):
        return None
    return HubName(name, split or None)


def read_hub(name: HubName, request: Request) -> Text:
    """Downloads, or finds in the hub's own cache, the sentences of a dataset.

    Without languages asked for, a dataset with one configuration a language gives those of the
    bundled corpus that it has, since each configuration is a download of its own.

    Raises:
        MissingExtra: If ``datasets`` is not installed.
        CorpusError: If the dataset cannot be loaded, or its text cannot be used or aligned.
        LanguageError: If a language asked for is not there.
    """
    purpose = f"{name.dataset!r} is no file or folder here; reading it as a Hugging Face dataset"
    datasets = import_extra("datasets", "hub", purpose)
    configs = list(_ask(name, datasets.get_dataset_config_names, name.dataset))
    by_language = _configs_by_language(configs)
    if len(by_language) >= 2:
        return _read_configs(datasets, name, by_language, request)
    return _read_columns(datasets, name, configs, request)


def _configs_by_language(configs: list[str]) -> dict[str, str]:
    """Code to configuration; of several that name one language, the shortest name."""
    found: dict[str, str] = {}
    for config in sorted(configs, key=lambda config: (len(config), config)):
        try:
            entry = language(config)
        except LanguageError:
            continue
        if not (is_guess(entry) and config.casefold() in WORDS):  # ``all`` is no Allar
            found.setdefault(entry.code, config)
    return found


def _read_configs(
    datasets: Any, name: HubName, by_language: dict[str, str], request: Request
) -> Text:
    if request.languages is None:
        core = tuple(code for code in CORE_LANGUAGES if code in by_language)
        request = Request(core if len(core) > 1 else None, request.reference)
    picked = request.pick({config: config for config in by_language.values()}, name.dataset)
    reference = next(iter(picked))
    split = _choose_split(datasets, name, picked[reference])
    loaded = {code: _load(datasets, name, config, split) for code, config in picked.items()}
    tables = {
        code: _texts_by_id(rows, f"{name.dataset}, {picked[code]}") for code, rows in loaded.items()
    }
    ids = list(tables[reference])
    for code, table in tables.items():
        require_same_ids(ids, table, f"{name.dataset}, {picked[code]}", picked[reference])
    texts = {
        code: clean_sentences((table[i], f"{name.dataset}, {picked[code]}, id {i}") for i in ids)
        for code, table in tables.items()
    }
    return Text(texts, _documents(loaded[reference], name))


def _read_columns(datasets: Any, name: HubName, configs: list[str], request: Request) -> Text:
    config = next((c for c in ("all", "default") if c in configs), configs[0] if configs else None)
    rows = _load(datasets, name, config, _choose_split(datasets, name, config))
    columns = {column: list(rows[column]) for column in rows.column_names}
    if not all(columns.values()):
        raise CorpusError(f"{name.dataset}: no rows")
    labels = {
        column: re.sub(r"^(sentence|text)_", "", column)
        for column, values in columns.items()
        if not is_numbering(column, values[0])
    }
    picked = request.pick(labels, f"{name.dataset}, columns {', '.join(columns)}", lenient=True)
    texts = {
        code: clean_sentences(
            (text, f"{name.dataset}, row {row}, column {column}")
            for row, text in enumerate(columns[column], start=1)
        )
        for code, column in picked.items()
    }
    return Text(texts, _documents(rows, name))


def _documents(rows: Any, name: HubName) -> tuple[int, ...] | None:
    """Returns the documents of the rows, which FLORES+ tells by the address they are from."""
    column = "url" if name.dataset == FLORES else DOCUMENT_COLUMN
    if column not in rows.column_names:
        return None
    return documents.of_cells(list(rows[column]), f"{name.dataset}, column {column}")


def _texts_by_id(rows: Any, where: str) -> dict[object, object]:
    column = next((c for c in TEXT_COLUMNS if c in rows.column_names), None)
    if column is None:
        raise CorpusError(
            f"{where}: no column named {' or '.join(TEXT_COLUMNS)}; found "
            f"{', '.join(rows.column_names)}"
        )
    texts = list(rows[column])
    ids = list(rows["id"]) if "id" in rows.column_names else list(range(1, len(texts) + 1))
    table: dict[object, object] = dict(zip(ids, texts, strict=True))
    if not texts or len(table) < len(texts):
        raise CorpusError(f"{where}: {'an id stands twice' if texts else 'no rows'}")
    return table


def _choose_split(datasets: Any, name: HubName, config: str | None) -> str:
    have = list(_ask(name, datasets.get_dataset_split_names, name.dataset, config))
    wanted = (name.split,) if name.split else (*SPLITS, *(have if len(have) == 1 else ()))
    found = next((split for split in wanted if split in have), None)
    if found is None:
        raise CorpusError(
            f"{name.dataset}: no split named {' or '.join(wanted)}; it has {', '.join(have)}; "
            f"write {name.dataset}:SPLIT"
        )
    return found


def _load(datasets: Any, name: HubName, config: str | None, split: str) -> Any:
    return _ask(name, datasets.load_dataset, name.dataset, config, split=split)


def _ask(name: HubName, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    try:
        return call(*args, **kwargs)
    except Exception as error:  # The library's errors range over OSError, ValueError and its own.
        raise CorpusError(
            f"{name.dataset!r} is no file or folder here, and could not be loaded as a Hugging "
            f"Face dataset ({type(error).__name__}: {error}); check the name and the connection, "
            "and where the dataset is gated accept its terms on its page and log in"
        ) from error
