"""Flax: NNX as its documentation trains, and a Linen step for the comparison inside a scan."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen, nnx

from benchmarks import _inputs
from benchmarks._jax_peers import epoch_of, objective, step_of


def _network(kind, channels):
    rngs, relu = nnx.Rngs(0), jax.nn.relu

    def pool(x):
        return linen.max_pool(x, (2, 2), (2, 2))

    if kind == "mlp":
        first, second = nnx.Linear(784, 500, rngs=rngs), nnx.Linear(500, 500, rngs=rngs)
        layers = [first, jax.nn.sigmoid, second, jax.nn.sigmoid, nnx.Linear(500, 10, rngs=rngs)]
    elif kind == "stack":
        convs = [nnx.Conv(channels, channels, (3, 3), rngs=rngs) for _ in range(4)]
        layers = [part for conv in convs for part in (conv, relu)]
    else:
        one = nnx.Conv(1, 32, (3, 3), padding="VALID", rngs=rngs)
        two = nnx.Conv(32, 64, (3, 3), padding="VALID", rngs=rngs)
        layers = [one, relu, pool, two, relu, pool, lambda x: x.reshape(len(x), -1)]
        layers += [nnx.Linear(1600, 128, rngs=rngs), relu, nnx.Linear(128, 10, rngs=rngs)]
    return nnx.Sequential(*layers)


def _training(kind, channels, rate):
    model = _network(kind, channels)
    optimizer = nnx.Optimizer(model, optax.sgd(rate), wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer, x, y):
        loss, grads = nnx.value_and_grad(lambda model: objective(kind, model(x), y))(model)
        optimizer.update(model, grads)
        return loss

    return lambda carry, x, y: (carry, step(model, optimizer, x, y)), None


def epoch(n):
    """Returns a call that trains one epoch."""
    return epoch_of(*_training("mlp", None, 0.1), *_inputs.rows(n))


def step(kind, shape):
    """Returns a call of one step of training."""
    x, y = _inputs.images(*shape)
    return step_of(*_training(kind, x.shape[-1], 0.01), x, y)


class LeNet(linen.Module):
    """Two convolutions and two dense layers."""

    @linen.compact
    def __call__(self, x):
        for features in (32, 64):
            x = jax.nn.relu(linen.Conv(features, (3, 3), padding="VALID")(x))
            x = linen.max_pool(x, (2, 2), (2, 2))
        x = jax.nn.relu(linen.Dense(128)(x.reshape(len(x), -1)))
        return linen.Dense(10)(x)


def scan_steps(shape, steps):
    """Returns a call of `steps` training steps of the Linen network in one compiled loop."""
    x, y = map(jnp.asarray, _inputs.images(*shape))
    model, optimizer = LeNet(), optax.sgd(0.01)
    params = model.init(jax.random.key(0), x)
    opt_state = optimizer.init(params)

    def one(carry, _):
        params, opt_state = carry
        grads = jax.grad(lambda params: objective("lenet", model.apply(params, x), y))(params)
        updates, opt_state = optimizer.update(grads, opt_state)
        return (optax.apply_updates(params, updates), opt_state), None

    many = jax.jit(lambda carry: jax.lax.scan(one, carry, length=steps)[0])
    return lambda: jax.block_until_ready(many((params, opt_state)))


class CharGRU(nnx.Module):
    """Embedding, GRU, scores of the next symbol."""

    def __init__(self, symbols, width, units):
        rngs = nnx.Rngs(0)
        self.embedding = nnx.Embed(symbols, width, rngs=rngs)
        self.gru: Any = nnx.RNN(nnx.GRUCell(width, units, rngs=rngs))
        self.scores = nnx.Linear(units, symbols, rngs=rngs)

    def __call__(self, x):
        return self.scores(self.gru(self.embedding(x)))


def char_gru(shape, keep=False):
    """Returns a call of a training step of the character GRU."""
    if keep:
        from jaxdl import train

        train.keep_memory()
    x, y = _inputs.characters(*shape[:3])
    model = CharGRU(*shape[2:])
    optimizer = nnx.Optimizer(model, optax.adam(1e-3), wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer, x, y):
        loss, grads = nnx.value_and_grad(lambda model: objective("gru", model(x), y))(model)
        optimizer.update(model, grads)
        return loss

    return step_of(lambda carry, x, y: (carry, step(model, optimizer, x, y)), None, x, y)
