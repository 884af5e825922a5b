"""The lectures' own set-up, for the experiments that change one thing of it. Lecture row A20.

784-500-...-500-10 on MNIST, plain SGD at 0.1, batches of 100, 20 epochs; Glorot's initial values,
no biases at first; several seeds in one compiled program. What explains the outcome is measured on
the same networks: their first gradients by layer, and their loss around where they begin.
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
"""Training images with which the networks come to the lectures' numbers; with all of them they come
further, and the differences are smaller."""
ACTIVATIONS: dict[str, Callable] = {"sigmoid": jax.nn.sigmoid, "relu": jax.nn.relu}


def network(layers: int, activation: str, width: int = WIDTH) -> jaxdl.Module:
    """784-500-...-500-10; `layers` counts those with weights, the last one without activation."""
    hidden = [
        part
        for _ in range(layers - 1)
        for part in (nn.dense(width, kernel_init="glorot_uniform"), ACTIVATIONS[activation])
    ]
    return jaxdl.serial(nn.flatten(), *hidden, nn.dense(10, kernel_init="glorot_uniform"))


def images(smoke: bool) -> data.Dataset:
    """MNIST where its files are, else the embedded digits; a few of them for a smoke run."""
    root = os.environ.get("JAXDL_DATA")
    if root is not None and (pathlib.Path(root) / "mnist").is_dir():
        found = data.mnist()
    else:
        print("the embedded digits, for there is no folder mnist below JAXDL_DATA")
        found = data.digits()
    if not smoke:
        return found
    few = [data.Split(split.x[:300], split.y[:300]) for split in (found.train, found.test)]
    return found._replace(train=few[0], test=few[1])


def squared_error(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """The squared distance of the softmax from the one-hot label, per example. Lecture row C05."""
    wanted = jax.nn.one_hot(labels, logits.shape[-1])
    return ((jax.nn.softmax(logits) - wanted) ** 2).mean(-1)


LOSSES: dict[str, Any] = {"cross_entropy": "cross_entropy", "squared_error": squared_error}


def trained(
    config: Any,
    *,
    layers: int = 3,
    activation: str = "sigmoid",
    loss: str = "cross_entropy",
    seeds: int,
    batch: int = BATCH,
    epochs: int = 20,
    rows: int | None = None,
) -> _seeds.Trained:
    """Trains networks of one kind, or takes them from where an experiment before put them.

    Args:
      rows: how many of the training images; None takes all.
    """
    dataset = images(config.smoke)
    x, y = dataset.train.x[:rows], dataset.train.y[:rows]
    model = network(layers, activation, 16 if config.smoke else WIDTH)
    settings = {
        "loss": loss,
        "seeds": seeds,
        "batch_size": min(batch, len(y)),
        "epochs": 1 if config.smoke else epochs,
    }

    def make() -> _seeds.Trained:
        return _seeds.trained(
            config,
            model,
            (x, y),
            optimizer=optax.sgd(RATE),
            eval_data=dataset.test,
            metrics=["accuracy"],
            **settings | {"loss": LOSSES[loss]},
        )

    return _seeds.kept(config, model, (x, y), settings | {"first": config.seed}, make)


def last(found: _seeds.Trained) -> dict[str, float]:
    """The test accuracy after the last epoch, over the seeds."""
    return _seeds.spread(found.history["eval_accuracy"][:, -1])


def beginning(
    found: _seeds.Trained, loss: str, smoke: bool, rows: int = 1000
) -> tuple[Callable[[int], Any], Callable[[Any], jax.Array]]:
    """The networks as they began, by seed; and the loss on the first training images."""
    split = images(smoke).train
    x, y = jnp.asarray(split.x[:rows]), jnp.asarray(split.y[:rows])
    cost = losses.loss(LOSSES[loss])

    def mean_loss(params):
        return cost(found.model.apply(params, {}, x)[0], y).mean()

    return lambda seed: jaxdl.init(found.model, jax.random.key(seed), x)[0], mean_loss


def gradient_norms(found: _seeds.Trained, loss: str, smoke: bool) -> np.ndarray:
    """(seeds, layers): the norm of the first gradient by each layer's kernel, input first.

    Lecture row D13: of the untrained networks, on the first training images.
    """
    start, mean_loss = beginning(found, loss, smoke)

    @jax.jit
    def norms(params):
        slopes = jax.grad(mean_loss)(params)
        kernels = (slopes[f"dense_{i}"]["kernel"] for i in range(len(slopes)))
        return jnp.stack([jnp.linalg.norm(kernel) for kernel in kernels])

    return np.array([norms(start(int(seed))) for seed in found.history["seed"]], np.float64)


def landscape(
    found: _seeds.Trained, loss: str, smoke: bool, toward: Any = None
) -> dict[str, np.ndarray]:
    """The loss around where the first network began, as a share of what it was there. Row C10.

    Along one axis it goes to where training brought the network, at 1; along the other as far in a
    direction drawn by lot, scaled kernel by kernel (Li et al. 2018, arXiv 1712.09913, sec. 4).

    Args:
      toward: where the first axis leads, if not to the network's own trained values.

    Returns:
      `steps` (A,) of both axes, `surface` (A, A).
    """
    start, mean_loss = beginning(found, loss, smoke, rows=500)
    params = start(int(found.history["seed"][0]))
    end = jax.tree.map(lambda a: a[0], found.params) if toward is None else toward
    ahead = jax.tree.map(jnp.subtract, end, params)
    leaves, shape = jax.tree.flatten(ahead)
    keys = jax.random.split(jax.random.key(0), len(leaves))
    drawn = [jax.random.normal(key, leaf.shape) for key, leaf in zip(keys, leaves, strict=True)]
    scaled = [
        d * (jnp.linalg.norm(leaf) / jnp.linalg.norm(d))
        for d, leaf in zip(drawn, leaves, strict=True)
    ]
    aside = jax.tree.unflatten(shape, scaled)
    steps = jnp.linspace(-0.5, 1.5, 3 if smoke else 17)

    @jax.jit
    def rows(steps):
        def row(a):
            return bptt.loss_surface(mean_loss, params, (ahead, aside), (a[None], steps))[0]

        return jax.lax.map(row, steps) / mean_loss(params)

    return {"steps": np.asarray(steps), "surface": np.asarray(rows(steps))}


def contours(axis: Any, found: dict[str, Any], title: str) -> None:
    """The loss as filled contours, with the same colours for every network."""
    steps, surface = (np.asarray(found[name]) for name in ("steps", "surface"))
    levels = np.linspace(0, 2, 21)
    axis.contourf(steps, steps, np.minimum(surface.T, 2), levels, cmap="viridis")
    axis.contour(steps, steps, surface.T, levels[::2], colors="w", linewidths=0.5)
    axis.plot([0], [0], "o", color="w", markeredgecolor="k", label="start")
    axis.set(xlabel="to the trained values", ylabel="by lot", title=title)
