"""Convolution by operations that XLA compiles to fast CPU code, also inside loops.

XLA:CPU is fast at convolutions of many channels in the standard layout, at matrix products and at
elementwise sums of products. So a convolution of few input channels, such as that of an image, is
computed as a sum over the cells of its window, and so is a depthwise one, where this is 10 to 80
times as fast as XLA's convolution of many groups. One of few output channels, such as the gradient
with respect to an image, is computed as a matrix product and shifted sums. One of few positions is
a product of patches: on maps of 2x2 positions it is 20 to 60 times as fast.

A convolution y = x * K is linear in x and in K. Its tangent is dx * K + x * dK, and reverse mode
transposes both terms. The weight gradient of autodiff takes two to three times as long as the
forward pass, and ten to forty times inside a compiled loop, where XLA selects no layout for it.
Hence both terms are written so that their transposes are fast:

- dx * K is the transpose of the convolution g * flip(K), so its transpose is that convolution.
- x * dK is a matrix product of patches of x with dK, so its transpose is patches^T g. The patches
  are recomputed in the backward pass. If g has no more channels than x, copies of g are formed
  instead, and the gradient is x^T patches(g). Examples are processed in groups, so that the copies
  stay in the cache.

Both terms consist of ordinary operations. So forward mode, higher derivatives and `vmap` work,
which a `custom_vjp` would prevent.
"""

from __future__ import annotations

import functools
import itertools
import math
import operator
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import SymbolicZero

Pairs = tuple[tuple[int, int], ...]

FEW_CHANNELS = 8
"""The most channels for which the patches of whole windows form one product. Above, there is one
product for each row of the window, which needs less memory."""

THIN = 4
"""The most channels, or features, for which XLA's convolution is not used."""

TERMS = 80
"""The most terms of an unrolled sum; each of them takes time to compile."""

PRODUCTS = 1300
"""The most multiplications per position for which an elementwise sum is faster."""

NARROW = 16
"""The most features for which the sum is used if the output is a residual, see `_forward`."""

POSITIONS = 16
"""The most positions of an example for which the product of patches is faster."""

CHUNK = 5 * 2**20
"""Size of the shifted copies formed at a time, in bytes, so that they stay in the cache."""


def numbers(n: int) -> lax.ConvDimensionNumbers:
    """Returns the dimension numbers for n spatial axes, channels last: NHWC and HWIO for n = 2."""
    data, kernel = (0, n + 1, *range(1, n + 1)), (n + 1, n, *range(n))
    return lax.ConvDimensionNumbers(data, kernel, data)


def _plain(x: jax.Array, kernel: jax.Array, pads: Pairs) -> jax.Array:
    n = len(pads)
    return lax.conv_general_dilated(x, kernel, (1,) * n, pads, dimension_numbers=numbers(n))


@functools.partial(jax.jit, static_argnums=(2, 3), inline=True)
def _forward(x: jax.Array, kernel: jax.Array, pads: Pairs, residual: bool) -> jax.Array:
    """Computes the convolution by the fastest algorithm for its numbers of channels."""
    *window, channels, features = kernel.shape
    cells = math.prod(window)
    # In half precision the unrolled sum would be rounded after every term.
    if x.dtype in (jnp.float32, jnp.float64):
        few = channels <= THIN and cells * channels <= TERMS
        if few and cells * channels * features <= PRODUCTS:
            compute = functools.partial(_sum_over_window, kernel=kernel, pads=pads)
            if not residual:
                return compute(x)
            # XLA would recompute the sum of a residual in every consumer, in slower loops. It does
            # not fuse across a loop over examples.
            if features <= NARROW and _can_split(x) and len(x) > 1:
                return _by_parts(compute, x, len(x) // 2)
        elif features <= THIN and cells * features <= TERMS:
            return products(x, kernel, pads)
    return _plain(x, kernel, pads)


def is_fastest() -> bool:
    """Returns whether `convolution_on_cpu` is faster than XLA's convolution where it applies.

    It is on a CPU, unless jaxdl_cpu is enabled: then XLA's convolutions call oneDNN.
    """
    return jax.default_backend() == "cpu" and not getattr(jax.config, "jaxdl_cpu_enabled", False)


def is_fast_on_cpu(
    x: jax.Array, kernel: jax.Array, pads: Pairs, stride: Sequence[int], groups: int
) -> bool:
    """Returns whether `convolution_on_cpu` applies: stride 1, few positions, or depthwise."""
    if groups == 1:
        return all(s == 1 for s in stride) or has_few_positions(x, kernel, pads, stride)
    # In half precision the sum over the window would be rounded after every term.
    exact = x.dtype in (jnp.float32, jnp.float64) and math.prod(kernel.shape[:-2]) <= TERMS
    return exact and groups == x.shape[-1] == kernel.shape[-1]


def has_few_positions(x: jax.Array, kernel: jax.Array, pads: Pairs, stride: Sequence[int]) -> bool:
    """Returns whether the window has so few positions that patches are faster."""
    sizes = zip(x.shape[1:-1], kernel.shape[:-2], pads, stride, strict=True)
    positions = math.prod((n + lo + hi - k) // s + 1 for n, k, (lo, hi), s in sizes)
    return _can_split(x) and math.prod(kernel.shape[:-2]) > 1 and positions <= POSITIONS


# Not inline: without `jax.jit` around it, a gradient would compile the conditional at every call.
@functools.partial(jax.jit, static_argnums=(2, 3))
def convolution_on_cpu(
    x: jax.Array, kernel: jax.Array, pads: Pairs, stride: tuple[int, ...] | None = None
) -> jax.Array:
    """Computes a convolution, on a CPU by the algorithms of this module.

    Compiled for another platform, it is XLA's convolution. The program contains both, so that
    functions that read programs find a convolution (`jaxdl.jaxpr.platform`). Derivatives on a CPU
    are computed by this module too.

    Args:
      x: (N, *space, C).
      kernel: (*window, C, F), or (*window, 1, C) for a depthwise convolution, of x's dtype.
      pads: zeros before and after, for each spatial axis.
      stride: the step of the window for each spatial axis; None for 1.

    Returns:
      (N, *positions, F).
    """
    n = len(pads)
    stride = (1,) * n if stride is None else stride
    groups = x.shape[-1] // kernel.shape[-2]

    def on_cpu(x, kernel):
        if groups > 1:
            return _depthwise(x, kernel, pads, stride)
        if has_few_positions(x, kernel, pads, stride):
            return _of_whole_patches(x, kernel, pads, stride)
        return _convolution(x, kernel, pads, False)

    def elsewhere(x, kernel):
        return lax.conv_general_dilated(
            x, kernel, stride, pads, dimension_numbers=numbers(n), feature_group_count=groups
        )

    return lax.platform_dependent(x, kernel, cpu=on_cpu, default=elsewhere)


@functools.partial(jax.custom_jvp, nondiff_argnums=(2, 3))
def _convolution(x: jax.Array, kernel: jax.Array, pads: Pairs, residual: bool) -> jax.Array:
    """Computes the convolution; `residual` if the output is saved for the backward pass."""
    return _forward(x, kernel, pads, residual)


def _tangent(pads, _, primals, tangents):
    (x, kernel), (dx, dkernel) = primals, tangents
    y = _convolution(x, kernel, pads, True)
    tangent = jnp.zeros((), y.dtype)
    if not isinstance(dx, SymbolicZero):
        tangent += _of_x(dx, kernel, pads)
    if not isinstance(dkernel, SymbolicZero):
        tangent += products(x, dkernel, pads)
    return y, tangent


# With ordinary zeros a gradient of the kernel alone would compute that of x too.
_convolution.defjvp(_tangent, symbolic_zeros=True)


@functools.partial(jax.jit, static_argnums=2)
def _of_x(x: jax.Array, kernel: jax.Array, pads: Pairs) -> jax.Array:
    """Computes the convolution as the transpose of that with the flipped kernel."""
    window = kernel.shape[:-2]
    flipped = jnp.flip(kernel, range(len(window))).swapaxes(-1, -2)
    edges = tuple((k - 1 - lo, k - 1 - hi) for k, (lo, hi) in zip(window, pads, strict=True))
    y = jax.eval_shape(lambda x: _plain(x, kernel, pads), x)
    return jax.linear_transpose(lambda g: _forward(g, flipped, edges, False), y)(x)[0]


@functools.partial(jax.custom_jvp, nondiff_argnums=(2, 3))
def _depthwise(x: jax.Array, kernel: jax.Array, pads: Pairs, stride: tuple[int, ...]) -> jax.Array:
    weights = kernel.reshape(-1, x.shape[-1])
    cells = _strided_cells(x, kernel, pads, stride)
    return functools.reduce(operator.add, [x * w for x, w in zip(cells, weights, strict=True)])


def _depthwise_tangent(pads, stride, primals, tangents):
    (x, kernel), (dx, dkernel) = primals, tangents
    y = _depthwise(x, kernel, pads, stride)
    tangent = jnp.zeros((), y.dtype)
    if not isinstance(dx, SymbolicZero):
        tangent += _depthwise(dx, kernel, pads, stride)
    if not isinstance(dkernel, SymbolicZero):
        # The transpose reads x once for each cell of the window, so x must stay in the cache.
        compute = jax.checkpoint(lambda x: _depthwise(x, dkernel, pads, stride))
        most = max(1, CHUNK // (8 * math.prod(x.shape[1:]) * x.dtype.itemsize))
        parts = _can_split(x) and len(x) > most
        tangent += _by_parts(compute, x, most) if parts else compute(x)
    return y, tangent


_depthwise.defjvp(_depthwise_tangent, symbolic_zeros=True)


def _strided_cells(x, kernel, pads, stride) -> list[jax.Array]:
    """Returns for each cell of the window the values of x that it meets, (N, *positions, C)."""
    window = kernel.shape[:-2]
    edges = [(lo, hi, 0) for lo, hi in pads]
    x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *edges, (0, 0, 0)])
    last = [(n - k) // s * s for n, k, s in zip(x.shape[1:-1], window, stride, strict=True)]

    def values(cell):
        along = [slice(i, i + n + 1, s) for i, n, s in zip(cell, last, stride, strict=True)]
        return x[(slice(None), *along)]

    return [values(cell) for cell in itertools.product(*map(range, window))]


def _of_whole_patches(x, kernel, pads, stride):
    """Computes patches(x) K, with the patches of whole windows."""
    patches = jnp.concatenate(_strided_cells(x, kernel, pads, stride), -1)
    y = patches.reshape(-1, patches.shape[-1]) @ kernel.reshape(-1, kernel.shape[-1])
    return y.reshape(*patches.shape[:-1], kernel.shape[-1])


def products(x: jax.Array, kernel: jax.Array, pads: Pairs) -> jax.Array:
    """Computes a convolution of stride 1 by matrix products over shifted copies.

    The copies are those of x if it has fewer channels than the output, else of the output. On one
    device, examples are processed in groups.

    Args:
      x, kernel, pads: see `convolution_on_cpu`.

    Returns:
      (N, *positions, F).
    """
    *window, channels, features = kernel.shape
    compute = _of_patches if channels < features else _to_patches
    # The copies are larger than x by the size of the window, so they are not stored.
    compute = jax.checkpoint(functools.partial(compute, pads=pads))
    copies = math.prod(window) * min(channels, features) * math.prod(x.shape[1:-1])
    most = max(1, CHUNK // (copies * x.dtype.itemsize))
    if not _can_split(x) or len(x) <= most:
        return compute(x, kernel)
    return _by_parts(lambda x: compute(x, kernel), x, most)


def _can_split(x):
    """Returns whether the batch may be split: not over several devices, nor at a symbolic size."""
    # See `affine` in `jaxdl.nn.dense` for why the number of devices decides.
    return jax.device_count() == 1 and isinstance(x.shape[0], int)


def _by_parts(f, x, most):
    """Maps f over groups of examples, of the largest divisor of their number up to `most`."""
    size = max(n for n in range(1, most + 1) if len(x) % n == 0)
    y = lax.map(f, x.reshape(-1, size, *x.shape[1:]))
    return y.reshape(-1, *y.shape[2:])


def _sum_over_window(x, kernel, pads):
    """Computes the sum over the window and the channels, unrolled; XLA fuses it into one loop."""
    *window, channels, features = kernel.shape
    edges = [(lo, hi, 0) for lo, hi in pads]
    x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *edges, (0, 0, 0)])
    sizes = [n - k + 1 for n, k in zip(x.shape[1:-1], window, strict=True)]
    offsets = itertools.product(*map(range, window))
    cells = [x[(slice(None), *_slices(offset, sizes))] for offset in offsets]
    inputs = [cell[..., c : c + 1] for cell in cells for c in range(channels)]
    weights = kernel.reshape(-1, features)
    return functools.reduce(operator.add, [x * w for x, w in zip(inputs, weights, strict=True)])


def _of_patches(x, kernel, pads):
    """Computes patches(x) K, so that the gradient of K is patches^T g."""
    *window, channels, features = kernel.shape
    x = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    sizes = [n - k + 1 for n, k in zip(x.shape[1:-1], window, strict=True)]
    rows = 0 if channels <= FEW_CHANNELS else 1
    patches = jnp.concatenate(
        [
            x[(slice(None),) * (1 + rows) + _slices(offset, sizes[rows:])]
            for offset in itertools.product(*map(range, window[rows:]))
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
    """Computes the sum of shifted products of x, so that the gradient of K is x^T copies(g).

    Cell i of the window moves x at p + i - lo to position p.
    """
    *window, channels, features = kernel.shape
    weights = jnp.moveaxis(kernel, -2, 0).reshape(channels, -1)
    parts = jnp.split(x.reshape(-1, channels) @ weights, math.prod(window), axis=1)
    zero = jnp.zeros((), x.dtype)
    y: Any = 0
    for part, offset in zip(parts, itertools.product(*map(range, window)), strict=True):
        moves = [
            (lo - i, hi - k + 1 + i, 0) for i, k, (lo, hi) in zip(offset, window, pads, strict=True)
        ]
        y = y + lax.pad(part.reshape(*x.shape[:-1], features), zero, [(0, 0, 0), *moves, (0, 0, 0)])
    return y


def _slices(start, sizes) -> tuple[slice, ...]:
    return tuple(slice(i, i + n) for i, n in zip(start, sizes, strict=True))
