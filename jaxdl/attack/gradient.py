"""White-box attacks: gradient ascent on the loss within a ball around the input.

    FGSM    x' = x + epsilon sign(dL/dx)                                     Goodfellow et al. 2015
    PGD     x_{k+1} = P(x_k + steepest step along dL/dx_k), k = 1 .. K       Madry et al. 2018

P projects onto the inputs whose difference from x has a norm of at most epsilon, within the bounds
of valid inputs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jax.typing import ArrayLike

from jaxdl._check import require_ints, require_key, require_number
from jaxdl.attack import _ball, _problem

__all__ = ["fgsm", "pgd"]

Bounds = tuple[Any, Any]
"""The smallest and largest valid input: numbers, or arrays that broadcast to x."""


def fgsm(
    f: Callable[[Any], Any],
    x: Any,
    labels: Any,
    epsilon: ArrayLike,
    *,
    norm: _ball.Norm = "linf",
    mask: Any = None,
    bounds: Bounds | None = (0.0, 1.0),
    targeted: bool = False,
    loss: _problem.Loss | None = None,
) -> Any:
    """Attacks by one step of the fast gradient sign method.

    Goodfellow et al. 2015 (arXiv 1412.6572), sec. 4. For linear f it is the strongest attack within
    epsilon: the margin decreases by epsilon ||w||_1. It is `pgd` with a single step of length
    epsilon; with `norm="l2"` it is known as the fast gradient method.

    Args:
      f: from inputs (N, ...) to scores (N, classes); or to one logit each, (N,) or (N, 1), of class
        1 against class 0. With `loss`, to anything.
      x: (N, ...), floating-point, or a tree of such arrays. Integers in it are not changed.
      labels: (N,) integers or truth values: the true labels, or with `targeted` the wanted ones.
        With `loss`, anything that it takes.
      epsilon: the largest norm of the change of an example, >= 0; or an array or tree of sizes that
        broadcasts to x, with (x' - x) / epsilon of a norm of at most 1.
      norm: "linf", the largest change of a value; "l2", Euclidean; or "l1", the sum of the absolute
        changes. Of a tree, it is the norm of all of an example's values.
      mask: an array or a tree that broadcasts to x, 0 or False for values that must not change.
      bounds: the smallest and largest valid input, or None. For normalized inputs they are arrays
        that broadcast to x, such as ((0 - mean) / std, (1 - mean) / std), and epsilon is
        epsilon / std.
      targeted: whether to decrease the loss of `labels`, instead of increasing it.
      loss: from the output and the labels to values (N, ...) of each example, whose sum is
        increased; None for the cross-entropy. `losses.binary_cross_entropy` attacks several labels
        of each example; the distance of an embedding to a fixed one pushes it away.

    Returns:
      An array like x, or a tree of them. It is NaN if a traced label or epsilon (under `jit` or
      `vmap`) is out of range, and where a traced x is out of bounds.

    Raises:
      ValueError: x is not a batch of floats that fits the labels; f returns no scores; a label is
        out of range; epsilon is negative; bounds are not in order; an array does not broadcast to
        x; or x is out of bounds or not finite.
    """
    return pgd(
        f,
        x,
        labels,
        epsilon,
        norm=norm,
        step=epsilon,
        steps=1,
        mask=mask,
        bounds=bounds,
        targeted=targeted,
        loss=loss,
    )


def pgd(
    f: Callable[[Any], Any],
    x: Any,
    labels: Any,
    epsilon: ArrayLike,
    *,
    norm: _ball.Norm = "linf",
    step: ArrayLike | None = None,
    steps: int = 40,
    momentum: ArrayLike = 0.0,
    key: jax.Array | None = None,
    restarts: int = 1,
    mask: Any = None,
    bounds: Bounds | None = (0.0, 1.0),
    targeted: bool = False,
    loss: _problem.Loss | None = None,
) -> Any:
    """Attacks by projected gradient descent, with small steps.

    Madry et al. 2018 (arXiv 1706.06083), sec. 2.1. Other methods are special cases: the basic
    iterative method (Kurakin et al. 2017, arXiv 1607.02533) with `step=epsilon / steps`, and the
    momentum iterative method (Dong et al. 2018, arXiv 1710.06081, algorithm 1) with
    `step=epsilon / steps, momentum=1.0`.

    Args:
      f, x, labels, epsilon, norm, mask, bounds, targeted, loss: as for `fgsm`.
      step: the norm of a step, in the form of epsilon; None for 2.5 epsilon / steps, which reaches
        every corner of the ball.
      steps: number of steps, >= 1.
      momentum: the decay of the sum of earlier gradients, each divided by its L1 norm.
      key: a PRNG key, to start from a random point of the ball; None starts from x.
      restarts: number of random starts, >= 1, which needs a key. Each example gets the result of
        the largest loss, with `targeted` of the smallest.

    Returns:
      An array like x, or a tree of them.

    Raises:
      ValueError: as for `fgsm`; `steps` or `restarts` is not a positive integer; `step` or
        `momentum` is negative; `key` is not a PRNG key, or missing with several restarts.
    """
    problem = _problem.prepare("pgd", f, x, labels, loss=loss)
    ball = _ball.make_ball(problem, norm, epsilon, bounds, mask)
    steps, restarts = require_ints("pgd", 1, steps=steps, restarts=restarts)
    size = 2.5 / steps * ball.radius
    if step is not None:
        size = _problem.as_sizes(problem, "step", step)
    decay = require_number("pgd", "a number >= 0", lambda v: v >= 0, momentum=momentum)
    has_momentum = isinstance(decay, Tracer) or decay > 0
    decay = jnp.asarray(decay, ball.center.dtype)
    # A targeted attack descends the loss of its label.
    sign = -1 if targeted else 1

    def losses(rows):
        return sign * problem.losses(rows)

    def advance(_, carry):
        rows, velocity = carry
        gradient = jax.grad(lambda rows: jnp.sum(losses(rows)))(rows)
        if has_momentum:
            total = jnp.sum(jnp.abs(gradient), axis=1, keepdims=True)
            gradient = decay * velocity + gradient / jnp.where(total == 0, 1, total)
        return _ball.project(ball, _ball.ascend(ball, rows, gradient, size)), gradient

    def run(rows):
        return jax.lax.fori_loop(0, steps, advance, (rows, jnp.zeros_like(rows)))[0]

    if key is None:
        if restarts > 1:
            raise ValueError(
                f"pgd: restarts is {restarts} and key is None; expected a key for the random "
                "starts. Pass key=jax.random.key(seed)."
            )
        return problem.restore(run(ball.center))
    key = require_key("pgd", key)
    if restarts == 1:
        return problem.restore(run(_ball.draw(ball, key)))

    def restart(best, key):
        best_rows, best_losses = best
        rows = run(_ball.draw(ball, key))
        values = losses(rows)
        worse = values <= best_losses  # false for NaN, which is kept
        best_rows = jnp.where(worse[:, None], best_rows, rows)
        return (best_rows, jnp.where(worse, best_losses, values)), None

    values = jax.eval_shape(losses, ball.center)
    start = ball.center, jnp.full(values.shape, -jnp.inf, values.dtype)
    (rows, _), _ = jax.lax.scan(restart, start, jax.random.split(key, restarts))
    return problem.restore(rows)
