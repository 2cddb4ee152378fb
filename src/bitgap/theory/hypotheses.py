"""Every hypothesis there is: those of the experiments, and the formal model's."""

from __future__ import annotations

from collections.abc import Mapping

from bitgap.experiments.catalog import CATALOG
from bitgap.experiments.protocol.hypothesis import Hypothesis
from bitgap.theory.formal import HYPOTHESIS

HYPOTHESES: Mapping[str, Hypothesis] = {
    hypothesis.id: hypothesis for hypothesis in (*(e.hypothesis for e in CATALOG), HYPOTHESIS)
}
"""By id, in the order of the theory."""
