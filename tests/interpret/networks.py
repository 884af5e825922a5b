"""Functions to explain, in float64: a linear one, a smooth one, one with kinks."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np


@contextlib.contextmanager
def double():
    with jax.enable_x64(True):
        yield


def new_key():
    """The same, made anew: a key is used once."""
    return jax.random.key(0)


def draw(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


def linear(seed=0, d=5, k=3):
    w, b = draw(seed, d, k), draw(seed + 1, k)
    return (lambda x: x.reshape(len(x), -1) @ w + b), w


def network(seed=0, d=5, k=3, activation=jnp.tanh, bias=True):
    w, v = draw(seed, d, 7), draw(seed + 1, 7, k)
    b = draw(seed + 2, 7) if bias else jnp.zeros(7)
    return lambda x: activation(x.reshape(len(x), -1) @ w + b) @ v
