"""The fully connected layer, y = x W + b.

Each unit is the artificial neuron z = sum_k a_k w_k + b of Rosenblatt 1958 (doi:10.1037/h0042519).
"""

from __future__ import annotations

import math

import jax

from jaxdl.core import Module, named_key
from jaxdl.nn import _check
from jaxdl.nn.initializers import Initializer, initializer

__all__ = ["dense"]


def affine(x: jax.Array, kernel: jax.Array, bias: jax.Array | None = None) -> jax.Array:
    """Computes y = x W + b over the last axis of x.

    Args:
      x: (..., D).
      kernel: (D, F), the weights W, of x's dtype.
      bias: (F,) or None.

    Returns:
      (..., F).

    Raises:
      ValueError: the last axis of x is not D, or the dtypes differ.
    """
    if x.shape[-1:] != kernel.shape[:1] or x.dtype != kernel.dtype:
        raise ValueError(
            f"dense: x is {x.dtype}{list(x.shape)} and the kernel {kernel.dtype}"
            f"{list(kernel.shape)}; expected x's last axis to be the kernel's first, in one dtype. "
            "Create the parameters with init on such an input, or cast them with tree.cast."
        )
    if x.ndim > 2 and jax.device_count() == 1:
        # The kernel's gradient contracts all leading axes. If there are several, XLA first
        # transposes the output's gradient: on a CPU, value and gradient of (64, 50, 128) x
        # (128, 256) then take 1.7 times as long. But an axis that is not the first cannot be merged
        # while it is sharded: with time first and the batch over 4 devices, each device gathers x
        # and computes the whole product. A traced x does not show its sharding.
        y = affine(x.reshape(math.prod(x.shape[:-1]), x.shape[-1]), kernel, bias)
        return y.reshape(*x.shape[:-1], kernel.shape[1])
    y = x @ kernel
    return y if bias is None else y + bias


def dense(
    features: int,
    *,
    use_bias: bool = True,
    kernel_init: str | Initializer = "lecun_normal",
    bias_init: str | Initializer = "zeros",
) -> Module:
    """Creates a fully connected layer over the last axis of its input.

    Parameters: `kernel` (D, features) and `bias` (features,), in the input's dtype. Names and
    default initial values are those of Flax's `Dense`.

    Args:
      features: F, the number of units.
      use_bias: whether to add b.
      kernel_init, bias_init: a name from `nn.INITIALIZERS`, or `(key, shape, dtype) -> array`.

    Returns:
      A `Module` from (..., D) to (..., F).

    Raises:
      ValueError: `features` is not a positive integer; an initializer's name is unknown; at init,
        the input is not floating-point.

    Example:
      >>> layer = nn.dense(10)
      >>> params, state = jaxdl.init(layer, jax.random.key(0), jnp.ones((32, 784)))
      >>> logits, _ = layer.apply(params, state, jnp.ones((32, 784)))
    """
    _check.positive("dense", features=features)
    make_kernel, make_bias = initializer(kernel_init), initializer(bias_init)

    def init(key, x):
        _check.floating("dense", x)
        params = {"kernel": make_kernel(named_key(key, "kernel"), (x.shape[-1], features), x.dtype)}
        if use_bias:
            params["bias"] = make_bias(named_key(key, "bias"), (features,), x.dtype)
        return params, {}

    def apply(params, state, x, **_):
        return affine(x, params["kernel"], params["bias"] if use_bias else None), state

    return Module(init, apply, "dense", {"features": features, "use_bias": use_bias})
