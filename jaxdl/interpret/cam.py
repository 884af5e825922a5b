"""Class activation maps: where in a convolution's features the score comes from.

Features are (N, ..., C), of a layer named by `at`; maps are over the axes between: (N, H, W) of
images, (N, T) of sequences. `resize` stretches them to x's own, linearly.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxdl.interpret import _at, _compile, _input, _target
from jaxdl.interpret.relevance.backprop import guided_backprop

__all__ = ["cam", "grad_cam", "grad_cam_plus_plus", "guided_grad_cam", "layer_cam", "score_cam"]


@_compile.once
@_target.each
def cam(
    f: Callable[[Any], Any],
    x: jax.Array,
    *,
    at: str,
    target: _target.Target = None,
    resize: bool = True,
    chunk: int | None = None,
) -> jax.Array:
    """The features weighted by what the score makes of them: sum_c w_c A_c.

    Zhou et al. 2016 (arXiv 1512.04150), eq. 2, for networks that end in global average pooling and
    one dense layer; there the map's mean, before it is resized, is the score less its bias. For
    others the weights are the derivative's mean.

    Args:
      f, target: as for `saliency`.
      x: (N, ..., D).
      at: the path of the features (N, ..., C).
      resize: whether the map has x's size, or that of the features.
      chunk: examples explained side by side; None for all.

    Returns:
      (N, ...), in units of the score, of either sign.

    Raises:
      ValueError: as `saliency`; the features are not (N, ..., C).
    """

    def combine(features, slope):
        weights = jnp.mean(slope, axis=_inner(features), keepdims=True)
        return jnp.sum(weights * features[0, ..., 0].size * features, -1)

    return _map("cam", f, x, at, target, resize, chunk, combine)


@_compile.once
@_target.each
def grad_cam(
    f: Callable[[Any], Any],
    x: jax.Array,
    *,
    at: str,
    target: _target.Target = None,
    resize: bool = True,
    chunk: int | None = None,
) -> jax.Array:
    """The features weighted by their mean derivative, the positive part.

    Selvaraju et al. 2017 (arXiv 1610.02391), eqs. 1-2.

    Args:
      f, x, at, target, resize, chunk: as for `cam`.

    Returns:
      (N, ...), 0 or more.

    Raises:
      ValueError: as `cam`.
    """

    def combine(features, slope):
        weights = jnp.mean(slope, axis=_inner(features), keepdims=True)
        return jnp.maximum(jnp.sum(weights * features, -1), 0)

    return _map("grad_cam", f, x, at, target, resize, chunk, combine)


@_compile.once
@_target.each
def grad_cam_plus_plus(
    f: Callable[[Any], Any],
    x: jax.Array,
    *,
    at: str,
    target: _target.Target = None,
    resize: bool = True,
    chunk: int | None = None,
) -> jax.Array:
    """Grad-CAM whose weights find several objects of a class in one image.

    Chattopadhyay et al. 2018 (arXiv 1710.11063), eqs. 10 and 19, the class' score going through an
    exponential.

    Args:
      f, x, at, target, resize, chunk: as for `cam`.

    Returns:
      (N, ...), 0 or more.

    Raises:
      ValueError: as `cam`.
    """

    def combine(features, slope):
        inner = _inner(features)
        below = 2 * slope**2 + jnp.sum(features, inner, keepdims=True) * slope**3
        shares = jnp.where(below == 0, 0, slope**2 / jnp.where(below == 0, 1, below))
        weights = jnp.sum(shares * jnp.maximum(slope, 0), inner, keepdims=True)
        return jnp.maximum(jnp.sum(weights * features, -1), 0)

    return _map("grad_cam_plus_plus", f, x, at, target, resize, chunk, combine)


@_compile.once
@_target.each
def layer_cam(
    f: Callable[[Any], Any],
    x: jax.Array,
    *,
    at: str,
    target: _target.Target = None,
    resize: bool = True,
    chunk: int | None = None,
) -> jax.Array:
    """Each feature weighted by its own positive derivative: sharp in early layers too.

    Jiang et al. 2021 (doi:10.1109/TIP.2021.3089943), eqs. 5-6.

    Args:
      f, x, at, target, resize, chunk: as for `cam`.

    Returns:
      (N, ...), 0 or more.

    Raises:
      ValueError: as `cam`.
    """

    def combine(features, slope):
        return jnp.maximum(jnp.sum(jnp.maximum(slope, 0) * features, -1), 0)

    return _map("layer_cam", f, x, at, target, resize, chunk, combine)


@_compile.once
@_target.each
def score_cam(
    f: Callable[[Any], Any],
    x: jax.Array,
    *,
    at: str,
    target: _target.Target = None,
    resize: bool = True,
    chunk: int | None = None,
) -> jax.Array:
    """Features weighted by the score of x seen through each of them, without a derivative.

    Wang et al. 2020 (arXiv 1910.01279), eqs. 5-8: each feature, stretched to x and scaled to 0 to
    1, is a mask; the weights are a softmax of the masked scores.

    Args:
      f, x, at, target, resize: as for `cam`.
      chunk: features tried side by side; None for all.

    Returns:
      (N, ...), 0 or more.

    Raises:
      ValueError: as `cam`; `chunk` is below 1.
    """
    name = "score_cam"
    x = _input.checked(name, x)
    target = _target.settled(name, f, x, target)
    _, features = _at.split(name, f, x, at)
    _inner(features)
    count = features.shape[-1]

    def masked(i):
        mask = _resized(jnp.take(features, i, axis=-1), x, True)
        axes = tuple(range(1, mask.ndim))
        low, high = (end(mask, axes, keepdims=True) for end in (jnp.min, jnp.max))
        mask = (mask - low) / jnp.where(high > low, high - low, 1)
        score = _target.score(name, f(x * mask[..., None]), target)
        return score[:, None] * (jnp.arange(count) == i).astype(score.dtype)

    scores = _input.weighted_sum(name, masked, jnp.ones(count), chunk)
    weights = jax.nn.softmax(scores).reshape(len(x), *[1] * (features.ndim - 2), count)
    return _resized(jnp.maximum(jnp.sum(weights * features, -1), 0), x, resize)


@_compile.once
@_target.each
def guided_grad_cam(
    f: Callable[[Any], Any],
    x: jax.Array,
    *,
    at: str,
    target: _target.Target = None,
    chunk: int | None = None,
) -> jax.Array:
    """Guided backprop where Grad-CAM is: fine, and of one class.

    Selvaraju et al. 2017, sec. 3.2.

    Args:
      f, x, at, target, chunk: as for `cam`.

    Returns:
      Like x.

    Raises:
      ValueError: as `cam`.
    """
    where = grad_cam(f, x, at=at, target=target, chunk=chunk)[..., None]
    return guided_backprop(f, x, target=target, chunk=chunk) * where


def _map(name, f, x, at, target, resize, chunk, combine) -> jax.Array:
    """What `combine` makes of the features and of the score's derivative by them."""

    def explained(x, target):
        rest, features = _at.split(name, f, x, at)
        _inner(features)
        slope = jax.grad(lambda a: jnp.sum(_target.score(name, rest(a), target)))(features)
        return _resized(combine(features, slope), x, resize)

    return _input.by_examples(name, explained, _input.checked(name, x), target, chunk)


def _inner(features: jax.Array) -> tuple[int, ...]:
    """The axes of a map."""
    if features.ndim < 3:
        raise ValueError(
            f"cam: the features have shape {features.shape}; expected (N, ..., C): name a layer "
            "before the features are flattened or pooled."
        )
    return tuple(range(1, features.ndim - 1))


def _resized(maps: jax.Array, x: jax.Array, resize: bool) -> jax.Array:
    return jax.image.resize(maps, x.shape[:-1], "linear") if resize else maps
