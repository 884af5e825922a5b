"""The gated recurrent unit, in its two forms, which are two different networks.

Cho et al. 2014 (arXiv 1406.1078), eq. 5-8, reset the state before the recurrent product and have no
bias; so does the lecture (row J14), whose update gate is 1 - u of the other form's. cuDNN, torch
and Flax reset after the product, which then has a bias of its own.
"""

from __future__ import annotations

import functools
from typing import Literal

import jax
import jax.numpy as jnp

from jaxdl.core import Tree, named_key
from jaxdl.nn import _check
from jaxdl.nn.dense import affine
from jaxdl.nn.initializers import Initializer, initializer
from jaxdl.nn.recurrent.cell import Cell, gate_kernels, make_cell
from jaxdl.nn.recurrent.gru_fused import fused_gru

__all__ = ["gru", "gru_step"]

Reset = Literal["after", "before"]


def gru_step(
    params: Tree, h: jax.Array, x: jax.Array, *, reset: Reset = "after"
) -> tuple[jax.Array, jax.Array]:
    """One step; with [z_r, z_u, z_n] = x W + b and the recurrent kernel U = [U_r, U_u, U_n]::

        r = sigmoid(z_r + h U_r)        u = sigmoid(z_u + h U_u)
        n = tanh(z_n + r (h U_n + c))   h' = (1 - u) n + u h        reset="after"
        n = tanh(z_n + (r h) U_n)       h' = (1 - u) h + u n        reset="before"

    Products of gates are element by element (the deck calls them dot products). Lecture row J14;
    Cho et al. 2014, eq. 5-8, for "before".

    Args:
      params: `kernel` W (D, 3H), `recurrent_kernel` U (H, 3H); perhaps `bias` b (3H,) and, for
        "after", `recurrent_bias` c (H,).
      h: (N, H), the carry.
      x: (N, D).
      reset: where the reset gate acts.

    Returns:
      `(h', h')`.
    """
    return _RECUR[reset](params, h, affine(x, params["kernel"], params.get("bias")))


def _after(params, h, z, drop=lambda h: h):
    zr, zu, zn = jnp.split(z, 3, axis=-1)
    hr, hu, hn = jnp.split(drop(h) @ params["recurrent_kernel"], 3, axis=-1)
    if "recurrent_bias" in params:
        hn = hn + params["recurrent_bias"]
    r, u = jax.nn.sigmoid(zr + hr), jax.nn.sigmoid(zu + hu)
    n = jnp.tanh(zn + r * hn)
    h = (1 - u) * n + u * h
    return h, h


def _before(params, h, z, drop=lambda h: h):
    width = h.shape[-1]
    kernel, seen = params["recurrent_kernel"], drop(h)
    gates = jax.nn.sigmoid(z[..., : 2 * width] + seen @ kernel[:, : 2 * width])
    r, u = jnp.split(gates, 2, axis=-1)
    n = jnp.tanh(z[..., 2 * width :] + (r * seen) @ kernel[:, 2 * width :])
    h = (1 - u) * h + u * n
    return h, h


_RECUR = {"after": _after, "before": _before}


def gru(
    features: int,
    *,
    reset: Reset = "after",
    use_bias: bool | None = None,
    kernel_init: str | Initializer = "lecun_normal",
    recurrent_init: str | Initializer = "orthogonal",
    bias_init: str | Initializer = "zeros",
    initial: str | Initializer = "zeros",
    learn_initial: bool = False,
) -> Cell:
    """The gated recurrent unit; see `gru_step` for the equations.

    3 H (D + H) parameters without biases, and 4 H biases more with reset="after", 3 H with
    "before". Lecture row J14: without biases, (D, H) = (3, 4) has 84.

    Args:
      features: H, the number of units.
      reset: "after" the recurrent product, as cuDNN, torch and Flax have it, or "before" it, as Cho
        et al. and the lecture have it.
      use_bias: whether there are biases; None for reset="after" having them and "before" not.
      kernel_init, recurrent_init, bias_init: a name from `nn.INITIALIZERS`, or
        `(key, shape, dtype) -> array`; the recurrent one draws each gate's (H, H) by itself.
      initial: initial values of a learned h_0.
      learn_initial: whether h_0 is a parameter, `initial_h` (H,), or 0.

    Returns:
      A `Cell` from (N, T, D) to (N, T, H); gates stand in the order r, u, n.

    Raises:
      ValueError: `features` is no positive integer; `reset` is another word; an initializer's name
        is unknown; at init, the input is not (N, T, D) floating-point.
    """
    _check.positive("gru", features=features)
    if reset not in _RECUR:
        raise ValueError(f"gru: reset is {reset!r}; expected 'after' or 'before'.")
    biased = reset == "after" if use_bias is None else use_bias
    make_kernel, make_bias = initializer(kernel_init), initializer(bias_init)
    make_recurrent = initializer(recurrent_init)

    def make_params(key, width, dtype):
        own = functools.partial(named_key, key)
        square = (features, features)
        params = {
            "kernel": make_kernel(own("kernel"), (width, 3 * features), dtype),
            "recurrent_kernel": gate_kernels(
                make_recurrent, own("recurrent_kernel"), square, 3, dtype
            ),
        }
        if biased:
            params["bias"] = make_bias(own("bias"), (3 * features,), dtype)
            if reset == "after":
                params["recurrent_bias"] = make_bias(own("recurrent_bias"), (features,), dtype)
        return params

    return make_cell(
        "gru",
        {"h": features},
        make_params,
        _RECUR[reset],
        fused=fused_gru if reset == "after" else None,
        initial=initial,
        learn_initial=learn_initial,
        features=features,
        reset=reset,
    )
