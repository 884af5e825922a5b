"""Max and average pooling over windows, and over all spatial axes."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxdl.core import Module
from jaxdl.nn import _check, _window
from jaxdl.nn._window import Padding

__all__ = ["avg_pool", "global_avg_pool", "global_max_pool", "max_pool"]


def max_pooling(
    x: jax.Array,
    window: int | Sequence[int] = 2,
    *,
    stride: int | Sequence[int] | None = None,
    padding: Padding = "VALID",
) -> jax.Array:
    """Computes the maximum of each window: y[n, i, c] = max_m x[n, s i + m - p, c].

    Args:
      x: (N, *space, C).
      window: the size k of the window, one integer for all spatial axes or one for each.
      stride: s, the step of the window; None for the window size, without overlap.
      padding: p, as for `conv`. Padding is never the maximum.

    Returns:
      (N, *positions, C), with floor((n + 2p - k) / s) + 1 positions along each axis. Cells after
      the last complete window are ignored. If several cells have the maximum, they share the
      gradient, or the first receives all of it.

    Raises:
      ValueError: the window does not fit into the input, or is not larger than the padding.
    """
    window, stride, pads = _geometry("max_pool", x, window, stride, padding)
    if _apart(window, stride, pads):
        return _reduce_apart(x, window, jnp.maximum)
    lowest = -jnp.inf if jnp.issubdtype(x.dtype, jnp.floating) else jnp.iinfo(x.dtype).min
    # A NumPy constant: only with a concrete initial value does JAX recognize max pooling, which has
    # a gradient.
    return lax.reduce_window(
        x, np.asarray(lowest, x.dtype), lax.max, (1, *window, 1), (1, *stride, 1), pads
    )


def average_pooling(
    x: jax.Array,
    window: int | Sequence[int] = 2,
    *,
    stride: int | Sequence[int] | None = None,
    padding: Padding = "VALID",
    count_padding: bool = True,
) -> jax.Array:
    """Computes the mean of each window: y[n, i, c] = mean_m x[n, s i + m - p, c].

    Args:
      x, window, stride, padding: see `max_pool`.
      count_padding: whether padding counts as zeros, as in Flax and PyTorch; if not, the mean is
        over the cells of x only, as in Keras.

    Returns:
      (N, *positions, C).

    Raises:
      ValueError: the window does not fit into the input, or is not larger than the padding.
    """
    window, stride, pads = _geometry("avg_pool", x, window, stride, padding)

    if _apart(window, stride, pads):
        return _reduce_apart(x, window, jnp.add) / math.prod(window)

    def total(a):
        zero = np.zeros((), a.dtype)
        return lax.reduce_window(a, zero, lax.add, (1, *window, 1), (1, *stride, 1), pads)

    if count_padding:
        return total(x) / math.prod(window)
    return total(x) / total(jnp.ones((1, *x.shape[1:-1], 1), x.dtype))


def _apart(window, stride, pads) -> bool:
    """Returns whether the windows are adjacent, without overlap, padding or gaps."""
    return tuple(window) == tuple(stride) and not any(map(any, pads))


def _reduce_apart(x, window, operation):
    """Reduces windows that do not overlap, axis by axis, over strided slices."""
    # On a CPU, values and gradient are several times faster than with `lax.reduce_window`.
    for axis, k in enumerate(window, start=1):
        whole = x.shape[axis] // k * k
        cells = [lax.slice_in_dim(x, i, whole, k, axis) for i in range(k)]
        x = functools.reduce(operation, cells)
    return x


def _geometry(what, x, window, stride, padding):
    _check.floating(what, x, min_ndim=3)
    n = x.ndim - 2
    window = _check.per_axis(what, "window", window, n)
    stride = window if stride is None else _check.per_axis(what, "stride", stride, n)
    pads = _window.pads(what, padding, x.shape[1:-1], window, stride)
    if any(max(p) >= k for p, k in zip(pads, window, strict=True)):
        raise ValueError(
            f"{what}: padding is {padding!r} for a window of {window}; expected less padding than "
            "window, because a window would contain nothing but padding."
        )
    _window.positions(what, x.shape[1:-1], window, stride, pads)
    return window, stride, ((0, 0), *pads, (0, 0))


def _layer(kind, operation, config, **arguments):
    def apply(params, state, x, **_):
        return operation(x, **arguments), state

    def init(key, x):
        jax.eval_shape(lambda x: apply({}, {}, x), x)  # raises the errors of shapes
        _check.warn_if_images(kind, "window", arguments["window"], x)
        return {}, {}

    return Module(init, apply, kind, config)


def max_pool(
    window: int | Sequence[int] = 2,
    *,
    stride: int | Sequence[int] | None = None,
    padding: Padding = "VALID",
) -> Module:
    """Creates a max pooling layer.

    Args:
      window, stride, padding: see `nn.functional.max_pool`. For one spatial axis, (N, L, C), pass
        window as a tuple.

    Returns:
      A `Module` without parameters from (N, *space, C) to (N, *positions, C).

    Raises:
      ValueError: at init, the input is not floating-point or the window does not fit.
    """
    options = {"window": window, "stride": stride, "padding": padding}
    return _layer("max_pool", max_pooling, options, **options)


def avg_pool(
    window: int | Sequence[int] = 2,
    *,
    stride: int | Sequence[int] | None = None,
    padding: Padding = "VALID",
    count_padding: bool = True,
) -> Module:
    """Creates an average pooling layer.

    Args:
      window, stride, padding, count_padding: see `nn.functional.avg_pool`. For one spatial axis,
        (N, L, C), pass window as a tuple.

    Returns:
      A `Module` without parameters from (N, *space, C) to (N, *positions, C).

    Raises:
      ValueError: at init, the input is not floating-point or the window does not fit.
    """
    options = {
        "window": window,
        "stride": stride,
        "padding": padding,
        "count_padding": count_padding,
    }
    return _layer("avg_pool", average_pooling, options, **options)


def global_avg_pool() -> Module:
    """Creates a layer that averages over all spatial axes, (N, *space, C) to (N, C).

    Lin et al. 2014, arXiv 1312.4400.

    Returns:
      A `Module` without parameters of x, or of `(x (N, T, C), lengths (N,))`. With lengths, the
      mean is over the steps before the padding of each row; it is 0 for rows of length 0.

    Raises:
      ValueError: at init, the input is not floating-point or has no spatial axis.
    """

    def mean(x, mask):
        if mask is None:
            return jnp.mean(x, _space("global_avg_pool", x))
        # At least 1, so that rows of length 0 give 0 and not 0 / 0.
        count = jnp.maximum(jnp.sum(mask, 1), 1).astype(x.dtype)
        return jnp.sum(jnp.where(mask, x, 0), 1) / count

    return _global("global_avg_pool", mean)


def global_max_pool() -> Module:
    """Creates a layer that takes the maximum over all spatial axes, (N, *space, C) to (N, C).

    Returns:
      A `Module` without parameters of x, or of `(x (N, T, C), lengths (N,))`. With lengths, the
      maximum is over the steps before the padding of each row; it is 0 for rows of length 0.

    Raises:
      ValueError: at init, the input is not floating-point or has no spatial axis.
    """

    def maximum(x, mask):
        if mask is None:
            return jnp.max(x, _space("global_max_pool", x))
        lowest = jnp.finfo(x.dtype).min
        return jnp.where(jnp.any(mask, 1), jnp.max(jnp.where(mask, x, lowest), 1), 0)

    return _global("global_max_pool", maximum)


def _global(kind, operation):
    def apply(params, state, x, lengths=None, **_):
        mask = None
        if lengths is not None:
            _check.floating(kind, x, min_ndim=3)
            if x.ndim != 3 or lengths.shape != x.shape[:1]:
                raise ValueError(
                    f"{kind}: x {x.shape} and lengths {lengths.shape}; expected (N, T, C) and (N,)."
                )
            mask = (jnp.arange(x.shape[1], dtype=lengths.dtype) < lengths[:, None])[..., None]
        return operation(x, mask), state

    def init(key, x, *lengths):
        jax.eval_shape(lambda *inputs: apply({}, {}, *inputs), x, *lengths)
        return {}, {}

    return Module(init, apply, kind, takes_lengths=True)


def _space(what: str, x: jax.Array) -> tuple[int, ...]:
    _check.floating(what, x, min_ndim=3)
    return tuple(range(1, x.ndim - 1))
