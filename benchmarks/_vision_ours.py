"""Our side of `vision`: networks of `jaxdl.zoo`."""

from __future__ import annotations

import time
from typing import Any

import jax
import jax.numpy as jnp
import optax

from benchmarks import _inputs
from jaxdl import train, zoo
from jaxdl.zoo.segmentation.unet import padded_unet


def _model(name: str) -> Any:
    return padded_unet() if name == "unet" else zoo.create(name)


def _batch(name: str, batch: int, side: int) -> tuple[jax.Array, jax.Array]:
    x, y = _inputs.vision(name, batch, side)
    return jnp.asarray(x), jnp.asarray(y)


def forward(name, batch, side):
    """Returns a call that computes the logits."""
    model, (x, _) = _model(name), _batch(name, batch, side)
    params, state = jax.jit(model.init)(jax.random.key(0), x)
    predict = jax.jit(lambda params, state, x: model.apply(params, state, x)[0])
    return lambda: jax.block_until_ready(predict(params, state, x))


def _training(name: str, batch: int, side: int) -> Any:
    model, optimizer = _model(name), optax.sgd(0.01, momentum=0.9)
    x, y = _batch(name, batch, side)
    make = train.make_train_step(model, "cross_entropy", optimizer)
    state = train.init_state(model, optimizer, jax.random.key(0), x)
    return jax.jit(make, donate_argnums=0), state, (x, y)


def step(name, batch, side):
    """Returns a call of one step of training."""
    one, state, data = _training(name, batch, side)
    held = {"state": state}

    def run():
        held["state"], metrics = one(held["state"], data)
        return jax.block_until_ready(metrics)

    return run


def compile_step(name, batch, side, cache):
    """Returns the seconds of tracing and compiling a step, with a compilation cache in a folder."""
    train.enable_compilation_cache(cache)
    one, state, data = _training(name, batch, side)
    start = time.perf_counter()
    one.lower(state, data).compile()
    return time.perf_counter() - start
