"""Captum's and Zennit's explanations of the networks of `real_networks`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from captum import attr
from zennit.attribution import Gradient
from zennit.canonizers import SequentialMergeBatchNorm
from zennit.composites import EpsilonPlus, GuidedBackprop, LayerMapComposite, layer_map_base
from zennit.rules import Epsilon, ReLUGuidedBackprop, ZPlus
from zennit.types import BatchNorm, Convolution, Linear

from benchmarks import _real_torch
from benchmarks._real_methods import LAYERS, STEPS, window


def prepare(network: str) -> Callable[[str], Any]:
    """Returns a function that prepares a method: see `_real_process`."""
    net, x = _real_torch.build(network)
    scores = net(x).numpy()
    target = torch.tensor(scores.argmax(-1))
    zeros = net(torch.zeros_like(x)).gather(1, target[:, None])[:, 0].numpy()
    due = {"score": scores.max(-1), "difference": scores.max(-1) - zeros}
    calls = _captum(network, net, x, target) | _zennit(net, x, target)

    def start(method: str):
        return lambda: _channels_last(calls[method]().detach().numpy()), 0.0, due

    return start


def _channels_last(values: np.ndarray) -> np.ndarray:
    return np.moveaxis(values, 1, -1) if values.ndim == 4 else values


def _captum(network: str, net: Any, x: torch.Tensor, target: torch.Tensor):
    size = window(network)
    size = size if len(size) == 2 else (size[2], *size[:2])
    layer: Any = LAYERS.get(network, "")
    modules = dict(net.named_modules())
    layer = modules.get("_blocks.15" if network == "lite0" else layer)

    def grad_cam():
        cam = attr.LayerGradCam(net, layer).attribute(x, target, relu_attributions=True)
        return attr.LayerAttribution.interpolate(cam, x.shape[2:], "bilinear")[:, 0]

    return {
        "saliency": lambda: attr.Saliency(net).attribute(x, target),
        "integrated_gradients": lambda: attr.IntegratedGradients(net).attribute(
            x, target=target, n_steps=STEPS
        ),
        "deep_lift": lambda: attr.DeepLift(net).attribute(x, target=target),
        "guided_backprop": lambda: attr.GuidedBackprop(net).attribute(x, target),
        "grad_cam": grad_cam,
        "occlusion": lambda: attr.Occlusion(net).attribute(x, size, size, target=target),
    }


def _zennit(net: Any, x: torch.Tensor, target: torch.Tensor):
    canonizers = [SequentialMergeBatchNorm()]
    # The z+ rule leaves out biases, as the papers have it, and the epsilon rule does not.
    epsilon, plus = (Linear, Epsilon()), (Convolution, ZPlus(zero_params="bias"))
    norm = (BatchNorm, Epsilon())  # what is merged into no convolution; Zennit's default passes it
    composites = {
        "lrp epsilon": lambda: LayerMapComposite([norm, *layer_map_base(), epsilon], canonizers),
        "lrp epsilon_plus": lambda: EpsilonPlus(layer_map=[norm, plus], canonizers=canonizers),
    }

    def propagate(composite: Any, score: bool = True):
        def start(output):
            return torch.nn.functional.one_hot(target, output.shape[1]) * (output if score else 1.0)

        attributor: Any
        with Gradient(model=net, composite=composite) as attributor:
            return attributor(x.clone().requires_grad_(), start)[1]

    calls: dict[str, Callable[[], Any]] = {
        name: lambda make=make: propagate(make()) for name, make in composites.items()
    }
    if any(isinstance(layer, torch.nn.ReLU6) for layer in net.modules()):
        guided = GuidedBackprop([(torch.nn.ReLU6, ReLUGuidedBackprop())])
        calls["guided_backprop"] = lambda: propagate(guided, score=False)
    return calls
