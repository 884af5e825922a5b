"""The LSTM by NVIDIA's cuDNN, from the same parameters, through `jax.experimental.rnn`."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def cudnn_lstm(params, carry, x, lengths, *, reverse):
    """`(params, (h, c), x (N, T, D), lengths or None) -> ((h, c), y (N, T, H))`, in float32.

    cuDNN's gates stand in our order i, f, g, o, its matrices are transposed and it adds two biases,
    of which the second is 0 here. It runs from the first step to the last and takes no row of
    length 0; so reversed rows are turned, and empty ones run one step that is not used.
    """
    from jax.experimental import rnn

    batch, steps, width = x.shape
    if x.dtype != jnp.float32 or steps == 0:
        raise ValueError(
            f"lstm: form 'cudnn' got {x.dtype}{list(x.shape)}; expected float32 and at least one "
            "step: use form 'fused'."
        )
    features = carry[0].shape[-1]
    weights = [params["kernel"].T, params["recurrent_kernel"].T, params["bias"]]
    flat = jnp.concatenate([*(w.ravel() for w in weights), jnp.zeros_like(params["bias"])])
    full = jnp.full(batch, steps, jnp.int32) if lengths is None else lengths.astype(jnp.int32)
    if reverse:
        x = turn(x, full)
    h, c = (part[None] for part in carry)
    run = jnp.maximum(full, 1)
    y, *new = rnn.lstm(x, h, c, flat, run, width, features, 1, 0.0, False)  # pyright: ignore
    started = (full > 0)[:, None]
    carry = tuple(jnp.where(started, new[0], old) for new, old in zip(new, carry, strict=True))
    return carry, turn(y, full) if reverse else y


def turn(x: jax.Array, lengths: jax.Array) -> jax.Array:
    """The first lengths[n] steps of each row in reverse order, and its padding where it was."""
    t = jnp.arange(x.shape[1])
    at = jnp.where(t < lengths[:, None], lengths[:, None] - 1 - t, t)
    return jnp.take_along_axis(x, at[..., None], axis=1)
