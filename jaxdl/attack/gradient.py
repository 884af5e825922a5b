"""White-box attacks: gradient ascent on the loss within a box around the input.

    FGSM    x' = x + epsilon sign(dL/dx)                              Goodfellow et al. 2015
    PGD     x_{k+1} = clip(x_k + step sign(dL/dx_k)), k = 1 .. K      Madry et al. 2018

Both stay within epsilon of x in every coordinate, and within the bounds of valid inputs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer

from jaxdl._check import require_ints, require_key, require_number
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
    """Attacks by one step of the fast gradient sign method.

    Goodfellow et al. 2015 (arXiv 1412.6572), sec. 4. For linear f it is the strongest attack within
    epsilon: the margin decreases by epsilon ||w||_1.

    Args:
      f: from inputs (N, ...) to scores (N, classes); or to one logit each, (N,) or (N, 1), of class
        1 against class 0.
      x: (N, ...), floating-point, or a tree of such arrays. Integers in it are not changed.
      labels: (N,) integers or truth values: the true labels, or with `targeted` the wanted ones.
      epsilon: the largest change of a coordinate, >= 0.
      bounds: the smallest and largest valid input, or None.
      targeted: whether to decrease the loss of `labels`, instead of increasing it.

    Returns:
      An array like x, or a tree of them. It is NaN if a traced label or epsilon (under `jit` or
      `vmap`) is out of range.

    Raises:
      ValueError: x is not a batch of floats that fits the labels; f returns no scores; a label is
        out of range; epsilon is not one number of 0 or more; bounds are not two numbers in order;
        or x is out of bounds or not finite.
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
    """Attacks by projected gradient descent, with small steps.

    Madry et al. 2018 (arXiv 1706.06083).

    Args:
      f, x, labels, epsilon, bounds, targeted: as for `fgsm`.
      step: the change of every coordinate in a step; None for 2.5 epsilon / steps, which reaches
        every corner of the box.
      steps: number of steps, >= 1.
      key: a PRNG key, to start from a random point of the box; None starts from x.

    Returns:
      An array like x, or a tree of them.

    Raises:
      ValueError: as for `fgsm`; `steps` is not a positive integer, `step` not a number of 0 or
        more, or `key` not a PRNG key.
    """
    whole = _input.as_batch("attack", x)
    count = _target.verify("attack", f, whole, "argmax", derivative=True)
    labels = _as_labels(labels, len(jax.tree.leaves(whole)[0]), max(count, 2))
    f, x = _input.separate(f, whole)
    epsilon, (least, most) = _as_size("epsilon", epsilon), _as_limits(bounds)
    _check_inside(x, least, most)
    (steps,) = require_ints("pgd", 1, steps=steps)
    low = jax.tree.map(lambda x: jnp.maximum(x - epsilon, least), x)
    high = jax.tree.map(lambda x: jnp.minimum(x + epsilon, most), x)
    size = 2.5 * epsilon / steps if step is None else _as_size("step", step)
    # A targeted attack descends the loss of its label.
    signed = -size if targeted else size

    def total_loss(x):
        scores = f(x)
        if count == 1:
            scores = jnp.reshape(scores, labels.shape)
            losses = optax.losses.sigmoid_binary_cross_entropy(scores, labels.astype(scores.dtype))
        else:
            losses = cross_entropy(scores, labels)
        # Compiled code cannot raise an error: a label out of range has a gradient of NaN.
        valid = (labels >= 0) & (labels < max(count, 2))
        return jnp.sum(losses * jnp.where(valid, 1, jnp.nan).astype(losses.dtype))

    def advance(_, x):
        def move(x, g, low, high):
            return jnp.clip(x + signed * jnp.sign(g), low, high)

        return jax.tree.map(move, x, jax.grad(total_loss)(x), low, high)

    if key is not None:
        key = require_key("pgd", key)
        leaves, tree = jax.tree.flatten(x)
        keys = tree.unflatten([key] if len(leaves) == 1 else jax.random.split(key, len(leaves)))

        def draw(key, x, low, high):
            return jax.random.uniform(key, x.shape, x.dtype, low, high)

        x = jax.tree.map(draw, keys, x, low, high)
    x = jax.lax.fori_loop(0, steps, advance, x)
    return jax.tree.map(lambda leaf, part: leaf if part is None else part, whole, x)


def _as_labels(labels: Any, n: int, classes: int) -> jax.Array:
    """Returns labels as integers (N,), in range unless they are traced."""
    try:
        known = not any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(labels))
        labels = np.asarray(labels) if known else jnp.asarray(labels)
    except (TypeError, ValueError) as error:
        raise ValueError(f"attack: labels are {labels!r}; expected integers ({n},).") from error
    if labels.shape != (n,):
        raise ValueError(
            f"attack: labels have shape {labels.shape} for {n} examples; expected ({n},), a "
            "label for every row."
        )
    if not jnp.issubdtype(labels.dtype, jnp.integer) and labels.dtype != bool:
        raise ValueError(f"attack: labels are {labels.dtype}; expected integers. Use argmax(-1).")
    if known:
        wrong = [int(label) for label in labels if not 0 <= label < classes]
        if wrong:
            raise ValueError(f"attack: label {wrong[0]}; expected a class of 0 to {classes - 1}.")
    return jnp.asarray(labels).astype(jnp.int32)


def _as_size(argument: str, size: Any) -> Any:
    """Returns a size of 0 or more, or NaN for a traced size below 0."""
    expected = "one number >= 0 for all examples (jax.vmap attacks with several)"
    size = require_number("attack", expected, lambda v: v >= 0, **{argument: size})
    return jnp.where(size >= 0, size, jnp.nan) if isinstance(size, Tracer) else size


def _as_limits(bounds: Any) -> tuple[Any, Any]:
    """Returns the smallest and largest valid input."""
    if bounds is None:
        return -np.inf, np.inf

    def is_infinite(end):
        return isinstance(end, float) and np.isinf(end)

    expected = "a number: bounds=(smallest, largest), or None"
    if not isinstance(bounds, tuple | list) or len(bounds) != 2:
        raise ValueError(f"attack: bounds are {bounds!r}; expected (smallest, largest), or None.")
    least, most = (
        end if is_infinite(end) else require_number("attack", expected, lambda _: True, bounds=end)
        for end in bounds
    )
    if not isinstance(least, Tracer) and not isinstance(most, Tracer) and not least < most:
        raise ValueError(f"attack: bounds are {bounds!r}; expected the smaller one first.")
    return least, most


def _check_inside(x: Any, low: Any, high: Any) -> None:
    for leaf in jax.tree.leaves(x):
        if any(isinstance(value, Tracer) for value in (leaf, low, high)):
            continue
        values = np.asarray(leaf)  # NumPy runs eagerly, also inside of a traced function
        least, most = values.min(initial=np.inf), values.max(initial=-np.inf)
        if values.size and not np.isfinite(values.astype(np.float64)).all():
            raise ValueError("attack: x has NaN or infinite values; expected finite numbers.")
        if least < low or most > high:
            raise ValueError(
                f"attack: x is in [{least:g}, {most:g}] and bounds are ({low:g}, {high:g}); "
                "expected x within them. Pass the bounds= of your inputs, or None."
            )
