"""Feature pyramid networks and three alternatives. Lin et al. 2017, arXiv 1612.03144, figure 1.

    (a) featurized image pyramid     P_k = M(backbone(image / 2^k))       one run for each scale
    (b) single feature map           P = M(C_5)
    (c) pyramidal feature hierarchy  P_k = M_k(C_k)
    (d) feature pyramid network      T_k = M_k(C_k) + upsample(T_k+1),   P_k = conv3x3(T_k)

C_k are the maps of the backbone's stages and M_k convolutions of 1x1 to F channels, which the
paper has only in (d): here all four give maps with F channels, so that one head fits all of them.
Each is a `Module` from images (N, H, W, C) to a tuple of maps (N, H_k, W_k, F), finest first.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import numpy as np

from jaxdl._check import require_ints
from jaxdl.core import Module, compose
from jaxdl.nn import conv

__all__ = [
    "feature_pyramid",
    "feature_pyramid_network",
    "featurized_image_pyramid",
    "pyramidal_feature_hierarchy",
    "single_feature_map",
]


def feature_pyramid(levels: int, features: int = 256, *, extra_level: bool = False) -> Module:
    """Builds the top-down pathway of (d) for given maps.

    Args:
      levels: the number of maps.
      features: F.
      extra_level: whether to add a map of half the size of the coarsest one, by subsampling it, as
        Faster R-CNN does for the largest anchors.

    Returns:
      A `Module` from maps (N, H_k, W_k, C_k), finest first, as separate inputs, to the tuple of
      P_k. Children `inner1`, ... are the convolutions M_k, and `layer1`, ... the 3x3 ones.

    Raises:
      ValueError: `levels` or `features` is below 1; at init, another number of maps.
    """
    levels, features = require_ints("feature_pyramid", 1, levels=levels, features=features)
    children = {f"inner{k + 1}": conv(features, 1) for k in range(levels)}
    children |= {f"layer{k + 1}": conv(features, 3) for k in range(levels)}

    def forward(call, *maps):
        if len(maps) != levels:
            raise ValueError(
                f"feature_pyramid: got {len(maps)} maps; expected {levels}. Pass them separately, "
                f"or levels={len(maps)}."
            )
        lateral = [call(f"inner{k + 1}", x) for k, x in enumerate(maps)]
        top = lateral[-1]
        merged = [top]
        for x in reversed(lateral[:-1]):
            top = x + upsample(top, x.shape[1:3])
            merged.append(top)
        outputs = [call(f"layer{k + 1}", x) for k, x in enumerate(reversed(merged))]
        # torchvision max-pools with window 1 and stride 2, which is subsampling.
        return (*outputs, outputs[-1][:, ::2, ::2]) if extra_level else tuple(outputs)

    return compose("feature_pyramid", children, forward, levels=levels, features=features)


def upsample(x: jax.Array, shape: Sequence[int]) -> jax.Array:
    """Resizes maps (N, H, W, C) by their nearest values, in cell floor(i H / H')."""
    # PyTorch's cells; `jax.image.resize` takes floor((i + 0.5) H / H'), which can differ.
    rows, columns = (np.arange(n) * size // n for n, size in zip(shape, x.shape[1:3], strict=True))
    return x[:, rows][:, :, columns]


def feature_pyramid_network(
    backbone: Module, levels: int, features: int = 256, *, extra_level: bool = False
) -> Module:
    """Builds (d), a feature pyramid network.

    Args:
      backbone: a `Module` from images to a tuple of maps, such as `resnet_backbone`.
      levels: how many of its maps to use, the coarsest ones.
      features, extra_level: as for `feature_pyramid`.

    Returns:
      A `Module` from (N, H, W, C) to a tuple of maps.

    Raises:
      ValueError: as for `feature_pyramid`.
    """
    pyramid = feature_pyramid(levels, features, extra_level=extra_level)

    def forward(call, images):
        return call("fpn", *call("body", images)[-levels:])

    return compose("feature_pyramid_network", {"body": backbone, "fpn": pyramid}, forward)


def featurized_image_pyramid(backbone: Module, levels: int, features: int = 256) -> Module:
    """Builds (a): the backbone's last map of the image at several scales.

    Args:
      backbone: as for `feature_pyramid_network`; its parameters are shared by all scales.
      levels: the number of scales 1, 1/2, 1/4, ...
      features: F.

    Returns:
      A `Module` from (N, H, W, C) to a tuple of maps.

    Raises:
      ValueError: `levels` or `features` is below 1.
    """
    levels, features = require_ints("featurized_image_pyramid", 1, levels=levels, features=features)

    def forward(call, images):
        n, height, width, channels = images.shape
        maps = []
        for k in range(levels):
            shape = (n, height // 2**k, width // 2**k, channels)
            scaled = jax.image.resize(images, shape, "linear") if k else images
            maps.append(call("inner", call("body", scaled)[-1]))
        return tuple(maps)

    children = {"body": backbone, "inner": conv(features, 1)}
    return compose("featurized_image_pyramid", children, forward, levels=levels)


def single_feature_map(backbone: Module, features: int = 256) -> Module:
    """Builds (b): the backbone's last map alone, as in Fast and Faster R-CNN before FPN.

    Args:
      backbone: as for `feature_pyramid_network`.
      features: F.

    Returns:
      A `Module` from (N, H, W, C) to a tuple of one map.
    """

    def forward(call, images):
        return (call("inner", call("body", images)[-1]),)

    return compose("single_feature_map", {"body": backbone, "inner": conv(features, 1)}, forward)


def pyramidal_feature_hierarchy(backbone: Module, levels: int, features: int = 256) -> Module:
    """Builds (c): the maps of several stages, without a top-down pathway, as in SSD.

    Args:
      backbone, levels: as for `feature_pyramid_network`.
      features: F.

    Returns:
      A `Module` from (N, H, W, C) to a tuple of maps.

    Raises:
      ValueError: `levels` or `features` is below 1.
    """
    caller = "pyramidal_feature_hierarchy"
    levels, features = require_ints(caller, 1, levels=levels, features=features)
    children = {"body": backbone} | {f"inner{k + 1}": conv(features, 1) for k in range(levels)}

    def forward(call, images):
        maps = call("body", images)[-levels:]
        return tuple(call(f"inner{k + 1}", x) for k, x in enumerate(maps))

    return compose(caller, children, forward, levels=levels)
