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
      An array like x, or a tree of them. Where a label or epsilon is out of range and known only
      when the program runs (under `jit` or `vmap`), it is NaN.

    Raises:
      ValueError: x is no batch of floats that fits the labels; f gives no scores; a label is out of
        range; epsilon is no number of 0 or more, one for all examples; bounds are no two numbers in
        order; x is out of bounds or not finite.
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
      ValueError: as for `fgsm`; `steps` is no positive integer, `step` no number of 0 or more, or
        `key` no PRNG key.
    """
    given = _input.checked("attack", x)
    count = _target.verify("attack", f, given, "argmax", derivative=True)
    labels = _checked_labels(labels, _input.count_examples("attack", given), max(count, 2))
    f, x = _input.separate("attack", f, given)
    epsilon, (least, most) = _size("epsilon", epsilon), _limits(bounds)
    _check_inside(x, least, most)
    (steps,) = _input.at_least("pgd", 1, steps=steps)
    low = jax.tree.map(lambda x: jnp.maximum(x - epsilon, least), x)
    high = jax.tree.map(lambda x: jnp.minimum(x + epsilon, most), x)
    size = 2.5 * epsilon / steps if step is None else _size("step", step)
    signed = -size if targeted else size

    def total_loss(x):
        scores = f(x)
        if count == 1:
            scores = jnp.reshape(scores, labels.shape)
            of_each = optax.losses.sigmoid_binary_cross_entropy(scores, labels.astype(scores.dtype))
        else:
            of_each = cross_entropy(scores, labels)
        # Compiled code cannot raise: the gradient of a label out of range is NaN, not another's.
        right = (labels >= 0) & (labels < max(count, 2))
        return jnp.sum(of_each * jnp.where(right, 1, jnp.nan).astype(of_each.dtype))

    def advance(_, x):
        move = lambda x, g, low, high: jnp.clip(x + signed * jnp.sign(g), low, high)  # noqa: E731
        return jax.tree.map(move, x, jax.grad(total_loss)(x), low, high)

    if key is not None:
        key = _input.prng_key("pgd", key)
        leaves, tree = jax.tree.flatten(x)
        keys = tree.unflatten([key] if len(leaves) == 1 else jax.random.split(key, len(leaves)))
        draw = lambda k, x, low, high: jax.random.uniform(k, x.shape, x.dtype, low, high)  # noqa: E731
        x = jax.tree.map(draw, keys, x, low, high)
    x = jax.lax.fori_loop(0, steps, advance, x)
    return jax.tree.map(lambda leaf, part: leaf if part is None else part, given, x)


def _checked_labels(labels: Any, n: int, classes: int) -> jax.Array:
    """Returns labels as integers (N,): those that are known are in range."""
    try:
        known = not any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(labels))
        labels = np.asarray(labels) if known else jnp.asarray(labels)
    except (TypeError, ValueError) as error:
        raise ValueError(f"attack: labels are {labels!r}; expected integers ({n},).") from error
    if labels.shape != (n,):
        raise ValueError(
            f"attack: labels have shape {labels.shape} for {n} examples; expected ({n},). Give a "
            "label for every row."
        )
    if not jnp.issubdtype(labels.dtype, jnp.integer) and labels.dtype != bool:
        raise ValueError(f"attack: labels are {labels.dtype}; expected integers: take argmax(-1).")
    if known:
        wrong = [int(label) for label in labels if not 0 <= label < classes]
        if wrong:
            raise ValueError(f"attack: label {wrong[0]}; expected a class of 0 to {classes - 1}.")
    return jnp.asarray(labels).astype(jnp.int32)


def _size(argument: str, size: Any) -> Any:
    """Returns a size of 0 or more; NaN for a traced one below."""
    expected = "one number >= 0 for all examples (jax.vmap attacks with several)"
    size = _input.number("attack", expected, lambda v: v >= 0, **{argument: size})
    return jnp.where(size >= 0, size, jnp.nan) if isinstance(size, Tracer) else size


def _limits(bounds: Any) -> tuple[Any, Any]:
    """Returns the least and largest valid input."""
    if bounds is None:
        return -np.inf, np.inf
    infinite = lambda end: isinstance(end, float) and np.isinf(end)  # noqa: E731
    expected = "a number: bounds=(least, largest), or None"
    if not isinstance(bounds, tuple | list) or len(bounds) != 2:
        raise ValueError(f"attack: bounds are {bounds!r}; expected (least, largest), or None.")
    least, most = (
        end if infinite(end) else _input.number("attack", expected, lambda _: True, bounds=end)
        for end in bounds
    )
    if not isinstance(least, Tracer) and not isinstance(most, Tracer) and not least < most:
        raise ValueError(f"attack: bounds are {bounds!r}; expected the least before the largest.")
    return least, most


def _check_inside(x: Any, low: Any, high: Any) -> None:
    for leaf in jax.tree.leaves(x):
        if any(isinstance(value, Tracer) for value in (leaf, low, high)):
            continue
        values = np.asarray(leaf)  # at once, also where a function around this one is traced
        least, most = values.min(initial=np.inf), values.max(initial=-np.inf)
        if values.size and not np.isfinite(values.astype(np.float64)).all():
            raise ValueError("attack: x has NaN or infinite values; expected finite numbers.")
        if least < low or most > high:
            raise ValueError(
                f"attack: x is in [{least:g}, {most:g}] and bounds are ({low:g}, {high:g}); "
                "expected x within them: give bounds= of your inputs, or None."
            )
