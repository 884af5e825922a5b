"""Trains a small residual network on Fashion-MNIST.

60,000 images of ten kinds of clothes in 28x28 pixels, and 10,000 to test (Xiao et al. 2017, arXiv
1708.07747). The recipe is that of `cifar_classify` without mixup. A first layer with a pooling
halves the map before the residual network, which leaves time for more epochs. The settings were
chosen on the last 5,000 training images; the test images are used once, after the last epoch, each
with its mirror image.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib

import jax

import jaxdl
from experiments import _figure, cifar_classify
from jaxdl import data, nn
from jaxdl.zoo.vision.cifar_resnet import cifar_resnet


@dataclasses.dataclass(frozen=True)
class Config(cifar_classify.Recipe):
    epochs: int = 16
    width: int = 48
    # Batch and rate are twice those for CIFAR: linear scaling (arXiv 1706.02677).
    batch_size: int = 128
    rate: float = 0.2
    mixup: float = 0.0
    padding: int = 1


def network(depth: int, *, width: int) -> jaxdl.Module:
    """Builds a residual network on the pooled features of a first layer."""
    pooled = {"pool": nn.max_pool(2), "resnet": cifar_resnet(depth, width=width)}
    return nn.serial(conv=nn.conv(width // 2), relu=jax.nn.relu, **pooled)


def run(config: Config) -> dict:
    if (pathlib.Path(os.environ.get("JAXDL_DATA", "")) / "fashion-mnist").is_dir():
        dataset = data.fashion_mnist()
    else:
        print("using the embedded digits: there is no folder fashion-mnist below JAXDL_DATA")
        dataset = data.digits()
    dataset = cifar_classify.standardize(dataset, 64 if config.smoke else None)
    result, logits = cifar_classify.train_and_test(dataset, config, network)
    _figure.save(cifar_classify.draw(dataset, logits), config, "fashion", "test_images")
    return result
