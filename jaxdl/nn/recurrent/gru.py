"""The gated recurrent unit with the reset gate after or before the recurrent product.

These are two different networks. Cho et al. 2014 (arXiv 1406.1078), eq. 5-8, reset the state before
the product and have no biases. cuDNN, torch and Flax reset after the product, which then has its
own bias, and swap the roles of u and 1 - u.

With reset="after", `unroll` runs the fused implementation at the end of this file by default; with
`remat` or recurrent dropout, and with reset="before", it scans `gru_step`.

Products of gates are elementwise. Shapes: N sequences of T steps with D features, H units.
"""

from __future__ import annotations

import functools
from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax

from jaxdl.core import Tree, named_key
from jaxdl.nn import _check
from jaxdl.nn.dense import affine
from jaxdl.nn.initializers import Initializer, initializer
from jaxdl.nn.recurrent.cell import Cell, init_gate_kernels, make_cell, previous_states

__all__ = ["gru", "gru_step"]

Reset = Literal["after", "before"]


def gru_step(
    params: Tree, h: jax.Array, x: jax.Array, *, reset: Reset = "after"
) -> tuple[jax.Array, jax.Array]:
    """Computes one step. With [z_r, z_u, z_n] = x W + b and U = [U_r, U_u, U_n]::

        r = sigmoid(z_r + h U_r)        u = sigmoid(z_u + h U_u)
        n = tanh(z_n + r (h U_n + c))   h' = (1 - u) n + u h        reset="after"
        n = tanh(z_n + (r h) U_n)       h' = (1 - u) h + u n        reset="before"

    "before" is eq. 5-8 of Cho et al. 2014, "after" the equations of cuDNN, torch and Flax.

    Args:
      params: `kernel` W (D, 3H), `recurrent_kernel` U (H, 3H), optionally `bias` b (3H,) and, with
        reset="after", `recurrent_bias` c (H,).
      h: (N, H), the carry.
      x: (N, D).
      reset: whether the reset gate acts "after" or "before" the recurrent product.

    Returns:
      `(h', h')`.
    """
    return _RECUR[reset](params, h, affine(x, params["kernel"], params.get("bias")))


def _recur_after(params, h, z, drop=lambda h: h):
    zr, zu, zn = jnp.split(z, 3, axis=-1)
    hr, hu, hn = jnp.split(drop(h) @ params["recurrent_kernel"], 3, axis=-1)
    if "recurrent_bias" in params:
        hn = hn + params["recurrent_bias"]
    r, u = jax.nn.sigmoid(zr + hr), jax.nn.sigmoid(zu + hu)
    n = jnp.tanh(zn + r * hn)
    h = (1 - u) * n + u * h
    return h, h


def _recur_before(params, h, z, drop=lambda h: h):
    width = h.shape[-1]
    kernel, dropped = params["recurrent_kernel"], drop(h)
    gates = jax.nn.sigmoid(z[..., : 2 * width] + dropped @ kernel[:, : 2 * width])
    r, u = jnp.split(gates, 2, axis=-1)
    # The product needs r first, so it cannot join that of the gates: two products a step.
    n = jnp.tanh(z[..., 2 * width :] + (r * dropped) @ kernel[:, 2 * width :])
    h = (1 - u) * h + u * n
    return h, h


_RECUR = {"after": _recur_after, "before": _recur_before}


def gru(
    features: int,
    *,
    reset: Reset = "after",
    use_bias: bool | None = None,
    kernel_init: str | Initializer = "lecun_normal",
    recurrent_init: str | Initializer = "orthogonal",
    bias_init: str | Initializer = "zeros",
    carry_init: str | Initializer = "zeros",
    learn_initial_carry: bool = False,
) -> Cell:
    """Makes a gated recurrent unit; see `gru_step` for the equations.

    It has 3 H (D + H) weights, and 4 H biases with reset="after" or 3 H with "before".

    Args:
      features: H, the number of units.
      reset: whether the reset gate acts "after" the recurrent product, as in cuDNN, torch and Flax,
        or "before" it, as in Cho et al. 2014.
      use_bias: whether there are biases. By default True for reset="after", False for "before".
      kernel_init, recurrent_init, bias_init: a name from `nn.INITIALIZERS`, or
        `(key, shape, dtype) -> array`. `recurrent_init` initializes each gate's (H, H) separately.
      carry_init: initializer of a learned h_0.
      learn_initial_carry: whether h_0 is a parameter, `initial_h` (H,); otherwise it is 0.

    Returns:
      A `Cell` from (N, T, D) to (N, T, H), with gates in the order r, u, n.

    Raises:
      ValueError: `features` is not a positive integer; `reset` or an initializer's name is unknown;
        at init, the input is not floating-point of shape (N, T, D).
    """
    _check.positive("gru", features=features)
    if reset not in _RECUR:
        raise ValueError(f"gru: got reset={reset!r}, expected 'after' or 'before'.")
    use_bias = reset == "after" if use_bias is None else use_bias
    make_kernel, make_bias = initializer(kernel_init), initializer(bias_init)
    make_recurrent = initializer(recurrent_init)

    def make_params(key, width, dtype):
        key_of = functools.partial(named_key, key)
        square = (features, features)
        params = {
            "kernel": make_kernel(key_of("kernel"), (width, 3 * features), dtype),
            "recurrent_kernel": init_gate_kernels(
                make_recurrent, key_of("recurrent_kernel"), square, 3, dtype
            ),
        }
        if use_bias:
            params["bias"] = make_bias(key_of("bias"), (3 * features,), dtype)
            if reset == "after":
                params["recurrent_bias"] = make_bias(key_of("recurrent_bias"), (features,), dtype)
        return params

    return make_cell(
        "gru",
        {"h": features},
        make_params,
        _RECUR[reset],
        fused=_fused_gru if reset == "after" else None,
        carry_init=carry_init,
        learn_initial_carry=learn_initial_carry,
        features=features,
        reset=reset,
    )


def _fused_gru(params, h, z, mask, *, reverse, unroll):
    """Runs all steps: `(params, h, x W (T, N, 3H), mask) -> (h, hs (T, N, H))`, reset="after".

    The derivative is a separate scan, for the reasons given in `lstm._fused_lstm`. With
    z = x W + b, a_t = [z_r, z_u, c] + h_{t-1} U, where c is the recurrent bias,
    n = tanh(z_n + r a_n) and h' = n + u (h - n), the tangent is::

        dh_t = w_t + sum of the three parts of K_t da_t + u_t dh_{t-1}
        da_t = [dz_r, dz_u, dc] + h_{t-1} dU + dh_{t-1} U

    K = [s a_n r(1-r), (h_{t-1} - n) u(1-u), s r], w = s dz_n and s = (1-u)(1-n^2) are computed for
    all steps at once, before the loop.
    """
    kernel = params["recurrent_kernel"]
    width = kernel.shape[0]
    bias = params.get("bias", jnp.zeros(3 * width, z.dtype))
    recurrent_bias = params.get("recurrent_bias", jnp.zeros(width, z.dtype))
    return _fused_steps(kernel, bias, recurrent_bias, h, z, mask, reverse, unroll)


def _fused_forward(kernel, bias, recurrent_bias, h, z, mask, reverse, unroll):
    """Returns the final h, and h, [r, u] (T, N, 2H), n and a_n of every step."""
    width = kernel.shape[0]
    # Two products per step, of the gates and of the candidate: with one product XLA would have to
    # slice its result for each.
    gate_kernel, kernel = kernel[:, : 2 * width] * 0.5, kernel[:, 2 * width :]
    gate_bias, bias = bias[: 2 * width] * 0.5, bias[2 * width :]

    def step(h, inputs):
        z, mask = inputs
        gate_z, z = z[..., : 2 * width], z[..., 2 * width :]
        # sigmoid(a) = tanh(a / 2) / 2 + 1 / 2
        gates = jnp.tanh(gate_z * 0.5 + (h @ gate_kernel + gate_bias)) * 0.5 + 0.5
        r, u = jnp.split(gates, 2, axis=-1)
        a = h @ kernel + recurrent_bias
        n = jnp.tanh(z + bias + r * a)
        new = n + u * (h - n)
        h = new if mask is None else jnp.where(mask, new, h)
        return h, (h, gates, n, a)

    return lax.scan(step, h, (z, mask), reverse=reverse, unroll=unroll)


@functools.partial(jax.custom_jvp, nondiff_argnums=(6, 7))
def _fused_steps(kernel, bias, recurrent_bias, h, z, mask, reverse, unroll):
    h, (hs, *_) = _fused_forward(kernel, bias, recurrent_bias, h, z, mask, reverse, unroll)
    return h, hs


@_fused_steps.defjvp
def _(reverse, unroll, primals, tangents):
    kernel, bias, recurrent_bias, h, z, mask = primals
    dkernel, dbias, drecurrent_bias, dh, dz, _ = tangents
    width = kernel.shape[0]
    final, (hs, gates, n, a) = _fused_forward(
        kernel, bias, recurrent_bias, h, z, mask, reverse, unroll
    )
    previous = previous_states(h, hs, reverse)
    r, u = jnp.split(gates, 2, axis=-1)
    s = (1 - u) * (1 - n * n)
    slopes = jnp.concatenate([s * a * r * (1 - r), (previous - n) * u * (1 - u), s * r], axis=-1)
    if mask is not None:  # a padded step passes dh on unchanged
        slopes, s, u = jnp.where(mask, slopes, 0), jnp.where(mask, s, 0), jnp.where(mask, u, 1)

    def step(dh, inputs):
        da, slopes, u, w = inputs
        parts = jnp.split((da + dh @ kernel) * slopes, 3, axis=-1)
        dh = w + (parts[0] + parts[1] + parts[2]) + u * dh
        return dh, dh

    dz = dz + dbias
    candidate_bias = jnp.broadcast_to(drecurrent_bias, (*dz.shape[:-1], width))
    gates_dz = dz[..., : 2 * width]
    da = jnp.concatenate([gates_dz, candidate_bias], axis=-1) + affine(previous, dkernel)
    inputs = (da, slopes, u, s * dz[..., 2 * width :])
    return (final, hs), lax.scan(step, dh, inputs, reverse=reverse, unroll=unroll)
