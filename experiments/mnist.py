"""MNIST, the real files: a LeNet-like network and the lectures' 784-500-500-10.

Both are trained by SGD with momentum 0.9, batches of 100, and a learning rate that falls from its
first value to 0 along a cosine; the images are taken as they are. The test images only measure,
once, after the last epoch. With `--smoke` and no files at hand, made-up images take
their place.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import time
from typing import NamedTuple

import jax
import numpy as np
import optax

import jaxdl
from experiments import _run
from jaxdl import data, nn, train, tree

BATCH = 100


@dataclasses.dataclass(frozen=True)
class Config(_run.Config):
    lenet_epochs: int = 5
    """Epochs of the LeNet-like network."""
    mlp_epochs: int = 10
    """Epochs of the 784-500-500-10."""


def lenet() -> jaxdl.Module:
    """Two 5x5 convolutions, each with pooling, and two dense layers; after LeCun et al. 1998.

    Wider than the original, with ReLU and max pooling: 20 and 50 kernels, 500 hidden units.
    """
    return jaxdl.serial(
        nn.conv(20, 5, padding="VALID"),
        jax.nn.relu,
        nn.max_pool(2),
        nn.conv(50, 5, padding="VALID"),
        jax.nn.relu,
        nn.max_pool(2),
        nn.flatten(),
        nn.dense(500),
        jax.nn.relu,
        nn.dense(10),
    )


def mlp() -> jaxdl.Module:
    """784-500-500-10 with ReLU, 648,010 parameters. Lecture row A20."""
    return jaxdl.serial(
        nn.flatten(), nn.dense(500), jax.nn.relu, nn.dense(500), jax.nn.relu, nn.dense(10)
    )


class Recipe(NamedTuple):
    """A model, and the learning rate and the number of epochs of its training."""

    model: jaxdl.Module
    rate: float
    epochs: int


def run(config: Config) -> dict:
    mnist = small() if config.smoke else data.mnist()
    epochs = (1, 1) if config.smoke else (config.lenet_epochs, config.mlp_epochs)
    recipes = {"LeNet": Recipe(lenet(), 0.05, epochs[0]), "MLP": Recipe(mlp(), 0.1, epochs[1])}
    results = {}
    for name, recipe in recipes.items():
        results[name] = trained(recipe, mnist, config.seed)
        print(
            f"{name}  test accuracy {results[name]['accuracy']:.4f}  after {recipe.epochs} epochs, "
            f"{results[name]['training_seconds']:.0f} s",
            flush=True,
        )
    return results


def trained(recipe: Recipe, mnist: data.Dataset, seed: int) -> dict:
    """Trains one network and measures it."""
    start = time.perf_counter()
    steps = recipe.epochs * -(-len(mnist.train.y) // BATCH)
    schedule = optax.cosine_decay_schedule(recipe.rate, steps)
    state, history = train.fit(
        recipe.model,
        mnist.train,
        loss="cross_entropy",
        optimizer=optax.sgd(schedule, momentum=0.9),
        batch_size=BATCH,
        epochs=recipe.epochs,
        seed=seed,
    )
    seconds = time.perf_counter() - start
    measured = train.evaluate(recipe.model, state, mnist.test, loss="cross_entropy")
    return {
        "accuracy": measured["accuracy"],
        "loss": measured["loss"],
        "parameters": tree.count(state.params),
        "epochs": recipe.epochs,
        "training_seconds": round(seconds, 2),
        "training_loss": history["loss"],
    }


def small() -> data.Dataset:
    """The first few hundred images, or made-up ones; never a download."""
    if "JAXDL_DATA" in os.environ and (pathlib.Path(os.environ["JAXDL_DATA"]) / "mnist").is_dir():
        mnist = data.mnist()
        few = [data.Split(split.x[:300], split.y[:300]) for split in (mnist.train, mnist.test)]
        return mnist._replace(train=few[0], test=few[1])
    print("made-up images, for there is no folder mnist below JAXDL_DATA")
    random = np.random.default_rng(0)
    x = random.random((300, 28, 28, 1), np.float32)
    split = data.Split(x, random.integers(0, 10, 300, np.int32))
    return data.Dataset(split, split, tuple("0123456789"))
