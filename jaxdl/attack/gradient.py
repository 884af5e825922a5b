"""White-box attacks: up the gradient of the loss by the input, within a box around it.

    FGSM    x' = x + epsilon sign(dL/dx)                              Goodfellow et al. 2015
    PGD     x_{k+1} = clip(x_k + step sign(dL/dx_k)), k = 1 .. K      Madry et al. 2018

Both stay within epsilon of x in every coordinate, and within the bounds of valid inputs. Lecture
rows R01, R02, T14.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxdl.losses import cross_entropy

__all__ = ["fgsm", "pgd"]

Bounds = tuple[float, float]


def fgsm(
    f: Callable[[jax.Array], jax.Array],
    x: Any,
    labels: Any,
    epsilon: float,
    *,
    bounds: Bounds | None = (0.0, 1.0),
    targeted: bool = False,
) -> jax.Array:
    """The fast gradient sign method: one step. Goodfellow et al. 2015, arXiv 1412.6572, sec. 4.

    Of a linear f it is the strongest attack there is: the margin falls by epsilon ||w||_1.

    Args:
      f: from inputs (N, ...) to scores (N, classes).
      x: (N, ...), floating-point.
      labels: (N,) integers: the true ones; with `targeted`, those to be mistaken for.
      epsilon: the largest change of a coordinate, >= 0.
      bounds: the least and largest valid input, or None.
      targeted: go down the loss of `labels`, not up.

    Returns:
      An array like x.

    Raises:
      ValueError: x is no batch of floats that fits the labels; epsilon is negative; x is out of
        bounds.
    """
    return pgd(f, x, labels, epsilon, step=epsilon, steps=1, bounds=bounds, targeted=targeted)


def pgd(
    f: Callable[[jax.Array], jax.Array],
    x: Any,
    labels: Any,
    epsilon: float,
    *,
    step: float | None = None,
    steps: int = 40,
    key: jax.Array | None = None,
    bounds: Bounds | None = (0.0, 1.0),
    targeted: bool = False,
) -> jax.Array:
    """Projected gradient descent on the input: small steps. Madry et al. 2018, arXiv 1706.06083.

    Args:
      f, x, labels, epsilon, bounds, targeted: as for `fgsm`.
      step: how far a step goes in every coordinate; None takes 2.5 epsilon / steps, with which it
        reaches every corner of the box.
      steps: how many, >= 1.
      key: a PRNG key, to begin at a random place of the box; None begins at x.

    Returns:
      An array like x.

    Raises:
      ValueError: as for `fgsm`; `steps` is no positive integer.
    """
    x, labels = jnp.asarray(x), jnp.asarray(labels)
    _check(x, labels, epsilon, bounds)
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise ValueError(f"pgd: steps is {steps!r}; expected a positive integer.")
    least, most = (-jnp.inf, jnp.inf) if bounds is None else bounds
    low, high = jnp.maximum(x - epsilon, least), jnp.minimum(x + epsilon, most)
    size = 2.5 * epsilon / steps if step is None else step
    signed = -size if targeted else size

    def total_loss(x):
        return cross_entropy(f(x), labels).sum()

    def advance(_, at):
        return jnp.clip(at + signed * jnp.sign(jax.grad(total_loss)(at)), low, high)

    start = x
    if key is not None:
        start = jax.random.uniform(key, x.shape, x.dtype, low, high)
    return jax.lax.fori_loop(0, steps, advance, start)


def _check(x: jax.Array, labels: jax.Array, epsilon: float, bounds: Bounds | None) -> None:
    if not jnp.issubdtype(x.dtype, jnp.floating) or labels.shape != x.shape[:1]:
        raise ValueError(
            f"attack: x is {x.dtype}{list(x.shape)} and labels {labels.dtype}{list(labels.shape)}; "
            "expected floats (N, ...) and integers (N,): cast x, or give a label for every row."
        )
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise ValueError(f"attack: labels are {labels.dtype}; expected integers: take argmax(-1).")
    if isinstance(epsilon, int | float) and not epsilon >= 0:
        raise ValueError(f"attack: epsilon is {epsilon!r}; expected a number >= 0.")
    if bounds is not None and not isinstance(x, Tracer):
        values = np.asarray(x)  # at once, also where a function around this one is traced
        least, most = values.min(initial=np.inf), values.max(initial=-np.inf)
        if least < bounds[0] or most > bounds[1]:
            raise ValueError(
                f"attack: x is in [{least:g}, {most:g}] and bounds are {bounds}; expected x within "
                "them: give bounds= of your inputs, or None."
            )
