"""Checks of the arguments that attacks share: labels, sizes and bounds."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxdl._check import require_number
from jaxdl.interpret import _input, _target


def as_labels(caller: str, labels: Any, n: int, classes: int) -> jax.Array:
    """Returns labels as integers (N,), in range unless they are traced."""
    try:
        labels = _target.as_array(labels)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{caller}: labels are {labels!r}; expected integers ({n},).") from error
    if labels.shape != (n,):
        raise ValueError(
            f"{caller}: labels have shape {labels.shape} for {n} examples; expected ({n},), a "
            "label for every row. For other labels, such as several of each example, pass loss=."
        )
    if not jnp.issubdtype(labels.dtype, jnp.integer) and labels.dtype != bool:
        raise ValueError(f"{caller}: labels are {labels.dtype}; expected integers. Use argmax(-1).")
    if not isinstance(labels, Tracer):
        wrong = [int(label) for label in labels if not 0 <= label < classes]
        if wrong:
            raise ValueError(f"{caller}: label {wrong[0]}; expected a class of 0 to {classes - 1}.")
    return jnp.asarray(labels).astype(int)


def check_sizes(caller: str, argument: str, value: Any) -> Any:
    """Returns sizes, numbers or arrays, of 0 or more unless they are traced."""
    expected = "a number >= 0, or an array of them that broadcasts to x"

    def is_valid(size):
        return np.isfinite(size) & (size >= 0)

    return jax.tree.map(lambda size: _check(caller, argument, size, expected, is_valid), value)


def check_bounds(caller: str, bounds: Any, *, finite: bool = False) -> tuple[Any, Any]:
    """Returns the two ends of the bounds; infinite ones for None.

    Args:
      caller: the public function's name, for messages.
      bounds: two numbers, arrays or trees of them; or None.
      finite: whether infinite ends and None are errors.
    """
    expected = "a number or an array that broadcasts to x: bounds=(smallest, largest)"
    expected += ", both finite" if finite else ", or None"
    if bounds is None and not finite:
        return -math.inf, math.inf
    if not isinstance(bounds, tuple | list) or len(bounds) != 2:
        raise ValueError(f"{caller}: bounds are {bounds!r}; expected (smallest, largest).")

    def is_valid(end):
        return np.isfinite(end) if finite else ~np.isnan(end)

    def check(end):
        if not finite and isinstance(end, float) and math.isinf(end):
            return end
        return _check(caller, "bounds", end, expected, is_valid)

    # None for a number is an error; in a tree it is the place of integers.
    low, high = (check(end) if end is None else jax.tree.map(check, end) for end in bounds)
    for least, most in zip(jax.tree.leaves(low), jax.tree.leaves(high), strict=False):
        known = not isinstance(least, Tracer) and not isinstance(most, Tracer)
        if known and not np.all(np.asarray(least) < np.asarray(most)):
            raise ValueError(f"{caller}: bounds are {bounds!r}; expected the smaller one first.")
    return low, high


def check_inside(caller: str, parts: Any, low: Any, high: Any) -> None:
    """Checks that the floating-point arrays of x are within the bounds, unless traced."""
    leaves = jax.tree.leaves(parts)
    ends = (
        [end] * len(leaves)
        if jax.tree_util.all_leaves([end])
        else jax.tree.leaves(_input.match(caller, parts, "bounds", end))
        for end in (low, high)
    )
    for leaf, *limits in zip(leaves, *ends, strict=True):
        if any(isinstance(value, Tracer) for value in (leaf, *limits)):
            continue
        # NumPy runs eagerly, also inside of a traced function.
        values, least, most = (np.asarray(v).astype(np.float64) for v in (leaf, *limits))
        below = values < least - slack(leaf.dtype, np.abs(least))
        above = values > most + slack(leaf.dtype, np.abs(most))
        if (below | above).any():
            words = [f"{e:g}" if e.ndim == 0 else f"an array {e.shape}" for e in (least, most)]
            raise ValueError(
                f"{caller}: x is in [{values.min():g}, {values.max():g}] and bounds are "
                f"({', '.join(words)}); expected x within them. Pass the bounds= of your inputs, "
                "or None."
            )


def slack(dtype: Any, size: Any) -> Any:
    """Returns how far x may be out of bounds of a size, whose rounding differs from that of x."""
    return 8 * float(jnp.finfo(dtype).eps) * size.clip(1)


def check_finite(caller: str, parts: Any) -> None:
    """Checks that arrays have no NaN or infinite values, unless traced."""
    for leaf in jax.tree.leaves(parts):
        known = not isinstance(leaf, Tracer)
        if known and not np.isfinite(np.asarray(leaf).astype(np.float64)).all():
            raise ValueError(f"{caller}: x has NaN or infinite values; expected finite numbers.")


def _check(
    caller: str, argument: str, value: Any, expected: str, is_valid: Callable[[Any], Any]
) -> Any:
    """Returns a number as a float, an array unchanged, and checks both unless traced."""
    if np.ndim(value) == 0:
        return require_number(caller, expected, lambda v: bool(is_valid(v)), **{argument: value})
    if isinstance(value, Tracer):
        return value
    array = np.asarray(value)
    if not any(jnp.issubdtype(array.dtype, kind) for kind in (jnp.floating, jnp.integer)):
        raise ValueError(f"{caller}: {argument} is {array.dtype}; expected {expected}.")
    wrong = array[~is_valid(array.astype(np.float64))]
    if wrong.size:
        raise ValueError(f"{caller}: {argument} has {wrong[0]}; expected {expected}.")
    return value
