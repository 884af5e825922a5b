"""Class activation maps: where in a layer's features the score comes from.

Features are (N, ..., C), or with `channel_axis=1` (N, C, ...); maps are over the other axes:
(N, H, W) of images, (N, T) of signals, (N, D, H, W) of volumes. `resize` interpolates linearly.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.interpret import _compile, _input, _layer, _target
from jaxdl.interpret.guided_backprop import guided_backprop

__all__ = ["cam", "grad_cam", "grad_cam_plus_plus", "guided_grad_cam", "layer_cam", "score_cam"]

EXTRA = 8
"""The most tokens before those of the patches: a class token, one of a teacher, registers."""


@_compile.once
@_target.each_by_derivative
def cam(
    f: Callable[[Any], Any],
    x: Any,
    *,
    layer: str,
    target: _target.Target = None,
    channel_axis: int = -1,
    input_channel_axis: int | None = None,
    tokens: Sequence[int] | None = None,
    resize: bool | Sequence[int] = True,
    batch_size: int | None = None,
) -> jax.Array:
    """Weights features by the last layer's weights for the score: sum_c w_c A_c.

    Zhou et al. 2016 (arXiv 1512.04150), eq. 2, for networks that end in global average pooling and
    one dense layer; there the map's mean, before it is resized, is the score less its bias. For
    others the weights are the derivative's mean.

    Args:
      f, target: as for `saliency`.
      x: (N, ..., D), or a tree of arrays of which one is the image, signal or volume.
      layer: the path of the features.
      channel_axis: the features' channel axis: -1 for (N, ..., C), 1 for (N, C, ...).
      input_channel_axis: that of x; None if it is the same.
      tokens: the grid (h, w) of a transformer's tokens (N, T, C), e.g. (H // 16, W // 16). The map
        is of the last h * w tokens, without the class token and registers (8 at most) before them.
      resize: True for x's size, False for that of the features, or the sizes themselves, (H, W).
      batch_size: examples explained side by side; None for as many as `memory_budget` allows.

    Returns:
      (N, ...), in units of the score, of either sign.

    Raises:
      ValueError: as `saliency`; the features have no axes but N and C, other ones than x, or x and
        the features have another channel axis, so far as their shapes show it.
    """

    def combine(features, slope):
        weights = jnp.sum(slope, axis=_inner(features), keepdims=True)
        return jnp.sum(weights * features, -1)

    layout = _layout("cam", channel_axis, input_channel_axis, tokens, resize)
    return _map(layout, f, x, layer, target, batch_size, combine)


@_compile.once
@_target.each_by_derivative
def grad_cam(
    f: Callable[[Any], Any],
    x: Any,
    *,
    layer: str,
    target: _target.Target = None,
    channel_axis: int = -1,
    input_channel_axis: int | None = None,
    tokens: Sequence[int] | None = None,
    resize: bool | Sequence[int] = True,
    batch_size: int | None = None,
) -> jax.Array:
    """Weights features by the mean derivative of the score, and keeps the positive part.

    Selvaraju et al. 2017 (arXiv 1610.02391), eqs. 1-2.

    Args:
      f, x, layer, target, channel_axis, input_channel_axis, tokens, resize, batch_size: as for `cam`.

    Returns:
      (N, ...), 0 or more.

    Raises:
      ValueError: as `cam`.
    """

    def combine(features, slope):
        weights = jnp.mean(slope, axis=_inner(features), keepdims=True)
        return jnp.maximum(jnp.sum(weights * features, -1), 0)

    layout = _layout("grad_cam", channel_axis, input_channel_axis, tokens, resize)
    return _map(layout, f, x, layer, target, batch_size, combine)


@_compile.once
@_target.each_by_derivative
def grad_cam_plus_plus(
    f: Callable[[Any], Any],
    x: Any,
    *,
    layer: str,
    target: _target.Target = None,
    channel_axis: int = -1,
    input_channel_axis: int | None = None,
    tokens: Sequence[int] | None = None,
    resize: bool | Sequence[int] = True,
    batch_size: int | None = None,
) -> jax.Array:
    """Computes Grad-CAM with weights that find several objects of a class in one image.

    Chattopadhyay et al. 2018 (arXiv 1710.11063), eqs. 10 and 19, the class' score going through an
    exponential.

    Args:
      f, x, layer, target, channel_axis, input_channel_axis, tokens, resize, batch_size: as for `cam`.

    Returns:
      (N, ...), 0 or more.

    Raises:
      ValueError: as `cam`.
    """

    def combine(features, slope):
        inner = _inner(features)
        below = 2 + jnp.sum(features, inner, keepdims=True) * slope  # eq. 19 over slope**2
        shares = jnp.where(below == 0, 0, 1 / jnp.where(below == 0, 1, below))
        weights = jnp.sum(shares * jnp.maximum(slope, 0), inner, keepdims=True)
        return jnp.maximum(jnp.sum(weights * features, -1), 0)

    layout = _layout("grad_cam_plus_plus", channel_axis, input_channel_axis, tokens, resize)
    return _map(layout, f, x, layer, target, batch_size, combine)


@_compile.once
@_target.each_by_derivative
def layer_cam(
    f: Callable[[Any], Any],
    x: Any,
    *,
    layer: str,
    target: _target.Target = None,
    channel_axis: int = -1,
    input_channel_axis: int | None = None,
    tokens: Sequence[int] | None = None,
    resize: bool | Sequence[int] = True,
    batch_size: int | None = None,
) -> jax.Array:
    """Weights each feature by its own positive derivative: sharp in early layers too.

    Jiang et al. 2021 (doi:10.1109/TIP.2021.3089943), eqs. 5-6.

    Args:
      f, x, layer, target, channel_axis, input_channel_axis, tokens, resize, batch_size: as for `cam`.

    Returns:
      (N, ...), 0 or more.

    Raises:
      ValueError: as `cam`.
    """

    def combine(features, slope):
        return jnp.maximum(jnp.sum(jnp.maximum(slope, 0) * features, -1), 0)

    layout = _layout("layer_cam", channel_axis, input_channel_axis, tokens, resize)
    return _map(layout, f, x, layer, target, batch_size, combine)


@_compile.once
@_target.each
def score_cam(
    f: Callable[[Any], Any],
    x: Any,
    *,
    layer: str,
    target: _target.Target = None,
    channel_axis: int = -1,
    input_channel_axis: int | None = None,
    tokens: Sequence[int] | None = None,
    resize: bool | Sequence[int] = True,
    batch_size: int | None = None,
) -> jax.Array:
    """Weights features by the score of x masked by each of them, without a derivative.

    Wang et al. 2020 (arXiv 1910.01279), eqs. 5-8: each feature, stretched to x and scaled to 0 to
    1, is a mask; the weights are a softmax of the masked scores.

    Args:
      f, x, layer, target, channel_axis, input_channel_axis, tokens, resize: as for `cam`.
      batch_size: features tried side by side; None for as many as `memory_budget` allows.

    Returns:
      (N, ...), 0 or more.

    Raises:
      ValueError: as `cam`; `batch_size` is below 1.
    """
    name = "score_cam"
    layout = _layout(name, channel_axis, input_channel_axis, tokens, resize)

    def explained(x, target):
        target = _target.settled(name, f, x, target)
        _, value = _layer.split(name, f, x, layer)
        features = layout.grid(x, value)
        count = features.shape[-1]
        _, size = layout.place(x, features.ndim)

        def masked(i):
            mask = _resized(jnp.take(features, i, axis=-1), size)
            axes = tuple(range(1, mask.ndim))
            low, high = (end(mask, axes, keepdims=True) for end in (jnp.min, jnp.max))
            mask = (mask - low) / jnp.where(high > low, high - low, 1)
            return _target.score(name, f(layout.times(x, mask)), target)

        scores = _input.mapped(name, masked, count, batch_size).T
        weights = jax.nn.softmax(scores).reshape(len(features), *[1] * (features.ndim - 2), count)
        weights = weights.astype(features.dtype)
        maps = layout.resized(x, jnp.maximum(jnp.sum(weights * features, -1), 0))
        return maps.astype(value.dtype)

    x = _input.checked(name, x)
    return _input.by_examples_or_evaluations(name, explained, x, target, batch_size)


@_compile.once
@_target.each_by_derivative
def guided_grad_cam(
    f: Callable[[Any], Any],
    x: Any,
    *,
    layer: str,
    target: _target.Target = None,
    channel_axis: int = -1,
    input_channel_axis: int | None = None,
    tokens: Sequence[int] | None = None,
    batch_size: int | None = None,
) -> Any:
    """Multiplies guided backprop by Grad-CAM: fine, and of one class.

    Selvaraju et al. 2017, sec. 3.2.

    Args:
      f, x, layer, target, channel_axis, input_channel_axis, tokens, batch_size: as for `cam`.

    Returns:
      Like x; of a tree, only the array that the map is resized to is multiplied by it.

    Raises:
      ValueError: as `cam`.
    """
    axes = channel_axis, input_channel_axis, tokens
    layout = _layout("guided_grad_cam", *axes, True)
    options = dict(zip(("channel_axis", "input_channel_axis", "tokens"), axes, strict=True))
    maps = grad_cam(f, x, layer=layer, target=target, batch_size=batch_size, **options)
    fine = guided_backprop(f, x, target=target, batch_size=batch_size)
    return layout.times(fine, maps)


class _Layout(NamedTuple):
    """The meaning of the axes of the features and of x, and the size of the maps."""

    caller: str
    channel_axis: int
    input_channel_axis: int | None
    tokens: tuple[int, ...] | None
    resize: bool | tuple[int, ...]

    def grid(self, x: Any, value: jax.Array) -> jax.Array:
        """Returns features as (N, ..., C), in float32 at least."""
        shape, n = value.shape, len(jax.tree.leaves(x)[0])
        axis = self.channel_axis % len(shape) if shape else 0
        if shape[:1] != (n,) or not -len(shape) < self.channel_axis < len(shape) or axis == 0:
            raise ValueError(
                f"{self.caller}: the features have shape {shape}; expected {n} examples on the "
                f"first axis and channels on axis channel_axis={self.channel_axis}. Name a layer "
                "by layer= that gives such features."
            )
        features = jnp.moveaxis(value, axis, -1)
        if jnp.finfo(features.dtype).bits < 32:
            features = features.astype(jnp.float32)
        if self.tokens is not None:
            count = math.prod(self.tokens)
            # A class token and registers are few, and seldom twice as many as the patches.
            most = count + min(EXTRA, 2 * count - 1)
            if features.ndim != 3 or not count <= features.shape[1] <= most:
                raise ValueError(
                    f"{self.caller}: the features have shape {shape} and tokens={self.tokens}; "
                    f"expected (N, T, C) with T of {count} to {most}: few tokens stand before the "
                    "patches. Pass the grid of the patches, (height, width)."
                )
            features = features[:, -count:].reshape(n, *self.tokens, features.shape[-1])
        if features.ndim < 3:
            raise ValueError(
                f"{self.caller}: the features have shape {shape}; expected (N, ..., C): name a "
                "layer before the features are flattened or pooled."
            )
        self._check(x, value, features)
        return features

    def resized(self, x: Any, maps: jax.Array) -> jax.Array:
        """Returns maps of the size that `resize` asks for."""
        if self.resize is False:
            return maps
        if self.resize is True:
            return _resized(maps, self.place(x, maps.ndim + 1)[1])
        if len(self.resize) != maps.ndim - 1:
            raise ValueError(
                f"{self.caller}: resize is {self.resize!r} for maps of {maps.shape}; expected "
                f"True, False, or {maps.ndim - 1} sizes of at least 1."
            )
        return _resized(maps, self.resize)

    def times(self, x: Any, maps: jax.Array) -> Any:
        """Returns x with the array that the maps are of multiplied by them."""
        leaves, tree = jax.tree.flatten(x)
        index, _ = self.place(x, maps.ndim + 1)
        one = leaves[index]
        if one.ndim > maps.ndim:
            maps = jnp.expand_dims(maps, self._input_axis(one.ndim))
        leaves[index] = one * maps.astype(one.dtype)
        return jax.tree.unflatten(tree, leaves)

    def place(self, x: Any, ndim: int) -> tuple[int, tuple[int, ...]]:
        """Returns which leaf of x features with `ndim` axes are of, and its sizes without C."""
        shapes = [leaf.shape for leaf in jax.tree.leaves(x)]
        fit = [i for i, shape in enumerate(shapes) if len(shape) == ndim]
        if len(shapes) == 1 and len(shapes[0]) == ndim - 1:
            return 0, shapes[0][1:]  # x without a channel axis
        if len(fit) != 1:
            raise ValueError(
                f"{self.caller}: the features have {ndim - 2} axes besides N and C, and {len(fit)} "
                f"arrays of x have as many (shapes {', '.join(map(str, shapes))}); expected one. "
                "Pass tokens=(height, width) for the tokens of a transformer, else resize=False or "
                "the map's sizes."
            )
        return fit[0], _without(shapes[fit[0]], self._input_axis(ndim))

    def _input_axis(self, ndim: int) -> int:
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

    def _check(self, x: Any, value: jax.Array, features: jax.Array) -> None:
        """Raises an error if the shapes of x and the features contradict the channel axes."""
        shapes = [leaf.shape for leaf in jax.tree.leaves(x)]
        if self.tokens is None and features.ndim == 3 and all(len(shape) > 3 for shape in shapes):
            raise ValueError(
                f"{self.caller}: the features have shape {value.shape} and x {shapes[0]}; expected "
                "features with as many axes as x. Pass tokens=(height, width) for the tokens of a "
                "transformer, or tokens=(T,) with resize=False for one number per token."
            )
        fit = [shape for shape in shapes if len(shape) == features.ndim]
        if len(fit) != 1 or self.input_channel_axis is not None:
            return
        (shape,), last = fit, features.ndim - 1
        mine = self.channel_axis % value.ndim, self._input_axis(features.ndim)

        def scales(axis, input_axis):
            sizes = self.tokens or _without(value.shape, axis)
            pairs = zip(sizes, _without(shape, input_axis), strict=True)
            return [size / of for size, of in pairs]

        # Features are seldom larger than x, and have nearly its aspect.
        of_features = (mine[0],) if self.tokens else (mine[0], 1 + last - mine[0])
        fitting = [
            axes
            for axes in itertools.product(of_features, (1, last))
            if max(scales(*axes)) <= min(1, 1.5 * min(scales(*axes)))
        ]
        # One axis alone has no aspect: of it only equal channel axes show that others are wrong.
        shown = [axes for axes in fitting if features.ndim > 3 or axes[0] == axes[1]]
        chosen = scales(*mine)
        if self.resize is not True and any(axis == mine[0] for axis, _ in shown):
            return  # x's own axes are not needed
        if max(chosen) > 1 or max(chosen) > 2 * min(chosen):
            other = lambda axes: max(chosen) > 1 or axes[1] != mine[1]  # noqa: E731
            if any(map(other, shown)):
                choices = [
                    f"channel_axis={axis} and " * (axis != mine[0]) + f"input_channel_axis={of}"
                    for axis, of in filter(other, fitting)
                ]
                raise ValueError(
                    f"{self.caller}: features {value.shape} with channels on axis {mine[0]} do not "
                    f"fit x {shape} with channels on axis {mine[1]}; expected features no larger "
                    f"than x and of its aspect. Pass {', or '.join(choices)}, or "
                    f"input_channel_axis={mine[1]} if the axes are right."
                )
        if len(self.tokens or ()) == 2 and max(chosen) > 1.5 * min(chosen):
            raise ValueError(
                f"{self.caller}: tokens={self.tokens} for x {shape}; expected a grid of x's aspect,"
                f" (height, width). Pass input_channel_axis={mine[1]} too if the patches are no "
                "squares."
            )


def _layout(
    caller: str, channel_axis: Any, input_channel_axis: Any, tokens: Any, resize: Any
) -> _Layout:
    """Returns a layout of checked arguments.

    Raises:
      ValueError: an axis is no integer, or tokens and sizes are no positive ones.
    """

    def integer(value):
        return isinstance(value, int | np.integer) and not isinstance(value, bool)

    def sizes(argument, value, expected):
        if isinstance(value, np.ndarray):
            value = value.tolist()
        several = isinstance(value, tuple | list) and len(value) > 0
        if not several or not all(integer(size) and size > 0 for size in value):
            raise ValueError(f"{caller}: {argument} is {value!r}; expected {expected} at least 1.")
        return tuple(map(int, value))

    axes = {"channel_axis": channel_axis, "input_channel_axis": input_channel_axis}
    for argument, axis in axes.items():
        if not integer(axis) and (axis is not None or argument == "channel_axis"):
            raise ValueError(
                f"{caller}: {argument} is {axis!r}; expected an integer: -1 for (N, ..., C), 1 for "
                "(N, C, ...)."
            )
    if tokens is not None:
        tokens = sizes("tokens", tokens, "the grid of the patches, (height, width), each")
    if not isinstance(resize, bool):
        resize = sizes("resize", resize, "True, False, or sizes of")
    return _Layout(caller, channel_axis, input_channel_axis, tokens, resize)


def _map(layout, f, x, layer, target, batch_size, combine) -> jax.Array:
    """Combines the features and the score's derivative with respect to them into maps."""
    name = layout.caller

    def explained(x, target):
        rest, value = _layer.split(name, f, x, layer)
        features = layout.grid(x, value)
        slope = jax.grad(lambda a: jnp.sum(_target.score(name, rest(a), target)))(value)
        maps = combine(features, layout.grid(x, slope))
        return layout.resized(x, maps).astype(value.dtype)

    return _input.by_examples(name, explained, _input.checked(name, x), target, batch_size)


def _inner(features: jax.Array) -> tuple[int, ...]:
    """Returns the axes of a map."""
    return tuple(range(1, features.ndim - 1))


def _without(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    """Returns the sizes of a shape without the batch and one other axis."""
    return tuple(size for i, size in enumerate(shape) if i not in (0, axis))


def _resized(maps: jax.Array, size: tuple[int, ...]) -> jax.Array:
    return jax.image.resize(maps, (len(maps), *size), "linear")
