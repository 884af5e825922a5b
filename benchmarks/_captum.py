"""Captum's and Zennit's explanations of the same convolutional network in torch."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch

from benchmarks import _inputs, _peak_memory

torch.set_num_threads(os.cpu_count() or 1)


def _network(size: str) -> torch.nn.Module:
    """The network with the same weights, channels first."""
    side, depth, features = _inputs.CONVNETS[size]
    weights = _inputs.convnet_weights(size)
    layers: list[Any] = []
    for i, n in enumerate(features):
        conv = torch.nn.Conv2d(depth, n, 3, padding=1)
        # From HWIO to torch's OIHW.
        kernel = weights[f"conv_{i}"]["kernel"].transpose(3, 2, 0, 1)
        _assign(conv, kernel, weights[f"conv_{i}"]["bias"])
        layers += [conv, torch.nn.ReLU(), torch.nn.MaxPool2d(2)]
        depth, side = n, side // 2
    dense = torch.nn.Linear(side * side * depth, 10)
    # The flattened features are in another order in torch: channels come first.
    kernel = weights["dense_0"]["kernel"].reshape(side, side, depth, 10)
    _assign(dense, kernel.transpose(3, 2, 0, 1).reshape(10, -1), weights["dense_0"]["bias"])
    return torch.nn.Sequential(*layers, torch.nn.Flatten(), dense).eval()


def _assign(layer: Any, weight: np.ndarray, bias: np.ndarray) -> None:
    layer.weight.data, layer.bias.data = torch.tensor(weight.copy()), torch.tensor(bias)


def _build(size: str):
    """Returns the network, 16 images and the classes to explain."""
    images = torch.tensor(_inputs.normal_images(size).transpose(0, 3, 1, 2).copy())
    return _network(size), images, torch.arange(len(images)) % 10


def captum(method: str, size: str, at_once: int = 1):
    """Returns a call that explains 16 images with `perturbations_per_eval` at a time."""
    from captum import attr

    net, images, target = _build(size)
    once = {} if at_once == 1 else {"perturbations_per_eval": at_once}

    def windows(size, stride):
        shape = {"sliding_window_shapes": (len(images[0]), size, size)}
        return shape | {"strides": (len(images[0]), stride, stride)} | once

    def shapley(features, **options):
        mask = torch.tensor(_inputs.bands(size, features)).permute(2, 0, 1)[None]
        return {"feature_mask": mask} | options | once

    noise = {"nt_samples": 50, "nt_samples_batch_size": 5, "stdevs": 0.1}
    methods = {
        "saliency": (attr.Saliency, {}),
        "saliency's forward pass": (attr.Saliency, {}),
        "integrated gradients, 50": (
            attr.IntegratedGradients,
            {"n_steps": 50, "internal_batch_size": 80},
        ),
        "SmoothGrad, 50": (lambda net: attr.NoiseTunnel(attr.Saliency(net)), noise),
        "occlusion, 4x4 by 2": (attr.Occlusion, windows(4, 2)),
        "occlusion, 32x32 by 16": (attr.Occlusion, windows(32, 16)),
        "exact Shapley, 6 features": (attr.ShapleyValues, shapley(6)),
        "Shapley, 10 features": (attr.ShapleyValueSampling, shapley(10, n_samples=25)),
    }
    make, options = methods[method]
    return lambda: make(net).attribute(images, target=target, **options)


def zennit(size: str):
    """Returns a call that propagates relevance by the rules epsilon and z plus for 16 images."""
    from zennit.attribution import Gradient
    from zennit.composites import EpsilonPlus

    net, images, target = _build(size)
    onehot = torch.eye(10)[target]

    def run():
        attributor: Any
        with Gradient(model=net, composite=EpsilonPlus()) as attributor:
            return attributor(images, lambda output: onehot * output)[1]

    return run


def peak_megabytes(method: str, size: str) -> float:
    """Returns the peak memory of the first call."""
    return _peak_memory.peak_megabytes(captum(method, size))
