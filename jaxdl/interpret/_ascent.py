"""Gradient ascent on the parameters of an image, in one compiled loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax


class Ascent(NamedTuple):
    """Result of `ascend`.

    Attributes:
      theta: the parameters after the last step.
      image: the image of these parameters.
      score: (steps + 1, ...), the scores at the start and after every step.
      frames: (F, ...), the images after the chosen numbers of steps.
    """

    theta: Any
    image: jax.Array
    score: jax.Array
    frames: jax.Array


def ascend(
    objective: Callable[[Any, jax.Array], tuple[jax.Array, tuple[jax.Array, jax.Array]]],
    theta: Any,
    *,
    steps: int,
    optimizer: optax.GradientTransformation,
    project: Callable[[Any], Any],
    frames: Sequence[int] = (),
) -> Ascent:
    """Increases an objective of `theta`.

    Args:
      objective: from theta and the number of the step, () int32, to the number to increase, the
        scores to record and the image.
      theta: the initial parameters, a tree of arrays.
      steps: the number of steps.
      optimizer: an optax optimizer, which minimizes minus the objective.
      project: from parameters after a step to valid ones.
      frames: the numbers of steps, in 0 .. steps, after which the image is kept.
    """
    # Step i stores its image in slot i; other steps store to a slot that does not exist.
    slots = np.full(steps + 1, len(frames), np.int32)
    slots[np.asarray(frames, int)] = np.arange(len(frames))
    image = jax.eval_shape(objective, theta, jnp.int32(0))[1][1]
    ascend_one = jax.value_and_grad(objective, has_aux=True)

    def step(carry, now):
        theta, state, _, kept = carry
        number, slot = now
        (_, (score, image)), gradient = ascend_one(theta, number)
        if frames:
            kept = kept.at[slot].set(image, mode="drop")
        descent = jax.tree.map(jnp.negative, gradient)
        # optax mixes ints and floats, which strict promotion does not allow.
        with jax.numpy_dtype_promotion("standard"):
            updates, state = optimizer.update(descent, state, theta)
            changed = jax.tree.map(lambda w, u: jnp.asarray(w + u, w.dtype), theta, updates)
        return (project(changed), state, (theta, image), kept), score

    blank = jnp.zeros((len(frames), *image.shape), image.dtype)
    start = (theta, optimizer.init(theta), (theta, jnp.zeros(image.shape, image.dtype)), blank)
    # One iteration more than steps, whose update is discarded: it computes the last image and
    # score without a second program to compile.
    numbers = jnp.arange(steps + 1, dtype=jnp.int32), jnp.asarray(slots)
    (_, _, (theta, image), kept), scores = jax.lax.scan(step, start, numbers)
    return Ascent(theta, image, scores, kept)
