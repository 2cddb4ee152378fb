"""From scores to judgement: what one plan did to every language, and whether another is better.

The formulas live in :mod:`bitgap.disparity.formulas`; this package puts an interval on each number
(``report``), compares plans (``comparison``), closes the gates of method.md (``gates``), and says
in words what a number must not be used for. All intervals come from one paired bootstrap over
sentences, or over their documents where these are known. No torch.

The gap of a plan is S, the spread over languages of log2 damage per token: no language is its
reference, and languages cannot cancel. S per text, what users bear, stands beside it; D, signed
against the reference, is described. A statement whose sign changes between per token and per text
is *not established*.

Gates. A language *collapsed* under a plan (no better than add-one unigrams) or *below resolution*
(K per token under ten times the numerical floor) is left out of S and D, with the reason; if it is
the reference there is no D. D_original is invalid unless the interval of Δ_ref lies above 0. K/M is
undefined unless the interval of M does. If the interval of S reaches 0, languages
may be damaged alike and there is *nothing to explain*.

Claims. S falls or rises if the interval of its paired change excludes 0 and it changes alike per
token and per text; a plan is better only if S falls and neither the reference's damage nor H rises:
a gap may not be closed by levelling down (Mittelstadt et al. 2023).

Examples are of :data:`bitgap.disparity.example.SCORES`, three languages and eight plans, which are
the masks of :data:`~bitgap.disparity.example.DESIGN`, with numpy as ``np``.
"""

from bitgap.disparity.audit import audit
from bitgap.disparity.compare import compare
from bitgap.disparity.formulas import (
    damage_bits,
    delta_bits,
    gap,
    harm_max,
    harm_mean,
    log_ratio,
    usable,
)
from bitgap.disparity.records import Claim, Comparison, DisparityReport, LanguageDamage

__all__ = [
    "Claim",
    "Comparison",
    "DisparityReport",
    "LanguageDamage",
    "audit",
    "compare",
    "damage_bits",
    "delta_bits",
    "gap",
    "harm_max",
    "harm_mean",
    "log_ratio",
    "usable",
]
