"""Normalization: batch, layer, group and instance, which differ in what a mean is taken over.

    batch     every axis but the channels', one mean a channel       Ioffe and Szegedy 2015
    layer     the channels of one position                           Ba et al. 2016
    group     all positions and a group of channels of one example   Wu and He 2018
    instance  all positions of one channel of one example            Ulyanov et al. 2016

Statistics are computed, and the running ones kept, in float32 at least; the output has the input's
dtype. Lecture row D20.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import lax

from jaxdl._precision import widen
from jaxdl.core import Module
from jaxdl.nn import _check

__all__ = ["batch_norm", "group_norm", "instance_norm", "layer_norm", "moments", "normalize"]


def moments(x: jax.Array, axes: int | Sequence[int]) -> tuple[jax.Array, jax.Array]:
    """m = E[x] and v = E[(x - m)^2] over `axes`: the biased variance, 1/n.

    In two passes, since E[x^2] - m^2 loses all digits where the mean is far from zero.

    Args:
      x: an array of floats.
      axes: the axes to take the expectation over.

    Returns:
      `(mean, var)` with axes of length 1 in place of `axes`, in float32 at least.
    """
    x = widen(x)
    mean = jnp.mean(x, axes, keepdims=True)
    return mean, jnp.mean((x - mean) ** 2, axes, keepdims=True)


def normalize(
    x: jax.Array,
    mean: jax.Array,
    var: jax.Array,
    scale: jax.Array | None = None,
    bias: jax.Array | None = None,
    *,
    eps: float = 1e-5,
) -> jax.Array:
    """y = (x - m) / sqrt(v + eps) * scale + bias. Ioffe and Szegedy 2015, arXiv 1502.03167, alg. 1.

    Args:
      x: an array of floats.
      mean, var: m and v, float32 at least, of shapes that broadcast to x's.
      scale, bias: (C,) over the last axis, or None.
      eps: added to the variance.

    Returns:
      An array of x's shape and dtype.
    """
    y = (widen(x) - mean) * lax.rsqrt(var + eps)
    y = y if scale is None else y * widen(scale)
    y = y if bias is None else y + widen(bias)
    return y.astype(x.dtype)


def batch_norm(
    *, momentum: float = 0.99, eps: float = 1e-5, use_scale: bool = True, use_bias: bool = True
) -> Module:
    """Each channel to mean 0 and variance 1 over the batch, then scaled and shifted.

    Parameters `scale` and `bias` (C,); state `mean` and `var` (C,). With `train=True` the batch's
    own statistics normalize, and the running ones follow, without gradient:
    r <- momentum r + (1 - momentum) statistic. With `train=False` the running ones normalize.

    `momentum` is the decay, as in Flax and Keras: PyTorch's `momentum=0.1` is 0.9 here. The running
    variance is the biased one that normalizes, as in Flax; PyTorch stores n/(n - 1) of it.

    Args:
      momentum: how much of the running statistics is kept, in [0, 1].
      eps: added to the variance, as in PyTorch and Flax; Keras's is 1e-3.
      use_scale, use_bias: whether to scale and shift.

    Returns:
      A `Module` from (N, ..., C) to the same.

    Raises:
      ValueError: `momentum` or `eps` is out of range; at init, the input is not floating-point or
        has no batch axis; in training, there are fewer than two values for each channel.
    """
    _check_eps("batch_norm", eps)
    if not 0 <= momentum <= 1:
        raise ValueError(f"batch_norm: momentum is {momentum!r}; expected a number in [0, 1].")

    def init(key, x):
        _check.floating("batch_norm", x, min_ndim=2)
        zeros = jnp.zeros(x.shape[-1:], widen(x).dtype)
        return _affine(x, use_scale, use_bias), {"mean": zeros, "var": zeros + 1}

    def apply(params, state, x, *, train=False, **_):
        mean, var = state["mean"], state["var"]
        if train:
            count = math.prod(x.shape[:-1])
            if count < 2:
                raise ValueError(
                    f"batch_norm: {count} values for each channel of {x.shape} in training; "
                    "expected two at least, or the variance says nothing: give a larger batch."
                )
            mean, var = moments(x, tuple(range(x.ndim - 1)))
            state = {
                name: momentum * state[name] + (1 - momentum) * lax.stop_gradient(new.reshape(-1))
                for name, new in (("mean", mean), ("var", var))
            }
        return normalize(x, mean, var, *_given(params, use_scale, use_bias), eps=eps), state

    config = {"momentum": momentum, "eps": eps, "use_scale": use_scale, "use_bias": use_bias}
    return Module(init, apply, "batch_norm", config)


def layer_norm(*, eps: float = 1e-6, use_scale: bool = True, use_bias: bool = True) -> Module:
    """Each position's channels to mean 0 and variance 1, then scaled and shifted.

    Ba et al. 2016, arXiv 1607.06450. Parameters `scale` and `bias` (C,). Only the last axis is
    normalized.

    Args:
      eps: added to the variance; 1e-6 as in Flax, where PyTorch has 1e-5 and Keras 1e-3.
      use_scale, use_bias: whether to scale and shift.

    Returns:
      A `Module` from (..., C) to the same.

    Raises:
      ValueError: `eps` is not positive; at init, the input is not floating-point.
    """
    return _layer("layer_norm", lambda x: moments(x, -1), 1, {}, eps, use_scale, use_bias)


def group_norm(
    groups: int = 32, *, eps: float = 1e-6, use_scale: bool = True, use_bias: bool = True
) -> Module:
    """Each example's groups of channels to mean 0 and variance 1, then scaled and shifted.

    Wu and He 2018, arXiv 1803.08494. Parameters `scale` and `bias` (C,). Group g holds the C/groups
    channels that begin at g C/groups, at all positions.

    Args:
      groups: their number, a divisor of C. With 1, all channels and positions are one group.
      eps: added to the variance; 1e-6 as in Flax, where PyTorch has 1e-5.
      use_scale, use_bias: whether to scale and shift.

    Returns:
      A `Module` from (N, ..., C) to the same.

    Raises:
      ValueError: `groups` is no positive integer or `eps` not positive; at init, the input is not
        floating-point, or C is no multiple of `groups`.
    """
    _check.positive("group_norm", groups=groups)

    def statistics(x):
        channels = x.shape[-1]
        if channels % groups:
            raise ValueError(
                f"group_norm: {channels} channels in {groups} groups; expected a multiple of "
                "groups: choose a divisor of the channels."
            )
        positions = math.prod(x.shape[1:-1])
        split = x.reshape(x.shape[0], positions, groups, channels // groups)

        def per_channel(a):
            a = jnp.broadcast_to(a, (x.shape[0], 1, *split.shape[2:]))
            return a.reshape(x.shape[0], *[1] * (x.ndim - 2), channels)

        mean, var = moments(split, (1, 3))
        return per_channel(mean), per_channel(var)

    return _layer("group_norm", statistics, 2, {"groups": groups}, eps, use_scale, use_bias)


def instance_norm(*, eps: float = 1e-6, use_scale: bool = True, use_bias: bool = True) -> Module:
    """Each channel of each example to mean 0 and variance 1, then scaled and shifted.

    Ulyanov et al. 2016, arXiv 1607.08022. Parameters `scale` and `bias` (C,), which PyTorch leaves
    out by default. It is `group_norm` with a group for each channel.

    Args:
      eps: added to the variance; 1e-6 as in Flax, where PyTorch has 1e-5.
      use_scale, use_bias: whether to scale and shift.

    Returns:
      A `Module` from `(N, *space, C)` to the same.

    Raises:
      ValueError: `eps` is not positive; at init, the input is not floating-point or has no axis of
        space.
    """

    def statistics(x):
        return moments(x, tuple(range(1, x.ndim - 1)))

    return _layer("instance_norm", statistics, 3, {}, eps, use_scale, use_bias)


def _layer(
    kind: str,
    statistics: Callable[[jax.Array], tuple[jax.Array, jax.Array]],
    min_ndim: int,
    config: dict[str, int],
    eps: float,
    use_scale: bool,
    use_bias: bool,
) -> Module:
    """The factory of the layers without state, whose statistics are each example's own."""
    _check_eps(kind, eps)

    def init(key, x):
        _check.floating(kind, x, min_ndim=min_ndim)
        jax.eval_shape(statistics, x)
        return _affine(x, use_scale, use_bias), {}

    def apply(params, state, x, **_):
        return normalize(x, *statistics(x), *_given(params, use_scale, use_bias), eps=eps), state

    config = config | {"eps": eps, "use_scale": use_scale, "use_bias": use_bias}
    return Module(init, apply, kind, config)


def _affine(x: jax.Array, use_scale: bool, use_bias: bool) -> dict[str, jax.Array]:
    params = {"scale": jnp.ones(x.shape[-1:], x.dtype)} if use_scale else {}
    return params | ({"bias": jnp.zeros(x.shape[-1:], x.dtype)} if use_bias else {})


def _given(params: dict[str, jax.Array], use_scale: bool, use_bias: bool):
    return params["scale"] if use_scale else None, params["bias"] if use_bias else None


def _check_eps(kind: str, eps: float) -> None:
    if not eps > 0:
        raise ValueError(f"{kind}: eps is {eps!r}; expected a number above 0.")
