"""Feature visualization: images that maximize an objective of a network."""

from jaxdl.interpret.feature_vis import objective, transform
from jaxdl.interpret.feature_vis.color import color_matrix
from jaxdl.interpret.feature_vis.cppn import cppn
from jaxdl.interpret.feature_vis.parametrization import Parametrization, generator, pixels
from jaxdl.interpret.feature_vis.patches import TopPatches, top_patches
from jaxdl.interpret.feature_vis.spectrum import fourier, mean_magnitude, phase
from jaxdl.interpret.feature_vis.visualize import Visualization, visualize

__all__ = [
    "Parametrization",
    "TopPatches",
    "Visualization",
    "color_matrix",
    "cppn",
    "fourier",
    "generator",
    "mean_magnitude",
    "objective",
    "phase",
    "pixels",
    "top_patches",
    "transform",
    "visualize",
]
