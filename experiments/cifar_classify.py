"""Trains a residual network on 3,200 images of CIFAR-10 and tests it on 800.

The images are the first 4,000 of CIFAR-10, in the split of `data.cifar10_png`. On two cores, wide
layers are several times as fast per operation as the narrow ones of the paper, so the network has
few layers and twice the channels. With so few images, regularization decides: images are cropped,
flipped and mixed (mixup), and labels are smoothed. The learning rate rises and falls in one cycle.
The test images are used once, after the last epoch, each with its mirror image.

`--full` trains a wider network on all of CIFAR-10, in a few epochs on a GPU. Its target is the 94 %
of Jordan 2024 (arXiv 2404.00498), and it is not measured here.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import pathlib
import time
from collections.abc import Callable
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro

import jaxdl
from experiments import _figure, _run
from jaxdl import data, train, tree
from jaxdl.data import augment
from jaxdl.zoo.vision.cifar_resnet import cifar_resnet

FULL = {
    "epochs": 16,
    "depth": 20,
    "width": 64,
    "batch_size": 512,
    "rate": 0.4,
    "mixup": 0.0,
    "precision": "bfloat16",
}
"""The settings of `--full`."""
SHOWN = 8
"""Test images in each row of the figure."""


@dataclasses.dataclass(frozen=True)
class Recipe(_run.Config):
    epochs: int = 60
    """Passes over the training images."""
    depth: int = 8
    """Layers with weights, 6n + 2."""
    width: int = 32
    """Channels of the first stage."""
    batch_size: int = 64
    """Images in a batch."""
    rate: float = 0.1
    """Largest learning rate of the cycle."""
    mixup: float = 0.2
    """Parameter of mixup's Beta distribution; 0 does not mix."""
    padding: int = 4
    """Pixels by which an image may be shifted."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Type of the layers' arithmetic."""


@dataclasses.dataclass(frozen=True)
class Config(Recipe):
    full: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """All of CIFAR-10 on a GPU, with the settings `FULL`."""


def load_images(config: Config) -> data.Dataset:
    """Returns CIFAR-10, its first 4,000 images, or digits without files; standardized."""
    root = pathlib.Path(os.environ.get("JAXDL_DATA", ""))
    if config.full and not config.smoke:
        return standardize(data.cifar10(), None)
    if (root / "cifar10-png").is_dir():
        dataset = data.cifar10_png()
    else:
        print("using the embedded digits: there is no folder cifar10-png below JAXDL_DATA")
        dataset = data.digits()
    return standardize(dataset, 64 if config.smoke else None)


def standardize(dataset: data.Dataset, few: int | None) -> data.Dataset:
    """Scales the channels to mean 0 and deviation 1 in training; keeps the first `few` images."""
    # The statistics of the test images are not known in training.
    mean, deviation = dataset.train.x.mean((0, 1, 2)), dataset.train.x.std((0, 1, 2))
    train_split, test_split = (
        data.Split((split.x[:few] - mean) / deviation, split.y[:few])
        for split in (dataset.train, dataset.test)
    )
    return dataset._replace(train=train_split, test=test_split)


def augment_images(
    key: jax.Array, x: jax.Array, y: jax.Array, weight: Any, *, padding: int, alpha: float
) -> Any:
    """Pads and crops, mirrors half of the images, and mixes pairs of them if alpha is not 0."""
    keys = jax.random.split(key, 3)
    x = augment.flip(keys[0], augment.crop(keys[1], x, x.shape[1], padding=padding))
    if not alpha:
        # One-hot like the targets of mixup, so that both settings have the same loss.
        return x, jax.nn.one_hot(y, 10), weight
    return augment.mixup(keys[2], x, y, weight, num_classes=10, alpha=alpha)


def smoothed_cross_entropy(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """Returns the cross-entropy with a tenth of each target spread over all classes."""
    # 0.1 as in Szegedy et al. 2016, arXiv 1512.00567, section 7.
    return optax.losses.softmax_cross_entropy(logits, optax.smooth_labels(targets, 0.1))


def run(config: Config) -> dict:
    dataset = load_images(config)
    recipe = dataclasses.replace(config, **FULL) if config.full else config
    result, logits = train_and_test(dataset, recipe)
    _figure.save(draw(dataset, logits), config, "cifar_classify", "test_images")
    return result


def train_network(
    dataset: data.Dataset, config: Recipe, network: Callable[..., jaxdl.Module] = cifar_resnet
) -> tuple[jaxdl.Module, train.TrainState, dict[str, Any]]:
    """Trains `network(depth, width=width)`, in a smoke run a narrow one for an epoch."""
    if config.smoke:
        config = dataclasses.replace(config, epochs=1, depth=8, width=4, batch_size=16)
    train.keep_memory()
    model = network(config.depth, width=config.width)
    steps = config.epochs * -(-len(dataset.train.y) // config.batch_size)
    # One cycle as in Smith and Topin 2017, arXiv 1708.07120.
    schedule = optax.cosine_onecycle_schedule(steps, config.rate, pct_start=0.2)
    change = functools.partial(augment_images, padding=config.padding, alpha=config.mixup)
    state, history = train.fit(
        model,
        train.AugmentedData(dataset.train, change),
        loss=smoothed_cross_entropy,
        optimizer=optax.chain(
            # Before SGD, so that momentum and rate apply to the decay, as in PyTorch's SGD.
            optax.add_decayed_weights(5e-4),
            optax.sgd(schedule, momentum=0.9, nesterov=True),
        ),
        batch_size=config.batch_size,
        epochs=config.epochs,
        execution=train.Execution(precision=config.precision),
        seed=config.seed,
    )
    return model, state, history


def train_and_test(
    dataset: data.Dataset, config: Recipe, network: Callable[..., jaxdl.Module] = cifar_resnet
) -> tuple[dict, np.ndarray]:
    """Trains a network and returns its measures and its logits (N, 10) of the test images."""
    start = time.perf_counter()
    model, state, history = train_network(dataset, config, network)
    seconds = time.perf_counter() - start
    x, labels = dataset.test
    # The mean over both views is invariant to reflection, as the classes are.
    views = [train.predict(model, state, view) for view in (x, x[:, :, ::-1])]
    logits = np.mean(views, 0)
    correct = logits.argmax(-1) == labels
    result = {
        "accuracy": float(correct.mean()),
        "accuracy of one view": float((views[0].argmax(-1) == labels).mean()),
        "accuracy by class": {
            name: float(correct[labels == i].mean())
            for i, name in enumerate(dataset.classes)
            if np.any(labels == i)
        },
        "training images": len(dataset.train.y),
        "test images": len(labels),
        "parameters": tree.count(state.params),
        "epochs": len(history["loss"]),
        "training loss": history["loss"],
        "training seconds": round(seconds, 1),
    }
    print(
        f"{result['accuracy']:.4f} of {len(labels)} test images are classified correctly "
        f"(without mirror images {result['accuracy of one view']:.4f}), "
        f"after {len(history['loss'])} epochs in {seconds:.0f} s"
    )
    return result, logits


def draw(dataset: data.Dataset, logits: np.ndarray) -> Any:
    """Draws the test images with the least and the most probability of their label."""
    plt = _figure.pyplot()
    x, labels = dataset.test
    probability = np.asarray(jax.nn.softmax(jnp.asarray(logits)))
    order = np.argsort(probability[np.arange(len(labels)), labels])
    low, high = x.min((0, 1, 2)), x.max((0, 1, 2))
    figure, axes = plt.subplots(2, SHOWN, figsize=(10, 3.4), layout="constrained")
    for row, shown in zip(axes, (order[-SHOWN:], order[:SHOWN]), strict=True):
        for axis, i in zip(row, shown, strict=True):
            axis.imshow(np.squeeze((x[i] - low) / (high - low)), cmap="gray")
            decision = logits[i].argmax()
            name = dataset.classes[decision]
            if decision != labels[i]:
                name += f"\nlabel: {dataset.classes[labels[i]]}"
            axis.set_title(f"{name} {probability[i].max():.2f}", fontsize=8)
            axis.axis("off")
    return figure
