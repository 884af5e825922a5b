"""Explanations of networks, and of any other function of a batch of inputs."""

from jaxdl.interpret import evaluate, feature_vis, plot, text
from jaxdl.interpret._batching import memory_budget
from jaxdl.interpret._layer import intermediate
from jaxdl.interpret.activation_maximization import Maximization, activation_maximization
from jaxdl.interpret.cam import (
    cam,
    grad_cam,
    grad_cam_plus_plus,
    guided_grad_cam,
    layer_cam,
    score_cam,
)
from jaxdl.interpret.deep_lift import deep_lift
from jaxdl.interpret.guided_backprop import beta_smooth, deconvnet, guided_backprop
from jaxdl.interpret.integrated_gradients import (
    conductance,
    expected_gradients,
    integrated_gradients,
    internal_influence,
)
from jaxdl.interpret.lime import kernel_shap, lime
from jaxdl.interpret.lrp import COMPOSITES, epsilon_gamma_box, lrp, register_rule, rules
from jaxdl.interpret.occlusion import ablation, occlusion, permutation
from jaxdl.interpret.rise import rise
from jaxdl.interpret.saliency import input_x_gradient, saliency
from jaxdl.interpret.shapley import shapley_sampling, shapley_values
from jaxdl.interpret.smooth_grad import average_over_baselines, average_over_noise, smooth_grad
from jaxdl.interpret.superpixels import superpixels

__all__ = [
    "COMPOSITES",
    "Maximization",
    "ablation",
    "activation_maximization",
    "average_over_baselines",
    "average_over_noise",
    "beta_smooth",
    "cam",
    "conductance",
    "deconvnet",
    "deep_lift",
    "epsilon_gamma_box",
    "evaluate",
    "expected_gradients",
    "feature_vis",
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
    "rise",
    "rules",
    "saliency",
    "score_cam",
    "shapley_sampling",
    "shapley_values",
    "smooth_grad",
    "superpixels",
    "text",
]
