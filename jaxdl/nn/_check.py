"""Checks of arguments and inputs that several layers share."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jaxdl._check import require_ints


def positive(layer: str, **sizes: int) -> None:
    """Raises a `ValueError` unless every size is an integer >= 1."""
    require_ints(layer, 1, **sizes)


def per_axis(layer: str, name: str, value: int | Sequence[int], n: int) -> tuple[int, ...]:
    """Returns n sizes, from one integer for all axes or a sequence of n integers."""
    sizes = (value,) * n if isinstance(value, int) else tuple(value)
    if len(sizes) != n:
        raise ValueError(f"{layer}: {name} is {value!r}; expected an integer or {n} of them.")
    positive(layer, **{f"{name}[{axis}]": size for axis, size in enumerate(sizes)})
    return sizes


def warn_if_images(layer: str, name: str, size: int | Sequence[int], x: jax.Array) -> None:
    """Warns if x (N, L, C) may be a batch of images (N, H, W) without a channel axis.

    There is no warning if `size` is a sequence, one size per axis, or if x looks like sequences of
    vectors: an axis shorter than 8, or axes that differ by more than a factor of 2.
    """
    if x.ndim != 3 or not isinstance(size, int):
        return
    short, long = sorted(x.shape[1:])
    if 8 <= short and long <= 2 * short:
        warnings.warn(
            f"{layer}: input {x.shape} has one spatial axis, {x.shape[1]}, and {x.shape[2]} "
            "channels. Grey images need a channel axis: x[..., None]. For sequences, pass one size "
            f"per axis: {name}=({size},).",
            stacklevel=2,
        )


def floating(layer: str, x: jax.Array, min_ndim: int = 1) -> None:
    """Raises a `ValueError` unless x is a floating-point array of at least `min_ndim` axes."""
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(
            f"{layer}: input is {x.dtype}{list(x.shape)}; expected a floating-point array. "
            "Convert it first, e.g. x.astype(jnp.float32) / 255 for images of bytes."
        )
    if x.ndim < min_ndim:
        raise ValueError(
            f"{layer}: input has shape {x.shape}; expected at least {min_ndim} axes, batch first."
        )
