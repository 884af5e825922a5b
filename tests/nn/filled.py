"""Values drawn by NumPy: where their distribution is not tested, no random draw is compiled."""

import jax
import jax.numpy as jnp
import numpy as np


def filled(model, *inputs, seed=0, scale=0.5):
    """`(params, state)` of the model's shapes: normal parameters, the state at zero."""
    params, state = jax.eval_shape(model.init, jax.random.key(0), *inputs)
    draw = np.random.default_rng(seed).normal
    zeros = jax.tree.map(lambda leaf: jnp.asarray(np.zeros(leaf.shape), leaf.dtype), state)
    return jax.tree.map(
        lambda leaf: jnp.asarray(draw(size=leaf.shape) * scale, leaf.dtype), params
    ), zeros


def normal(seed, *shape, dtype=np.float32):
    """Standard normal values."""
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


def normal_like(tree, seed):
    """A tree of standard normal values, as NumPy arrays, with the leaves' shapes and dtypes."""
    draw = np.random.default_rng(seed).normal
    return jax.tree.map(lambda leaf: draw(size=leaf.shape).astype(leaf.dtype), tree)
