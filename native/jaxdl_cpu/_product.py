"""Which matrix products call oneDNN, and with which strides.

Letters: B products of (M, K) by (K, N).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

LEAST_OPERATIONS = 2.0 * 32**3
"""Multiplications and additions below which a call does not pay."""


class View(NamedTuple):
    """An operand as (B, rows, columns): the permutation that comes first, and strides after it."""

    order: tuple[int, ...] | None
    strides: tuple[int, int, int]

    def prepare(self, x: jax.Array) -> jax.Array:
        return x if self.order is None else lax.transpose(x, self.order)


def plan(
    a: Any,
    b: Any,
    *,
    dimension_numbers: Any,
    precision: Any,
    preferred_element_type: Any,
    out_sharding: Any = None,
) -> Callable[[jax.Array, jax.Array], jax.Array] | str:
    """Returns the function of the operands that calls oneDNN, or why there is none."""
    if reason := why_not(a, b, precision, preferred_element_type, out_sharding):
        return reason
    (contract_a, contract_b), (batch_a, batch_b) = dimension_numbers
    order = np.argsort(contract_a)
    contract_a, contract_b = ([dims[i] for i in order] for dims in (contract_a, contract_b))
    free_a, free_b = (
        [d for d in range(x.ndim) if d not in (*contract, *batch)]
        for x, contract, batch in ((a, contract_a, batch_a), (b, contract_b, batch_b))
    )
    sizes = [
        math.prod(x.shape[d] for d in dims)
        for x, dims in ((a, batch_a), (a, free_a), (b, free_b), (a, contract_a))
    ]
    if 0 in sizes:
        return "empty"
    if 2.0 * math.prod(sizes) < LEAST_OPERATIONS * sizes[0]:
        return "small"
    left = view(a.shape, (batch_a, free_a, contract_a))
    right = view(b.shape, (batch_b, contract_b, free_b))
    shape = [a.shape[d] for d in (*batch_a, *free_a)] + [b.shape[d] for d in free_b]
    result = jax.ShapeDtypeStruct(tuple(shape), jnp.float32)

    def multiply(a, b):
        a, b = (
            x if v.order is None else lax.transpose(x, v.order) for x, v in ((a, left), (b, right))
        )
        return call(a, b, result, sizes, left.strides, right.strides)

    return multiply


def call(a, b, result, sizes, a_strides, b_strides) -> jax.Array:
    """Calls the handler; strides are those of (B, M, K) and (B, K, N), in elements."""
    attributes = {"sizes": sizes, "a_strides": a_strides, "b_strides": b_strides}
    attributes = {name: np.array(values, np.int64) for name, values in attributes.items()}
    return jax.ffi.ffi_call("jaxdl_multiply", result)(a, b, **attributes)


def why_not(
    a: Any, b: Any, precision: Any, preferred_element_type: Any, out_sharding: Any
) -> str | None:
    """Returns why an operation on two arrays is not of float32 on one device, or None."""
    if a.dtype != jnp.float32 or b.dtype != jnp.float32:
        return f"{a.dtype} by {b.dtype}"
    if preferred_element_type not in (None, jnp.dtype("float32")):
        return f"result of {preferred_element_type}"
    if out_sharding is not None:
        return "sharded result"
    precisions = precision if isinstance(precision, tuple) else (precision,)
    # Each of these means float32 on a CPU; the algorithm of a product does not.
    if not all(value is None or isinstance(value, lax.Precision) for value in precisions):
        return f"precision {precision}"
    return None


def view(shape: Sequence[int], groups: Sequence[Sequence[int]]) -> View:
    """Returns an operand's view as three dimensions, each of a group of its own dimensions.

    The operand is transposed if the dimensions of a group are not adjacent, or if no dimension of
    its matrices is contiguous.
    """
    strides = [math.prod(shape[d + 1 :]) for d in range(len(shape))]
    merged = [merge(shape, strides, group) for group in groups]
    if None not in merged:
        (_, batch), (rows, row_stride), (columns, column_stride) = merged
        if (column_stride == 1 or columns == 1) and (row_stride >= columns or rows == 1):
            return View(None, (batch, max(row_stride, columns), 1))
        if (row_stride == 1 or rows == 1) and (column_stride >= rows or columns == 1):
            return View(None, (batch, 1, max(column_stride, rows)))
    _, rows, columns = (math.prod(shape[d] for d in group) for group in groups)
    return View(tuple(d for group in groups for d in group), (rows * columns, columns, 1))


def merge(
    shape: Sequence[int], strides: Sequence[int], dims: Sequence[int]
) -> tuple[int, int] | None:
    """Returns size and stride of dimensions as one, or None if they are not adjacent in order."""
    dims = [d for d in dims if shape[d] > 1]
    if not dims:
        return 1, 1
    for d, following in zip(dims, dims[1:], strict=False):
        if strides[d] != strides[following] * shape[following]:
            return None
    return math.prod(shape[d] for d in dims), strides[dims[-1]]
