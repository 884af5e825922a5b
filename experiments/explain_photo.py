"""Every explanation of a photograph classifier side by side, and which finds what it hangs on.

A small convolutional network with batch norm learns the 4,000 images of CIFAR-10 that the lossless
strips hold (3,200 to train), flipped at random; then as `explain_digits`. Without the files,
made-up images of coloured discs take their place. Lecture rows Q01-Q04, Q14.
"""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import optax

import jaxdl
from experiments import _explain, _run
from jaxdl import data, nn, train


@dataclasses.dataclass(frozen=True)
class Config(_run.Config):
    epochs: int = 25
    """Epochs of each network's training."""
    seeds: int = 3
    """Networks, from different initial values and orders."""
    images: int = 48
    """Test images that are explained."""


def network() -> jaxdl.Module:
    """Three stages of convolution, batch norm and pooling, then the mean over the image."""
    stages = [
        layer
        for features in (16, 32, 64)
        for layer in (nn.conv(features, 3), nn.batch_norm(), jax.nn.relu, nn.max_pool(2))
    ]
    return jaxdl.serial(*stages[:-1], nn.global_avg_pool(), nn.dense(10))


def run(config: Config) -> dict:
    if config.smoke:
        config = dataclasses.replace(config, epochs=1, seeds=1, images=2)
    photos, source = images(config)
    model = network()
    networks, accuracies = [], []
    for seed in range(config.seed, config.seed + config.seeds):
        steps = config.epochs * -(-len(photos.train.y) // 64)
        state, _ = train.fit(
            model,
            train.AugmentedData(photos.train, data.augment.flip),
            loss="cross_entropy",
            optimizer=optax.adamw(optax.cosine_decay_schedule(3e-3, steps), weight_decay=1e-3),
            batch_size=64,
            epochs=config.epochs,
            seed=seed,
            verbose=0,
        )
        measured = train.evaluate(model, state, photos.test, loss="cross_entropy")
        accuracies.append(measured["accuracy"])
        networks.append((state.params, state.model_state))
    print(f"{source}: accuracy {np.mean(accuracies):.4f} of {config.seeds} networks", flush=True)
    apply = lambda both, x: model.apply(*both, x)[0]  # noqa: E731
    background = photos.train.x[:20]
    kinds = _explain.methods("relu_2", _explain.squares(32, 6), background)
    if config.smoke:
        kinds = {name: kinds[name] for name in ("random", "saliency", "Grad-CAM", "LRP epsilon")}
    x = photos.test.x[: config.images]
    found = _explain.compare(apply, networks, x, kinds, background.mean(0, keepdims=True))
    _explain.draw_scores(config, "explain_photo", found)
    right = np.flatnonzero(np.argmax(apply(networks[0], x), 1) == photos.test.y[: len(x)])
    chosen = right[:3] if len(right) >= 3 else np.arange(min(2, len(x)))
    _explain.draw_maps(
        config, "explain_photo", apply, networks[0], x[chosen], kinds, photos.classes
    )
    return {
        "source": source,
        "accuracy": accuracies,
        "areas": found,
        "best": {m: _explain.best(found, m) for m in ("insertion", "deletion", "ROAD")},
    }


def images(config: Config) -> tuple[data.Dataset, str]:
    """CIFAR-10's first images, or discs."""
    try:
        found, source = data.cifar10_png(), "CIFAR-10, 3,200 images"
    except ValueError as missing:
        print(f"made-up discs: {missing}")
        found, source = discs(config.seed), "made-up discs"
    if config.smoke:
        few = [data.Split(split.x[:128], split.y[:128]) for split in (found.train, found.test)]
        found = found._replace(train=few[0], test=few[1])
    return found, source


def discs(seed: int, n: int = 400) -> data.Dataset:
    """A disc somewhere in noise; its colour and size are the class."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 10, n).astype(np.int32)
    place = rng.uniform(8, 24, (n, 2))
    rows, columns = np.mgrid[:32, :32]
    far = np.hypot(rows - place[:, :1, None], columns - place[:, 1:, None])
    inside = (far < 3 + (y % 2)[:, None, None] * 3)[..., None]
    palette = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [1, 1, 1]])
    colours = palette[y // 2]
    x = np.where(inside, colours[:, None, None], rng.uniform(0.3, 0.5, (n, 32, 32, 3)))
    split = data.Split(x.astype(np.float32), y)
    return data.Dataset(split, split, tuple(map(str, range(10))))
