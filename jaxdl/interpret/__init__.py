"""Explanations of any function `x -> scores`, as function transformations."""

from jaxdl.interpret import feature_vis, plot
from jaxdl.interpret.feature_vis import Maximization, activation_maximization
from jaxdl.interpret.gradient import saliency

__all__ = ["Maximization", "activation_maximization", "feature_vis", "plot", "saliency"]
