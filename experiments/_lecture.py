"""The lectures' own set-up, for the experiments that change one thing of it. Lecture row A20.

784-500-...-500-10 on MNIST, plain SGD at 0.1, batches of 100, 20 epochs; Glorot's initial values,
no biases at first; several seeds in one compiled program. What is trained is kept below the results
folder, so that experiments with a network in common train it once.
"""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

import jaxdl
from jaxdl import data, nn, train
from jaxdl.interop import safetensors

WIDTH, BATCH, RATE = 500, 100, 0.1
FEW = 10_000
"""Training images with which the networks come to the lectures' numbers; with all of them they come
further, and the differences are smaller."""
ACTIVATIONS: dict[str, Callable] = {"sigmoid": jax.nn.sigmoid, "relu": jax.nn.relu}


class Trained(NamedTuple):
    """Networks of one kind, one a seed.

    Attributes:
      model: the model.
      params: their parameters, with a leading axis over the seeds.
      history: (seeds, epochs) arrays by name; of the test images too, as `eval_`.
      seconds: what the training took, compilation included, when it was done.
    """

    model: jaxdl.Module
    params: Any
    history: dict[str, np.ndarray]
    seconds: float

    def __len__(self) -> int:
        return len(self.history["seed"])

    def state(self, i: int) -> train.TrainState:
        """The i-th network, for `train.evaluate` and `train.predict`."""
        params = jax.tree.map(lambda a: a[i], self.params)
        return train.TrainState(params, {}, (), jax.random.key(0), jax.numpy.int32(0))


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
) -> Trained:
    """Trains networks of one kind, or takes them from where an experiment before put them.

    Args:
      rows: how many of the training images; None takes all.
    """
    settings = {
        "layers": layers,
        "activation": activation,
        "loss": loss,
        "seeds": seeds,
        "batch": batch,
        "epochs": 1 if config.smoke else epochs,
        "smoke": config.smoke,
        "seed": config.seed,
    }
    dataset = images(config.smoke)
    x, y = dataset.train.x[:rows], dataset.train.y[:rows]
    settings["rows"] = len(y)
    name = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
    model = network(layers, activation, 16 if config.smoke else WIDTH)
    folder = config.results / "networks"
    if (folder / f"{name}.json").is_file():
        kept = json.loads((folder / f"{name}.json").read_text())
        params, _ = safetensors.load_weights(folder / f"{name}.safetensors")
        history = {key: np.array(values) for key, values in kept["history"].items()}
        return Trained(model, params, history, kept["seconds"])
    began = time.perf_counter()
    states, history = train.train_many(
        model,
        (x, y),
        seeds=range(config.seed, config.seed + seeds),
        loss=LOSSES[loss],
        optimizer=optax.sgd(RATE),
        batch_size=min(batch, len(y)),
        epochs=settings["epochs"],
        eval_data=dataset.test,
        metrics=["accuracy"],
        verbose=0,
    )
    seconds = time.perf_counter() - began
    folder.mkdir(parents=True, exist_ok=True)
    safetensors.save_weights(folder / f"{name}.safetensors", states.params)
    kept = {key: np.asarray(values).tolist() for key, values in history.items()}
    (folder / f"{name}.json").write_text(
        json.dumps({"settings": settings, "history": kept, "seconds": seconds})
    )
    return Trained(model, states.params, history, seconds)


def last(found: Trained) -> dict[str, float]:
    """The test accuracy after the last epoch, over the seeds."""
    return spread(found.history["eval_accuracy"][:, -1])


def spread(values: Any) -> dict[str, float]:
    """Mean and standard deviation over the seeds."""
    values = [float(value) for value in values]
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return {"mean": statistics.fmean(values), "deviation": deviation, "seeds": len(values)}


def said(found: dict[str, float]) -> str:
    """0.893 +- 0.002"""
    return f"{found['mean']:.3f} +- {found['deviation']:.3f}"


def gradient_norms(found: Trained, loss: str, smoke: bool, rows: int = 1000) -> np.ndarray:
    """(seeds, layers): the norm of the first gradient by each layer's kernel, input first.

    Lecture row D13: of the untrained networks, on the first training images.
    """
    from jaxdl import losses

    split = images(smoke).train
    x, y = jax.numpy.asarray(split.x[:rows]), jax.numpy.asarray(split.y[:rows])
    cost = losses.loss(LOSSES[loss])

    def norms(seed):
        params, state = found.model.init(jax.random.key(seed), x)

        def mean_loss(params):
            return cost(found.model.apply(params, state, x)[0], y).mean()

        slopes = jax.grad(mean_loss)(params)
        return [jax.numpy.linalg.norm(slopes[f"dense_{i}"]["kernel"]) for i in range(len(slopes))]

    return np.array([norms(int(seed)) for seed in found.history["seed"]], np.float64)
