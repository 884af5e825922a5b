"""Explanations of any function `x -> scores`, as function transformations."""

from jaxdl.interpret import feature_vis, plot
from jaxdl.interpret.averaging import expectation, smooth
from jaxdl.interpret.feature_vis import Maximization, activation_maximization
from jaxdl.interpret.gradient import input_x_gradient, saliency
from jaxdl.interpret.path import expected_gradients, integrated_gradients
from jaxdl.interpret.perturbation import (
    ablation,
    occlusion,
    shapley_sampling,
    shapley_values,
)

__all__ = [
    "Maximization",
    "ablation",
    "activation_maximization",
    "expectation",
    "expected_gradients",
    "feature_vis",
    "input_x_gradient",
    "integrated_gradients",
    "occlusion",
    "plot",
    "saliency",
    "shapley_sampling",
    "shapley_values",
    "smooth",
]
