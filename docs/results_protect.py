"""Finds recipes of several models at several budgets, and writes ``results-protect.md`` of them.

    python docs/results_protect.py                              # the bundled model, some minutes
    python docs/results_protect.py reference MODEL … --dry-run  # what it would cost
    python docs/results_protect.py --page                       # the page alone, from records

Every recipe leaves a record in ``excerpts/recipes``, and the page is rendered from the records
alone, so models can be added one by one and on several machines. A recipe whose record answers the
same question is not searched again. What is measured goes through a store: killed or stopped, the
same command goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bitgap.errors import BitgapError, BudgetError, LanguageError, UsageError
from bitgap.files import write_text
from bitgap.lab.engine.budget import parse_bytes
from bitgap.lab.lab import Lab
from bitgap.lab.protect.run import protect
from bitgap.lab.protect.steps import Asked, Costs, Prepared, foresee, prepare
from bitgap.lab.settings import Settings
from bitgap.report.docs_pages.recipes import recipes_page, record_of, refusal_of
from bitgap.show.words import duration

DOCS = Path(__file__).parent
PAGE = DOCS / "results-protect.md"
RECORDS = DOCS / "excerpts" / "recipes"
COMMAND = "make recipes"
BUNDLED = "reference"
Json = dict[str, Any]


def parser() -> argparse.ArgumentParser:
    """Returns the command's parser."""
    made = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    made.add_argument(
        "models",
        nargs="*",
        metavar="MODEL",
        help=f"folder, hub id or {BUNDLED} for the bundled one (default: that)",
    )
    made.add_argument("--budgets", default="3.25,4.25", help="bits a weight (default: 3.25,4.25)")
    made.add_argument("--corpus", help="parallel text (default: the bundled sentences)")
    made.add_argument("--languages", default="en,de,fr,ru,fi,hi,he,ja")
    made.add_argument(
        "--sentences", type=int, default=64, help="of the text, spread over it (default: 64)"
    )
    made.add_argument("--instrument", default="auto", choices=("auto", "screen", "swaps"))
    made.add_argument("--arithmetic", default="fast", choices=("exact", "fast"))
    made.add_argument(
        "--triple",
        action="append",
        metavar="LIST",
        help="compare also with these blocks kept at more bits, such as 0,9,11",
    )
    made.add_argument("--random", type=int, default=19, help="random plans (default: 19)")
    made.add_argument(
        "--placebos",
        type=int,
        default=19,
        help="searches on permuted labels (default: 19, the fewest that can decide)",
    )
    made.add_argument("--memory", help="limit, such as 4GiB")
    made.add_argument("--store", type=Path, default=Path("runs/recipes.db"))
    made.add_argument("--records", type=Path, default=RECORDS)
    made.add_argument("--out", type=Path, default=PAGE, help="the page")
    made.add_argument("--again", action="store_true", help="search also what is recorded")
    made.add_argument("--dry-run", action="store_true", help="tell what it would cost, and stop")
    made.add_argument("--page", action="store_true", help="write the page alone")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code; 130 where it was stopped."""
    asked = parser().parse_args(arguments)
    try:
        if not asked.page:
            _search_all(asked)
            if asked.dry_run:
                return 0
        _write_page(asked)
    except KeyboardInterrupt:
        _say("stopped; the same command goes on where it was")
        return 130
    except BitgapError as error:
        _say(f"{Path(__file__).name}: {error}")
        return error.exit_code
    return 0


def _search_all(asked: argparse.Namespace) -> None:
    budgets, triples = _budgets(asked.budgets), [_blocks(text) for text in asked.triple or ()]
    total_s = 0.0
    for model in asked.models or [BUNDLED]:
        # A model at a time: its weights need not be held when the next one is opened.
        lab = _lab(asked, model)
        for budget in budgets:
            work, question = _question(asked, lab, model, budget, triples)
            if not asked.again and _answered(asked.records, question):
                _say(f"{question['model']} at {budget:g} bits is recorded")
                continue
            costs = foresee(work)
            total_s += costs.whole.time_s
            _say(f"{question['model']} at {budget:g} bits: {_told(work, costs)}")
            if not asked.dry_run:
                _search(asked, work, costs, question)
    if asked.dry_run:
        _say(f"all: about {duration(total_s)}, less where budgets of a model share its table")


def _budgets(text: str) -> list[float]:
    try:
        found = [float(one) for one in text.split(",")]
    except ValueError:
        raise UsageError(f"budgets {text!r} are no numbers; write for example 3.25,4.25") from None
    return found


def _blocks(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(one) for one in text.split(","))
    except ValueError:
        raise UsageError(f"{text!r} is no list of blocks; write for example 0,9,11") from None


def _lab(asked: argparse.Namespace, model: str) -> Lab:
    asked.store.parent.mkdir(parents=True, exist_ok=True)
    memory = {"memory_bytes": parse_bytes(asked.memory)} if asked.memory else {}
    lab = Lab.from_pretrained(
        None if model == BUNDLED else model,
        asked.corpus,
        languages=asked.languages.split(","),
        store=asked.store,
        settings=Settings(arithmetic=asked.arithmetic, **memory),
    )
    return lab.spread(asked.sentences)


def _question(
    asked: argparse.Namespace,
    lab: Lab,
    model: str,
    budget: float,
    triples: Sequence[Sequence[int]],
) -> tuple[Prepared, Json]:
    """Returns a search that can begin, and what it asks: a record answers it, or does not."""
    name = lab.info.name
    options = [f"--budget {budget:g}", f"--languages {asked.languages}",
               f"--sentences {asked.sentences}", f"--instrument {asked.instrument}",
               f"--arithmetic {asked.arithmetic}"]  # fmt: skip
    options += [f"--corpus {lab.corpus.info.name}"] if asked.corpus else []
    options += [f"--triple {text}" for text in asked.triple or ()]
    command = " ".join(["bitgap protect", *([] if model == BUNDLED else [name]), *options])
    work = prepare(
        lab,
        Asked(budget=budget, instrument=asked.instrument, triples=triples, random=asked.random,
              placebos=asked.placebos, command=command),
    )  # fmt: skip
    question = {
        "model": name,
        "fingerprint": lab.info.fingerprint,
        "corpus": lab.corpus.info.name,
        "corpus_fingerprint": lab.corpus.info.fingerprint,
        "languages": list(lab.languages),
        "sentences": len(lab.text.kept),
        "budget": budget,
        "instrument": asked.instrument,
        "arithmetic": asked.arithmetic,
        "triples": [list(one) for one in triples],
        "random": asked.random,
        "placebos": asked.placebos,
        "seed": lab.settings.seed,
        "command": command,
    }
    return work, question


def _file(folder: Path, question: Mapping[str, Any]) -> Path:
    model = "".join(c if c.isalnum() or c in "._-" else "-" for c in Path(question["model"]).name)
    return folder / f"{model}-{question['budget']:g}.json"


def _answered(folder: Path, question: Json) -> bool:
    file = _file(folder, question)
    return file.is_file() and json.loads(file.read_text("utf-8"))["question"] == question


def _told(work: Prepared, costs: Costs) -> str:
    return f"about {duration(costs.whole.time_s)} ({costs.sentence(work.instrument)})"


def _search(asked: argparse.Namespace, work: Prepared, costs: Costs, question: Json) -> None:
    try:
        found = protect(work, costs, say=_say)
    except (LanguageError, BudgetError) as error:
        # What nobody can say at this budget is an answer too, and other budgets have theirs.
        record, said = refusal_of(str(error), question), f"no recipe: {error}"
    else:
        record, said = record_of(found, question), found.proof.sentence
    file = _file(asked.records, question)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, f"{json.dumps(record, ensure_ascii=False, indent=1)}\n")
    _say(said)
    _write_page(asked)


def records_in(folder: Path) -> Iterator[Json]:
    """Yields the records of a folder, by model and budget."""
    kept = [json.loads(file.read_text("utf-8")) for file in folder.glob("*.json")]
    yield from sorted(kept, key=lambda one: (one["question"]["model"], one["question"]["budget"]))


def _write_page(asked: argparse.Namespace) -> None:
    write_text(asked.out, recipes_page(list(records_in(asked.records)), COMMAND))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
