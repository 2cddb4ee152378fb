"""A real quantized file beside its model: what it holds, and what that does to each language."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bitgap.disparity.flips import Flips, flips_of
from bitgap.disparity.records import DisparityReport
from bitgap.formats.checkpoint import Checkpoint
from bitgap.formats.contents import Contents, contents_of
from bitgap.lab.lab import Lab
from bitgap.lab.real_files import plan_of_checkpoint
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
def weights_in_hand(lab: Lab, checkpoint: Checkpoint) -> Iterator[Plan]:
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
