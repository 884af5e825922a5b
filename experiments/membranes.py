"""Trains a U-Net to find the membranes of nerve cells in electron microscopy.

ISBI 2012: 24 slices train and 6 test, as in `data.isbi2012`. Each step sees random tiles, which are
turned, mirrored and deformed (Simard et al. 2003), as in Ronneberger et al. 2015. Measured on the
whole test slices: the accuracy of pixels, the mean intersection over union, and the Rand score of
the cells that the membranes separate. Its threshold is chosen on training slices. Lecture rows H05,
H11. Without the slices, cells around random points take their place.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy import spatial

import jaxdl
from experiments import _figure, _run
from jaxdl import data, metrics, train, tree
from jaxdl.data import augment
from jaxdl.zoo.segmentation.unet import padded_unet

BATCH = 8
THRESHOLDS = tuple(round(0.3 + 0.05 * i, 2) for i in range(13))
"""Probabilities of the interior of a cell above which a pixel belongs to it."""
CALIBRATION = 2
"""Training slices on which the threshold is chosen."""


@dataclasses.dataclass(frozen=True)
class Config(_run.Config):
    steps: int = 600
    """Steps of 8 tiles."""
    tile: int = 128
    """Height and width of the tiles, in pixels."""
    width: int = 16
    """Channels of the first block of the U-Net."""
    depth: int = 4
    """Poolings of the U-Net."""
    rate: float = 3e-3
    """Adam's learning rate at its highest; it rises and falls to 0 in one cycle."""


def run(config: Config) -> dict:
    membranes, source = load_slices(config.smoke)
    (x, y), (test_x, test_y) = standardize(membranes)
    start = time.perf_counter()
    model, state, history = train_network(data.Split(x, y), config)
    seconds = time.perf_counter() - start
    size = tree.count(state.params)
    print(f"{source}: {size:,} parameters, {seconds:.0f} s of training", flush=True)

    predict = functools.partial(average_symmetries, train.predictor(model, state))
    known, cells = predict(x[:CALIBRATION]), predict(test_x)
    scores = {t: rand_score(known, y[:CALIBRATION], t) for t in THRESHOLDS}
    threshold = max(scores, key=lambda t: scores[t])
    # The metrics take scores, and the mean over symmetries is one of probabilities.
    logits = np.log(np.maximum(np.stack([1 - cells, cells], -1), 1e-12))
    accuracy = metrics.accuracy(jnp.asarray(logits), jnp.asarray(test_y))
    result = {
        "source": source,
        "pixel_accuracy": float(accuracy.mean()),
        "pixel_accuracy_of_slices": np.asarray(accuracy.mean((1, 2)), float).round(4).tolist(),
        "share_of_cells": float(test_y.mean()),
        "miou": metrics.miou()(logits, test_y),
        "rand_f_score": rand_score(cells, test_y, threshold),
        # A baseline without a network: cells are brighter than mean minus deviation.
        "rand_f_score_of_dark_pixels": rand_score(test_x[..., 0], test_y, -1.0),
        "threshold": threshold,
        "training_loss": np.round(history["loss"], 4).tolist(),
        "parameters": size,
        "training_seconds": round(seconds, 1),
    }
    for name in ("pixel_accuracy", "share_of_cells", "miou", "rand_f_score"):
        print(f"{name:16s} {result[name]:.4f}")
    figure = draw(membranes.test, cells, threshold)
    _figure.save(figure, config, "membranes", "membranes")
    return result


def standardize(membranes: data.Dataset) -> tuple[data.Split, data.Split]:
    """Returns the slices for training and test, with mean 0 and deviation 1 in training."""
    mean, deviation = membranes.train.x.mean(), membranes.train.x.std()
    learned, test = (split._replace(x=(split.x - mean) / deviation) for split in membranes[:2])
    return learned, test


def train_network(
    slices: data.Split, config: Config
) -> tuple[jaxdl.Module, train.TrainState, dict[str, Any]]:
    """Trains a U-Net on standardized slices, in a smoke run a small one for two steps."""
    if config.smoke:
        config = dataclasses.replace(config, steps=2, tile=32, width=8, depth=1)
    model = padded_unet(width=config.width, depth=config.depth)
    state, history = train.fit(
        model,
        train.AugmentedData(tuple(slices), functools.partial(deform_tiles, config.tile)),
        loss="cross_entropy",
        optimizer=optax.adam(optax.cosine_onecycle_schedule(config.steps, config.rate)),
        batch_size=min(BATCH, len(slices.x)),
        epochs=train.Steps(config.steps),
        seed=config.seed,
    )
    return model, state, history


def deform_tiles(tile: int, key: jax.Array, x: jax.Array, y: jax.Array) -> tuple:
    """Cuts a random tile out of each slice, and turns, mirrors, deforms and brightens it."""
    keys = jax.random.split(key, 4)
    # Displacements of about 2 pixels.
    deform = functools.partial(augment.elastic, alpha=150.0, sigma=12.0)
    x, y, _ = augment.both(functools.partial(augment.crop, size=tile))(keys[0], x, y)
    x, y, _ = augment.both(turn)(keys[1], x, y)
    # Order 0 for labels, because interpolation would make values between the classes.
    x, y, _ = augment.both(deform, functools.partial(deform, order=0))(keys[2], x, y)
    gain, offset = 0.1 * jax.random.normal(keys[3], (2, len(x), 1, 1, 1), x.dtype)
    return x * (1 + gain) + offset, y


def turn(key: jax.Array, images: jax.Array) -> jax.Array:
    """Applies one of the eight symmetries of the square to each image."""
    down, across, swap = jax.random.bernoulli(key, shape=(3, len(images), 1, 1, 1))
    images = jnp.where(down, images[:, ::-1], images)
    images = jnp.where(across, images[:, :, ::-1], images)
    return jnp.where(swap, images.swapaxes(1, 2), images)


def average_symmetries(predict: Any, x: np.ndarray) -> np.ndarray:
    """Returns the probability of a cell, averaged over the eight symmetries of the square.

    Args:
      predict: from slices (N, H, W, 1) to logits (N, H, W, 2).
      x: (N, H, W, 1) slices with H = W.

    Returns:
      (N, H, W) probabilities.
    """

    @jax.jit
    def probability(x):
        return jax.nn.softmax(predict(x))[..., 1]

    def rows(image):
        total = 0
        for flip, turns in itertools.product((False, True), range(4)):
            turned = np.rot90(image[::-1] if flip else image, turns)
            p = np.rot90(np.asarray(probability(turned[None]))[0], -turns)
            total = total + (p[::-1] if flip else p)
        return total / 8

    return np.stack([rows(image) for image in x])


def rand_score(cells: np.ndarray, labels: np.ndarray, threshold: float) -> float:
    """Returns the mean Rand score of slices, whose cells are where a map exceeds the threshold.

    Args:
      cells: (N, H, W) maps.
      labels: (N, H, W), 0 for membranes and 1 for cells.
      threshold: in units of the maps.
    """
    scores = []
    for p, label in zip(cells, labels, strict=True):
        # Keeps the border at 0, which the score does not count.
        target = label * metrics.split_segments(label)
        scores.append(metrics.rand_f_score(metrics.split_segments(p > threshold), target))
    return float(np.mean(scores))


def load_slices(smoke: bool) -> tuple[data.Dataset, str]:
    """Returns the slices and their name; for a smoke run only corners of them."""
    try:
        membranes = data.isbi2012()
    except ValueError as missing:
        print(f"made-up cells instead of slices: {missing}")
        membranes, name = draw_cells(np.random.default_rng(0)), "cells around random points"
    else:
        name = "ISBI 2012"
    if smoke:
        corner = np.s_[:4, :64, :64]
        train, test = (data.Split(s.x[corner], s.y[corner]) for s in membranes[:2])
        membranes = data.Dataset(train, test, membranes.classes)
    return membranes, name


def draw_cells(rng: np.random.Generator, size: int = 256) -> data.Dataset:
    """Draws cells of random brightness around random points, with dark and broken membranes."""
    splits = []
    for count in (24, 6):
        x, y = [], []
        for _ in range(count):
            points = rng.uniform(0, size, (60, 2))
            pixels = np.indices((size, size)).transpose(1, 2, 0)
            distance, nearest = map(np.asarray, spatial.KDTree(points).query(pixels, 2))
            cell = distance[..., 1] - distance[..., 0] > 3
            image = rng.uniform(0.5, 1, 60)[nearest[..., 0]] * np.where(cell, 1, 0.4)
            x.append(image + 0.15 * rng.normal(size=image.shape))
            y.append(cell)
        splits.append(data.Split(np.array(x, np.float32)[..., None], np.array(y, np.int32)))
    return data.Dataset(splits[0], splits[1], ("membrane", "cell"))


def draw(test: data.Split, cells: np.ndarray, threshold: float) -> Any:
    """Draws the first and the last test slice: image, probabilities, labels and cells."""
    plt = _figure.pyplot()
    titles = ("slice", "probability of a cell", "labels", "predicted cells")
    figure, axes = plt.subplots(2, 4, figsize=(10, 5.3), layout="constrained")
    rng = np.random.default_rng(0)
    for row, i in zip(axes, (0, -1), strict=True):
        segments = metrics.split_segments(cells[i] > threshold) * (cells[i] > threshold)
        colours = np.concatenate([[[0, 0, 0]], rng.uniform(0.25, 1, (segments.max(), 3))])
        pictures = (test.x[i, ..., 0], cells[i], test.y[i], colours[segments])
        for axis, title, picture in zip(row, titles, pictures, strict=True):
            axis.imshow(picture, cmap="gray", interpolation="antialiased")
            axis.set(xticks=[], yticks=[])
            if i == 0:
                axis.set_title(title, fontsize=10)
    return figure
