"""Feature visualization: images that maximize an objective of a network."""

from jaxdl.interpret.feature_vis import objective, transform
from jaxdl.interpret.feature_vis.color import color_matrix
from jaxdl.interpret.feature_vis.cppn import cppn
from jaxdl.interpret.feature_vis.dream import Dream, deep_dream
from jaxdl.interpret.feature_vis.parametrization import Parametrization, generator, pixels
from jaxdl.interpret.feature_vis.patches import TopPatches, top_patches
from jaxdl.interpret.feature_vis.spectrum import fourier, mean_magnitude, phase
from jaxdl.interpret.feature_vis.stylize import style_transfer
from jaxdl.interpret.feature_vis.visualize import Visualization, visualize

__all__ = [
    "Dream",
    "Parametrization",
    "TopPatches",
    "Visualization",
    "color_matrix",
    "cppn",
    "deep_dream",
    "fourier",
    "generator",
    "mean_magnitude",
    "objective",
    "phase",
    "pixels",
    "style_transfer",
    "top_patches",
    "transform",
    "visualize",
]
