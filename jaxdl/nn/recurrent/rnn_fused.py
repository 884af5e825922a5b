"""The Elman network over all steps, with its derivative as a scan of its own.

As in `lstm_fused`, whose docstring says why: the slopes f'(a_t) are worked out for all steps
beforehand, and the tangent of U enters as one product over all steps, which reverse mode transposes
to one product.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from jaxdl.nn.dense import affine


def fused_elman(activation: Callable[[jax.Array], jax.Array]) -> Callable:
    """`(params, h, x W (T, N, H), mask, *, reverse, unroll) -> (h, hs (T, N, H))`."""

    def forward(kernel, bias, h, z, mask, reverse, unroll):
        def step(h, at):
            z, mask = at
            a = z + (h @ kernel + bias)
            h = activation(a) if mask is None else jnp.where(mask, activation(a), h)
            return h, (h, a)

        return lax.scan(step, h, (z, mask), reverse=reverse, unroll=unroll)

    @functools.partial(jax.custom_jvp, nondiff_argnums=(5, 6))
    def run(kernel, bias, h, z, mask, reverse, unroll):
        h, (hs, _) = forward(kernel, bias, h, z, mask, reverse, unroll)
        return h, hs

    @run.defjvp
    def _(reverse, unroll, primals, tangents):
        kernel, bias, h, z, mask = primals
        dkernel, dbias, dh, dz, _ = tangents
        final, (hs, a) = forward(kernel, bias, h, z, mask, reverse, unroll)
        slope = jax.jvp(activation, (a,), (jnp.ones_like(a),))[1]
        held = None
        if mask is not None:
            slope = jnp.where(mask, slope, 0)
            held = 1 - mask.astype(slope.dtype)

        def step(dh, at):
            da, slope, held = at
            new = (da + dh @ kernel) * slope
            dh = new if held is None else new + dh * held
            return dh, dh

        da = dz + dbias + affine(before(h, hs, reverse), dkernel)
        return (final, hs), lax.scan(step, dh, (da, slope, held), reverse=reverse, unroll=unroll)

    def fused(params, h, z, mask, *, reverse, unroll):
        kernel = params["recurrent_kernel"]
        bias = params.get("bias", jnp.zeros(kernel.shape[0], z.dtype))
        return run(kernel, bias, h, z, mask, reverse, unroll)

    return fused


def before(first: jax.Array, states: jax.Array, reverse: bool) -> jax.Array:
    """The state before each step: states (T, N, H) moved by one step, with `first` (N, H)."""
    if reverse:
        return jnp.concatenate([states[1:], first[None]])
    return jnp.concatenate([first[None], states[:-1]])
