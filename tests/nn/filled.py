"""Parameters drawn by NumPy: where their distribution is not tested, no initializer is compiled."""

import jax
import jax.numpy as jnp
import numpy as np


def filled(model, *inputs, seed=0, scale=0.5):
    """`(params, state)` of the model's shapes: normal parameters, the state at zero."""
    params, state = jax.eval_shape(model.init, jax.random.key(0), *inputs)
    draw = np.random.default_rng(seed).normal
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), state)
    return jax.tree.map(
        lambda leaf: jnp.asarray(draw(size=leaf.shape) * scale, leaf.dtype), params
    ), zeros
