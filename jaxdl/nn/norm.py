"""Batch, layer, group and instance normalization, which differ in the axes of the mean.

    batch     all axes except the channels                           Ioffe and Szegedy 2015
    layer     the channels of one position                           Ba et al. 2016
    group     all positions and a group of channels of one example   Wu and He 2018
    instance  all positions of one channel of one example            Ulyanov et al. 2016

Statistics, running ones included, are computed and stored in float32 at least. The output has the
input's dtype. C is the number of channels, the last axis.
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
    """Computes the mean m = E[x] and the biased variance v = E[(x - m)^2] over `axes`.

    Args:
      x: an array of floats.
      axes: the axes of the expectation.

    Returns:
      `(mean, var)`, in which `axes` have length 1, in float32 at least.
    """
    x = widen(x)
    # Two passes: E[x^2] - m^2 loses all digits if the mean is far from zero.
    mean = jnp.mean(x, axes, keepdims=True)
    return mean, jnp.mean((x - mean) ** 2, axes, keepdims=True)


def batch_moments(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Computes the mean m and the biased variance v of each channel, reading x once.

    v = E[(x - s)^2] - (m - s)^2, where s is the mean of 1 in 16 rows or more: shifted data, Chan,
    Golub and LeVeque 1983, doi:10.1080/00031305.1983.10483115. As (m - s)^2 is at most 15 v, the
    relative error of v is at worst some 16 times that of two passes; far from zero it is smaller.

    Args:
      x: (N, ..., C), floats.

    Returns:
      `(mean, var)` of shape (1, ..., 1, C), in float32 at least.
    """
    axes = tuple(range(x.ndim - 1))
    if x.ndim == 2:
        return moments(x, axes)
    # On a GPU, reading x a second time costs a fifth of a training step of ResNet-50. The rows are
    # of all examples: an array that is divided among devices by examples is not moved.
    x, rows = widen(x), x.shape[1]
    every = -(-rows // -(-rows // 16))
    shift = lax.stop_gradient(jnp.mean(x[:, every // 2 :: every], axes, keepdims=True))
    centred = x - shift
    mean = jnp.mean(centred, axes, keepdims=True)
    var = jnp.mean(centred**2, axes, keepdims=True) - mean**2
    # Rounding can make it negative. A maximum would change the derivatives of constant channels.
    return mean + shift, var + lax.stop_gradient(jnp.maximum(-var, 0))


def normalize(
    x: jax.Array,
    mean: jax.Array,
    var: jax.Array,
    scale: jax.Array | None = None,
    bias: jax.Array | None = None,
    *,
    eps: float = 1e-5,
) -> jax.Array:
    """Computes y = (x - m) / sqrt(v + eps) * scale + bias.

    Ioffe and Szegedy 2015, arXiv 1502.03167, alg. 1.

    Args:
      x: an array of floats.
      mean, var: m and v, in float32 at least, which broadcast to x.
      scale, bias: (C,) over the last axis, or None.
      eps: added to the variance.

    Returns:
      An array of x's shape and dtype.
    """
    factor = lax.rsqrt(var + eps)
    factor = factor if scale is None else factor * widen(scale)
    y = (widen(x) - mean) * factor
    y = y if bias is None else y + widen(bias)
    return y.astype(x.dtype)


def batch_norm(
    *, momentum: float = 0.99, eps: float = 1e-5, use_scale: bool = True, use_bias: bool = True
) -> Module:
    """Creates batch normalization: normalizes each channel over the batch and all positions.

    Parameters `scale` and `bias` (C,); state `mean` and `var` (C,). With `train=True` the layer
    uses the statistics of the batch and updates the running ones, without gradient:
    r <- momentum r + (1 - momentum) statistic. With `train=False` it uses the running ones.

    `momentum` is the decay, as in Flax and Keras: PyTorch's `momentum=0.1` is 0.9 here. The running
    variance is the biased one, as in Flax; PyTorch stores n/(n - 1) times this value.

    Args:
      momentum: the decay of the running statistics, in [0, 1].
      eps: added to the variance; 1e-5 as in PyTorch and Flax, where Keras has 1e-3.
      use_scale, use_bias: whether to scale and shift.

    Returns:
      A `Module` from (N, ..., C) to the same shape.

    Raises:
      ValueError: `momentum` or `eps` is out of range; at init, the input is not floating-point or
        has no batch axis; with `train=True`, there are fewer than two values for each channel.
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
                    f"batch_norm: {count} values for each channel of {x.shape} with train=True; "
                    "expected at least two, to compute a variance. Use a larger batch."
                )
            # On a CPU, one pass saves no time, and compiling it takes a quarter more.
            on_cpu = jax.default_backend() == "cpu"
            mean, var = moments(x, tuple(range(x.ndim - 1))) if on_cpu else batch_moments(x)
            state = {
                # No gradient flows through the running statistics into an earlier step.
                name: momentum * state[name] + (1 - momentum) * lax.stop_gradient(new.reshape(-1))
                for name, new in (("mean", mean), ("var", var))
            }
        return normalize(
            x, mean, var, *_scale_and_bias(params, use_scale, use_bias), eps=eps
        ), state

    config = {"momentum": momentum, "eps": eps, "use_scale": use_scale, "use_bias": use_bias}
    return Module(init, apply, "batch_norm", config)


def layer_norm(*, eps: float = 1e-6, use_scale: bool = True, use_bias: bool = True) -> Module:
    """Creates layer normalization: normalizes over the channels of each position.

    Ba et al. 2016, arXiv 1607.06450. Parameters `scale` and `bias` (C,).

    Args:
      eps: added to the variance; 1e-6 as in Flax, where PyTorch has 1e-5 and Keras 1e-3.
      use_scale, use_bias: whether to scale and shift.

    Returns:
      A `Module` from (..., C) to the same shape.

    Raises:
      ValueError: `eps` is not positive; at init, the input is not floating-point.
    """
    return _layer("layer_norm", lambda x: moments(x, -1), 1, {}, eps, use_scale, use_bias)


def group_norm(
    groups: int = 32, *, eps: float = 1e-6, use_scale: bool = True, use_bias: bool = True
) -> Module:
    """Creates group normalization: normalizes groups of channels over all positions.

    Wu and He 2018, arXiv 1803.08494. Parameters `scale` and `bias` (C,). Group g consists of the
    C/groups channels from g C/groups on.

    Args:
      groups: the number of groups, a divisor of C.
      eps: added to the variance; 1e-6 as in Flax, where PyTorch has 1e-5.
      use_scale, use_bias: whether to scale and shift.

    Returns:
      A `Module` from (N, ..., C) to the same shape.

    Raises:
      ValueError: `groups` is not a positive integer or `eps` not positive; at init, the input is
        not floating-point, or C is not a multiple of `groups`.
    """
    _check.positive("group_norm", groups=groups)

    def statistics(x):
        channels = x.shape[-1]
        if channels % groups:
            raise ValueError(
                f"group_norm: {channels} channels in {groups} groups; expected a multiple of "
                "groups. Pass a divisor of the number of channels."
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
    """Creates instance normalization: normalizes each channel of each example.

    Ulyanov et al. 2016, arXiv 1607.08022. Parameters `scale` and `bias` (C,), which PyTorch
    omits by default. The layer is equal to `group_norm` with one group per channel.

    Args:
      eps: added to the variance; 1e-6 as in Flax, where PyTorch has 1e-5.
      use_scale, use_bias: whether to scale and shift.

    Returns:
      A `Module` from (N, *space, C) to the same shape.

    Raises:
      ValueError: `eps` is not positive; at init, the input is not floating-point or has no spatial
        axis.
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
    """Creates a layer whose statistics are computed for each example, without state."""
    _check_eps(kind, eps)

    def init(key, x):
        _check.floating(kind, x, min_ndim=min_ndim)
        jax.eval_shape(statistics, x)  # raises the errors of shapes
        return _affine(x, use_scale, use_bias), {}

    def apply(params, state, x, **_):
        return normalize(
            x, *statistics(x), *_scale_and_bias(params, use_scale, use_bias), eps=eps
        ), state

    config = config | {"eps": eps, "use_scale": use_scale, "use_bias": use_bias}
    return Module(init, apply, kind, config)


def _affine(x: jax.Array, use_scale: bool, use_bias: bool) -> dict[str, jax.Array]:
    params = {"scale": jnp.ones(x.shape[-1:], x.dtype)} if use_scale else {}
    return params | ({"bias": jnp.zeros(x.shape[-1:], x.dtype)} if use_bias else {})


def _scale_and_bias(params: dict[str, jax.Array], use_scale: bool, use_bias: bool):
    return params["scale"] if use_scale else None, params["bias"] if use_bias else None


def _check_eps(kind: str, eps: float) -> None:
    if not eps > 0:
        raise ValueError(f"{kind}: eps is {eps!r}; expected a number above 0.")
