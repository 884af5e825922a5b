"""Class activation maps: weighted sums of the features of a layer.

Features are (N, ..., C), or with `channel_axis=1` (N, C, ...). Maps are over the other axes:
(N, H, W) of images, (N, T) of signals, (N, D, H, W) of volumes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxdl.interpret import _batching
from jaxdl.interpret._cam_layout import Layout, make_layout, resize_maps
from jaxdl.interpret._explanation import explain_batches, explanation, explanation_by_gradient
from jaxdl.interpret._target import Target
from jaxdl.interpret.guided_backprop import guided_backprop

__all__ = ["cam", "grad_cam", "grad_cam_plus_plus", "guided_grad_cam", "layer_cam", "score_cam"]


@explanation_by_gradient
def cam(
    f: Callable[[Any], Any],
    x: Any,
    *,
    layer: str,
    target: Target = None,
    channel_axis: int = -1,
    input_channel_axis: int | None = None,
    tokens: Sequence[int] | None = None,
    resize: bool | Sequence[int] = True,
    batch_size: int | None = None,
) -> jax.Array:
    """Weights features by the last layer's weights of the score: sum_c w_c A_c.

    Zhou et al. 2016 (arXiv 1512.04150), eq. 2, for networks that end in global average pooling and
    one dense layer. There the mean of the map, before it is resized, is the score minus its bias.
    For other networks the weights are the mean derivatives.

    Args:
      f, target: as for `saliency`.
      x: (N, ..., D), or a tree of arrays with one image, signal or volume.
      layer: the path of the features.
      channel_axis: the features' channel axis: -1 for (N, ..., C), 1 for (N, C, ...).
      input_channel_axis: the channel axis of x; None if it is the same.
      tokens: the grid (h, w) of a transformer's tokens (N, T, C), e.g. (H // 16, W // 16). The map
        is of the last h * w tokens, without the class token and registers (at most 8) before them.
      resize: True for x's size, False for that of the features, or the sizes themselves, (H, W).
        Maps are interpolated linearly.
      batch_size: examples explained side by side; None for the largest number within
        `memory_budget`.

    Returns:
      (N, ...), in units of the score, of either sign.

    Raises:
      ValueError: as `saliency`; the features have only the axes N and C, or other spatial axes than
        x; or the shapes show that the channel axes are wrong.
    """

    def combine(features, slope):
        # After global average pooling the slope is w_c over the number of positions.
        weights = jnp.sum(slope, axis=_spatial_axes(features), keepdims=True)
        return jnp.sum(weights * features, -1)

    layout = make_layout("cam", channel_axis, input_channel_axis, tokens, resize)
    return _map(layout, f, x, layer, target, batch_size, combine)


@explanation_by_gradient
def grad_cam(
    f: Callable[[Any], Any],
    x: Any,
    *,
    layer: str,
    target: Target = None,
    channel_axis: int = -1,
    input_channel_axis: int | None = None,
    tokens: Sequence[int] | None = None,
    resize: bool | Sequence[int] = True,
    batch_size: int | None = None,
) -> jax.Array:
    """Weights features by the mean derivative, and keeps the positive part.

    Selvaraju et al. 2017 (arXiv 1610.02391), eqs. 1-2.

    Args:
      All as for `cam`.

    Returns:
      (N, ...), 0 or more.

    Raises:
      ValueError: as `cam`.
    """

    def combine(features, slope):
        weights = jnp.mean(slope, axis=_spatial_axes(features), keepdims=True)
        return jnp.maximum(jnp.sum(weights * features, -1), 0)

    layout = make_layout("grad_cam", channel_axis, input_channel_axis, tokens, resize)
    return _map(layout, f, x, layer, target, batch_size, combine)


@explanation_by_gradient
def grad_cam_plus_plus(
    f: Callable[[Any], Any],
    x: Any,
    *,
    layer: str,
    target: Target = None,
    channel_axis: int = -1,
    input_channel_axis: int | None = None,
    tokens: Sequence[int] | None = None,
    resize: bool | Sequence[int] = True,
    batch_size: int | None = None,
) -> jax.Array:
    """Computes Grad-CAM with weights for several objects of a class in one image.

    Chattopadhyay et al. 2018 (arXiv 1710.11063), eqs. 10 and 19, for the exponential of the class
    score.

    Args:
      All as for `cam`.

    Returns:
      (N, ...), 0 or more.

    Raises:
      ValueError: as `cam`.
    """

    def combine(features, slope):
        axes = _spatial_axes(features)
        below = 2 + jnp.sum(features, axes, keepdims=True) * slope  # eq. 19 over slope**2
        shares = jnp.where(below == 0, 0, 1 / jnp.where(below == 0, 1, below))
        weights = jnp.sum(shares * jnp.maximum(slope, 0), axes, keepdims=True)
        return jnp.maximum(jnp.sum(weights * features, -1), 0)

    layout = make_layout("grad_cam_plus_plus", channel_axis, input_channel_axis, tokens, resize)
    return _map(layout, f, x, layer, target, batch_size, combine)


@explanation_by_gradient
def layer_cam(
    f: Callable[[Any], Any],
    x: Any,
    *,
    layer: str,
    target: Target = None,
    channel_axis: int = -1,
    input_channel_axis: int | None = None,
    tokens: Sequence[int] | None = None,
    resize: bool | Sequence[int] = True,
    batch_size: int | None = None,
) -> jax.Array:
    """Weights each feature by its own positive derivative, for early layers too.

    Jiang et al. 2021 (doi:10.1109/TIP.2021.3089943), eqs. 5-6.

    Args:
      All as for `cam`.

    Returns:
      (N, ...), 0 or more.

    Raises:
      ValueError: as `cam`.
    """

    def combine(features, slope):
        return jnp.maximum(jnp.sum(jnp.maximum(slope, 0) * features, -1), 0)

    layout = make_layout("layer_cam", channel_axis, input_channel_axis, tokens, resize)
    return _map(layout, f, x, layer, target, batch_size, combine)


@explanation
def score_cam(
    f: Callable[[Any], Any],
    x: Any,
    *,
    layer: str,
    target: Target = None,
    channel_axis: int = -1,
    input_channel_axis: int | None = None,
    tokens: Sequence[int] | None = None,
    resize: bool | Sequence[int] = True,
    batch_size: int | None = None,
) -> jax.Array:
    """Weights features by the score of x masked by each of them, without a derivative.

    Wang et al. 2020 (arXiv 1910.01279), eqs. 5-8: each feature, resized to x and scaled to [0, 1],
    is a mask. The weights are a softmax of the masked scores.

    Args:
      f, x, layer, target, channel_axis, input_channel_axis, tokens, resize: as for `cam`.
      batch_size: features evaluated side by side; None for the largest number within
        `memory_budget`.

    Returns:
      (N, ...), 0 or more.

    Raises:
      ValueError: as `cam`; or `batch_size` is below 1.
    """
    name = "score_cam"
    layout = make_layout(name, channel_axis, input_channel_axis, tokens, resize)

    def explain(_, score, value, x):  # masks are of x, so that the whole f is evaluated
        features = layout.arrange(x, value)
        count = features.shape[-1]
        _, size = layout.find_array(x, features.ndim)

        def evaluate(i):
            mask = resize_maps(jnp.take(features, i, axis=-1), size)
            axes = tuple(range(1, mask.ndim))
            low, high = (end(mask, axes, keepdims=True) for end in (jnp.min, jnp.max))
            # A constant feature becomes a mask of zeros.
            mask = (mask - low) / jnp.where(high > low, high - low, 1)
            return score(f(layout.multiply(x, mask)))

        scores = _batching.map_evaluations(name, evaluate, count, batch_size).T
        weights = jax.nn.softmax(scores).reshape(len(features), *[1] * (features.ndim - 2), count)
        weights = weights.astype(features.dtype)
        maps = layout.fit(x, jnp.maximum(jnp.sum(weights * features, -1), 0))
        return maps.astype(value.dtype)

    options = {"others": (x,), "perturbs": True}
    return explain_batches(name, explain, f, x, target, layer, batch_size, **options)


@explanation_by_gradient
def guided_grad_cam(
    f: Callable[[Any], Any],
    x: Any,
    *,
    layer: str,
    target: Target = None,
    channel_axis: int = -1,
    input_channel_axis: int | None = None,
    tokens: Sequence[int] | None = None,
    batch_size: int | None = None,
) -> Any:
    """Multiplies guided backprop by Grad-CAM: sharp and class-specific.

    Selvaraju et al. 2017, sec. 3.2.

    Args:
      f, x, layer, target, channel_axis, input_channel_axis, tokens, batch_size: as for `cam`.

    Returns:
      Like x. In a tree, only the array that the map belongs to is multiplied by it.

    Raises:
      ValueError: as `cam`.
    """
    layout = make_layout("guided_grad_cam", channel_axis, input_channel_axis, tokens, True)
    maps = grad_cam(
        f,
        x,
        layer=layer,
        target=target,
        channel_axis=channel_axis,
        input_channel_axis=input_channel_axis,
        tokens=tokens,
        batch_size=batch_size,
    )
    fine = guided_backprop(f, x, target=target, batch_size=batch_size)
    return layout.multiply(fine, maps)


def _map(layout: Layout, f, x, layer, target, batch_size, combine) -> jax.Array:
    """Computes maps from the features and the derivative of the score by them."""

    def explain(f, score, value, x):
        features = layout.arrange(x, value)
        slope = jax.grad(lambda value: jnp.sum(score(f(value))))(value)
        maps = combine(features, layout.arrange(x, slope))
        return layout.fit(x, maps).astype(value.dtype)

    options = target, layer, batch_size
    return explain_batches(layout.caller, explain, f, x, *options, others=(x,))


def _spatial_axes(features: jax.Array) -> tuple[int, ...]:
    """Returns the axes of a map."""
    return tuple(range(1, features.ndim - 1))
