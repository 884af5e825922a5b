"""Trains a CNN on random labels and on noise. Lecture rows E10, T13.

Zhang et al. 2017 (arXiv 1611.03530): the training error reaches 0 though there is nothing to learn,
with weight decay and dropout too. A CNN learns 512 of the embedded digits, with true labels, with
random labels, and with noise instead of images; the test accuracy shows what is only memorized.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np
import optax

import jaxdl
from experiments import _figure, _run, _seeds
from experiments._claim import Claim, Verdict, numbers
from jaxdl import data, nn

CLAIM = Claim(
    rows=("E10", "T13"),
    step="best",
    statement="A CNN fits random labels and pure noise to zero training error, regularized or not.",
    deck={"random labels": 1.0, "noise for images": 1.0, "random labels, regularized": 1.0},
    source="train/fit.py",
    minutes=8,
)


@dataclasses.dataclass(frozen=True)
class Config(_run.Config):
    seeds: int = 5
    """Networks of each kind."""
    rows: int = 512
    """Training images."""
    epochs: int = 150
    """Epochs without dropout; with it, twice as many."""


def network(dropout: float = 0.0) -> jaxdl.Module:
    layers = [
        nn.conv(32),
        jax.nn.relu,
        nn.max_pool(2),
        nn.conv(64),
        jax.nn.relu,
        nn.flatten(),
        nn.dense(256),
        jax.nn.relu,
    ]
    return jaxdl.serial(*layers, *([nn.dropout(dropout)] if dropout else []), nn.dense(10))


def run(config: Config) -> dict:
    rows, epochs, seeds = config.rows, config.epochs, config.seeds
    if config.smoke:
        rows, epochs, seeds = 64, 2, 2
    digits, rng = data.digits(), np.random.default_rng(config.seed)
    x, y = digits.train.x[:rows], digits.train.y[:rows]
    random = rng.integers(0, 10, rows).astype(np.int32)
    noise = rng.normal(0.5, 0.25, x.shape).astype(np.float32)
    kinds = {
        "true labels": (x, y, {}),
        "random labels": (x, random, {}),
        # The same labels for images and noise: the two differ by the inputs alone.
        "noise for images": (noise, random, {}),
        "random labels, regularized": (x, random, {"dropout": 0.3}),
    }
    plain, regular = network(), network(0.3)
    many, accuracy = {}, {}
    for name, (inputs, labels, options) in kinds.items():
        regularized = bool(options)
        many[name] = _seeds.train_networks(
            config,
            regular if regularized else plain,
            (inputs, labels),
            seeds=seeds,
            loss="cross_entropy",
            optimizer=optax.adamw(1e-3, weight_decay=1e-2) if regularized else optax.adam(1e-3),
            batch_size=32,
            epochs=epochs * 2 if regularized else epochs,
            eval_data=digits.test,
            metrics=["accuracy"],
        )
        accuracy[name] = {
            "training": many[name].accuracy(inputs, labels),  # without dropout
            "test": many[name].history["eval_accuracy"][:, -1],
        }
        print(
            f"{name:28s}",
            ", ".join(f"{part} accuracy {v.mean():.4f}" for part, v in accuracy[name].items()),
            flush=True,
        )
    result = {
        "measured": {name: _seeds.summarize(parts["training"]) for name, parts in accuracy.items()},
        "test": {name: _seeds.summarize(parts["test"]) for name, parts in accuracy.items()},
        "accuracy": numbers(accuracy, 6),
        "training": numbers({name: trained.history["accuracy"] for name, trained in many.items()}),
        **_seeds.summarize_times(many),
    }
    _figure.save(draw(result), config, "random_labels", "random_labels")
    return result


def judge(result: dict) -> Verdict:
    """Requires a training error of 0 in every network, and for a part of the claim below 0.03.

    On the test images random labels must leave the accuracy near chance, below 0.2.
    """
    others = [name for name in result["measured"] if name != "true labels"]
    plain, noise, regularized = (result["measured"][name]["mean"] for name in others)
    least = min(plain, noise, regularized)
    unseen, true = (result["test"][name]["mean"] for name in ("random labels", "true labels"))
    fits = least > 0.97 and unseen < 0.2
    each = [value for name in others for value in result["accuracy"][name]["training"]]
    return Verdict(
        "does not hold" if not fits else "holds" if least == 1 else "holds in part",
        f"training accuracy {plain:.4g} with random labels, {noise:.4g} with noise for images, "
        f"{regularized:.4g} with weight decay and dropout, and a training error of 0 in "
        f"{each.count(1)} of {len(each)} networks; on the test images {unseen:.2f}, with true "
        f"labels {true:.2f}",
        {
            "plain": plain,
            "noise": noise,
            "regularized": regularized,
            "networks": len(each),
            "exact": each.count(1),
            "unseen": unseen,
            "true": true,
        },
    )


def draw(result: dict) -> Any:
    """Draws the training accuracy by epoch, and the test accuracy."""
    plt = _figure.pyplot()
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
    _figure.curves(left, result["training"], {})
    left.set(title="training accuracy", ylim=(0, 1.02))
    test = result["test"]
    means, deviations = ([t[name] for t in test.values()] for name in ("mean", "deviation"))
    right.barh(list(test), means, xerr=deviations)
    right.axvline(0.1, color="k", ls=":", lw=1)
    right.set(title="test accuracy", xlim=(0, 1))
    return figure
