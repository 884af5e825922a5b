"""The lectures' own setup, for experiments that change one part of it. Lecture row A20.

784-500-...-500-10 on MNIST, plain SGD at 0.1, batches of 100, 20 epochs; Glorot's initial kernels
and zero biases; several seeds in one compiled program. To explain the outcome, the same networks
are examined before training: their gradients by layer, and their loss around the initial values.
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxdl
from experiments import _seeds
from jaxdl import data, losses, nn
from jaxdl.nn.recurrent import bptt

WIDTH, BATCH, RATE = 500, 100, 0.1
FEW = 10_000
"""Training images with which networks reach the lectures' accuracies. With all 60,000 they reach
higher ones, and the differences are smaller."""
ACTIVATIONS: dict[str, Callable] = {"sigmoid": jax.nn.sigmoid, "relu": jax.nn.relu}


def network(layers: int, activation: str, width: int = WIDTH) -> jaxdl.Module:
    """Builds 784-500-...-500-10 with `layers` dense layers, the last one without activation."""
    hidden = [
        part
        for _ in range(layers - 1)
        for part in (nn.dense(width, kernel_init="glorot_uniform"), ACTIVATIONS[activation])
    ]
    return jaxdl.serial(nn.flatten(), *hidden, nn.dense(10, kernel_init="glorot_uniform"))


def load_images(smoke: bool) -> data.Dataset:
    """Returns MNIST, or the embedded digits without its files; 300 images for a smoke run."""
    root = os.environ.get("JAXDL_DATA")
    if root is not None and (pathlib.Path(root) / "mnist").is_dir():
        dataset = data.mnist()
    else:
        print("using the embedded digits: there is no folder mnist below JAXDL_DATA")
        dataset = data.digits()
    if not smoke:
        return dataset
    few = [data.Split(split.x[:300], split.y[:300]) for split in (dataset.train, dataset.test)]
    return dataset._replace(train=few[0], test=few[1])


def squared_error(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Returns the mean squared error of the softmax, for each example. Lecture row C05."""
    one_hot = jax.nn.one_hot(labels, logits.shape[-1])
    return ((jax.nn.softmax(logits) - one_hot) ** 2).mean(-1)


LOSSES: dict[str, Any] = {"cross_entropy": "cross_entropy", "squared_error": squared_error}


def train_networks(
    config: Any,
    *,
    layers: int = 3,
    activation: str = "sigmoid",
    loss: str = "cross_entropy",
    seeds: int,
    batch: int = BATCH,
    epochs: int = 20,
    rows: int | None = None,
) -> _seeds.Networks:
    """Trains networks of one kind, or loads them if an earlier experiment saved them.

    Args:
      config: the experiment's options.
      layers, activation: of the `network`.
      loss: a key of `LOSSES`.
      seeds: the number of networks.
      batch: rows of a batch.
      epochs: epochs.
      rows: the number of training images; None for all.
    """
    dataset = load_images(config.smoke)
    x, y = dataset.train.x[:rows], dataset.train.y[:rows]
    model = network(layers, activation, 16 if config.smoke else WIDTH)
    settings = {
        "loss": loss,
        "seeds": seeds,
        "batch_size": min(batch, len(y)),
        "epochs": 1 if config.smoke else epochs,
    }

    def make() -> _seeds.Networks:
        return _seeds.train_networks(
            config,
            model,
            (x, y),
            # Plain SGD without momentum, as in the lectures.
            optimizer=optax.sgd(RATE),
            eval_data=dataset.test,
            metrics=["accuracy"],
            **settings | {"loss": LOSSES[loss]},
        )

    return _seeds.load_or_train(config, model, (x, y), settings | {"first": config.seed}, make)


def summarize_accuracy(networks: _seeds.Networks) -> dict[str, float]:
    """Returns the mean and deviation of the test accuracy after the last epoch."""
    return _seeds.summarize(networks.history["eval_accuracy"][:, -1])


def initial_params_and_loss(
    networks: _seeds.Networks, loss: str, smoke: bool, rows: int = 1000
) -> tuple[Callable[[int], Any], Callable[[Any], jax.Array]]:
    """Returns `seed -> initial params` and `params -> loss` on the first training images."""
    split = load_images(smoke).train
    x, y = jnp.asarray(split.x[:rows]), jnp.asarray(split.y[:rows])
    cost = losses.loss(LOSSES[loss])

    def mean_loss(params):
        return cost(networks.model.apply(params, {}, x)[0], y).mean()

    return lambda seed: jaxdl.init(networks.model, jax.random.key(seed), x)[0], mean_loss


def gradient_norms(networks: _seeds.Networks, loss: str, smoke: bool) -> np.ndarray:
    """Returns the gradient norms of the kernels before training. Lecture row D13.

    Returns:
      (seeds, layers), the layer at the input first, on the first training images.
    """
    initialize, mean_loss = initial_params_and_loss(networks, loss, smoke)

    @jax.jit
    def norms(params):
        gradients = jax.grad(mean_loss)(params)
        kernels = (gradients[f"dense_{i}"]["kernel"] for i in range(len(gradients)))
        return jnp.stack([jnp.linalg.norm(kernel) for kernel in kernels])

    return np.array([norms(initialize(int(seed))) for seed in networks.history["seed"]], np.float64)


def loss_landscape(
    networks: _seeds.Networks, loss: str, smoke: bool, toward: Any = None
) -> dict[str, np.ndarray]:
    """Returns the first network's loss around its initial values, over the initial loss. Row C10.

    The first axis is the direction to the trained values, which are at 1; the second is a random
    direction of the same norm in each kernel (Li et al. 2018, arXiv 1712.09913, sec. 4).

    Args:
      networks: the trained networks.
      loss: a key of `LOSSES`.
      smoke: whether to use little data and few points.
      toward: parameters at 1 of the first axis, by default the network's own trained ones.

    Returns:
      `steps` (A,) of both axes, `surface` (A, A).
    """
    initialize, mean_loss = initial_params_and_loss(networks, loss, smoke, rows=500)
    params = initialize(int(networks.history["seed"][0]))
    end = jax.tree.map(lambda a: a[0], networks.params) if toward is None else toward
    to_end = jax.tree.map(jnp.subtract, end, params)
    leaves, treedef = jax.tree.flatten(to_end)
    # A fixed key, so that the direction does not differ from run to run.
    keys = jax.random.split(jax.random.key(0), len(leaves))
    noise = [jax.random.normal(key, leaf.shape) for key, leaf in zip(keys, leaves, strict=True)]
    # Kernels differ in scale: without their own norm, one direction would move only the largest.
    scaled = [
        d * (jnp.linalg.norm(leaf) / jnp.linalg.norm(d))
        for d, leaf in zip(noise, leaves, strict=True)
    ]
    random = jax.tree.unflatten(treedef, scaled)
    steps = jnp.linspace(-0.5, 1.5, 3 if smoke else 17)

    @jax.jit
    def rows(steps):
        def row(a):
            return bptt.loss_surface(mean_loss, params, (to_end, random), (a[None], steps))[0]

        # Row by row, because all points at once are the forward passes of 289 networks.
        return jax.lax.map(row, steps) / mean_loss(params)

    return {"steps": np.asarray(steps), "surface": np.asarray(rows(steps))}


def draw_contours(axis: Any, landscape: dict[str, Any], title: str) -> None:
    """Draws a loss landscape as filled contours, with the same colours for every network."""
    steps, surface = (np.asarray(landscape[name]) for name in ("steps", "surface"))
    levels = np.linspace(0, 2, 21)
    # Clipped at twice the initial loss, which is beyond the scale of the colours.
    axis.contourf(steps, steps, np.minimum(surface.T, 2), levels, cmap="viridis")
    axis.contour(steps, steps, surface.T, levels[::2], colors="w", linewidths=0.5)
    axis.plot([0], [0], "o", color="w", markeredgecolor="k", label="start")
    axis.set(xlabel="to the trained values", ylabel="a random direction", title=title)
