"""The formal model: rows, the ladder F0 … F5, inference, controls, and its judge in model.py.

It is no experiment on one model, and declares its hypothesis as experiments do.
"""

from bitgap.experiments.protocol.hypothesis import Hypothesis

HYPOTHESIS = Hypothesis(
    id="formal",
    claim="the formula predicts",
    prediction="variance, boundary and bottleneck together predict where languages are "
    "hurt in a family not used for fitting",
    if_supported="variance, boundary and bottleneck predict where languages are hurt in an "
    "unseen family",
    if_refuted="the formal model as a predictor for unseen families",
    gap="bound",
    pillar="formal model",
    needs_disparity=True,
)
