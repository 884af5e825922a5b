"""FCN over a dilated ResNet, as in torchvision.

Long, Shelhamer and Darrell 2015 (arXiv 1411.4038) over He et al. 2016 (arXiv 1512.03385). As in
Chen et al. 2017 (arXiv 1706.05587, section 3.1) the last two stages have dilation 2 and 4 instead
of stride 2, so that the map has 1/8 of the image's size instead of 1/32:

    y = resize(head(layer4(layer3(x))))        head = conv1x1 dropout relu norm conv3x3

An auxiliary head on `layer3` helps to train the network (Zhao et al. 2017, arXiv 1612.01105).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax

from jaxdl._check import require_ints
from jaxdl.combine import serial
from jaxdl.core import Module, compose
from jaxdl.nn import conv, dropout, max_pool
from jaxdl.zoo.vision.resnet import bottleneck, conv_norm

__all__ = ["fcn_resnet", "fcn_resnet50", "fcn_resnet101"]


def dilated_backbone(depths: Sequence[int]) -> dict[str, Module | Callable]:
    """Returns the layers of a bottleneck ResNet up to `layer4`, at 1/8 of the image's size."""
    layers = conv_norm(64, 7, 2, 1)
    layers |= {"relu1": jax.nn.relu, "pool1": max_pool(3, stride=2, padding=1)}
    dilation = 1
    for stage, depth in enumerate(depths, start=1):
        for i in range(depth):
            stride = 2 if stage == 2 and i == 0 else 1
            layers[f"layer{stage}_{i}"] = bottleneck(
                64 * 2 ** (stage - 1), stride, project=i == 0, dilation=dilation
            )
            # The first block of a stage still has the dilation of the stage before it.
            if stage > 2 and i == 0:
                dilation *= 2
    return layers


def head(features: int, num_classes: int) -> Module:
    """Builds a 3x3 convolution to `features` channels and a 1x1 convolution to scores."""
    return serial(
        **conv_norm(features, 3, number=1),
        relu1=jax.nn.relu,
        dropout1=dropout(0.1),
        logits=conv(num_classes, 1),
    )


def fcn_resnet(
    depths: Sequence[int], *, num_classes: int = 21, auxiliary_head: bool = False
) -> Module:
    """Builds an FCN over a bottleneck ResNet.

    The parameters of a ResNet for classification, without its last layer, fit the layers of the
    same names. Those of a network with an auxiliary head, without the entry `auxiliary`, fit the
    one without.

    Args:
      depths: the number of blocks in each of the four stages.
      num_classes: K, the number of classes, including the background.
      auxiliary_head: whether to return the logits of a second head on `layer3`, too.

    Returns:
      A `Module` from (N, H, W, C) to logits (N, H, W, K), or to a pair `(main, auxiliary)` of them.

    Raises:
      ValueError: `num_classes` is no positive integer.
    """
    require_ints("fcn_resnet", 1, num_classes=num_classes)
    backbone = dilated_backbone(depths)
    heads = {"classifier": head(512, num_classes)}
    if auxiliary_head:
        heads["auxiliary"] = head(256, num_classes)

    def forward(call, x):
        def upsample(scores):
            shape = (*x.shape[:3], num_classes)
            # Aligns the centres of pixels, like align_corners=False in PyTorch.
            return jax.image.resize(scores, shape, "bilinear", antialias=False)

        y, layer3 = x, x
        for name in backbone:
            y = call(name, y)
            layer3 = y if name.startswith("layer3") else layer3
        logits = upsample(call("classifier", y))
        return (logits, upsample(call("auxiliary", layer3))) if auxiliary_head else logits

    return compose("fcn_resnet", {**backbone, **heads}, forward, depths=tuple(depths))


def fcn_resnet50(*, num_classes: int = 21, auxiliary_head: bool = False) -> Module:
    """Builds `fcn_resnet` over ResNet-50: 32,957,013 parameters, 35,322,218 with both heads."""
    return fcn_resnet((3, 4, 6, 3), num_classes=num_classes, auxiliary_head=auxiliary_head)


def fcn_resnet101(*, num_classes: int = 21, auxiliary_head: bool = False) -> Module:
    """Builds `fcn_resnet` over ResNet-101: 51,949,141 parameters, 54,314,346 with both heads."""
    return fcn_resnet((3, 4, 23, 3), num_classes=num_classes, auxiliary_head=auxiliary_head)
