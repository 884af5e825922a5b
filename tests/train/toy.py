"""A small problem, and a small model of it, shared by the tests of training."""

import jax
import numpy as np

from jaxdl import nn, serial

ROWS, FEATURES, CLASSES = 50, 4, 3


def data(rows=ROWS, seed=0):
    """Rows of normal numbers, and the class of the largest of three fixed sums of them."""
    x = np.random.default_rng(seed).normal(size=(rows, FEATURES)).astype(np.float32)
    weights = np.random.default_rng(7).normal(size=(FEATURES, CLASSES))
    return x, (x @ weights).argmax(1).astype(np.int32)


def mlp():
    return serial(nn.dense(8), jax.nn.relu, nn.dense(CLASSES))


def noisy():
    """A model with random numbers and a running state."""
    return serial(nn.dense(8), nn.batch_norm(), jax.nn.relu, nn.dropout(0.5), nn.dense(CLASSES))


def plain(tree):
    """The tree with its PRNG keys as numbers, which chex can compare."""

    def one(leaf):
        is_key = jax.dtypes.issubdtype(getattr(leaf, "dtype", None), jax.dtypes.prng_key)
        return jax.random.key_data(leaf) if is_key else leaf

    return jax.tree.map(one, tree)
