"""Unmodified networks of Flax, Equinox and jaxdl, in float64."""

import equinox
import flax.linen as linen
import flax.nnx as nnx
import haiku
import jax
import jax.numpy as jnp
import numpy as np

import jaxdl
from jaxdl import nn
from tests.interpret.networks import fill

WIDE = {"param_dtype": jnp.float64, "dtype": jnp.float64}
IMAGES = np.random.default_rng(0).normal(size=(2, 6, 6, 1))
SEQUENCES = np.random.default_rng(1).normal(size=(2, 5, 3))


class ResidualCNN(linen.Module):
    """One function called twice, a functional ReLU, a residual +, both poolings."""

    bias: bool = False

    @linen.compact
    def __call__(self, x):
        conv = linen.Conv(3, (3, 3), use_bias=self.bias, name="shared", **WIDE)
        x = linen.Conv(3, (3, 3), use_bias=self.bias, name="first", **WIDE)(x)
        for _ in range(2):
            x = x + linen.relu(conv(x))
        x = linen.max_pool(x, (2, 2), (2, 2))
        x = linen.avg_pool(x, (3, 3), (1, 1))
        return linen.Dense(3, use_bias=self.bias, name="last", **WIDE)(x.reshape(len(x), -1))


class FlaxLSTM(linen.Module):
    @linen.compact
    def __call__(self, x):
        x = linen.RNN(linen.OptimizedLSTMCell(4, **WIDE))(x)
        return linen.Dense(3, use_bias=False, **WIDE)(x[:, -1])


def flax(model, x):
    with jax.numpy_dtype_promotion("standard"):  # Flax divides by NumPy's integers
        variables = fill(jax.eval_shape(model.init, jax.random.key(1), x), np.float64)

    def f(x):
        with jax.numpy_dtype_promotion("standard"):
            return model.apply(variables, x)

    return f


def equinox_mlp():
    mlp = wide_arrays(equinox.nn.MLP(5, 3, 8, 2, use_bias=False, use_final_bias=False, key=KEY))
    return jax.vmap(mlp)


def wide_arrays(model):
    return jax.tree.map(lambda a: a.astype(jnp.float64) if isinstance(a, jax.Array) else a, model)


def nnx_mlp():
    class MLP(nnx.Module):
        def __init__(self, rngs):
            self.hidden = nnx.Linear(5, 6, use_bias=False, rngs=rngs, **WIDE)
            self.out = nnx.Linear(6, 3, use_bias=False, rngs=rngs, **WIDE)

        def __call__(self, x):
            return self.out(nnx.relu(self.hidden(x)))

    return MLP(nnx.Rngs(0))


def haiku_cnn(x):
    """Two convolutions, a skip and a pooling, without biases."""

    def forward(x):
        x = haiku.Conv2D(4, 3, with_bias=False)(x)
        x = jax.nn.relu(x)
        x = x + jax.nn.relu(haiku.Conv2D(4, 3, with_bias=False)(x))
        x = haiku.AvgPool((2, 2, 1), (2, 2, 1), "VALID")(x)
        return haiku.Linear(3, with_bias=False)(haiku.Flatten()(x))

    model = haiku.without_apply_rng(haiku.transform(forward))
    with jax.debug_key_reuse(False):  # Haiku stores keys itself
        params = fill(jax.eval_shape(model.init, jax.random.key(0), x))
    return lambda x: model.apply(params, x)


KEY = jax.random.key(0)


def built(model, x):
    params, state = fill(jax.eval_shape(model.init, jax.random.key(1), x))
    return lambda x: model.apply(params, state, x)[0]


def normed(x=IMAGES):
    return built(
        jaxdl.serial(
            nn.conv(4, (3, 3)),
            nn.batch_norm(),
            jax.nn.relu,
            nn.max_pool(2),
            nn.flatten(),
            nn.dense(5),
            jax.nn.gelu,
            nn.dense(3),
        ),
        x,
    )
