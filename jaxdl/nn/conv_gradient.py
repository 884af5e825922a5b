"""A convolution whose derivatives XLA compiles well on a CPU, inside of loops too.

A convolution y = x * K is linear in x and in K, so that its tangent is dx * K + x * dK, and reverse
mode transposes the two terms. XLA:CPU is fast at a convolution in the standard layout and at matrix
products, but the weight gradient that autodiff makes is neither: alone it takes two to three times
the forward pass, and inside a compiled loop, where no layout is chosen for it, ten to forty times.
Hence the two terms are written so that what they transpose to is fast:

- dx * K as the transpose of the convolution g * flip(K): transposed, it is that convolution;
- x * dK as matrix products of x's patches with dK: transposed, patches^T g. The patches are formed
  again in the backward pass, not kept.

The terms are ordinary operations, so forward mode, derivatives of derivatives, `vmap` and `jit` all
work, which a `custom_vjp` would forbid.
"""

from __future__ import annotations

import functools
import itertools

import jax
import jax.numpy as jnp
from jax import lax

Pairs = tuple[tuple[int, int], ...]

FEW_CHANNELS = 8
"""Up to so many, the patches of whole windows are one product; above, it is one for each row of the
window, since whole patches would be as many times as large as the window has cells."""


def numbers(n: int) -> lax.ConvDimensionNumbers:
    """Channels last: NHWC and HWIO for n = 2 axes of space."""
    data, kernel = (0, n + 1, *range(1, n + 1)), (n + 1, n, *range(n))
    return lax.ConvDimensionNumbers(data, kernel, data)


def _plain(x: jax.Array, kernel: jax.Array, pads: Pairs) -> jax.Array:
    n = len(pads)
    return lax.conv_general_dilated(x, kernel, (1,) * n, pads, dimension_numbers=numbers(n))


@functools.partial(jax.custom_jvp, nondiff_argnums=(2,))
def convolution_by_products(x: jax.Array, kernel: jax.Array, pads: Pairs) -> jax.Array:
    """The convolution of stride 1, its derivatives as convolutions and matrix products.

    Args:
      x: (N, *space, C).
      kernel: (*window, C, F), of x's dtype.
      pads: zeros before and after, for each axis of space.

    Returns:
      (N, *positions, F).
    """
    return _plain(x, kernel, pads)


@convolution_by_products.defjvp
def _(pads, primals, tangents):
    (x, kernel), (dx, dkernel) = primals, tangents
    y = convolution_by_products(x, kernel, pads)
    window = kernel.shape[:-2]
    turned = jnp.flip(kernel, range(len(window))).swapaxes(-1, -2)
    edges = tuple((k - 1 - lo, k - 1 - hi) for k, (lo, hi) in zip(window, pads, strict=True))
    (from_x,) = jax.linear_transpose(lambda g: _plain(g, turned, edges), y)(dx)
    from_kernel = jax.checkpoint(lambda x, dkernel: products(x, dkernel, pads))(x, dkernel)
    return y, from_x + from_kernel


def products(x: jax.Array, kernel: jax.Array, pads: Pairs) -> jax.Array:
    """The convolution of stride 1 as matrix products of patches, over shifted copies of x.

    Args:
      x, kernel, pads: as for `convolution_by_products`.

    Returns:
      (N, *positions, F).
    """
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


def _cells(start, sizes) -> tuple[slice, ...]:
    return tuple(slice(i, i + n) for i, n in zip(start, sizes, strict=True))
