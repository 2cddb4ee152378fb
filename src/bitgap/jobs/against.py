"""A real quantized file beside its model: what it holds, and what that does to each language."""

from __future__ import annotations

from collections.abc import Collection, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from bitgap.disparity.file_map import FileMap, Part, make_file_map, part_plans
from bitgap.disparity.flips import Flips, flips_of
from bitgap.disparity.records import DisparityReport
from bitgap.formats.checkpoint import Checkpoint
from bitgap.formats.contents import Contents, Held, contents_of
from bitgap.lab.lab import Lab
from bitgap.lab.real_files import check_scales, plan_of_checkpoint
from bitgap.lab.scores import flip_counts
from bitgap.quant.plan import Plan


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
        ModelError: If the file does not fit the model; the message names the first tensor.

    Example:
        >>> from bitgap import Lab
        >>> from bitgap.formats.open import open_checkpoint
        >>> lab = Lab.from_pretrained("my-model")  # doctest: +SKIP
        >>> with weights_in_hand(lab, open_checkpoint("my-model.gguf")) as plan:  # doctest: +SKIP
        ...     lab.score([plan])
    """
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
