"""Accumulation dtype: sums of float16 and bfloat16 values are computed in float32."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def widen(x: jax.Array) -> jax.Array:
    """Casts float16 and bfloat16 to float32; wider floats are unchanged."""
    return x.astype(jnp.float32) if jnp.finfo(x.dtype).bits < 32 else x
