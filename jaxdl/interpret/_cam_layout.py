"""Axes of features, and sizes of class activation maps.

Features are (N, ..., C), or with `channel_axis=1` (N, C, ...), or the tokens (N, T, C) of a
transformer. Maps are (N, ...), without the channel axis.
"""

from __future__ import annotations

import itertools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

MAX_EXTRA_TOKENS = 8
"""The most tokens before those of the patches: a class token, a distillation token, registers."""


class Layout(NamedTuple):
    """Channel axes of features and x, and the size of maps: arguments of `cam`."""

    caller: str
    channel_axis: int
    input_channel_axis: int | None
    tokens: tuple[int, ...] | None
    resize: bool | tuple[int, ...]

    def arrange(self, x: Any, value: jax.Array) -> jax.Array:
        """Returns features as (N, ..., C), in float32 at least."""
        shape, n = value.shape, len(jax.tree.leaves(x)[0])
        axis = self.channel_axis % len(shape) if shape else 0
        if shape[:1] != (n,) or not -len(shape) < self.channel_axis < len(shape) or axis == 0:
            raise ValueError(
                f"{self.caller}: the features have shape {shape}; expected {n} examples on the "
                f"first axis and channels on axis channel_axis={self.channel_axis}. Choose another "
                "layer or channel_axis."
            )
        features = jnp.moveaxis(value, axis, -1)
        if jnp.finfo(features.dtype).bits < 32:
            features = features.astype(jnp.float32)
        if self.tokens is not None:
            count = math.prod(self.tokens)
            # Class tokens and registers are few: hardly ever twice the number of patches.
            most = count + min(MAX_EXTRA_TOKENS, 2 * count - 1)
            if features.ndim != 3 or not count <= features.shape[1] <= most:
                raise ValueError(
                    f"{self.caller}: the features have shape {shape} and tokens={self.tokens}; "
                    f"expected (N, T, C) with T of {count} to {most}, a few tokens before the "
                    "patches. Pass the grid of the patches, (height, width)."
                )
            features = features[:, -count:].reshape(n, *self.tokens, features.shape[-1])
        if features.ndim < 3:
            raise ValueError(
                f"{self.caller}: the features have shape {shape}; expected (N, ..., C). Name a "
                "layer before the features are flattened or pooled."
            )
        self._check_axes(x, value, features)
        return features

    def fit(self, x: Any, maps: jax.Array) -> jax.Array:
        """Returns maps of the size that `resize` specifies."""
        if self.resize is False:
            return maps
        if self.resize is True:
            return resize_maps(maps, self.find_array(x, maps.ndim + 1)[1])
        if len(self.resize) != maps.ndim - 1:
            raise ValueError(
                f"{self.caller}: resize is {self.resize!r} for maps of {maps.shape}; expected "
                f"True, False, or {maps.ndim - 1} sizes of at least 1."
            )
        return resize_maps(maps, self.resize)

    def multiply(self, x: Any, maps: jax.Array) -> Any:
        """Returns x with the array that the maps belong to multiplied by them."""
        leaves, tree = jax.tree.flatten(x)
        index, _ = self.find_array(x, maps.ndim + 1)
        leaf = leaves[index]
        if leaf.ndim > maps.ndim:
            maps = jnp.expand_dims(maps, self._find_input_axis(leaf.ndim))
        leaves[index] = leaf * maps.astype(leaf.dtype)
        return jax.tree.unflatten(tree, leaves)

    def find_array(self, x: Any, ndim: int) -> tuple[int, tuple[int, ...]]:
        """Returns the index of the leaf of x with `ndim` axes, and its spatial sizes."""
        shapes = [leaf.shape for leaf in jax.tree.leaves(x)]
        candidates = [i for i, shape in enumerate(shapes) if len(shape) == ndim]
        if len(shapes) == 1 and len(shapes[0]) == ndim - 1:
            return 0, shapes[0][1:]  # x has no channel axis
        if len(candidates) != 1:
            raise ValueError(
                f"{self.caller}: the features have {ndim - 2} axes besides N and C, as have "
                f"{len(candidates)} arrays of x (shapes {', '.join(map(str, shapes))}); expected "
                "one. Pass tokens=(height, width) for the tokens of a transformer, else "
                "resize=False or the sizes of the map."
            )
        return candidates[0], _drop_axis(shapes[candidates[0]], self._find_input_axis(ndim))

    def _find_input_axis(self, ndim: int) -> int:
        """Returns the channel axis of x, which has `ndim` axes."""
        axis = self.input_channel_axis
        if axis is None:
            features = 3 if self.tokens is not None else ndim
            axis = self.channel_axis if self.channel_axis % features != features - 1 else -1
        if not -ndim < axis < ndim or axis == 0:
            raise ValueError(
                f"{self.caller}: input_channel_axis is {axis} for x with {ndim} axes; expected an "
                "axis of x that is not the first: -1 for (N, ..., C), 1 for (N, C, ...)."
            )
        return axis % ndim

    def _check_axes(self, x: Any, value: jax.Array, features: jax.Array) -> None:
        """Raises an error if the shapes of x and the features contradict the channel axes."""
        shapes = [leaf.shape for leaf in jax.tree.leaves(x)]
        if self.tokens is None and features.ndim == 3 and all(len(shape) > 3 for shape in shapes):
            raise ValueError(
                f"{self.caller}: the features have shape {value.shape} and x {shapes[0]}; expected "
                "features with as many axes as x. Pass tokens=(height, width) for the tokens of a "
                "transformer, or tokens=(T,) with resize=False for one number per token."
            )
        candidates = [shape for shape in shapes if len(shape) == features.ndim]
        if len(candidates) != 1 or self.input_channel_axis is not None:
            return
        (shape,), last = candidates, features.ndim - 1
        axes = self.channel_axis % value.ndim, self._find_input_axis(features.ndim)

        def compute_scales(axis, input_axis):
            sizes = self.tokens or _drop_axis(value.shape, axis)
            pairs = zip(sizes, _drop_axis(shape, input_axis), strict=True)
            return [size / of for size, of in pairs]

        # Features are rarely larger than x, and have nearly its aspect ratio.
        feature_axes = (axes[0],) if self.tokens else (axes[0], 1 + last - axes[0])
        plausible = [
            pair
            for pair in itertools.product(feature_axes, (1, last))
            if max(compute_scales(*pair)) <= min(1, 1.5 * min(compute_scales(*pair)))
        ]
        # A single axis has no aspect ratio: only equal channel axes are evidence against others.
        certain = [pair for pair in plausible if features.ndim > 3 or pair[0] == pair[1]]
        scales = compute_scales(*axes)
        if self.resize is not True and any(axis == axes[0] for axis, _ in certain):
            return  # the axes of x are not used
        if max(scales) > 1 or max(scales) > 2 * min(scales):

            def is_better(pair):
                return max(scales) > 1 or pair[1] != axes[1]

            if any(map(is_better, certain)):
                choices = [
                    f"channel_axis={axis} and " * (axis != axes[0]) + f"input_channel_axis={of}"
                    for axis, of in filter(is_better, plausible)
                ]
                raise ValueError(
                    f"{self.caller}: features {value.shape} with channels on axis {axes[0]} do not "
                    f"fit x {shape} with channels on axis {axes[1]}; expected features no larger "
                    f"than x and of its aspect. Pass {', or '.join(choices)}, or "
                    f"input_channel_axis={axes[1]} if the axes are right."
                )
        if len(self.tokens or ()) == 2 and max(scales) > 1.5 * min(scales):
            raise ValueError(
                f"{self.caller}: tokens={self.tokens} for x {shape}; expected a grid of x's aspect,"
                f" (height, width). Pass input_channel_axis={axes[1]} too if the patches are "
                "not square."
            )


def make_layout(
    caller: str, channel_axis: Any, input_channel_axis: Any, tokens: Any, resize: Any
) -> Layout:
    """Returns the layout for the arguments of `cam`.

    Raises:
      ValueError: an axis is not an integer, or tokens or sizes are not positive integers.
    """

    def is_integer(value):
        return isinstance(value, int | np.integer) and not isinstance(value, bool)

    def as_sizes(argument, value, expected):
        if isinstance(value, np.ndarray):
            value = value.tolist()
        several = isinstance(value, tuple | list) and len(value) > 0
        if not several or not all(is_integer(size) and size > 0 for size in value):
            raise ValueError(f"{caller}: {argument} is {value!r}; expected {expected} at least 1.")
        return tuple(map(int, value))

    axes = {"channel_axis": channel_axis, "input_channel_axis": input_channel_axis}
    for argument, axis in axes.items():
        if not is_integer(axis) and (axis is not None or argument == "channel_axis"):
            raise ValueError(
                f"{caller}: {argument} is {axis!r}; expected an integer: -1 for (N, ..., C), 1 for "
                "(N, C, ...)."
            )
    if tokens is not None:
        tokens = as_sizes("tokens", tokens, "the grid of the patches, (height, width), each")
    if not isinstance(resize, bool):
        resize = as_sizes("resize", resize, "True, False, or sizes of")
    return Layout(caller, channel_axis, input_channel_axis, tokens, resize)


def resize_maps(maps: jax.Array, size: tuple[int, ...]) -> jax.Array:
    """Returns maps resized to `size` by linear interpolation."""
    return jax.image.resize(maps, (len(maps), *size), "linear")


def _drop_axis(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    """Returns a shape without the batch axis and one other axis."""
    return tuple(size for i, size in enumerate(shape) if i not in (0, axis))
