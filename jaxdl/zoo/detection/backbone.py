"""Residual backbones: networks from images to the feature maps of their stages.

He et al. 2016, arXiv 1512.03385, without the classifier. The maps of a ResNet have strides
4, 8, 16 and 32; Lin et al. 2017 call them C2 to C5.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax

from jaxdl.core import Module, compose
from jaxdl.nn import max_pool
from jaxdl.zoo.vision.resnet import blocks, bottleneck, conv_norm

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
    stages = blocks(block, depths, features, project_first=block is bottleneck)
    stem = conv_norm(features, 7, 2, 1) | {"relu": jax.nn.relu}
    stem["pool"] = max_pool(3, stride=2, padding=1)

    def forward(call, images):
        x, maps = images, {}
        for name in stem:
            x = call(name, x)
        for name in stages:
            # The last block of a stage overwrites the maps of the earlier ones.
            x = maps[name.partition("_")[0]] = call(name, x)
        return tuple(maps.values())

    return compose("resnet_backbone", stem | stages, forward, depths=tuple(depths))
