"""Compares plain and residual networks of 20 and 56 layers on CIFAR-10. Lecture row G05.

He et al. 2016 (arXiv 1512.03385, figures 1 and 6): 20 and 56 layers of the same widths on CIFAR-10,
with the same parameters, with and without shortcuts. The training error is compared: a larger one
is not overfitting. A deep network can represent a shallow one, with blocks that return their input;
gradient descent does not find it. The short schedule is for one GPU and 4,000 images; on two cores
use `--epochs 8`, about half an hour per seed. It starts at a fifth of the paper's rate for all,
because at 0.1 the residual network of 56 layers learns little in its few steps; the paper warms up
its deepest ones too. `--long` is the paper's schedule, for all of CIFAR-10. Networks are saved:
several processes may train one kind each, with `--only`, before one of them compares all.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import time
from typing import Annotated, Any, Literal

import jax
import numpy as np
import optax
import tyro

from experiments import _figure, _run, _seeds
from experiments._claim import Claim, Verdict, numbers
from jaxdl import data, train
from jaxdl.data import augment
from jaxdl.zoo.vision.cifar_resnet import cifar_resnet

CLAIM = Claim(
    rows=("G05", "T11"),
    step="best",
    statement="A plain network of 56 layers has a larger error than one of 20, in training too.",
    deck={"plain, 20": None, "plain, 56": None, "residual, 20": None, "residual, 56": None},
    source="zoo/vision/cifar_resnet.py",
    minutes=4,
)
KINDS = {name: (int(name[-2:]), name.startswith("plain")) for name in CLAIM.deck}


@dataclasses.dataclass(frozen=True)
class Config(_run.Config):
    seeds: int = 3
    """Networks of each kind."""
    epochs: int = 60
    """Epochs of the short schedule."""
    only: Literal["", "plain, 20", "plain, 56", "residual, 20", "residual, 56"] = ""
    """Train and save the networks of this kind alone, without a comparison."""
    long: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """The paper's schedule: 64,000 steps of 128 images of CIFAR-10, cropped and flipped."""


def load_images(config: Config) -> data.Dataset:
    """Returns CIFAR-10, its first 4,000 images, or digits without files; standardized."""
    root = pathlib.Path(os.environ.get("JAXDL_DATA", ""))
    if config.long:
        dataset = data.cifar10()
    elif (root / "cifar10-png").is_dir():
        dataset = data.cifar10_png()
    else:
        print("using the embedded digits: there is no folder cifar10-png below JAXDL_DATA")
        dataset = data.digits()
    mean = dataset.train.x.mean((0, 1, 2))
    deviation = dataset.train.x.std((0, 1, 2))
    few = 64 if config.smoke else None
    parts = [
        data.Split((split.x[:few] - mean) / deviation, split.y[:few])
        for split in (dataset.train, dataset.test)
    ]
    return dataset._replace(train=parts[0], test=parts[1])


def train_networks(
    config: Config, dataset: data.Dataset, depth: int, plain: bool
) -> _seeds.Networks:
    """Trains the networks of a kind, or loads those that are saved."""
    if config.smoke:
        depth = {20: 8, 56: 14}[depth]
    model = cifar_resnet(depth, plain=plain)
    split = dataset.train
    # The paper's 128, or 64 for more steps in the short schedule.
    batch = 128 if config.long else min(64, len(split.y))
    seeds, epochs = config.seeds, 164 if config.long else config.epochs
    if config.smoke:
        seeds, epochs = 2, 1
    # At 0.1 the residual network of 56 layers hardly learns in the short schedule.
    rate = 0.1 if config.long else 0.02
    steps = epochs * (len(split.y) // batch)
    # He et al. 2016, sec. 4.2: divided by ten after 32,000 and 48,000 of 64,000 steps.
    schedule = optax.piecewise_constant_schedule(rate, {steps // 2: 0.1, steps * 3 // 4: 0.1})
    optimizer = optax.chain(
        optax.add_decayed_weights(1e-4), optax.sgd(schedule, momentum=0.9)
    )  # one object for all seeds, so that they share a compiled program

    def one(seed: int) -> _seeds.Networks:
        settings = {"seed": seed, "epochs": epochs, "batch": batch, "rate": rate, "drops": 2}
        return _seeds.load_or_train(config, model, split, settings, lambda: make(seed))

    def make(seed: int) -> _seeds.Networks:
        start = time.perf_counter()
        state, history = train.fit(
            model,
            train.AugmentedData(split, crop_and_flip) if config.long else split,
            loss="cross_entropy",
            optimizer=optimizer,
            batch_size=batch,
            epochs=epochs,
            eval_data=dataset.test,
            seed=seed,
            verbose=1,
        )
        seconds = time.perf_counter() - start
        params, model_state, rows = jax.tree.map(
            lambda leaf: np.asarray(leaf)[None],
            (state.params, state.model_state, {k: np.array(v) for k, v in history.items()}),
        )
        rows["seed"] = np.array([seed])
        return _seeds.Networks(model, params, model_state, rows, seconds, 1.0)

    return _seeds.concatenate([one(seed) for seed in range(config.seed, config.seed + seeds)])


def crop_and_flip(key: jax.Array, x: jax.Array) -> jax.Array:
    """Pads by four pixels, crops 32x32 at random and flips half (He et al. 2016, sec. 4.2)."""
    first, second = jax.random.split(key)
    return augment.flip(first, augment.crop(second, x, 32, 4))


def run(config: Config) -> dict | None:
    dataset = load_images(config)
    if config.only:
        train_networks(config, dataset, *KINDS[config.only])
        return None
    networks = {name: train_networks(config, dataset, *kind) for name, kind in KINDS.items()}
    error = {name: 1 - trained.history["accuracy"] for name, trained in networks.items()}
    test = {name: 1 - trained.history["eval_accuracy"] for name, trained in networks.items()}
    measured = {name: _seeds.summarize(values[:, -1]) for name, values in error.items()}
    for name, values in measured.items():
        last = test[name][:, -1].mean()
        print(f"{name:12s} training error {_seeds.format_summary(values)}, test error {last:.3f}")
    result = {
        "measured": measured,
        "training": numbers(error),
        "test": numbers(test),
        "images": len(dataset.train.y),
        **_seeds.summarize_times(networks),
    }
    _figure.save(draw(result), config, "plain_56", "plain_56")
    return result


def judge(result: dict) -> Verdict:
    """Requires 56 plain layers to be worse than 20 in training and test, residual ones not to be.

    Worse: the final errors differ by more than twice the pooled deviation over the seeds, and by
    more than 0.01, because all of these networks may fit nearly every image.
    """
    seeds, epochs = np.shape(result["training"]["plain, 56"])

    def worse(part: str, kind: str) -> tuple[float, bool]:
        few, many = (np.array(result[part][f"{kind}, {depth}"])[:, -1] for depth in (20, 56))
        pooled = np.sqrt((few.var(ddof=1) + many.var(ddof=1)) / 2)
        return pooled, bool(many.mean() - few.mean() > max(2 * pooled, 0.01))

    training = {kind: worse("training", kind) for kind in ("plain", "residual")}
    parts = training["plain"][1], worse("test", "plain")[1], not training["residual"][1]
    outcome = "holds" if all(parts) else "holds in part" if parts[0] else "does not hold"
    mean = [result["measured"][name]["mean"] for name in CLAIM.deck]
    last = [np.mean(result["test"][name], 0)[-1] for name in CLAIM.deck]
    deviation = [training[kind][0] for kind in training]
    return Verdict(
        outcome,
        f"after {epochs} epochs of {result['images']:,} images, the training error is "
        f"{mean[0]:.3f} with 20 plain layers and {mean[1]:.3f} with 56 (pooled deviation over "
        f"{seeds} seeds {deviation[0]:.3f}), the test error {last[0]:.3f} and {last[1]:.3f}; with "
        f"shortcuts the training error is {mean[2]:.3f} and {mean[3]:.3f} (deviation "
        f"{deviation[1]:.3f}), the test error {last[2]:.3f} and {last[3]:.3f}",
        {
            "images": result["images"],
            "epochs": epochs,
            "seeds": seeds,
            "mean": mean,
            "deviation": deviation,
            "last": last,
        },
    )


def draw(result: dict) -> Any:
    """Draws the training error and the test error by epoch."""
    plt = _figure.pyplot()
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained", sharey=True)
    for axis, part in zip(axes, ("training", "test"), strict=True):
        _figure.curves(axis, result[part], {})
        axis.set(title=f"{part} error")
    return figure
