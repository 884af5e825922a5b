"""The GRU (reset after the product) over all steps, with its derivative as a scan of its own.

As in `lstm_fused`, whose docstring says why. With z = x W + b, a_t = [z_r, z_u, c] + h_{t-1} U,
where c is the recurrent bias, and n = tanh(z_n + r a_n), h' = n + u (h - n), the tangent is

    dh_t = w_t + sum of the three parts of K_t da_t + u_t dh_{t-1}
    da_t = [dz_r, dz_u, dc] + h_{t-1} dU + dh_{t-1} U

with K = [s a_n r(1-r), (h_{t-1} - n) u(1-u), s r], w = s dz_n and s = (1-u)(1-n^2), all of which
are worked out beforehand for all steps.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax import lax

from jaxdl.nn.dense import affine
from jaxdl.nn.recurrent.rnn_fused import before


def fused_gru(params, h, z, mask, *, reverse, unroll):
    """`(params, h, x W (T, N, 3H), mask) -> (h, hs (T, N, H))`; gates r, u, n."""
    kernel = params["recurrent_kernel"]
    width = kernel.shape[0]
    bias = params.get("bias", jnp.zeros(3 * width, z.dtype))
    recurrent_bias = params.get("recurrent_bias", jnp.zeros(width, z.dtype))
    return _run(kernel, bias, recurrent_bias, h, z, mask, reverse, unroll)


def _forward(kernel, bias, recurrent_bias, h, z, mask, reverse, unroll):
    """The final h, and of every step h, [r, u] (T, N, 2H), n and a_n."""
    width = kernel.shape[0]
    # Two products a step: the gates' and the candidate's, so that neither is a slice of the other.
    gate_kernel, kernel = kernel[:, : 2 * width] * 0.5, kernel[:, 2 * width :]
    gate_bias, bias = bias[: 2 * width] * 0.5, bias[2 * width :]

    def step(h, at):
        z, mask = at
        gate_z, z = z[..., : 2 * width], z[..., 2 * width :]
        gates = jnp.tanh(gate_z * 0.5 + (h @ gate_kernel + gate_bias)) * 0.5 + 0.5
        r, u = jnp.split(gates, 2, axis=-1)
        a = h @ kernel + recurrent_bias
        n = jnp.tanh(z + bias + r * a)
        new = n + u * (h - n)
        h = new if mask is None else jnp.where(mask, new, h)
        return h, (h, gates, n, a)

    return lax.scan(step, h, (z, mask), reverse=reverse, unroll=unroll)


@functools.partial(jax.custom_jvp, nondiff_argnums=(6, 7))
def _run(kernel, bias, recurrent_bias, h, z, mask, reverse, unroll):
    h, (hs, *_) = _forward(kernel, bias, recurrent_bias, h, z, mask, reverse, unroll)
    return h, hs


@_run.defjvp
def _(reverse, unroll, primals, tangents):
    kernel, bias, recurrent_bias, h, z, mask = primals
    dkernel, dbias, drecurrent_bias, dh, dz, _ = tangents
    width = kernel.shape[0]
    final, (hs, gates, n, a) = _forward(kernel, bias, recurrent_bias, h, z, mask, reverse, unroll)
    earlier = before(h, hs, reverse)
    r, u = jnp.split(gates, 2, axis=-1)
    s = (1 - u) * (1 - n * n)
    slopes = jnp.concatenate([s * a * r * (1 - r), (earlier - n) * u * (1 - u), s * r], axis=-1)
    if mask is not None:  # a padded step hands dh on
        slopes, s, u = jnp.where(mask, slopes, 0), jnp.where(mask, s, 0), jnp.where(mask, u, 1)

    def step(dh, at):
        da, slopes, u, w = at
        parts = jnp.split((da + dh @ kernel) * slopes, 3, axis=-1)
        dh = w + (parts[0] + parts[1] + parts[2]) + u * dh
        return dh, dh

    dz = dz + dbias
    of_bias = jnp.broadcast_to(drecurrent_bias, (*dz.shape[:-1], width))
    da = jnp.concatenate([dz[..., : 2 * width], of_bias], axis=-1) + affine(earlier, dkernel)
    at = (da, slopes, u, s * dz[..., 2 * width :])
    return (final, hs), lax.scan(step, dh, at, reverse=reverse, unroll=unroll)
