"""Warnings for attributions whose sums show that they cannot be right."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer


class Explained(NamedTuple):
    """Attributions from compiled code, and (N, ...) columns to check outside of it."""

    values: Any
    columns: jax.Array


LARGEST = 100.0
"""Times the largest output: a relevance above it was amplified by a division by nearly 0."""
LEAST = 1e-3
"""Of the score: less relevance than this in all of x was absorbed on the way."""


def release(explained: Any, verify: Callable[[np.ndarray], None]) -> Any:
    """Returns the values of one or a tree of `Explained`, verified unless they are traced."""

    def one(part: Explained) -> Any:
        if not isinstance(part.columns, Tracer):
            verify(np.reshape(part.columns, (-1, part.columns.shape[-1])))
        return part.values

    return jax.tree.map(one, explained, is_leaf=lambda part: isinstance(part, Explained))


def sums(attributions: Any, *others: jax.Array) -> jax.Array:
    """Returns columns (N, 3 + ...): sum, absolute sum, largest absolute value; and the others."""
    values = _rows(jax.tree.leaves(attributions))
    sizes = jnp.abs(values)
    columns = (values.sum(1), sizes.sum(1), sizes.max(1, initial=0), *others)
    return jnp.stack([column.astype(values.dtype) for column in columns], 1)


def magnitude(score: jax.Array, output: list[jax.Array]) -> jax.Array:
    """Returns (N,): the largest absolute value that each example has in a function's output."""
    floats = [a for a in output if jnp.issubdtype(a.dtype, jnp.floating)]
    rows = _rows([score, *(a for a in floats if a.shape[:1] == score.shape)])
    return jnp.max(jnp.abs(rows), 1)


def _rows(leaves: list[jax.Array]) -> jax.Array:
    """Returns all values of each example, in a dtype of 32 bits or more."""
    dtype = jnp.float64 if any(a.dtype == jnp.float64 for a in leaves) else jnp.float32
    return jnp.concatenate(
        [a.reshape(len(a), math.prod(a.shape[1:])).astype(dtype) for a in leaves], 1
    )


def warn_about_relevance(columns: np.ndarray) -> None:
    """Warns of relevance that is not finite, amplified or absorbed.

    Args:
      columns: (N, 5), of `sums` with the relevance at the output and the largest output.
    """
    for i, (total, size, largest, due, output) in enumerate(columns):
        numbers = f"{total:.3g} in all and {largest:.3g} at most, of {due:.3g}"
        if not np.isfinite(size):
            problem = "is not finite: a value of f is infinite or NaN, or a sum in it is exactly 0"
        elif largest > LARGEST * max(output, abs(due)):
            problem = f"is amplified ({numbers}): f divides it by sums near 0"
        elif size < LEAST * abs(due):
            problem = f"does not reach x ({numbers}): biases or the signs of a rule absorb it"
        else:
            continue
        warnings.warn(
            f"lrp: the relevance of example {i} {problem}. Choose another composite or rules "
            "with a larger eps or bias=False, or pass check=False.",
            stacklevel=6,
        )
        return
