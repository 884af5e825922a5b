"""The cuDNN implementation of the LSTM, through `jax.experimental.rnn`."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def cudnn_lstm(params, carry, x, lengths, *, reverse):
    """Runs all steps: `(params, (h, c), x (N, T, D), lengths or None) -> ((h, c), y (N, T, H))`.

    cuDNN has the same gate order i, f, g, o, transposed matrices and a second bias, which is 0
    here. It runs only forwards, so `reverse` reverses the rows before and after. It rejects rows of
    length 0, so these run one step whose result is discarded.
    """
    from jax.experimental import rnn

    batch, steps, width = x.shape
    if x.dtype != jnp.float32 or steps == 0:
        raise ValueError(
            f"lstm: implementation='cudnn' got {x.dtype}{list(x.shape)}, expected float32 and at "
            "least one step. Use implementation='fused'."
        )
    features = carry[0].shape[-1]
    weights = [params["kernel"].T, params["recurrent_kernel"].T, params["bias"]]
    flat = jnp.concatenate([*(w.ravel() for w in weights), jnp.zeros_like(params["bias"])])
    full = jnp.full(batch, steps, jnp.int32) if lengths is None else lengths.astype(jnp.int32)
    if reverse:
        x = reverse_rows(x, full)
    h, c = (part[None] for part in carry)
    run = jnp.maximum(full, 1)
    y, *new = rnn.lstm(x, h, c, flat, run, width, features, 1, 0.0, False)  # pyright: ignore
    nonempty = (full > 0)[:, None]
    carry = tuple(jnp.where(nonempty, new[0], old) for new, old in zip(new, carry, strict=True))
    return carry, reverse_rows(y, full) if reverse else y


def reverse_rows(x: jax.Array, lengths: jax.Array) -> jax.Array:
    """Reverses the first lengths[n] steps of each row and leaves its padding in place."""
    t = jnp.arange(x.shape[1])
    index = jnp.where(t < lengths[:, None], lengths[:, None] - 1 - t, t)
    return jnp.take_along_axis(x, index[..., None], axis=1)
