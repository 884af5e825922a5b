"""Explains trained vision networks by Grad-CAM, LRP and class pictures, and checks the maps.

Three networks are trained by the recipes of `cifar_classify`, `membranes` and `cells` with shorter
schedules, and explained: the answers and the classes of a residual network, the label of a small
region by a U-Net, and the class of a detected box by a Faster R-CNN. Each explanation is checked by
numbers: sums of the relevance, insertion and deletion, shares inside of a box or a distance, and
what the network answers if only these pixels remain.
"""

from __future__ import annotations

import dataclasses

from experiments import _explain_classifier, _explain_detection, _explain_segmentation, _run
from jaxdl import train


@dataclasses.dataclass(frozen=True)
class Config(_run.Config):
    cifar_epochs: int = 15
    """Epochs of the classifier's training, of 60 in `cifar_classify`."""
    membrane_steps: int = 150
    """Steps of the U-Net's training, of 600 in `membranes`."""
    cell_steps: int = 500
    """Steps of the detector's training, of 1,800 in `cells`."""
    measured: int = 32
    """Test images of which the classifier's explanations are measured."""


def run(config: Config) -> dict:
    train.keep_memory()
    return {
        "classifier": _explain_classifier.run(config, config.cifar_epochs, config.measured),
        "segmentation": _explain_segmentation.run(config, config.membrane_steps),
        "detection": _explain_detection.run(config, config.cell_steps),
    }
