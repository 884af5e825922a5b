"""Metrics of explanations: axioms, faithfulness, localization and sanity checks."""

from jaxdl.interpret.evaluate.axioms import completeness, input_invariance, non_sensitivity
from jaxdl.interpret.evaluate.complexity import complexity, effective_complexity, sparseness
from jaxdl.interpret.evaluate.faithfulness import (
    Curve,
    deletion,
    faithfulness_correlation,
    infidelity,
    insertion,
    pixel_flipping,
)
from jaxdl.interpret.evaluate.localization import (
    pointing_game,
    relevance_mass,
    relevance_rank,
    top_k_intersection,
)
from jaxdl.interpret.evaluate.randomization import agreement, random_label, random_parameters
from jaxdl.interpret.evaluate.road import road
from jaxdl.interpret.evaluate.robustness import sensitivity_max

__all__ = [
    "Curve",
    "agreement",
    "completeness",
    "complexity",
    "deletion",
    "effective_complexity",
    "faithfulness_correlation",
    "infidelity",
    "input_invariance",
    "insertion",
    "non_sensitivity",
    "pixel_flipping",
    "pointing_game",
    "random_label",
    "random_parameters",
    "relevance_mass",
    "relevance_rank",
    "road",
    "sensitivity_max",
    "sparseness",
    "top_k_intersection",
]
