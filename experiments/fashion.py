"""Trains the residual network of `cifar_classify` on Fashion-MNIST.

60,000 images of ten kinds of clothes in 28x28 pixels, and 10,000 to test (Xiao et al. 2017, arXiv
1708.07747). With 60,000 images, a few epochs without mixup suffice. The test images are used once,
after the last epoch, each with its mirror image.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib

from experiments import _figure, cifar_classify
from jaxdl import data


@dataclasses.dataclass(frozen=True)
class Config(cifar_classify.Recipe):
    epochs: int = 7
    # Batch and rate are twice those for CIFAR: linear scaling (arXiv 1706.02677).
    batch_size: int = 128
    rate: float = 0.2
    mixup: float = 0.0
    padding: int = 2


def run(config: Config) -> dict:
    if (pathlib.Path(os.environ.get("JAXDL_DATA", "")) / "fashion-mnist").is_dir():
        dataset = data.fashion_mnist()
    else:
        print("using the embedded digits: there is no folder fashion-mnist below JAXDL_DATA")
        dataset = data.digits()
    dataset = cifar_classify.standardize(dataset, 64 if config.smoke else None)
    result, logits = cifar_classify.train_and_test(dataset, config)
    _figure.save(cifar_classify.draw(dataset, logits), config, "fashion", "test_images")
    return result
