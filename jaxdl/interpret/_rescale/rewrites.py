"""Operations rewritten as programs of others that have an exact rule."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.jaxpr.graph import Operation
from jaxdl.jaxpr.primitives import readers


def _clamp(operation: Operation):
    return lambda low, x, high: jnp.minimum(jnp.maximum(x, low), high)


def _reduce_prod(operation: Operation):
    axes = readers().axes(operation.equation)

    def product(x):
        kept = [axis for axis in range(x.ndim) if axis not in axes]
        x = x.transpose(*axes, *kept).reshape(-1, *(x.shape[axis] for axis in kept))
        # A tree of pairwise products: its depth is logarithmic, so rounding and tracing are small.
        while len(x) > 1:
            half = len(x) // 2
            x = jnp.concatenate([x[:half] * x[half : 2 * half], x[2 * half :]])
        return x[0]

    return product


def _cumulative(combine):
    def rewrite(operation: Operation):
        axis, reverse = readers().cumulative(operation.equation)
        return lambda x: jax.lax.associative_scan(combine, x, reverse, axis)

    return rewrite


def _sort(operation: Operation):
    """Sorts by Batcher's bitonic network (1968): maxima and minima of pairs."""
    (axis,) = readers().axes(operation.equation)
    return lambda x: jnp.moveaxis(_sort_last(jnp.moveaxis(x, axis, -1)), -1, axis)


def _top_k(operation: Operation):
    k, axis = readers().top_k(operation.equation)

    def largest(x):
        return -_sort_last(-jnp.moveaxis(x, axis, -1))[..., :k]

    return lambda x: jnp.moveaxis(largest(x), -1, axis)


def _sort_last(x):
    n = x.shape[-1]
    bits = max(n - 1, 0).bit_length()
    number = np.arange(2**bits)
    stages = [(2**k, 2**j) for k in range(1, bits + 1) for j in reversed(range(k))]
    if not stages:
        return x
    partner = np.stack([number ^ j for _, j in stages])
    lower = np.stack([((number & j) == 0) == ((number & k) == 0) for k, j in stages])
    # Infinity is sorted to the end, where it is cut off.
    padded = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, 2**bits - n)], constant_values=jnp.inf)

    def exchange(x, stage):
        partner, lower = stage
        other = jnp.take(x, partner, axis=-1, mode="clip")
        return jnp.where(lower, jnp.minimum(x, other), jnp.maximum(x, other)), None

    return jax.lax.scan(exchange, padded, (partner, lower))[0][..., :n]


def _position(extreme):
    def rewrite(operation: Operation):
        (axis,) = readers().axes(operation.equation)

        def count_before_first(x):
            before = x != extreme(x, axis, keepdims=True)
            return jnp.sum(jnp.cumprod(before.astype(x.dtype), axis), axis)

        return count_before_first

    return rewrite


def _reduce(reduce):
    return lambda operation: lambda x: reduce(x, readers().axes(operation.equation))


REWRITES: dict[str, Callable[[Operation], Callable]] = {
    "argmax": _position(jnp.max),
    "argmin": _position(jnp.min),
    "clamp": _clamp,
    "cumlogsumexp": _cumulative(jnp.logaddexp),
    "cumprod": _cumulative(jnp.multiply),
    "reduce_and": _reduce(jnp.min),
    "reduce_or": _reduce(jnp.max),
    "reduce_prod": _reduce_prod,
    "sort": _sort,
    "top_k": _top_k,
}
"""Functions from an operation to an equivalent function of its active operands."""
