"""Activation maximization: the input of the largest score, by gradient ascent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdl._check import require_ints
from jaxdl.interpret import _ascent, _target
from jaxdl.interpret.feature_vis.parametrization import pixels

__all__ = ["Maximization", "activation_maximization"]


class Maximization(NamedTuple):
    """Result of gradient ascent, with a leading axis for several targets.

    Attributes:
      image: (*shape), the input of the last step.
      score: (steps + 1,), f_c(I) at the start and after every step, without the penalty.
    """

    image: jax.Array
    score: jax.Array


def activation_maximization(
    f: Callable[[jax.Array], Any],
    shape: Sequence[int],
    *,
    target: _target.Target,
    key: jax.Array,
    l2: float = 0.01,
    steps: int = 512,
    optimizer: optax.GradientTransformation | None = None,
    bounds: tuple[float, float] | None = None,
    start: jax.Array | float = 0.0,
    noise: float = 0.01,
) -> Maximization:
    """Computes argmax_I f_c(I) - l2 ||I||^2 by gradient ascent on the input I.

    Simonyan, Vedaldi and Zisserman 2014 (arXiv 1312.6034), section 2, eq. 1. f_c is the score
    before the softmax: a probability can also be increased by lowering the scores of other classes.
    For linear f_c(I) = w . I the result is w / (2 l2).

    Args:
      f: any function from a batch (N, *shape) to scores; logits, not probabilities.
      shape: the shape of one input, without the batch axis.
      target: the score, as for `saliency`. An array of T ints gives T inputs, which are optimized
        side by side by `jax.vmap`.
      key: PRNG key of the noise at the start, the same for every target.
      l2: weight of the penalty, in score per squared unit of input.
      steps: ascent steps, in one compiled loop. Wrap the call in `jax.jit` to keep the compiled
        loop between calls.
      optimizer: any optax optimizer; None for Adam with a cosine decay of the learning rate from
        0.05 to 0.
      bounds: (low, high) to which the input is clipped after every step; None for no bounds.
      start: the initial input, an array of `shape` or one number for all values.
      noise: standard deviation of the normal noise added to the start.

    Returns:
      A `Maximization`: `image` (*shape) and `score` (steps + 1,), or (T, *shape) and (T, steps +
      1).

    Raises:
      ValueError: the target does not fit the output of f, or is "argmax", which could change during
        the ascent; `start` has another shape; `bounds` are not in order; or `steps` is below 1.

    Example:
      >>> interpret.activation_maximization(
      ...     f, (8, 8, 1), target=jnp.arange(10), key=jax.random.key(0), bounds=(0, 1)
      ... ).image.shape
      (10, 8, 8, 1)
    """
    shape = tuple(shape)
    _check(shape, target, steps, bounds, start)
    if optimizer is None:
        optimizer = optax.adam(optax.cosine_decay_schedule(0.05, steps))
    image = pixels(shape, bounds, start=start, sd=noise)
    first = image.init(key)

    def ascend(target):
        def objective(image, step):
            value = _target.score("activation_maximization", f(image[None]), target)[0]
            return value - l2 * jnp.sum(image**2), (value, image)

        result = _ascent.ascend(
            objective, first, steps=steps, optimizer=optimizer, project=image.project
        )
        return Maximization(result.image, result.score)

    name = "activation_maximization"
    if not isinstance(target, list | np.ndarray | jax.Array) or np.ndim(target) == 0:
        _target.verify(name, f, first[None], target, derivative=True)
        return ascend(target)
    targets = _target.as_array(target)  # verified here, because vmap traces them
    _target.verify(name, f, first[None], targets[:, None], derivative=True)
    return jax.vmap(ascend)(jnp.asarray(targets))


def _check(shape, target, steps, bounds, start):
    if isinstance(target, str):
        raise ValueError(
            f"activation_maximization: target is {target!r}; expected a fixed target: an int, an "
            "array of ints, or a function from the output."
        )
    require_ints("activation_maximization", 1, steps=steps)
    if bounds is not None and not bounds[0] < bounds[1]:
        raise ValueError(f"activation_maximization: bounds are {bounds}; expected low < high.")
    if np.shape(start) not in ((), shape):
        raise ValueError(
            f"activation_maximization: start has shape {np.shape(start)}; expected one number or "
            f"the shape of one input, {shape}, without a batch axis."
        )
