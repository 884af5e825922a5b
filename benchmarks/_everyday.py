"""Our side of `many_models`, and the hand-written loop that it is compared with."""

from __future__ import annotations

import gc
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks import _inputs
from benchmarks._peak_memory import resident_megabytes
from jaxdl import data, losses, nn, train


def _rows() -> tuple[np.ndarray, np.ndarray]:
    x = np.random.default_rng(0).normal(size=(32, 4)).astype(np.float32)
    return x, (x[:, 0] > 0).astype(np.int32)


def _fresh() -> tuple[Any, optax.GradientTransformation]:
    return nn.serial(nn.dense(8), nn.dense(2)), optax.adam(1e-2)


def ours_models(count: int) -> dict[str, float]:
    """Trains fresh models by `fit`."""

    def one(x, y):
        model, optimizer = _fresh()
        train.fit(
            model, (x, y), batch_size=16, loss="cross_entropy", optimizer=optimizer, verbose=0
        )

    return _time_runs(one, count)


def by_hand_models(count: int) -> dict[str, float]:
    """Trains fresh models by a step that is written and compiled for each."""

    def one(x, y):
        model, optimizer = _fresh()
        params, _ = model.init(jax.random.key(0), x)
        opt_state = optimizer.init(params)

        @jax.jit
        def step(params, opt_state, x, y):
            def objective(params):
                return losses.cross_entropy(model.apply(params, {}, x)[0], y).mean()

            updates, opt_state = optimizer.update(jax.grad(objective)(params), opt_state)
            return optax.apply_updates(params, updates), opt_state

        for i in (0, 16):
            params, opt_state = step(params, opt_state, x[i : i + 16], y[i : i + 16])
        jax.block_until_ready(params)

    return _time_runs(one, count)


def _time_runs(one, count: int) -> dict[str, float]:
    """Measures the seconds of `count` runs, and the process's memory after them."""
    x, y = _rows()
    start = time.perf_counter()
    for _ in range(count):
        one(x, y)
    seconds = time.perf_counter() - start
    # Programs and models form cycles, which only the collector frees.
    gc.collect()
    return {"s": seconds, "MB": resident_megabytes()}


def prediction_compilations(count: int) -> int:
    """Programs compiled by `predict` for 1, 2, ... `count` rows."""
    x, y = _inputs.images(count, 28, 1)
    model, optimizer = _network(), optax.sgd(0.01)
    state = train.init_state(model, optimizer, jax.random.key(0), x)
    compiled = []

    def listen(event: str, duration_secs: float, **_: str | int) -> None:
        # XLA's compilations alone: tracing and lowering have other events.
        if event.endswith("backend_compile_duration"):
            compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    for n in range(1, count + 1):
        train.predict(model, state, x[:n])
    return len(compiled)


def _network():
    return nn.serial(
        *(nn.conv(32), jax.nn.relu, nn.max_pool(2), nn.conv(64), jax.nn.relu, nn.max_pool(2)),
        *(nn.flatten(), nn.dense(10)),
    )


def own_loop(rows: int, keep: bool = False):
    """Returns a call that trains an epoch in the loop of docs/train/step.md."""
    if keep:
        train.keep_memory()
    split = _inputs.images(rows, 28, 1)
    model, optimizer = _network(), optax.sgd(0.1)
    make = train.make_train_step(model, "cross_entropy", optimizer, metrics=["accuracy"])
    step = jax.jit(make, donate_argnums=0)
    held = {"state": train.init_state(model, optimizer, jax.random.key(0), split[0])}

    def run():
        metrics = None
        for batch in data.batches(split, 128, seed=0, epoch=0):
            held["state"], metrics = step(held["state"], batch)
        return jax.block_until_ready(metrics)

    return run


def fit_epoch(rows: int, keep: bool = False):
    """Returns a call that trains an epoch more by `fit`."""
    if keep:
        train.keep_memory()
    split = _inputs.images(rows, 28, 1)
    model, optimizer = _network(), optax.sgd(0.1)
    held = {"state": train.init_state(model, optimizer, jax.random.key(0), split[0])}

    def run():
        held["state"], _ = train.fit(
            model,
            split,
            loss="cross_entropy",
            optimizer=optimizer,
            metrics=["accuracy"],
            batch_size=128,
            state=held["state"],
            verbose=0,
        )

    return run


def char_gru(shape, keep: bool = False):
    """Returns a call of a training step; shape is rows, steps, symbols, width and units."""
    if keep:
        train.keep_memory()
    _, _, symbols, width, units = shape
    x, y = map(jnp.asarray, _inputs.characters(*shape[:3]))
    model = nn.serial(nn.embedding(symbols, width), nn.gru(units), nn.dense(symbols))
    optimizer = optax.adam(1e-3)
    make = train.make_train_step(model, "cross_entropy", optimizer)
    step = jax.jit(make, donate_argnums=0)
    held = {"state": train.init_state(model, optimizer, jax.random.key(0), x)}

    def run():
        held["state"], metrics = step(held["state"], (x, y))
        return jax.block_until_ready(metrics)

    return run
