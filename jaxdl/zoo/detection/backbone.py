"""Residual backbones: networks from images to the feature maps of their stages.

He et al. 2016, arXiv 1512.03385, without the classifier. The maps of a ResNet have strides
4, 8, 16 and 32; Lin et al. 2017 call them C2 to C5.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax

from jaxdl.core import Module, compose
from jaxdl.nn import max_pool
from jaxdl.zoo.vision.resnet import basic_block, bottleneck, conv_norm

__all__ = ["resnet_backbone"]


def resnet_backbone(
    block: Callable[[int, int, bool], Module] = bottleneck,
    depths: Sequence[int] = (3, 4, 6, 3),
    *,
    features: int = 64,
) -> Module:
    """Builds a ResNet without classifier.

    Args:
      block: `basic_block` or `bottleneck` of `zoo.vision.resnet`.
      depths: the number of blocks in each stage; (3, 4, 6, 3) with bottlenecks is ResNet-50.
      features: channels of the first convolution; they double with each stage.

    Returns:
      A `Module` from (N, H, W, C) to a tuple of maps, finest first: (N, H / 4, W / 4, F), ...
    """
    stem = conv_norm(features, 7, 2)
    children: dict[str, Module | Callable] = {
        "conv1": stem["conv"],
        "norm1": stem["norm"],
        "relu": jax.nn.relu,
        "pool": max_pool(3, stride=2, padding=1),
    }
    stages = []
    for stage, depth in enumerate(depths):
        names = [f"layer{stage + 1}_{i}" for i in range(depth)]
        for i, name in enumerate(names):
            project = i == 0 and (stage > 0 or block is not basic_block)
            stride = 2 if stage > 0 and i == 0 else 1
            children[name] = block(features * 2**stage, stride, project)
        stages.append(names)

    def forward(call, images):
        x = images
        for name in ("conv1", "norm1", "relu", "pool"):
            x = call(name, x)
        maps = []
        for names in stages:
            for name in names:
                x = call(name, x)
            maps.append(x)
        return tuple(maps)

    return compose("resnet_backbone", children, forward, depths=tuple(depths), features=features)
