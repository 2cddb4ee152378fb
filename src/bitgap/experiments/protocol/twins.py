"""What experiments over masks share: damage in few languages, of a model and its untrained twin."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bitgap.experiments.protocol.controls import PLANTED_LANGUAGES
from bitgap.lab.lab import Lab
from bitgap.quant.plan import Plan, mask_plans
from bitgap.records import Floats


def in_few_languages(lab: Lab) -> Lab:
    """Returns the lab of a twin and of plantings, on three languages."""
    return lab.on(languages=lab.languages[:PLANTED_LANGUAGES])


def kl_of(lab: Lab, plans: Sequence[Plan]) -> Floats:
    """Returns the damage of plans in nats, repeats in place, (P x A x N)."""
    return lab.score(plans, "controls").select(plans=[plan.text for plan in plans]).kl_nats


def random_kl(lab: Lab, scheme: str, masks: Sequence[int]) -> Floats:
    """Returns damage of an untrained twin under some masks, (P x A' x N)."""
    return kl_of(in_few_languages(lab).random_twin(), mask_plans(scheme, lab.n_blocks, masks))


def control_documents(few: Lab) -> dict[str, NDArray[np.int64]]:
    """Returns ``control_documents``, (N'), of the sentences controls are run on, where known.

    Args:
        few: The lab on these sentences.
    """
    documents = few.score([Plan.uniform("fp", few.n_blocks)], "controls").documents
    return {} if documents is None else {"control_documents": documents}
