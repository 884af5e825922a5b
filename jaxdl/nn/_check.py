"""Checks that the layers share; each error says what was given, what is expected and the mend."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jaxdl._check import require_ints


def positive(layer: str, **sizes: int) -> None:
    """Every size is an integer >= 1."""
    require_ints(layer, 1, **sizes)


def per_axis(layer: str, name: str, value: int | Sequence[int], n: int) -> tuple[int, ...]:
    """A size for each of n axes, from one integer for all or a sequence of n."""
    sizes = (value,) * n if isinstance(value, int) else tuple(value)
    if len(sizes) != n:
        raise ValueError(f"{layer}: {name} is {value!r}; expected an integer or {n} of them.")
    positive(layer, **{f"{name}[{axis}]": size for axis, size in enumerate(sizes)})
    return sizes


def warn_of_images(layer: str, name: str, size: int | Sequence[int], x: jax.Array) -> None:
    """Warns where one axis of space may be rows of images without an axis of channels.

    A `size` for each axis says that one is meant. Below 8 pixels or beyond 2 : 1, x is taken for
    sequences of vectors.
    """
    if x.ndim != 3 or not isinstance(size, int):
        return
    short, long = sorted(x.shape[1:])
    if 8 <= short and long <= 2 * short:
        warnings.warn(
            f"{layer}: input {x.shape} has one axis of space, {x.shape[1]}, and {x.shape[2]} "
            "channels. Grey images need an axis of channels: x[..., None]. For sequences, give "
            f"one size for one axis: {name}=({size},).",
            stacklevel=2,
        )


def floating(layer: str, x: jax.Array, min_ndim: int = 1) -> None:
    """x is a floating-point array of at least `min_ndim` axes."""
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(
            f"{layer}: input is {x.dtype}{list(x.shape)}; expected a floating-point array: "
            "convert it first, e.g. x.astype(jnp.float32) / 255 for images of bytes."
        )
    if x.ndim < min_ndim:
        raise ValueError(
            f"{layer}: input has shape {x.shape}; expected at least {min_ndim} axes, batch first."
        )
