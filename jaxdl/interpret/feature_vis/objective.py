"""Objectives of visualizations: functions of a network's layers and of the image to maximize.

Objectives are added, subtracted and multiplied with each other and with numbers:
`channel("conv_2", 5) - 1e-3 * total_variation()`. Penalties and distances are positive: subtract
them. An array of T indices, or of T weights, gives T images. Letters: N images, K channels of a
layer, (N, *space, K).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl._check import require_number
from jaxdl.interpret import _target
from jaxdl.interpret.feature_vis._comparison import (
    align,
    caricature,
    content,
    gram,
    mean_over_space,
    style,
)
from jaxdl.interpret.feature_vis._objective import (
    Context,
    Index,
    Objective,
    as_indices,
    layer_objective,
    require_channels,
)
from jaxdl.interpret.feature_vis._penalty import l1, l2, total_variation
from jaxdl.interpret.feature_vis.network import OUTPUT

__all__ = [
    "Objective",
    "caricature",
    "channel",
    "content",
    "custom",
    "deep_dream",
    "direction",
    "diversity",
    "gram",
    "l1",
    "l2",
    "logit",
    "neuron",
    "style",
    "total_variation",
]


def logit(target: _target.Target = None) -> Objective:
    """Returns the objective of an output of the network.

    Pass a network that returns logits: a probability can also be increased by lowering the scores
    of other classes (Simonyan et al. 2014, arXiv 1312.6034, section 2).

    Args:
      target: None for the only output; an int, the class; ints (T,) for T images; or a function
        from the output to scores (N,).

    Returns:
      An `Objective`.

    Raises:
      ValueError: the target is a string, such as "argmax", which could change during the ascent.
    """
    if isinstance(target, str):
        raise ValueError(
            f"logit: target is {target!r}; expected an int, an array of ints, or a function from "
            "the output."
        )
    fixed = target is None or callable(target)
    indices: tuple[Any, ...] = () if fixed else (_target.as_array(target),)

    def verify(context: Context):
        classes: Any = indices[0] if indices else target
        if np.ndim(classes):
            rows = jnp.broadcast_to if isinstance(classes, jax.Array) else np.broadcast_to
            classes = rows(classes[:, None], (len(classes), len(context.x)))
        _target.verify(context.caller, context.f, context.x, classes, derivative=True)

    def score(batch, args):
        scores = _target.score("logit", batch.values[OUTPUT], args[0] if args else target)
        return scores.reshape(-1, batch.count)

    grid = tuple(np.ndim(index) == 1 for index in indices)
    return Objective(score, (OUTPUT,), indices, grid, verify)


def neuron(layer: str, index: Index, position: Sequence[int] | None = None) -> Objective:
    """Returns the objective of one unit of a layer.

    Args:
      layer: a path, as for `interpret.intermediate`.
      index: the channel, or T of them for T images.
      position: the position along each spatial axis; None for the centre.

    Returns:
      An `Objective`. It raises a ValueError, when used, for an index or a position out of range.
    """
    indices = as_indices("neuron", index)

    def place(space):
        return tuple(size // 2 for size in space) if position is None else tuple(position)

    def verify(context: Context):
        shape = require_channels(context, "neuron", layer, indices)
        space, chosen = shape[1:-1], place(shape[1:-1])
        if len(space) != len(chosen) or any(
            not 0 <= p < size for p, size in zip(chosen, space, strict=True)
        ):
            raise ValueError(
                f"neuron: position is {position} for layer {layer!r} of {shape}; expected one "
                f"index for each of the spatial axes {space}."
            )

    def compute(activation, index):
        return activation[(slice(None), *place(activation.shape[1:-1]))][:, index]

    return layer_objective(layer, compute, (indices,), (np.ndim(indices) == 1,), verify)


def channel(layer: str, index: Index) -> Objective:
    """Returns the objective of the mean of a channel over all positions.

    Args:
      layer, index: as for `neuron`.

    Returns:
      An `Objective`. It raises a ValueError, when used, for an index out of range.
    """
    indices = as_indices("channel", index)

    def compute(activation, index):
        return mean_over_space(activation[..., index])

    def verify(context: Context):
        require_channels(context, "channel", layer, indices)

    return layer_objective(layer, compute, (indices,), (np.ndim(indices) == 1,), verify)


def direction(layer: str, vector: jax.Array | np.ndarray, cosine_power: float = 0.0) -> Objective:
    """Returns the objective of a direction in the space of a layer's channels.

    The mean over positions of (a . v) max(0.1, cos(a, v))^p for activations a. A positive power p
    prefers activations with the direction v to large ones: Carter et al. 2019, "Activation Atlas"
    (doi:10.23915/distill.00015).

    Args:
      layer: as for `neuron`.
      vector: v (K,), or (T, K) for T images.
      cosine_power: p, 0 or more.

    Returns:
      An `Objective`. It raises a ValueError, when used, if the length of v is not K.

    Raises:
      ValueError: v has another number of axes, or `cosine_power` is negative.
    """
    power = require_number(
        "direction", "a number of 0 or more", lambda v: v >= 0, cosine_power=cosine_power
    )
    vector = jnp.asarray(vector)
    if vector.ndim not in (1, 2):
        raise ValueError(
            f"direction: vector has shape {vector.shape}; expected (K,), or (T, K) for T images."
        )

    def compute(activation, v):
        return mean_over_space(align(activation, v.astype(activation.dtype), power))

    def verify(context: Context):
        shape = require_channels(context, "direction", layer, None)
        if shape[-1] != vector.shape[-1]:
            raise ValueError(
                f"direction: vector has {vector.shape[-1]} numbers for layer {layer!r} of {shape}; "
                f"expected {shape[-1]}, one for each channel."
            )

    return layer_objective(layer, compute, (vector,), (vector.ndim == 2,), verify)


def deep_dream(layer: str) -> Objective:
    """Returns the objective of the mean square of a layer.

    Mordvintsev, Olah and Tyka 2015, "Inceptionism": whatever the layer detects is increased.

    Args:
      layer: as for `neuron`.

    Returns:
      An `Objective`.
    """

    def compute(activation):
        return jnp.mean(activation**2, axis=tuple(range(1, activation.ndim)))

    return layer_objective(layer, compute)


def custom(layer: str, score: Callable[[jax.Array], jax.Array]) -> Objective:
    """Returns the objective of any function of a layer.

    Args:
      layer: as for `neuron`.
      score: from the layer's value (N, ...) to scores (N,).

    Returns:
      An `Objective`.
    """
    return layer_objective(layer, score)


def diversity(layer: str) -> Objective:
    """Returns the objective of different styles among jointly optimized images.

    Minus the mean cosine similarity of an image's Gram matrix with those of the other images: Olah
    et al. 2017 (doi:10.23915/distill.00007), section "Diversity". Add a multiple of it to another
    objective, and pass `count=` images to `visualize`.

    Args:
      layer: as for `neuron`.

    Returns:
      An `Objective`, in -1 .. 0 for layers after a ReLU. It raises a ValueError, when used, with
      one image only.
    """

    def score(batch, args):
        matrices = gram(batch.values[layer])
        rows = matrices.reshape(-1, batch.count, math.prod(matrices.shape[1:]))
        squares = jnp.sum(rows**2, axis=-1, keepdims=True)
        rows = rows / jnp.sqrt(jnp.where(squares > 0, squares, 1))
        cosines = jnp.einsum("cbi,cdi->cbd", rows, rows)
        others = 1 - jnp.eye(batch.count, dtype=cosines.dtype)
        return -jnp.sum(cosines * others, axis=-1) / (batch.count - 1)

    def verify(context: Context):
        if context.count < 2:
            raise ValueError(
                "diversity: there is one image; expected several. Pass count=4 to visualize."
            )

    return Objective(score, (layer,), verify=verify)
