"""The patches of a data set that a channel responds to most."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl._check import require_ints
from jaxdl.interpret import _batching, _input
from jaxdl.interpret._compile import compile_once
from jaxdl.interpret.feature_vis.network import layer_values
from jaxdl.jaxpr.receptive_field import find_field

__all__ = ["TopPatches", "top_patches"]


class TopPatches(NamedTuple):
    """The strongest responses of a channel, in decreasing order.

    Attributes:
      patch: (count, *size, C), the part of the image that the unit depends on. Where its receptive
        field reaches beyond the image, the window is moved inside; it is at most the whole image.
      activation: (count,), the value of the unit.
      image: (count,) ints, the number of the image, each of which occurs at most once.
      position: (count, axes) ints, the position of the unit in the layer.
      corner: (count, axes) ints, the first pixel of the patch in the image.
    """

    patch: jax.Array
    activation: jax.Array
    image: jax.Array
    position: jax.Array
    corner: jax.Array


def top_patches(
    f: Callable[[jax.Array], Any],
    images: jax.Array | np.ndarray,
    layer: str,
    channel: int,
    count: int = 9,
    *,
    batch_size: int | None = None,
) -> TopPatches:
    """Returns the image patches that a channel responds to most, one per image.

    Zeiler and Fergus 2014 (arXiv 1311.2901), figure 2. The patches have the size of the receptive
    field, which is read from the program of f. `deconvnet` or `guided_backprop` of the same unit
    shows which part of a patch causes the response.

    Args:
      f: any function from images to an output.
      images: (N, *space, C).
      layer: a path, as for `interpret.intermediate`, of a layer (N, *space', K).
      channel: a channel, 0 to K - 1.
      count: the number of patches, at most N.
      batch_size: images that are evaluated at a time; None for the most that `memory_budget`
        allows.

    Returns:
      A `TopPatches`.

    Raises:
      ValueError: there is no such layer, it has no spatial axes or no such channel, there are fewer
        images than `count`, or an operation moves values in a way that is not known.

    Example:
      >>> feature_vis.top_patches(f, images, "conv_1", 5).patch.shape
      (9, 5, 5, 1)
    """
    name = "top_patches"
    images = _input.as_batch(name, images)
    (count,) = require_ints(name, 1, count=count)
    (channel,) = require_ints(name, 0, channel=channel)
    if count > len(images):
        raise ValueError(f"{name}: count is {count} for {len(images)} images; expected at most N.")
    one = jax.ShapeDtypeStruct((1, *images.shape[1:]), images.dtype)
    values = layer_values(name, f, one, (layer,))
    shape = jax.eval_shape(values, one)[layer].shape
    if len(shape) != images.ndim or not channel < shape[-1]:
        raise ValueError(
            f"{name}: channel is {channel} and layer {layer!r} has shape {shape} for images of "
            f"{one.shape}; expected (1, *space, K) with a channel of 0 to K - 1."
        )
    field = find_field(lambda x: values(x)[layer], one)
    activation, position = _strongest(f, images, layer, channel, batch_size)
    activation, order = jax.lax.top_k(activation, count)
    position = position[order]
    space = images.shape[1:-1]
    size = tuple(min(s, whole) for s, whole in zip(field.size, space, strict=True))
    centre = jnp.asarray(field.offset) + jnp.asarray(field.stride, float) * position.astype(float)
    corner = jnp.round(centre - (jnp.asarray(size, float) - 1) / 2).astype(position.dtype)
    corner = jnp.clip(corner, 0, jnp.asarray(space) - jnp.asarray(size))

    def cut(image, corner):
        start = (*corner, jnp.zeros((), corner.dtype))
        return jax.lax.dynamic_slice(image, start, (*size, image.shape[-1]))

    return TopPatches(jax.vmap(cut)(images[order], corner), activation, order, position, corner)


@compile_once
def _strongest(f, x, layer, channel, batch_size):
    """Returns the largest activation of each image, (N,), and its position, (N, axes)."""

    def explain(rows, target):
        plane = layer_values("top_patches", f, rows, (layer,))(rows)[layer][..., channel]
        flat = plane.reshape(len(plane), -1)
        position = jnp.unravel_index(jnp.argmax(flat, axis=1), plane.shape[1:])
        return jnp.max(flat, axis=1), jnp.stack(position, axis=1)

    return _batching.map_examples("top_patches", explain, x, None, batch_size)
