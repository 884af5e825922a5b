"""Deep Dream: increases what a layer detects in an image, at several scales."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdl._check import require_ints, require_key, require_number
from jaxdl.interpret.feature_vis import objective as objectives
from jaxdl.interpret.feature_vis import transform
from jaxdl.interpret.feature_vis._objective import Objective
from jaxdl.interpret.feature_vis.parametrization import pixels
from jaxdl.interpret.feature_vis.visualize import visualize

__all__ = ["Dream", "deep_dream"]

MINIMUM = 8
"""Pixels of the shortest side of the smallest octave."""


class Dream(NamedTuple):
    """Result of `deep_dream`.

    Attributes:
      image: (H, W, C), the changed image.
      score: (octaves, steps + 1), the objective at each scale, the smallest image first.
    """

    image: jax.Array
    score: jax.Array


def deep_dream(
    f: Callable[[jax.Array], Any],
    image: jax.Array | np.ndarray,
    objective: str | Objective,
    *,
    key: jax.Array,
    bounds: tuple[float, float] | None = None,
    octaves: int = 4,
    octave_scale: float = 1.4,
    steps: int = 10,
    step_size: float = 0.02,
    jitter: int = 8,
) -> Dream:
    """Increases what a layer detects in an image, from coarse to fine.

    Mordvintsev, Olah and Tyka 2015, "Inceptionism: Going Deeper into Neural Networks". At each
    octave the image, with the changes of the octave before, is resized and improved by steps along
    the gradient of mean absolute value `step_size`. The next octave starts from the original image
    at its size plus the enlarged changes, so that the details of the original are not lost.

    Args:
      f: any function from a batch (1, H, W, C) of every octave's size to an output.
      image: (H, W, C), floating-point, in the units of f.
      objective: the path of a layer, for the mean of its squares; or an objective, such as
        `channel("conv_2", 5)`.
      key: PRNG key of the shifts.
      bounds: (low, high), to which pixels are clipped after every step.
      octaves: the number of sizes, 1 or more.
      octave_scale: the ratio of neighbouring sizes, above 1.
      steps: ascent steps at each size.
      step_size: mean absolute change of a pixel in one step.
      jitter: largest cyclic shift of each step along each axis, which hides the grid of strided
        layers; 0 for none. Without it, small steps increase the objective at every step.

    Returns:
      A `Dream`.

    Raises:
      ValueError: the image is not (H, W, C), or the smallest octave has less than 8 pixels; a
        number is out of range.
    """
    name = "deep_dream"
    require_key(name, key)
    (octaves,) = require_ints(name, 1, octaves=octaves)
    scale = require_number(name, "a number above 1", lambda v: v > 1, octave_scale=octave_scale)
    size = require_number(name, "a number above 0", lambda v: v > 0, step_size=step_size)
    image = jnp.asarray(image)
    if image.ndim != 3 or not jnp.issubdtype(image.dtype, jnp.floating):
        raise ValueError(
            f"{name}: image is {image.dtype}{list(image.shape)}; expected floating-point (H, W, C) "
            "without a batch axis."
        )
    if min(image.shape[:2]) / scale ** (octaves - 1) < MINIMUM and octaves > 1:
        raise ValueError(
            f"{name}: the image of {image.shape[:2]} has less than {MINIMUM} pixels at the "
            f"smallest of {octaves} octaves; expected fewer octaves or a larger image."
        )
    goal = objectives.deep_dream(objective) if isinstance(objective, str) else objective
    change, scores = jnp.zeros_like(image), []
    for octave, octave_key in enumerate(jax.random.split(key, octaves)):
        ratio = scale ** (octave + 1 - octaves)
        height, width = (round(side * ratio) for side in image.shape[:2])
        shape = (height, width, image.shape[-1])
        base = jax.image.resize(image, shape, "bilinear")
        start = base + jax.image.resize(change, shape, "bilinear")
        result = visualize(
            f,
            pixels(shape, bounds, start=start, sd=0.0),
            goal,
            key=octave_key,
            transform=transform.roll(jitter) if jitter else None,
            steps=steps,
            optimizer=normalized_steps(size),
            revive=0,
        )
        change = result.image - base
        scores.append(result.score)
    return Dream(result.image, jnp.stack(scores))


def normalized_steps(size: float) -> optax.GradientTransformation:
    """Returns the optimizer whose steps have a mean absolute value of `size`."""

    def update(updates, state, params=None):
        leaves = jax.tree.leaves(updates)
        mean = sum(jnp.sum(jnp.abs(leaf)) for leaf in leaves) / sum(leaf.size for leaf in leaves)
        factor = size / jnp.where(mean > 0, mean, 1)
        return jax.tree.map(lambda g: -factor * g, updates), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)
