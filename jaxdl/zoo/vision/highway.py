"""Highway networks: gates that carry the input of a layer past it.

Srivastava, Greff and Schmidhuber 2015, arXiv 1505.00387 and 1507.06228.

    y = H(x) T(x) + x (1 - T(x)),   T(x) = sigmoid(W_T x + b_T)

T = 0 copies x and T = 1 is the plain layer H. With b_T = -1 .. -4 a new network mostly copies, so
that gradients reach its first layer through many layers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.nn.initializers import constant

from jaxdl._check import require_ints
from jaxdl.combine import serial
from jaxdl.core import Module, compose
from jaxdl.nn import conv, dense, flatten, global_avg_pool, max_pool

__all__ = ["highway", "highway_cnn", "highway_conv", "highway_dense", "highway_mlp"]


def highway(plain: Module | Callable, gate: Module | Callable) -> Module:
    """Combines a plain layer H with its input: y = H T + x (1 - T), T = sigmoid(gate(x)).

    Args:
      plain: the layer H, with its activation. It must keep the shape of its input.
      gate: a layer of the same output shape, without activation.

    Returns:
      A `Module` that keeps the shape of its input.

    Raises:
      ValueError: at init, the layers do not keep the shape of the input.
    """

    def forward(call, x):
        h, t = call("plain", x), jax.nn.sigmoid(call("gate", x))
        if not h.shape == t.shape == x.shape:
            raise ValueError(
                f"highway: the input has shape {x.shape}, plain gives {h.shape} and gate "
                f"{t.shape}; expected equal shapes. Change the width by a plain layer before."
            )
        # The same as H T + x (1 - T), with one product less.
        return x + t * (h - x)

    return compose("highway", {"plain": plain, "gate": gate}, forward)


def highway_dense(
    features: int, *, gate_bias: float = -2.0, activation: Callable[[Any], Any] = jax.nn.relu
) -> Module:
    """Creates a dense highway layer.

    Args:
      features: the width of input and output.
      gate_bias: the initial b_T; -1 to -4 in the papers, the lower the deeper the network.
      activation: the activation of H.

    Returns:
      A `Module` from (N, features) to (N, features).
    """
    plain = serial(dense=dense(features, kernel_init="he_normal"), activation=activation)
    return highway(plain, dense(features, bias_init=constant(gate_bias)))


def highway_conv(
    features: int, kernel_size: int = 3, *, gate_bias: float = -2.0, padding: str = "SAME"
) -> Module:
    """Creates a convolutional highway layer: H and T are convolutions with one kernel size.

    Args:
      features: the channels of input and output.
      kernel_size: the window of both convolutions.
      gate_bias: as for `highway_dense`.
      padding: "SAME" or "CIRCULAR", which keep the size.

    Returns:
      A `Module` from (N, H, W, features) to the same shape.
    """
    kernel = conv(features, kernel_size, padding=padding, kernel_init="he_normal")
    gate = conv(features, kernel_size, padding=padding, bias_init=constant(gate_bias))
    return highway(serial(conv=kernel, relu=jax.nn.relu), gate)


def highway_mlp(
    depth: int, width: int = 50, *, num_classes: int = 10, gate_bias: float = -2.0
) -> Module:
    """Builds the fully connected highway network for MNIST (arXiv 1507.06228, section 3.1).

    Args:
      depth: the number of layers before the output: a plain one, then `depth - 1` highway layers.
        The paper trains 10, 20, 50 and 100.
      width: units of each layer; 50 in the paper, which compares with plain networks of 71.
      num_classes: the number of classes.
      gate_bias: as for `highway_dense`.

    Returns:
      A `Module` from images (N, ...) to logits (N, num_classes).

    Raises:
      ValueError: `depth` is not a positive integer.
    """
    (depth,) = require_ints("highway_mlp", 1, depth=depth)
    layers = {f"highway{i}": highway_dense(width, gate_bias=gate_bias) for i in range(2, depth + 1)}
    return serial(
        flatten=flatten(),
        dense1=dense(width, kernel_init="he_normal"),
        relu1=jax.nn.relu,
        **layers,
        logits=dense(num_classes),
    )


def highway_cnn(
    widths: Sequence[int] = (16, 32, 48),
    depth: int = 3,
    *,
    num_classes: int = 10,
    gate_bias: float = -2.0,
) -> Module:
    """Builds a convolutional highway network in the manner of arXiv 1507.06228, section 3.3.

    Each stage has a plain convolution that changes the channels, highway layers and a max pooling;
    a mean over all positions precedes the output.

    Args:
      widths: the channels of each stage.
      depth: convolutions in each stage; all but the first are highway layers.
      num_classes: the number of classes.
      gate_bias: as for `highway_dense`.

    Returns:
      A `Module` from (N, H, W, C) to logits (N, num_classes). The defaults have 148,858 parameters
      for colour images.

    Raises:
      ValueError: `depth` is not a positive integer.
    """
    (depth,) = require_ints("highway_cnn", 1, depth=depth)
    stages: dict[str, Module | Callable] = {}
    for i, width in enumerate(widths, start=1):
        stages[f"conv{i}"] = conv(width, 3, kernel_init="he_normal")
        stages[f"relu{i}"] = jax.nn.relu
        for j in range(2, depth + 1):
            stages[f"highway{i}_{j}"] = highway_conv(width, gate_bias=gate_bias)
        stages[f"pool{i}"] = max_pool(2)
    return serial(**stages, mean=global_avg_pool(), logits=dense(num_classes))
