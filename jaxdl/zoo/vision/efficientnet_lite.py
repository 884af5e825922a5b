"""EfficientNet-Lite0: EfficientNet-B0 without squeeze-and-excitation and with ReLU6.

Tan and Le 2019, arXiv 1905.11946, in the variant of the authors' repository for integer hardware:
a gate and SiLU lose accuracy in eight bits. Blocks are those of MobileNetV2, arXiv 1801.04381.
Published weights expect TensorFlow's padding, in which stride 2 pads even sizes after the last
cell only, batch normalization with eps = 0.001, and pixels in [0, 255] as (pixel - 127) / 128.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax

from jaxdl.combine import serial
from jaxdl.core import Module
from jaxdl.nn import batch_norm, dense, dropout, global_avg_pool
from jaxdl.zoo.vision.efficientnet import STAGES
from jaxdl.zoo.vision.mobilenet import conv_norm, inverted_residual, inverted_residuals

__all__ = ["efficientnet_lite0"]

norm = functools.partial(batch_norm, eps=1e-3)
block = functools.partial(inverted_residual, padding="SAME", norm=norm)


def efficientnet_lite0(*, num_classes: int = 1000) -> Module:
    """Builds EfficientNet-Lite0: 4,652,008 parameters.

    Blocks are called `stage1_0`, `stage2_0`, `stage2_1`, ..., as in `efficientnet`.

    Args:
      num_classes: the number of classes.

    Returns:
      A `Module` from (N, 224, 224, 3) to logits (N, num_classes); other sizes work, too.
    """
    children: dict[str, Module | Callable] = {}
    children["conv1"], children["norm1"] = conv_norm(32, 3, 2, padding="SAME", norm=norm)
    children["relu1"] = jax.nn.relu6
    children |= inverted_residuals(STAGES, block)
    children["conv2"], children["norm2"] = conv_norm(1280, 1, norm=norm)
    return serial(
        **children,
        relu2=jax.nn.relu6,
        mean=global_avg_pool(),
        dropout=dropout(0.2),
        logits=dense(num_classes),
    )
