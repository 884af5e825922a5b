"""Keras on its JAX backend: `fit` for an epoch, `train_on_batch` for a step."""

from __future__ import annotations

import os

os.environ["KERAS_BACKEND"] = "jax"

import keras
from keras import layers

from benchmarks import _inputs


def _network(kind, channels, shape):
    if kind == "mlp":
        parts = [layers.Dense(500, "sigmoid"), layers.Dense(500, "sigmoid"), layers.Dense(10)]
    elif kind == "stack":
        parts = [layers.Conv2D(channels, 3, padding="same", activation="relu") for _ in range(4)]
    else:
        parts = [layers.Conv2D(32, 3, activation="relu"), layers.MaxPooling2D()]
        parts += [layers.Conv2D(64, 3, activation="relu"), layers.MaxPooling2D()]
        parts += [layers.Flatten(), layers.Dense(128, "relu"), layers.Dense(10)]
    model = keras.Sequential([layers.Input(shape), *parts])
    if kind == "stack":

        def loss(_, output):
            return keras.ops.mean(output**2)

    else:
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1 if kind == "mlp" else 0.01), loss)
    return model


def epoch(n):
    """Returns a call that trains one epoch."""
    x, y = _inputs.rows(n)
    model = _network("mlp", None, x.shape[1:])
    return lambda: model.fit(x, y, batch_size=100, epochs=1, verbose=0)  # pyright: ignore


def step(kind, shape):
    """Returns a call of one step of training."""
    x, y = _inputs.images(*shape)
    model = _network(kind, x.shape[-1], x.shape[1:])
    target = x if kind == "stack" else y
    return lambda: model.train_on_batch(x, target)
