"""Plain networks get worse with depth on the images they train on; residual ones do not. Row G05.

He et al. 2016 (arXiv 1512.03385, figures 1 and 6): 20 and 56 layers of one width on CIFAR-10, with
the same parameters with and without the ways around the blocks. It is the training error that
counts: what cannot be fitted is not overfitted. Shallow networks are among the deep ones, with
blocks that pass on their input; descent does not find them. The short schedule is for two cores
and the 4,000 images at hand. It takes a fifth of the paper's rate for all four: at 0.1 the residual
network of 56 layers makes little of so few steps, and the paper warms its deepest ones up too.
`--long` is the paper's own, for a GPU and the whole of CIFAR-10.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import time
from typing import Annotated, Any

import jax
import numpy as np
import optax
import tyro

from experiments import _figure, _run, _seeds
from experiments._claim import Claim, metrics, numbers
from jaxdl import data, train
from jaxdl.data import augment
from jaxdl.zoo.vision.resnet import cifar_resnet

CLAIM = Claim(
    rows=("G05", "T11"),
    step="best",
    english="A plain network of 56 layers has a larger error than one of 20, in training too.",
    chinese="56 层的普通网络比 20 层的误差更大，训练误差也一样；残差网络没有这个问题。",
    deck={"plain, 20": None, "plain, 56": None, "residual, 20": None, "residual, 56": None},
    words={
        "plain, 20": "普通网络，20 层",
        "plain, 56": "普通网络，56 层",
        "residual, 20": "残差网络，20 层",
        "residual, 56": "残差网络，56 层",
    },
    source="zoo/vision/resnet.py",
    minutes=30,
)
KINDS = {name: (int(name[-2:]), name.startswith("plain")) for name in CLAIM.deck}


@dataclasses.dataclass(frozen=True)
class Config(_run.Config):
    seeds: int = 1
    """Networks of each kind; the long form has three."""
    epochs: int = 8
    """Epochs of the short schedule."""
    long: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """The paper's schedule: 64,000 steps of batches of 128 of all of CIFAR-10, cut and mirrored."""


def images(config: Config) -> data.Dataset:
    """CIFAR-10, as much as the form takes, each channel to mean 0 and deviation 1; else digits."""
    root = pathlib.Path(os.environ.get("JAXDL_DATA", ""))
    if config.long:
        found = data.cifar10()
    elif (root / "cifar10-png").is_dir():
        found = data.cifar10_png()
    else:
        print("the embedded digits, for there is no folder cifar10-png below JAXDL_DATA")
        found = data.digits()
    mean = found.train.x.mean((0, 1, 2))
    deviation = found.train.x.std((0, 1, 2))
    few = 64 if config.smoke else None
    parts = [
        data.Split((split.x[:few] - mean) / deviation, split.y[:few])
        for split in (found.train, found.test)
    ]
    return found._replace(train=parts[0], test=parts[1])


def network(config: Config, dataset: data.Dataset, depth: int, plain: bool) -> _seeds.Trained:
    """The networks of a kind, trained or as they were kept."""
    if config.smoke:
        depth = {20: 8, 56: 14}[depth]
    model = cifar_resnet(depth, plain=plain)
    split = dataset.train
    batch = 128 if config.long else min(64, len(split.y))
    seeds, epochs = (3, 164) if config.long else (config.seeds, config.epochs)
    if config.smoke:
        seeds, epochs = 1, 1
    rate = 0.1 if config.long else 0.02

    def one(seed: int) -> _seeds.Trained:
        settings = {"seed": seed, "epochs": epochs, "batch": batch, "rate": rate}
        return _seeds.kept(config, model, split, settings, lambda: make(seed))

    def make(seed: int) -> _seeds.Trained:
        steps = epochs * (len(split.y) // batch)
        drops = {steps // 2: 0.1, steps * 3 // 4: 0.1} if config.long else {}
        optimizer = optax.chain(
            optax.add_decayed_weights(1e-4),
            optax.sgd(optax.piecewise_constant_schedule(rate, drops), momentum=0.9),
        )
        began = time.perf_counter()
        state, history = train.fit(
            model,
            split,
            loss="cross_entropy",
            optimizer=optimizer,
            batch_size=batch,
            epochs=epochs,
            augment=cut_and_mirrored if config.long else None,
            eval_data=dataset.test,
            seed=seed,
            verbose=1,
        )
        seconds = time.perf_counter() - began
        params, model_state, rows = jax.tree.map(
            lambda leaf: np.asarray(leaf)[None],
            (state.params, state.model_state, {k: np.array(v) for k, v in history.items()}),
        )
        rows["seed"] = np.array([seed])
        return _seeds.Trained(model, params, model_state, rows, seconds, 1.0)

    return _seeds.together([one(seed) for seed in range(config.seed, config.seed + seeds)])


def cut_and_mirrored(key: jax.Array, x: jax.Array) -> jax.Array:
    """He et al. 2016, section 4.2: four cells of padding, a random cut of 32x32, or its mirror."""
    first, second = jax.random.split(key)
    return augment.flip(first, augment.crop(second, x, 32, 4))


def run(config: Config) -> dict:
    dataset = images(config)
    networks = {name: network(config, dataset, *kind) for name, kind in KINDS.items()}
    error = {name: 1 - found.history["accuracy"] for name, found in networks.items()}
    test = {name: 1 - found.history["eval_accuracy"] for name, found in networks.items()}
    found = {name: _seeds.spread(values[:, -1]) for name, values in error.items()}
    for name, values in found.items():
        last = test[name][:, -1].mean()
        print(f"{name:12s} training error {_seeds.said(values)}, test error {last:.3f}")
    plain_20, plain_56, residual_20, residual_56 = (found[name]["mean"] for name in KINDS)
    worse, kept_up = plain_56 - plain_20, residual_56 - residual_20
    result = metrics(
        found,
        holds=worse > 0.05 and kept_up < worse / 2,
        said=(
            f"the training error is {plain_20:.3f} with 20 plain layers and {plain_56:.3f} with "
            f"56; {residual_20:.3f} and {residual_56:.3f} with a way around every two layers"
        ),
        chinese=(
            f"普通网络的训练误差：20 层 {plain_20:.3f}，56 层 {plain_56:.3f}；残差网络："
            f"{residual_20:.3f} 和 {residual_56:.3f}"
        ),
        training=numbers(error),
        test=numbers(test),
        images=len(dataset.train.y),
        **_seeds.times(networks),
    )
    _figure.save(draw(result), config, "plain_56", "plain_56")
    return result


def draw(result: dict) -> Any:
    """The training error and the test error by epoch."""
    plt = _figure.pyplot()
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained", sharey=True)
    for axis, part in zip(axes, ("training", "test"), strict=True):
        _figure.curves(axis, result[part], {})
        axis.set(title=f"{part} error")
    return figure
