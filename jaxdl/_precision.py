"""The precision of sums: float16 and bfloat16 have too few digits to add up in."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def widen(x: jax.Array) -> jax.Array:
    """x in float32 if it is float16 or bfloat16; wider floats stay."""
    return x.astype(jnp.float32) if jnp.finfo(x.dtype).bits < 32 else x
