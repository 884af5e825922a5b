"""Universal perturbations: one change for all inputs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxdl._check import require_ints, require_key
from jaxdl.attack import _ball, _problem
from jaxdl.attack.gradient import Bounds

__all__ = ["universal"]


def universal(
    f: Callable[[Any], Any],
    x: Any,
    labels: Any,
    epsilon: ArrayLike,
    *,
    key: jax.Array,
    norm: _ball.Norm = "linf",
    step: ArrayLike | None = None,
    steps: int = 200,
    batch_size: int = 64,
    mask: Any = None,
    bounds: Bounds | None = (0.0, 1.0),
    targeted: bool = False,
    loss: _problem.Loss | None = None,
) -> Any:
    """Computes one perturbation that fools f on most inputs, also on others than x.

    Moosavi-Dezfooli et al. 2017 (arXiv 1610.08401) asked for it and added up DeepFool steps of
    image after image. Here, the mean loss of clip(x + perturbation) is increased by projected
    gradient ascent on random batches, as by Shafahi et al. 2020 (arXiv 1811.11304), sec. 3. The
    cross-entropy of each example is truncated at 2 log(classes): otherwise examples that are
    fooled already dominate the mean.

    Args:
      f, x, labels, targeted, loss: as for `pgd`; with `loss`, labels are arrays (N, ...), and
        nothing is truncated, nor with `targeted`.
      epsilon: the largest norm of the perturbation, >= 0; or sizes that broadcast to an example,
        (1, ...), as for `pgd`.
      key: PRNG key, which draws the batches.
      norm: as for `pgd`.
      step: the norm of a step, in the form of epsilon; None for 2.5 epsilon / steps.
      steps: number of steps, >= 1.
      batch_size: number of examples of a step, drawn with replacement.
      mask: as for `pgd`, the same for all examples: it broadcasts to (1, ...).
      bounds: the smallest and largest valid input, as for `pgd`. Inputs are clipped to them after
        the perturbation is added.

    Returns:
      The perturbation (1, ...), or a tree of such arrays with None for integers. Add it to any
      input and clip: `jnp.clip(x + perturbation, 0, 1)`.

    Raises:
      ValueError: as for `pgd`.
    """
    problem = _problem.prepare("universal", f, x, labels, loss=loss)
    key = require_key("universal", key)
    steps, batch_size = require_ints("universal", 1, steps=steps, batch_size=batch_size)
    for argument, value in {"epsilon": epsilon, "mask": mask, "step": step}.items():
        _require_same_for_all(x, argument, value)
    low, high = _problem.as_bounds(problem, bounds)
    radius = _ball.as_radius(problem, norm, epsilon, mask)[:1]
    size = 2.5 / steps * radius
    if step is not None:
        size = _problem.as_sizes(problem, "step", step)[:1]
    zero, infinite = jnp.zeros_like(radius), jnp.full_like(radius, jnp.inf)
    ball = _ball.Ball(norm, zero, radius, -infinite, infinite)
    sign = -1 if targeted else 1
    limit = math.inf
    if loss is None and not targeted:
        scores = jax.eval_shape(lambda rows: _problem.as_scores(problem.f(rows)), problem.rows)
        limit = 2 * math.log(scores.shape[1])

    def advance(change, key):
        examples = jax.random.randint(key, (batch_size,), 0, len(problem.rows))

        def total(change):
            rows = jnp.clip(problem.rows[examples] + change, low[examples], high[examples])
            return jnp.sum(jnp.minimum(sign * problem.losses(rows, examples), limit))

        gradient = jax.grad(total)(change)
        return _ball.project(ball, _ball.ascend(ball, change, gradient, size)), None

    change, _ = jax.lax.scan(advance, zero, jax.random.split(key, steps))
    return problem.unflatten(change)


def _require_same_for_all(x: Any, argument: str, value: Any) -> None:
    """Raises ValueError for an argument with a value for each example."""
    parts, values = jax.tree.leaves(x), jax.tree.leaves(value)
    same = len(parts) == len(values)
    pairs = zip(parts, values, strict=True) if same else itertools.product(parts, values)
    for part, one in pairs:
        if np.ndim(one) == np.ndim(part) and np.shape(one)[0] > 1:
            raise ValueError(
                f"universal: {argument} has shape {np.shape(one)}; expected the same for all "
                f"examples, of a shape that broadcasts to {(1, *np.shape(part)[1:])}."
            )
