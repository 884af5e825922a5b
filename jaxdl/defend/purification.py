"""Purification: an autoencoder removes noise from inputs before a classifier reads them.

The autoencoder is trained on clean inputs with added noise, so that it needs neither the classifier
nor an attack: MagNet, Meng and Chen 2017 (arXiv 1705.09064). Whoever knows it can attack through it
(Carlini and Wagner 2017, arXiv 1711.08478): `purify` returns a function that can be attacked as any
other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxdl._check import require_ints
from jaxdl.core import Module, compose
from jaxdl.nn.conv import conv

__all__ = ["denoising_autoencoder", "purify", "straight_through"]


def denoising_autoencoder(channels: int, *, width: int = 32) -> Module:
    """Creates a convolutional autoencoder of images: half the resolution, and back.

    Two 3x3 convolutions at half the resolution between one at the full resolution before and two
    after. Train it on noisy images with the clean ones as targets:

        fit(model, AugmentedData((x, x), data.augment.noise), loss="squared_error", ...)

    Args:
      channels: C of the images, >= 1.
      width: channels of the hidden layers, twice as many at half the resolution.

    Returns:
      A `Module` from images (N, H, W, C), H and W at least 2, to images of the same shape. Its
      values are not limited, so that gradients do not vanish at the ends of their range.

    Raises:
      ValueError: `channels` or `width` is not a positive integer; when called, the images have
        other channels or no height and width.
    """
    require_ints("denoising_autoencoder", 1, channels=channels, width=width)
    children = {
        "encode": conv(width, 3),
        "halve": conv(2 * width, 3, stride=2),
        "middle": conv(2 * width, 3),
        "join": conv(width, 3),
        "decode": conv(channels, 3),
    }

    def forward(call, x):
        if x.ndim != 4 or x.shape[-1] != channels or min(x.shape[1:3]) < 2:
            raise ValueError(
                f"denoising_autoencoder: x has shape {x.shape}; expected images (N, H, W, "
                f"{channels}), height and width at least 2."
            )
        y = jax.nn.relu(call("encode", x))
        y = jax.nn.relu(call("middle", jax.nn.relu(call("halve", y))))
        y = jnp.repeat(jnp.repeat(y, 2, axis=1), 2, axis=2)[:, : x.shape[1], : x.shape[2]]
        return call("decode", jax.nn.relu(call("join", y)))

    return compose("denoising_autoencoder", children, forward, channels=channels, width=width)


def purify(f: Callable[[Any], Any], denoise: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Returns x -> f(denoise(x)), a classifier of purified inputs.

    Args:
      f: a function of inputs (N, ...).
      denoise: a function from inputs to inputs of the same shape, such as
        `train.predictor(autoencoder, state)`.

    Returns:
      A function of inputs (N, ...). An attack on it is adaptive: it knows f and the denoiser.

    Raises:
      ValueError: when called, `denoise` returns another shape.
    """

    def purified(x):
        clean = denoise(x)
        _check_same("purify: denoise", x, clean)
        return f(clean)

    return purified


def straight_through(transform: Callable[[jax.Array], jax.Array]) -> Callable[[Any], jax.Array]:
    """Returns a transformation whose derivative is replaced by the identity.

    Backward pass differentiable approximation, Athalye et al. 2018 (arXiv 1802.00420), section
    4.1.1: an attack on `purify(f, straight_through(transform))` passes a transformation of the
    input without a useful derivative, such as rounding or JPEG.

    Args:
      transform: from an array to an array of the same shape, close to it.

    Returns:
      A function with the values of `transform`.

    Raises:
      ValueError: when called, `transform` returns another shape.
    """

    @jax.custom_jvp
    def apply(x):
        y = transform(x)
        _check_same("straight_through: transform", x, y)
        return y

    @apply.defjvp
    def derive(primals, tangents):
        return apply(*primals), tangents[0]

    return apply


def _check_same(what: str, x: Any, y: Any) -> None:
    shapes = [jax.tree.map(jnp.shape, tree) for tree in (x, y)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"{what} returns {shapes[1]} for inputs of shape {shapes[0]}; expected the same shape."
        )
