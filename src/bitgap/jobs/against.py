"""A real quantized file beside its model: what it holds, and what that does to each language."""

from __future__ import annotations

from collections.abc import Collection, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from bitgap.disparity.audit import audit
from bitgap.disparity.file_map import FileMap, Part, make_file_map, part_plans
from bitgap.disparity.flips import Flips, flips_of
from bitgap.disparity.generation import (
    Continued,
    Generation,
    common_start,
    make_generation,
    repetition,
)
from bitgap.disparity.records import DisparityReport
from bitgap.disparity.runtimes import AsRun, Runtimes, make_as_run, scores_as_run
from bitgap.errors import ModelError
from bitgap.formats.checkpoint import Checkpoint
from bitgap.formats.contents import Contents, Held, contents_of
from bitgap.formats.running import RuntimeFailure, find_runtime
from bitgap.lab.as_run import run_scores
from bitgap.lab.generation import NEW_TOKENS, continuations, halves
from bitgap.lab.identify import Identifier, left_script
from bitgap.lab.lab import Lab
from bitgap.lab.real_files import check_scales, plan_of_checkpoint
from bitgap.lab.same_tokens import check_base, check_tokens
from bitgap.lab.scores import flip_counts
from bitgap.quant.plan import Plan
from bitgap.records import Integers, Scores


@dataclass(frozen=True, slots=True, kw_only=True)
class FileAudit:
    """What one file does to a model's languages."""

    plan: Plan
    """The file's weights, as the lab's bank had them."""
    report: DisparityReport
    contents: Contents
    flips: Flips


@contextmanager
def weights_in_hand(lab: Lab, checkpoint: Checkpoint) -> Generator[Plan]:
    """Puts a file's weights into a lab's bank, and takes them out again in the end.

    Args:
        lab: Of the model that the file was made of.
        checkpoint: As :func:`bitgap.formats.open.open_checkpoint` gives it.

    Yields:
        The plan of the file.

    Raises:
        ModelError: If the file does not fit the model (the message names the first tensor), has
            another tokenizer, or the model is itself quantized.

    Example:
        >>> from bitgap import Lab
        >>> from bitgap.formats.open import open_checkpoint
        >>> lab = Lab.from_pretrained("my-model")  # doctest: +SKIP
        >>> with weights_in_hand(lab, open_checkpoint("my-model.gguf")) as plan:  # doctest: +SKIP
        ...     lab.score([plan])
    """
    check_base(lab.info.name)
    check_tokens(checkpoint, lab.loaded.tokenizer)
    plan = plan_of_checkpoint(lab, checkpoint)
    try:
        yield plan
    finally:
        for scheme in {*plan.blocks, plan.embedding, plan.head} - {"fp"}:
            lab.bank.drop(scheme)
            lab.engine.forget(scheme)


def audit_file(lab: Lab, checkpoint: Checkpoint, plan: Plan) -> FileAudit:
    """Returns what a file holds and does to each language.

    Args:
        lab: Model and text.
        checkpoint: The file.
        plan: Of :func:`weights_in_hand`.

    Example:
        >>> from bitgap import Lab
        >>> from bitgap.formats.open import open_checkpoint
        >>> lab = Lab.from_pretrained("my-model", languages="de")  # doctest: +SKIP
        >>> file = open_checkpoint("my-model.gguf")  # doctest: +SKIP
        >>> with weights_in_hand(lab, file) as plan:  # doctest: +SKIP
        ...     found = audit_file(lab, file, plan)
        >>> found.contents.bits  # doctest: +SKIP
        4.83
    """
    changed = flip_counts(lab, plan, "audit")  # scores the plan too, in the same pass
    scores = lab.score([plan], "audit")
    return FileAudit(
        plan=plan,
        report=lab.audit(plan),
        contents=contents_of(checkpoint),
        flips=flips_of(changed, scores, seed=lab.settings.seed),
    )


def parts_of_file(lab: Lab, checkpoint: Checkpoint, plan: Plan, *, units: bool) -> list[Part]:
    """Returns the parts of a file that can be put in alone or kept whole.

    Args:
        lab: Of the model.
        checkpoint: The file.
        plan: Of :func:`weights_in_hand`.
        units: Whether matrices are parts; else whole blocks are.

    Raises:
        ModelError: If matrices of the file are rescaled against each other or against a norm, as
            AWQ and its like do, so that one alone would be no part of any model.

    Example:
        >>> from bitgap import Lab
        >>> from bitgap.formats.open import open_checkpoint
        >>> lab = Lab.from_pretrained("my-model")  # doctest: +SKIP
        >>> file = open_checkpoint("my-model.gguf")  # doctest: +SKIP
        >>> with weights_in_hand(lab, file) as plan:  # doctest: +SKIP
        ...     print([part.label for part in parts_of_file(lab, file, plan, units=False)])
        ['embedding and head', 'L0', 'L1']
    """
    if units:
        check_scales(lab, checkpoint, plan)
    family = lab.decoder.family
    held = contents_of(checkpoint).tensors
    tied = lab.info.tied
    found: list[Part] = []
    tables = {f"{family.base}.{name}" for name in lab.decoder.token_embedding_names}
    heads = {f"{family.head}.weight"}
    if tied:
        if "fp" != plan.embedding or "fp" != plan.head:
            found.append(_part(None, "embedding and head", held, tables | heads))
    else:
        for end, names in (("embedding", tables), ("head", heads)):
            if getattr(plan, end) != "fp":
                found.append(_part(None, end, held, names))
    for i in range(lab.n_blocks):
        root = f"{family.blocks}.{i}."
        if units:
            found += [
                _part(i, name, held, {f"{root}{name}.weight"})
                for name in lab.decoder.block_linears(i)
            ]
        else:
            found.append(_part(i, "", held, {h.name for h in held if h.name.startswith(root)}))
    return found


def _part(block: int | None, unit: str, held: Sequence[Held], names: Collection[str]) -> Part:
    mine = [one for one in held if one.name in names]
    matrices = [one for one in mine if one.quantized] or mine
    return Part(
        block=block,
        unit=unit,
        stored=", ".join(dict.fromkeys(one.stored for one in matrices)),
        parameters=sum(one.n_weights for one in mine),
        n_bytes=sum(one.n_bytes for one in mine),
    )


def map_file(lab: Lab, checkpoint: Checkpoint, plan: Plan, *, units: bool = False) -> FileMap:
    """Returns which parts of a file hurt which languages, and what keeping each whole would cost.

    Args:
        lab: Model and text.
        checkpoint: The file.
        plan: Of :func:`weights_in_hand`.
        units: Whether each matrix is put in and out; else each block.

    Raises:
        ModelError: As :func:`parts_of_file`.

    Example:
        >>> from bitgap import Lab
        >>> from bitgap.formats.open import open_checkpoint
        >>> lab = Lab.from_pretrained("my-model", languages="de").spread(32)  # doctest: +SKIP
        >>> file = open_checkpoint("my-model.gguf")  # doctest: +SKIP
        >>> with weights_in_hand(lab, file) as plan:  # doctest: +SKIP
        ...     found = map_file(lab, file, plan)
        >>> max(found.parts, key=lambda one: one.relief.value).part.label  # doctest: +SKIP
        'L0'
    """
    parts = parts_of_file(lab, checkpoint, plan, units=units)
    scores = lab.score(part_plans(plan, parts), "map")
    name = contents_of(checkpoint).file
    return make_file_map(scores, name, parts, seed=lab.settings.seed)


def audit_as_run(
    lab: Lab,
    file: Path,
    runtime: str,
    audited: FileAudit | None,
    *,
    python: str | None = None,
    threads: int | None = None,
) -> tuple[AsRun, Scores | None]:
    """Returns what a file does to each language as its toolchain runs it.

    What goes wrong in the runtime's own process is part of the answer, as ``failure``, and never
    the end of the audit.

    Args:
        lab: Of the full-precision model and the text.
        file: The file or folder.
        runtime: Name among :data:`bitgap.formats.running.RUNTIMES`.
        audited: What its weights alone do; None where bitgap reads no such files.
        python: Of the environment that has the runtime; this one's when None.
        threads: Of its products; as many as this process uses when None.

    Returns:
        What it does, and its scores; None where there are none.

    Raises:
        UsageError: If there is no such runtime or Python.

    Example:
        >>> from bitgap import Lab
        >>> lab = Lab.from_pretrained("my-model", languages="de")  # doctest: +SKIP
        >>> found, _ = audit_as_run(lab, Path("my.gguf"), "llama.cpp", None)  # doctest: +SKIP
        >>> found.languages[0].damage.value  # doctest: +SKIP
        0.0123
    """
    chosen = find_runtime(runtime)
    text = _text_scores(lab) if audited is None else lab.score([audited.plan], "audit")
    name = f"{file.name} run by {runtime}" if audited is None else audited.plan.text
    try:
        found = run_scores(lab, file, chosen, python=python, threads=threads)
    except RuntimeFailure as failure:
        return AsRun(runtime=runtime, versions={}, failure=str(failure)), None
    scores = scores_as_run(text, name, found.kl_nats, found.nll_nats)
    weights = None if audited is None else text
    made = make_as_run(
        runtime, found.versions, scores, found.flipped, weights, seed=lab.settings.seed
    )
    return made, scores


def audit_run_alone(
    lab: Lab,
    file: Path,
    runtimes: Sequence[str],
    *,
    python: str | None = None,
    threads: int | None = None,
) -> tuple[DisparityReport, Runtimes]:
    """Returns what a file whose weights are not read does to each language as it runs.

    Args:
        lab: Of the full-precision model and the text.
        file: Such as an ONNX file.
        runtimes: Names; the report is of the first that runs it.
        python: As for :func:`audit_as_run`.
        threads: Likewise.

    Raises:
        ModelError: If none of them runs it.
        UsageError: As :func:`audit_as_run`.

    Example:
        >>> from bitgap import Lab
        >>> lab = Lab.from_pretrained("my-model", languages="de")  # doctest: +SKIP
        >>> report, _ = audit_run_alone(lab, Path("q.onnx"), ["onnxruntime"])  # doctest: +SKIP
    """
    found = [
        audit_as_run(lab, file, name, None, python=python, threads=threads) for name in runtimes
    ]
    runs = Runtimes(runs=tuple(run for run, _ in found))
    for _, scores in found:
        if scores is not None:
            report = audit(scores, scores.plans[0], seed=lab.settings.seed)
            caveat = f"As it runs: the weights of {file.name} were not read."
            return replace(report, caveats=(caveat, *report.caveats)), runs
    raise ModelError("; ".join(run.failure for run in runs.runs))


def _text_scores(lab: Lab) -> Scores:
    """Returns the scores of full precision on a lab's text, as plans are compared with them."""
    return lab.score([Plan.uniform("fp", lab.n_blocks)], "full precision")


def check_generation(lab: Lab, plan: Plan, sentences: int | None = None) -> Generation:
    """Returns what a file writes in the whole model's place, continuing sentences greedily.

    Args:
        lab: Model and text.
        plan: Of :func:`weights_in_hand`.
        sentences: How many of each language, spread over the text; all when None.

    Example:
        >>> from bitgap import Lab
        >>> from bitgap.formats.open import open_checkpoint
        >>> lab = Lab.from_pretrained("my-model", languages="de")  # doctest: +SKIP
        >>> file = open_checkpoint("my-model.gguf")  # doctest: +SKIP
        >>> with weights_in_hand(lab, file) as plan:  # doctest: +SKIP
        ...     found = check_generation(lab, plan, 16)
        >>> found.languages[0].estimates["agreement"].value  # doctest: +SKIP
        0.71
    """
    part = lab.spread(sentences)
    whole = continuations(part, Plan.uniform("fp", lab.n_blocks))
    file = continuations(part, plan)
    identifier = Identifier(part.languages)
    continued: dict[str, list[Continued]] = {}
    examples: dict[str, tuple[str, str, str]] = {}
    for a, code in enumerate(part.languages):
        texts = [halves(part.corpus.sentences[code][i]) for i in map(int, part.text.kept)]
        both = zip(texts, list(whole[a]), list(file[a]), strict=True)
        rows = [(*text, _tokens(w), _tokens(f)) for text, w, f in both]
        said = [(_decoded(lab, w), _decoded(lab, f)) for _, _, w, f in rows]
        continued[code] = [
            _continued(row, told, identifier, code) for row, told in zip(rows, said, strict=True)
        ]
        parted = [i for i, one in enumerate(continued[code]) if not one.same]
        if parted:
            first = min(parted, key=lambda i: continued[code][i].common)
            examples[code] = (texts[first][0], *said[first])
    return make_generation(
        continued,
        part.text.counts.tokens.shape[1] if part.documents is None else part.documents,
        new_tokens=NEW_TOKENS,
        identifier=identifier.name,
        unknown=identifier.unknown,
        examples=examples,
        seed=lab.settings.seed,
    )


def _tokens(row: Integers) -> list[int]:
    return [int(token) for token in row if token >= 0]


def _decoded(lab: Lab, tokens: list[int]) -> str:
    return str(lab.loaded.tokenizer.decode(tokens, skip_special_tokens=True))


def _continued(
    row: tuple[str, str, list[int], list[int]],
    said: tuple[str, str],
    identifier: Identifier,
    code: str,
) -> Continued:
    prompt, rest, whole, file = row
    return Continued(
        common=common_start(whole, file),
        tokens=len(whole),
        same=whole == file,
        repetition=repetition(file),
        repetition_whole=repetition(whole),
        script=left_script(said[1], prompt),
        script_whole=left_script(said[0], prompt),
        confusion=identifier.left(said[1], code),
        confusion_whole=identifier.left(said[0], code),
        confusion_text=identifier.left(rest, code),
    )
