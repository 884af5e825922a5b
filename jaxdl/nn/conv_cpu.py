"""A convolution in the forms that XLA compiles well on a CPU, inside of loops too.

XLA:CPU is fast at a convolution of many channels in the standard layout, at matrix products and at
sums of products, element by element. So a convolution of an image's few channels is written as the
sum over its window's cells, and one that makes few channels, as does the gradient of the images, as
a product and shifted sums.

A convolution y = x * K is linear in x and in K, so that its tangent is dx * K + x * dK, and reverse
mode transposes the two terms. The weight gradient that autodiff makes takes two to three times the
forward pass, and inside a compiled loop, where no layout is chosen for it, ten to forty times.
Hence the two terms are written so that what they transpose to is fast:

- dx * K as the transpose of the convolution g * flip(K): transposed, it is that convolution;
- x * dK as matrix products of x's patches with dK: transposed, patches^T g. The patches are formed
  again in the backward pass, not kept. Where g has no more channels than x, it is g that is copied
  and moved, and the gradient is x^T patches(g). Some examples at a time, so that the copies stay in
  the cache.

The terms are ordinary operations, so forward mode, derivatives of derivatives, `vmap` and `jit` all
work, which a `custom_vjp` would forbid.
"""

from __future__ import annotations

import functools
import itertools
import math
import operator
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import SymbolicZero

Pairs = tuple[tuple[int, int], ...]

FEW_CHANNELS = 8
"""Up to so many, the patches of whole windows are one product; above, it is one for each row of the
window, since whole patches would be as many times as large as the window has cells."""

THIN = 4
"""Up to so many channels, or features, the convolution is written without XLA's own."""

TERMS = 80
"""The most terms that a sum is written out of: each takes time to compile."""

PRODUCTS = 1300
"""The most multiplications for a position that are worth doing element by element."""

NARROW = 16
"""The most features for which such a sum is worth the loop that keeps it for a derivative."""

CHUNK = 5 * 2**20
"""Bytes of shifted copies that are made at a time: what stays in the cache need not be written."""


def numbers(n: int) -> lax.ConvDimensionNumbers:
    """Channels last: NHWC and HWIO for n = 2 axes of space."""
    data, kernel = (0, n + 1, *range(1, n + 1)), (n + 1, n, *range(n))
    return lax.ConvDimensionNumbers(data, kernel, data)


def _plain(x: jax.Array, kernel: jax.Array, pads: Pairs) -> jax.Array:
    n = len(pads)
    return lax.conv_general_dilated(x, kernel, (1,) * n, pads, dimension_numbers=numbers(n))


@functools.partial(jax.jit, static_argnums=(2, 3), inline=True)
def _forward(x: jax.Array, kernel: jax.Array, pads: Pairs, kept: bool) -> jax.Array:
    """The convolution of stride 1, in the fastest form for its channels."""
    *window, channels, features = kernel.shape
    cells = math.prod(window)
    if x.dtype in (jnp.float32, jnp.float64):  # a sum in less would be rounded at every term
        few = channels <= THIN and cells * channels <= TERMS
        if few and cells * channels * features <= PRODUCTS:
            form = functools.partial(_sum_over_window, kernel=kernel, pads=pads)
            if not kept:
                return form(x)
            if features <= NARROW and _in_one_place(x) and len(x) > 1:
                return _by_parts(form, x, len(x) // 2)
        elif features <= THIN and cells * features <= TERMS:
            return products(x, kernel, pads)
    return _plain(x, kernel, pads)


@functools.partial(jax.custom_jvp, nondiff_argnums=(2, 3))
def convolution_on_cpu(
    x: jax.Array, kernel: jax.Array, pads: Pairs, kept: bool = False
) -> jax.Array:
    """The convolution of stride 1, it and its derivatives in the forms of this module.

    Args:
      x: (N, *space, C).
      kernel: (*window, C, F), of x's dtype.
      pads: zeros before and after, for each axis of space.
      kept: whether the output is to be kept for a derivative. XLA would rather compute a sum again
        wherever it is used, and in worse loops; it does not look into a loop over examples.

    Returns:
      (N, *positions, F).
    """
    return _forward(x, kernel, pads, kept)


def _tangent(pads, _, primals, tangents):
    (x, kernel), (dx, dkernel) = primals, tangents
    y = convolution_on_cpu(x, kernel, pads, True)
    tangent = jnp.zeros((), y.dtype)
    if not isinstance(dx, SymbolicZero):
        tangent += _of_x(dx, kernel, pads)
    if not isinstance(dkernel, SymbolicZero):
        tangent += products(x, dkernel, pads)
    return y, tangent


convolution_on_cpu.defjvp(_tangent, symbolic_zeros=True)


@functools.partial(jax.jit, static_argnums=2)
def _of_x(x: jax.Array, kernel: jax.Array, pads: Pairs) -> jax.Array:
    """The convolution, whose transpose is that of its output with the kernel turned."""
    window = kernel.shape[:-2]
    turned = jnp.flip(kernel, range(len(window))).swapaxes(-1, -2)
    edges = tuple((k - 1 - lo, k - 1 - hi) for k, (lo, hi) in zip(window, pads, strict=True))
    y = jax.eval_shape(lambda x: _plain(x, kernel, pads), x)
    return jax.linear_transpose(lambda g: _forward(g, turned, edges, False), y)(x)[0]


def products(x: jax.Array, kernel: jax.Array, pads: Pairs) -> jax.Array:
    """The convolution of stride 1 as matrix products, over shifted copies of its narrower side.

    Copies are made of x where it has fewer channels than the output has features, and otherwise of
    the output; on one device, of some examples at a time.

    Args:
      x, kernel, pads: as for `convolution_on_cpu`.

    Returns:
      (N, *positions, F).
    """
    *window, channels, features = kernel.shape
    form = _of_patches if channels < features else _to_patches
    form = jax.checkpoint(functools.partial(form, pads=pads))
    copies = math.prod(window) * min(channels, features) * math.prod(x.shape[1:-1])
    most = max(1, CHUNK // (copies * x.dtype.itemsize))
    if not _in_one_place(x) or len(x) <= most:
        return form(x, kernel)
    return _by_parts(lambda x: form(x, kernel), x, most)


def _in_one_place(x):
    """Whether some examples at a time may be taken: on several devices they stay where they are.

    Neither can a batch be cut whose size is left open, as in `jax.export`.
    """
    return jax.device_count() == 1 and isinstance(x.shape[0], int)


def _by_parts(f, x, most):
    """f of x, as many examples at a time as divide them and are not more than `most`."""
    size = max(n for n in range(1, most + 1) if len(x) % n == 0)
    y = lax.map(f, x.reshape(-1, size, *x.shape[1:]))
    return y.reshape(-1, *y.shape[2:])


def _sum_over_window(x, kernel, pads):
    """The sum over the window's cells and the channels, written out: XLA makes one loop of it."""
    *window, channels, features = kernel.shape
    edges = [(lo, hi, 0) for lo, hi in pads]
    x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *edges, (0, 0, 0)])
    sizes = [n - k + 1 for n, k in zip(x.shape[1:-1], window, strict=True)]
    cells = [x[(slice(None), *_cells(at, sizes))] for at in itertools.product(*map(range, window))]
    inputs = [cell[..., c : c + 1] for cell in cells for c in range(channels)]
    weights = kernel.reshape(-1, features)
    return functools.reduce(operator.add, [x * w for x, w in zip(inputs, weights, strict=True)])


def _of_patches(x, kernel, pads):
    """patches(x) . K, so that the gradient of K is patches^T g."""
    *window, channels, features = kernel.shape
    x = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    sizes = [n - k + 1 for n, k in zip(x.shape[1:-1], window, strict=True)]
    rows = 0 if channels <= FEW_CHANNELS else 1
    patches = jnp.concatenate(
        [
            x[(slice(None),) * (1 + rows) + _cells(at, sizes[rows:])]
            for at in itertools.product(*map(range, window[rows:]))
        ],
        axis=-1,
    )
    if not rows:
        y = patches.reshape(-1, patches.shape[-1]) @ kernel.reshape(-1, features)
    else:
        y = sum(
            patches[:, i : i + sizes[0]].reshape(-1, patches.shape[-1])
            @ kernel[i].reshape(-1, features)
            for i in range(window[0])
        )
    return jnp.reshape(y, (x.shape[0], *sizes, features))


def _to_patches(x, kernel, pads):
    """x times the weights of every cell, moved and added up, so that K's gradient is x^T copies(g).

    Cell i of the window takes x at p + i - lo to position p.
    """
    *window, channels, features = kernel.shape
    weights = jnp.moveaxis(kernel, -2, 0).reshape(channels, -1)
    parts = jnp.split(x.reshape(-1, channels) @ weights, math.prod(window), axis=1)
    zero = jnp.zeros((), x.dtype)
    y: Any = 0
    for part, at in zip(parts, itertools.product(*map(range, window)), strict=True):
        moves = [
            (lo - i, hi - k + 1 + i, 0) for i, k, (lo, hi) in zip(at, window, pads, strict=True)
        ]
        y = y + lax.pad(part.reshape(*x.shape[:-1], features), zero, [(0, 0, 0), *moves, (0, 0, 0)])
    return y


def _cells(start, sizes) -> tuple[slice, ...]:
    return tuple(slice(i, i + n) for i, n in zip(start, sizes, strict=True))
