"""Equinox, as its documentation trains: `filter_jit`, `filter_value_and_grad`, `vmap` over rows."""

from __future__ import annotations

import equinox as eqx
import jax
import numpy as np
import optax

from benchmarks import _inputs
from benchmarks._jax_peers import epoch_of, objective, step_of


def _network(kind, channels):
    keys = iter(jax.random.split(jax.random.key(0), 8))
    relu, pool = eqx.nn.Lambda(jax.nn.relu), eqx.nn.MaxPool2d(2, 2)

    def conv(i, o, pad):
        return eqx.nn.Conv2d(i, o, 3, padding=pad, key=next(keys))

    def linear(i, o):
        return eqx.nn.Linear(i, o, key=next(keys))

    if kind == "mlp":
        sigmoid = eqx.nn.Lambda(jax.nn.sigmoid)
        layers = [linear(784, 500), sigmoid, linear(500, 500), sigmoid, linear(500, 10)]
    elif kind == "stack":
        layers = [part for _ in range(4) for part in (conv(channels, channels, 1), relu)]
    else:
        layers = [conv(1, 32, 0), relu, pool, conv(32, 64, 0), relu, pool]
        layers += [eqx.nn.Lambda(jax.numpy.ravel), linear(1600, 128), relu, linear(128, 10)]
    return eqx.nn.Sequential(layers)


def _training(kind, channels, rate):
    model, optimizer = _network(kind, channels), optax.sgd(rate)
    opt_state = optimizer.init(eqx.filter(model, eqx.is_array))

    @eqx.filter_jit
    def step(carry, x, y):
        model, opt_state = carry

        def loss(model):
            return objective(kind, jax.vmap(model)(x), y)

        value, grads = eqx.filter_value_and_grad(loss)(model)
        updates, opt_state = optimizer.update(grads, opt_state, model)
        return (eqx.apply_updates(model, updates), opt_state), value

    return lambda carry, x, y: step(carry, x, y), (model, opt_state)


def epoch(n):
    """Returns a call that trains one epoch."""
    return epoch_of(*_training("mlp", None, 0.1), *_inputs.rows(n))


def step(kind, shape):
    """Returns a call of one step of training."""
    x, y = _inputs.images(*shape)
    return step_of(*_training(kind, x.shape[-1], 0.01), np.moveaxis(x, -1, 1), y)
