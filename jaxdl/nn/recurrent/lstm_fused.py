"""The LSTM over all steps, with its derivative as a scan of its own.

Autodiff of a scanned step is slow on a CPU for two reasons: it adds up the gradient of the
recurrent kernel U at every step, an (H, 4H) array each time, and it computes the slopes of the four
gates, taken from a slice each, inside of the loop. Here

- one tanh over all four gates replaces three sigmoids and a tanh: sigmoid(a) = (1 + tanh(a/2)) / 2;
- the bias is added inside of the loop, where it costs nothing: before it, it is a pass over (T, N,
  4H);
- the tangent is a linear scan of its own. With a_t = z_t + b + h_{t-1} U,

      da_t = dz_t + db + h_{t-1} dU + dh_{t-1} U   u_t = K_t da_t
      dc_t = f_t dc_{t-1} + u_i + u_f + u_g        dh_t = q_t dc_t + u_o

  where the slopes K = [g i(1-i), c_{t-1} f(1-f), i(1-g^2), tanh(c) o(1-o)] and
  q = o (1 - tanh(c)^2) are worked out beforehand, for all steps at once, and so is h_{t-1} dU.

Reverse mode transposes this scan: the gradient of U becomes one product of all h_{t-1} with all
da_t after the loop. What is written is the tangent, not its transpose, so that forward mode,
derivatives of derivatives, `vmap` and `jit` all work, which a `custom_vjp` would forbid.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxdl.nn.dense import affine
from jaxdl.nn.recurrent.rnn_fused import before


def fused_lstm(params, carry, z, mask, *, reverse, unroll):
    """`(params, (h, c), x W (T, N, 4H), mask) -> ((h, c), hs (T, N, H))`; gates i, f, g, o."""
    return _run(params["recurrent_kernel"], params["bias"], carry, z, mask, reverse, unroll)


def _forward(kernel, bias, carry, z, mask, reverse, unroll):
    """The final carry, and of every step h, c and the gates' values (T, N, 4H)."""
    width = kernel.shape[0]
    # sigmoid(a) = tanh(a / 2) / 2 + 1 / 2, of the gates i, f and o; g = tanh(a).
    scale = np.repeat(np.array([0.5, 0.5, 1.0, 0.5]), width).astype(z.dtype)
    shift = (1 - scale).astype(z.dtype)
    kernel = kernel * scale
    bias = bias * scale

    def step(carry, at):
        (h, c), (z, mask) = carry, at
        gates = jnp.tanh(z * scale + (h @ kernel + bias)) * scale + shift
        i, f, g, o = jnp.split(gates, 4, axis=-1)
        new_c = f * c + i * g
        new_h = o * jnp.tanh(new_c)
        if mask is not None:
            new_h, new_c = jnp.where(mask, new_h, h), jnp.where(mask, new_c, c)
        return (new_h, new_c), (new_h, new_c, gates)

    return lax.scan(step, carry, (z, mask), reverse=reverse, unroll=unroll)


@functools.partial(jax.custom_jvp, nondiff_argnums=(5, 6))
def _run(kernel, bias, carry, z, mask, reverse, unroll):
    carry, (hs, _, _) = _forward(kernel, bias, carry, z, mask, reverse, unroll)
    return carry, hs


@_run.defjvp
def _(reverse, unroll, primals, tangents):
    kernel, bias, (h, c), z, mask = primals
    dkernel, dbias, dcarry, dz, _ = tangents
    final, (hs, cs, gates) = _forward(kernel, bias, (h, c), z, mask, reverse, unroll)
    i, f, g, o = jnp.split(gates, 4, axis=-1)
    squashed = jnp.tanh(cs)
    slopes = [
        g * i * (1 - i),
        before(c, cs, reverse) * f * (1 - f),
        i * (1 - g * g),
        squashed * o * (1 - o),
    ]
    slopes, q, held = jnp.concatenate(slopes, axis=-1), o * (1 - squashed * squashed), None
    if mask is not None:  # a padded step hands dh and dc on
        slopes, q, f = jnp.where(mask, slopes, 0), jnp.where(mask, q, 0), jnp.where(mask, f, 1)
        held = 1 - mask.astype(q.dtype)

    def step(dcarry, at):
        (dh, dc), (da, slopes, q, f, held) = dcarry, at
        ui, uf, ug, uo = jnp.split((da + dh @ kernel) * slopes, 4, axis=-1)
        dc = f * dc + (ui + uf + ug)
        new = q * dc + uo
        dh = new if held is None else new + dh * held
        return (dh, dc), dh

    da = dz + dbias + affine(before(h, hs, reverse), dkernel)
    at = (da, slopes, q, f, held)
    return (final, hs), lax.scan(step, dcarry, at, reverse=reverse, unroll=unroll)
