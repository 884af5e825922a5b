"""Checks of attributions by their sums, made outside of compiled code."""

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
    """Attributions from compiled code, and (N, ...) columns to check afterwards."""

    values: Any
    columns: jax.Array


LARGEST = 100.0
"""Relevances above this multiple of the largest output were amplified by a division by about 0."""
LEAST = 1e-3
"""A total relevance below this fraction of the score was absorbed by biases or rules."""


def release(explained: Any, verify: Callable[[np.ndarray], None]) -> Any:
    """Verifies a tree of `Explained`, unless it is traced, and returns its values."""

    def one(part: Explained) -> Any:
        if not isinstance(part.columns, Tracer):
            verify(np.reshape(part.columns, (-1, part.columns.shape[-1])))
        return part.values

    return jax.tree.map(one, explained, is_leaf=lambda part: isinstance(part, Explained))


def summarize(attributions: Any, *others: jax.Array) -> jax.Array:
    """Returns columns (N, 3 + ...): sum, absolute sum, maximum, and the others."""
    values = _rows(jax.tree.leaves(attributions))
    sizes = jnp.abs(values)
    columns = (values.sum(1), sizes.sum(1), sizes.max(1, initial=0), *others)
    return jnp.stack([column.astype(values.dtype) for column in columns], 1)


def max_magnitude(score: jax.Array, output: list[jax.Array]) -> jax.Array:
    """Returns (N,): the largest absolute value of each example in a function's output."""
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
    """Warns if the relevance of an example is not finite, amplified or absorbed.

    Args:
      columns: (N, 5), from `summarize` with the relevance of the output and the largest output.
    """
    # Only the first bad example: the others of a batch usually have the same cause.
    for i, (total, size, largest, expected, output) in enumerate(columns):
        numbers = f"{total:.3g} in all and {largest:.3g} at most, of {expected:.3g}"
        if not np.isfinite(size):
            problem = "is not finite: a value of f is infinite or NaN, or a sum in it is exactly 0"
        elif largest > LARGEST * max(output, abs(expected)):
            problem = f"is amplified ({numbers}): f divides it by sums near 0"
        elif size < LEAST * abs(expected):
            problem = f"does not reach x ({numbers}): biases or the signs of a rule absorb it"
        else:
            continue
        warnings.warn(
            f"lrp: the relevance of example {i} {problem}. Choose another composite or rules "
            "with a larger eps or bias=False, or pass check=False.",
            stacklevel=6,
        )
        return
