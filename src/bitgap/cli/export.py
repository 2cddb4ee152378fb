"""Commands that hand over to other tools: recipes by export and verify, text by tasks."""

from __future__ import annotations

from argparse import ArgumentTypeError, Namespace
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from bitgap.cli import console
from bitgap.cli.options import TRUST, option, path, verb, whole
from bitgap.cli.session import Session
from bitgap.errors import UsageError

if TYPE_CHECKING:
    from bitgap.corpora.grammar.pairs import AgreementSet
    from bitgap.corpora.parallel import ParallelCorpus
    from bitgap.jobs.export import Check

_TARGETS = "toolchains to write it for, such as gguf,vllm, or tell it to, such as llama-quantize"
_MODEL = "the full-precision model (default: the one that the recipe names)"
_PYTHON = "Python of the environment that has the toolchain (default: this one)"
_SENTENCES = "sentences of each language whose logits are compared"
_VERIFYING = (
    option("--model", _MODEL, metavar="MODEL"),
    option("--python", _PYTHON, type=path, metavar="FILE"),
    option("--sentences", _SENTENCES, type=whole(1), metavar="N", default=1),
)


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise ArgumentTypeError(f"{text!r} names no toolchain; write for example gguf,vllm")
    return names


@verb(
    "export",
    "a recipe as files that toolchains load, verified",
    option("recipe", "recipe.toml, as `bitgap protect` writes it", type=path),
    option("--to", _TARGETS, type=_names, required=True, metavar="NAMES"),
    option("--nearest", "write the nearest recipe that a target can express", action="store_true"),
    option("--no-load", "do not have the toolchain load it", action="store_true"),
    *(*_VERIFYING, *TRUST),
    example="bitgap export recipe/recipe.toml --to gguf,vllm --out shipped",
)
def export(options: Namespace, session: Session) -> None:
    """Shows what :func:`bitgap.jobs.export.export` wrote and found."""
    if not options.out:
        raise UsageError("--out names the folder that the export is written to; give one")
    console.say(f"reading {options.recipe}")
    from bitgap.jobs.export import export as write
    from bitgap.protect.recipe import read_recipe

    session.begin(options.out, "Name the toolchains that are left to go on")
    made = write(
        read_recipe(options.recipe),
        options.to,
        options.out,
        model=options.model,
        nearest=options.nearest,
        check=_check(options, load=not options.no_load),
        announce=console.say,
        trust=_trust(options),
    )
    _show(made, session, keep=True)


@verb(
    "verify",
    "an export, loaded by its toolchain and counted once more",
    option("folder", "what `bitgap export` made, such as OUT/gguf", type=path),
    *(*_VERIFYING, *TRUST),
    example="bitgap verify shipped/gguf",
)
def verify(options: Namespace, session: Session) -> None:
    """Shows what :func:`bitgap.jobs.export.verify` found."""
    console.say(f"reading {options.folder}")
    from bitgap.jobs.export import verify as verified

    session.begin(options.folder, "Run the same command again")
    made = verified(
        options.folder, model=options.model, check=_check(options), trust=_trust(options)
    )
    _show([made], session, keep=bool(options.out))


@verb(
    "tasks",
    "tasks for lm-evaluation-harness, by language",
    example="bitgap tasks --languages en,he --out tasks",
)
def tasks(options: Namespace, session: Session) -> None:
    """Writes what :func:`bitgap.jobs.tasks.write_tasks` does."""
    if not options.out:
        raise UsageError("--out names the folder that the tasks are written to; give one")
    from bitgap.corpora.grammar.agreement import load_agreement
    from bitgap.corpora.parallel import load_corpus
    from bitgap.jobs.tasks import write_tasks
    from bitgap.show.export_view import tasks_view

    corpus = load_corpus(options.corpus, languages=options.languages, reference=options.reference)
    made = write_tasks(corpus, options.out, _pairs_of(corpus, load_agreement(options.pairs)))
    session.show(asdict(made), tasks_view, keep=False)


def _pairs_of(corpus: ParallelCorpus, pairs: AgreementSet) -> AgreementSet | None:
    """Returns the pairs of a corpus' languages; None if it has none of them."""
    has = [code for code in corpus.languages if code in pairs.languages]
    return pairs.select(has) if has else None


def _check(options: Namespace, *, load: bool = True) -> Check:
    from bitgap.corpora.parallel import load_corpus
    from bitgap.jobs.export import Check

    return Check(
        corpus=load_corpus(
            options.corpus, languages=options.languages, reference=options.reference
        ),
        sentences=options.sentences,
        python=options.python,
        threads=options.threads or 1,
        load=load,
    )


def _trust(options: Namespace) -> dict[str, bool]:
    return {
        "allow_pickle": options.allow_pickle,
        "trust_remote_code": options.trust_remote_code,
    }


def _show(made: list[Any], session: Session, *, keep: bool) -> None:
    from bitgap.codec import to_json
    from bitgap.show.export_view import export_view

    session.show({"exports": [to_json(one) for one in made]}, export_view, keep=keep)
