"""Our side: what a user of `fit` and of `make_train_step` gets."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

from benchmarks import _inputs
from jaxdl import losses, nn, train

LOSS = {"lenet": losses.cross_entropy, "stack": lambda output, _: output**2}


def mlp():
    """784-500-500-10, sigmoid: the lectures' network."""
    return nn.serial(*(nn.dense(500), jax.nn.sigmoid, nn.dense(500), jax.nn.sigmoid), nn.dense(10))


def network(kind: str, channels: int) -> Any:
    """`lenet`: two convolutions and two dense layers; `stack`: four 3x3 convolutions."""
    if kind == "stack":
        return nn.serial(*(layer for _ in range(4) for layer in (nn.conv(channels), jax.nn.relu)))
    return nn.serial(
        *(nn.conv(32, 3, padding="VALID"), jax.nn.relu, nn.max_pool(2)),
        *(nn.conv(64, 3, padding="VALID"), jax.nn.relu, nn.max_pool(2)),
        *(nn.flatten(), nn.dense(128), jax.nn.relu, nn.dense(10)),
    )


def epoch(n):
    """Returns a call that trains one epoch more by `fit`, on data that it has on the device."""
    x, y = _inputs.rows(n)
    model, optimizer = mlp(), optax.sgd(0.1)
    options: dict[str, Any] = dict(
        loss="cross_entropy", optimizer=optimizer, batch_size=100, metrics=()
    )
    state, _ = train.fit(model, (x, y), epochs=1, verbose=0, **options)
    held = {"state": state}

    def run():
        held["state"], history = train.fit(
            model,
            (x, y),
            epochs=1,
            state=held["state"],
            execution=train.Execution(check=False),
            verbose=0,
            **options,
        )
        return history["seconds"][-1]

    return run


def step(kind, shape):
    """Returns a call of one step of training."""
    x, y = _inputs.images(*shape)
    model, optimizer = network(kind, x.shape[-1]), optax.sgd(0.01)
    make = jax.jit(train.make_train_step(model, LOSS[kind], optimizer), donate_argnums=0)
    batch = jnp.asarray(x), jnp.asarray(y)
    held = {"state": train.init_state(model, optimizer, jax.random.key(0), x)}

    def run():
        held["state"], metrics = make(held["state"], batch)
        return jax.block_until_ready(metrics)

    return run


def repeat_steps(shape, steps):
    """Returns a call of `steps` training steps of the LeNet-like network in a Python loop."""
    one = step("lenet", shape)
    return lambda: [one() for _ in range(steps)]


def scan_steps(shape, steps):
    """Returns a call of `steps` training steps of the LeNet-like network in one compiled loop."""
    x, y = _inputs.images(*shape)
    model, optimizer = network("lenet", x.shape[-1]), optax.sgd(0.01)
    one = train.make_train_step(model, LOSS["lenet"], optimizer)
    batch = jnp.asarray(x), jnp.asarray(y)
    state = train.init_state(model, optimizer, jax.random.key(0), x)

    @jax.jit
    def many(state):
        return jax.lax.scan(lambda state, _: (one(state, batch)[0], None), state, length=steps)[0]

    return lambda: jax.block_until_ready(many(state).params)
