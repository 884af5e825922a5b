"""Shared by the JAX peers: data, loss, and an epoch as a loop of compiled steps."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax


def objective(kind, output, y):
    """The loss of the benchmark `kind`."""
    if kind == "stack":
        return jnp.mean(output**2)
    return optax.softmax_cross_entropy_with_integer_labels(output, y).mean()


def epoch_of(step, carry, x, y):
    """Returns a call that trains one epoch; `step(carry, x, y) -> (carry, loss)` is compiled."""
    x, y, rng = jnp.asarray(x), jnp.asarray(y), np.random.default_rng(0)
    held = {"carry": carry}

    def run():
        order, loss = rng.permutation(len(x)), None
        for i in range(0, len(x), 100):
            rows = order[i : i + 100]
            held["carry"], loss = step(held["carry"], x[rows], y[rows])
        return jax.block_until_ready(loss)

    return run


def step_of(step, carry, x, y):
    """Returns a call of one step of training."""
    x, y, held = jnp.asarray(x), jnp.asarray(y), {"carry": carry}

    def run():
        held["carry"], loss = step(held["carry"], x, y)
        return jax.block_until_ready(loss)

    return run
