"""Compares all explanation methods on photograph classifiers, as `explain_digits` does on digits.

A small convolutional network with batch norm learns 3,200 images of CIFAR-10, flipped at random;
800 test it. Without the files, made-up images of coloured discs take their place. Lecture rows
Q01-Q04, Q14.
"""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import optax

import jaxdl
from experiments import _run, explain_digits
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
    """Builds three stages of convolution, batch norm and pooling, then the mean over the image."""
    stages = [
        layer
        for features in (16, 32, 64)
        for layer in (nn.conv(features, 3), nn.batch_norm(), jax.nn.relu, nn.max_pool(2))
    ]
    # Without the last pooling, so that class activation maps have 8 x 8 positions.
    return jaxdl.serial(*stages[:-1], nn.global_avg_pool(), nn.dense(10))


def run(config: Config) -> dict:
    if config.smoke:
        config = dataclasses.replace(config, epochs=1, seeds=1, images=2)
    photos, source = load_images(config)
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

    def apply(trees, x):
        return model.apply(*trees, x)[0]

    background = photos.train.x[:20]
    kinds = explain_digits.make_methods("relu_2", explain_digits.squares(32, 6), background)
    if config.smoke:
        kinds = {name: kinds[name] for name in ("random", "saliency", "Grad-CAM", "LRP epsilon")}
    x = photos.test.x[: config.images]
    areas = explain_digits.compare(apply, networks, x, kinds, background.mean(0, keepdims=True))
    explain_digits.draw_areas(config, "explain_photo", areas)
    right = np.flatnonzero(np.argmax(apply(networks[0], x), 1) == photos.test.y[: len(x)])
    chosen = right[:3] if len(right) >= 3 else np.arange(min(2, len(x)))
    explain_digits.draw_maps(
        config, "explain_photo", apply, networks[0], x[chosen], kinds, photos.classes
    )
    best = {m: explain_digits.find_best(areas, m) for m in explain_digits.MEASURES}
    return {"source": source, "accuracy": accuracies, "areas": areas, "best": best}


def load_images(config: Config) -> tuple[data.Dataset, str]:
    """Returns CIFAR-10's first images, or discs without its files, and the name of the data."""
    try:
        photos, source = data.cifar10_png(), "CIFAR-10, 3,200 images"
    except ValueError as missing:
        print(f"made-up discs: {missing}")
        photos, source = discs(config.seed), "made-up discs"
    if config.smoke:
        few = [data.Split(split.x[:128], split.y[:128]) for split in (photos.train, photos.test)]
        photos = photos._replace(train=few[0], test=few[1])
    return photos, source


def discs(seed: int, n: int = 400) -> data.Dataset:
    """Makes images of a disc at a random place in noise; its colour and size are the class."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 10, n).astype(np.int32)
    place = rng.uniform(8, 24, (n, 2))
    rows, columns = np.mgrid[:32, :32]
    distance = np.hypot(rows - place[:, :1, None], columns - place[:, 1:, None])
    inside = (distance < 3 + (y % 2)[:, None, None] * 3)[..., None]
    palette = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [1, 1, 1]])
    colours = palette[y // 2]
    x = np.where(inside, colours[:, None, None], rng.uniform(0.3, 0.5, (n, 32, 32, 3)))
    split = data.Split(x.astype(np.float32), y)
    return data.Dataset(split, split, tuple(map(str, range(10))))
