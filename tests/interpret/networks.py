"""Functions to explain, in float64: a linear one, a smooth one, one with kinks.

Given a NumPy array they compute in NumPy: expected values need no compiled program.
"""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np

IN_NUMPY = {
    jnp.tanh: np.tanh,
    jnp.sin: np.sin,
    jax.nn.sigmoid: lambda a: 1 / (1 + np.exp(-a)),
    jax.nn.elu: lambda a: np.where(a > 0, a, np.expm1(np.minimum(a, 0))),
    jax.nn.relu: lambda a: np.maximum(a, 0),
}


@contextlib.contextmanager
def double():
    with jax.enable_x64(True):
        yield


def new_key():
    """The same, made anew: a key is used once."""
    return jax.random.key(0)


def array(seed, *shape):
    """Normal numbers as a NumPy array."""
    return np.random.default_rng(seed).normal(size=shape)


def draw(seed, *shape):
    return jnp.asarray(array(seed, *shape))


def run(method, f, x, *arguments, **options):
    """Returns `method(f, x, ...)` as NumPy arrays, compiled as one program."""
    compiled = jax.jit(lambda x: method(f, x, *arguments, **options))
    return jax.tree.map(np.asarray, compiled(x))


def fill(shapes, dtype=None):
    """Parameters and statistics of these shapes, drawn by NumPy instead of an initializer.

    Weights are normal over the root of their inputs; scales and variances one; all else zero.
    """
    normal = np.random.default_rng(2).normal

    def value(path, leaf):
        if leaf.ndim > 1:
            actual = normal(size=leaf.shape) / np.sqrt(leaf.size / leaf.shape[-1])
        else:
            actual = np.full(leaf.shape, float(path[-1].key in ("scale", "var")))
        return jnp.asarray(actual, dtype or leaf.dtype)

    return jax.tree_util.tree_map_with_path(value, shapes)


def linear(seed=0, d=5, k=3):
    w, b = array(seed, d, k), array(seed + 1, k)
    return (lambda x: x.reshape(len(x), -1) @ w + b), w


def weights(seed=0, d=5, k=3, bias=True):
    """What `apply` takes: kernel, bias and kernel of two layers."""
    return array(seed, d, 7), array(seed + 2, 7) if bias else np.zeros(7), array(seed + 1, 7, k)


def apply(own, x, activation=jnp.tanh):
    """A network of two layers as a function of its weights: one program serves many networks."""
    w, b, v = own
    if isinstance(x, np.ndarray):
        activation = IN_NUMPY[activation]
    return activation(x.reshape(len(x), -1) @ w + b) @ v


def network(seed=0, d=5, k=3, activation=jnp.tanh, bias=True):
    own = weights(seed, d, k, bias)
    return lambda x: apply(own, x, activation)
