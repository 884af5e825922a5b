"""Trains a LeNet-like network and the lectures' 784-500-500-10 on MNIST.

Both are trained by SGD with momentum 0.9, batches of 100, and a learning rate that falls to 0 along
a cosine, without augmentation. The test images are used once, after the last epoch. With `--smoke`
and without the files, made-up images take their place.
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
    """Builds two 5x5 convolutions with pooling and two dense layers, after LeCun et al. 1998.

    It is wider than the original, with ReLU and max pooling: 20 and 50 kernels, 500 hidden units.
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
    """Builds 784-500-500-10 with ReLU, 648,010 parameters. Lecture row A20."""
    return jaxdl.serial(
        nn.flatten(), nn.dense(500), jax.nn.relu, nn.dense(500), jax.nn.relu, nn.dense(10)
    )


class Recipe(NamedTuple):
    """A model with its initial learning rate and its number of epochs."""

    model: jaxdl.Module
    rate: float
    epochs: int


def run(config: Config) -> dict:
    mnist = load_small() if config.smoke else data.mnist()
    epochs = (1, 1) if config.smoke else (config.lenet_epochs, config.mlp_epochs)
    recipes = {"LeNet": Recipe(lenet(), 0.05, epochs[0]), "MLP": Recipe(mlp(), 0.1, epochs[1])}
    results = {}
    for name, recipe in recipes.items():
        results[name] = train_and_evaluate(recipe, mnist, config.seed)
        print(
            f"{name}  test accuracy {results[name]['accuracy']:.4f}  after {recipe.epochs} epochs, "
            f"{results[name]['training_seconds']:.0f} s",
            flush=True,
        )
    return results


def train_and_evaluate(recipe: Recipe, mnist: data.Dataset, seed: int) -> dict:
    """Trains one network and returns its test accuracy, loss and times."""
    start = time.perf_counter()
    # Batches are rounded up: the last one of an epoch may be smaller.
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


def load_small() -> data.Dataset:
    """Returns the first 300 images, or made-up ones without the files; never a download."""
    if "JAXDL_DATA" in os.environ and (pathlib.Path(os.environ["JAXDL_DATA"]) / "mnist").is_dir():
        mnist = data.mnist()
        few = [data.Split(split.x[:300], split.y[:300]) for split in (mnist.train, mnist.test)]
        return mnist._replace(train=few[0], test=few[1])
    print("using made-up images: there is no folder mnist below JAXDL_DATA")
    random = np.random.default_rng(0)
    x = random.random((300, 28, 28, 1), np.float32)
    split = data.Split(x, random.integers(0, 10, 300, np.int32))
    return data.Dataset(split, split, tuple("0123456789"))
