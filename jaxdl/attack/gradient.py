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
import optax
from jax.core import Tracer

from jaxdl.interpret import _input, _target
from jaxdl.losses import cross_entropy

__all__ = ["fgsm", "pgd"]

Bounds = tuple[float, float]


def fgsm(
    f: Callable[[Any], jax.Array],
    x: Any,
    labels: Any,
    epsilon: float,
    *,
    bounds: Bounds | None = (0.0, 1.0),
    targeted: bool = False,
) -> Any:
    """The fast gradient sign method: one step. Goodfellow et al. 2015, arXiv 1412.6572, sec. 4.

    Of a linear f it is the strongest attack there is: the margin falls by epsilon ||w||_1.

    Args:
      f: from inputs (N, ...) to scores (N, classes); or to one logit each, (N,) or (N, 1), of
        class 1 against class 0.
      x: (N, ...), floating-point, or a tree of such arrays; integers in it stay as they are.
      labels: (N,) integers or truth values: the true ones; with `targeted`, those to be mistaken
        for.
      epsilon: the largest change of a coordinate, >= 0.
      bounds: the least and largest valid input, or None.
      targeted: go down the loss of `labels`, not up.

    Returns:
      An array like x, or a tree of them.

    Raises:
      ValueError: x is no batch of floats that fits the labels; f gives no scores; a label is out of
        range; epsilon is negative; x is out of bounds.
    """
    return pgd(f, x, labels, epsilon, step=epsilon, steps=1, bounds=bounds, targeted=targeted)


def pgd(
    f: Callable[[Any], jax.Array],
    x: Any,
    labels: Any,
    epsilon: float,
    *,
    step: float | None = None,
    steps: int = 40,
    key: jax.Array | None = None,
    bounds: Bounds | None = (0.0, 1.0),
    targeted: bool = False,
) -> Any:
    """Projected gradient descent on the input: small steps. Madry et al. 2018, arXiv 1706.06083.

    Args:
      f, x, labels, epsilon, bounds, targeted: as for `fgsm`.
      step: how far a step goes in every coordinate; None takes 2.5 epsilon / steps, with which it
        reaches every corner of the box.
      steps: how many, >= 1.
      key: a PRNG key, to begin at a random place of the box; None begins at x.

    Returns:
      An array like x, or a tree of them.

    Raises:
      ValueError: as for `fgsm`; `steps` is no positive integer.
    """
    given = _input.checked("attack", x)
    labels = _target.as_array(labels)
    count = _target.verify("attack", f, given, "argmax", derivative=True)
    _check_labels(labels, _input.batch_size("attack", given), max(count, 2))
    labels = jnp.asarray(labels)
    f, x = _input.separate("attack", f, given)
    _check_box(x, epsilon, bounds)
    (steps,) = _input.at_least("pgd", 1, steps=steps)
    least, most = (-jnp.inf, jnp.inf) if bounds is None else bounds
    low = jax.tree.map(lambda x: jnp.maximum(x - epsilon, least), x)
    high = jax.tree.map(lambda x: jnp.minimum(x + epsilon, most), x)
    size = 2.5 * epsilon / steps if step is None else step
    signed = -size if targeted else size

    def total_loss(x):
        scores = f(x)
        if count == 1:
            scores = jnp.reshape(scores, labels.shape)
            of_each = optax.losses.sigmoid_binary_cross_entropy(scores, labels.astype(scores.dtype))
        else:
            of_each = cross_entropy(scores, labels.astype(jnp.int32))
        return jnp.sum(of_each)

    def advance(_, x):
        move = lambda x, g, low, high: jnp.clip(x + signed * jnp.sign(g), low, high)  # noqa: E731
        return jax.tree.map(move, x, jax.grad(total_loss)(x), low, high)

    if key is not None:
        leaves, tree = jax.tree.flatten(x)
        keys = tree.unflatten([key] if len(leaves) == 1 else jax.random.split(key, len(leaves)))
        draw = lambda k, x, low, high: jax.random.uniform(k, x.shape, x.dtype, low, high)  # noqa: E731
        x = jax.tree.map(draw, keys, x, low, high)
    x = jax.lax.fori_loop(0, steps, advance, x)
    return jax.tree.map(lambda leaf, part: leaf if part is None else part, given, x)


def _check_labels(labels: Any, n: int, classes: int) -> None:
    if labels.shape != (n,):
        raise ValueError(
            f"attack: labels have shape {labels.shape} for {n} examples; expected ({n},). Give a "
            "label for every row."
        )
    if not jnp.issubdtype(labels.dtype, jnp.integer) and labels.dtype != bool:
        raise ValueError(f"attack: labels are {labels.dtype}; expected integers: take argmax(-1).")
    if not isinstance(labels, Tracer):
        wrong = [int(label) for label in labels if not 0 <= int(label) < classes]
        if wrong:
            raise ValueError(f"attack: label {wrong[0]}; expected a class of 0 to {classes - 1}.")


def _check_box(x: Any, epsilon: float, bounds: Bounds | None) -> None:
    if isinstance(epsilon, int | float) and not epsilon >= 0:
        raise ValueError(f"attack: epsilon is {epsilon!r}; expected a number >= 0.")
    for leaf in jax.tree.leaves(x):
        if bounds is None or isinstance(leaf, Tracer):
            continue
        values = np.asarray(leaf)  # at once, also where a function around this one is traced
        least, most = values.min(initial=np.inf), values.max(initial=-np.inf)
        if least < bounds[0] or most > bounds[1]:
            raise ValueError(
                f"attack: x is in [{least:g}, {most:g}] and bounds are {bounds}; expected x within "
                "them: give bounds= of your inputs, or None."
            )
