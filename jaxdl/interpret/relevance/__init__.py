"""Relevance: a function's program walked backwards by rules other than the derivative's."""

from jaxdl.interpret.relevance import rules
from jaxdl.interpret.relevance.backprop import beta_smooth, deconvnet, guided_backprop
from jaxdl.interpret.relevance.composites import COMPOSITES, epsilon_gamma_box
from jaxdl.interpret.relevance.deep_lift import deep_lift
from jaxdl.interpret.relevance.lrp import lrp, register_rule

__all__ = [
    "COMPOSITES",
    "beta_smooth",
    "deconvnet",
    "deep_lift",
    "epsilon_gamma_box",
    "guided_backprop",
    "lrp",
    "register_rule",
    "rules",
]
