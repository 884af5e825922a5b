"""Many seeds of one small network, compilation included: as one program, or run after run."""

from __future__ import annotations

from typing import Any

import jax
import optax

from jaxdl import data, nn, train


def _model():
    return nn.serial(nn.flatten(), nn.dense(64), jax.nn.relu, nn.dense(10))


def _options(epochs: int) -> dict[str, Any]:
    return dict(loss="cross_entropy", batch_size=100, epochs=epochs, verbose=0)


def together(n: int, epochs: int):
    """Returns a call that trains all seeds by `train_many`."""
    split, options = data.digits().train, _options(epochs)

    def run():
        jax.clear_caches()
        train.train_many(_model(), split, seeds=range(n), optimizer=optax.sgd(0.1), **options)

    return run


def separately(n: int, epochs: int):
    """Returns a call that trains seed after seed, and compiles each."""
    split, options = data.digits().train, _options(epochs)

    def run():
        for seed in range(n):
            jax.clear_caches()
            train.fit(_model(), split, seed=seed, optimizer=optax.sgd(0.1), **options)

    return run


def compiled_once(n: int, epochs: int):
    """Returns a call that trains seed after seed by one compiled program."""
    split, options = data.digits().train, _options(epochs)

    def run():
        jax.clear_caches()
        # One model and one optimizer for all seeds, so that `fit` compiles once.
        model, optimizer = _model(), optax.sgd(0.1)
        for seed in range(n):
            train.fit(model, split, seed=seed, optimizer=optimizer, **options)

    return run
