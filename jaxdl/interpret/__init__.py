"""Why a network decides, and what it believes: explanations of any function of an input."""

from jaxdl.interpret import evaluate, plot, relevance, text
from jaxdl.interpret._at import intermediate
from jaxdl.interpret._input import memory_budget
from jaxdl.interpret.averaging import expectation, smooth
from jaxdl.interpret.cam import (
    cam,
    grad_cam,
    grad_cam_plus_plus,
    guided_grad_cam,
    layer_cam,
    score_cam,
)
from jaxdl.interpret.feature_vis import Maximization, activation_maximization
from jaxdl.interpret.gradient import input_x_gradient, saliency
from jaxdl.interpret.path import (
    conductance,
    expected_gradients,
    integrated_gradients,
    internal_influence,
)
from jaxdl.interpret.perturbation import ablation, occlusion, permutation
from jaxdl.interpret.relevance import (
    beta_smooth,
    deconvnet,
    deep_lift,
    guided_backprop,
    lrp,
    register_rule,
)
from jaxdl.interpret.rise import rise
from jaxdl.interpret.shapley import shapley_sampling, shapley_values
from jaxdl.interpret.superpixels import superpixels
from jaxdl.interpret.surrogate import kernel_shap, lime

__all__ = [
    "Maximization",
    "ablation",
    "activation_maximization",
    "beta_smooth",
    "cam",
    "conductance",
    "deconvnet",
    "deep_lift",
    "evaluate",
    "expectation",
    "expected_gradients",
    "grad_cam",
    "grad_cam_plus_plus",
    "guided_backprop",
    "guided_grad_cam",
    "input_x_gradient",
    "integrated_gradients",
    "intermediate",
    "internal_influence",
    "kernel_shap",
    "layer_cam",
    "lime",
    "lrp",
    "memory_budget",
    "occlusion",
    "permutation",
    "plot",
    "register_rule",
    "relevance",
    "rise",
    "saliency",
    "score_cam",
    "shapley_sampling",
    "shapley_values",
    "smooth",
    "superpixels",
    "text",
]
