"""Detects blood cells by a Faster R-CNN with a feature pyramid, trained from random values.

BCCD: 364 microscope images with boxes of red and white blood cells and platelets. A small residual
network, images of 192x256 pixels and random flips and shifts let two cores train it. The network is
trained on the training and validation images, and tested once, on the 72 test images, after the
last step; nothing was chosen by the test images.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxdl
from experiments import _figure, _run
from jaxdl import data, metrics, train
from jaxdl.zoo.detection.backbone import resnet_backbone
from jaxdl.zoo.detection.faster_rcnn import faster_rcnn, total_loss
from jaxdl.zoo.detection.fpn import feature_pyramid_network
from jaxdl.zoo.vision.resnet import basic_block

SHOWN = 4
"""Test images in the figure."""
PARTS = ("objectness", "proposal_box", "class", "box")
"""The losses of the network."""
CANONICAL_SIZE = 52
"""Width in pixels of a square region that is pooled from the map of stride 16."""
COLOURS = {1: "tab:red", 2: "tab:blue", 3: "tab:green"}


@dataclasses.dataclass(frozen=True)
class Config(_run.Config):
    steps: int = 1800
    """Training steps."""
    batch_size: int = 4
    """Images a step."""
    rate: float = 1e-3
    """The largest learning rate of Adam."""
    validate: bool = False
    """Train on the training images alone, and test on the validation images."""


def network() -> jaxdl.Module:
    backbone = resnet_backbone(basic_block, (1, 1, 1, 1), features=24)
    pyramid = feature_pyramid_network(backbone, 3, 48)
    return faster_rcnn(
        pyramid,
        num_classes=4,
        # Strides 8, 16 and 32; median widths are 16, 42 and 80 pixels.
        sizes=[(16,), (40,), (80,)],
        features=48,
        hidden=128,
        canonical_size=CANONICAL_SIZE,
        proposals=64,
        proposals_per_level=200,
        sampled_anchors=128,
        sampled_rois=48,
        detections=60,
    )


def load_images(config: Config) -> data.DetectionDataset:
    """Returns BCCD at 0.4 of its size, or random images without its files or in a smoke run."""
    root = pathlib.Path(os.environ.get("JAXDL_DATA", ""))
    if (root / "bccd").is_dir() and not config.smoke:
        return data.bccd(size=(192, 256))
    images, boxes, labels = data.toy.shapes(12, size=96, objects=3, seed=config.seed)
    split = data.DetectionSplit(images, boxes, labels)
    return data.DetectionDataset(
        split, split, split, ("background", "square", "circle", "triangle")
    )


def augment(key: jax.Array, x: tuple, y: jax.Array, *, pixels: int = 24) -> tuple:
    """Flips images along both axes and shifts them, with their boxes.

    Args:
      key: a PRNG key.
      x: images (N, H, W, 3), boxes (N, M, 4) and labels (N, M).
      y: not changed.
      pixels: the largest shift. Pixels from outside have the mean of the image.

    Returns:
      `(x, y)`. Boxes with less than 40 % of their area in the image become padding.
    """
    images, boxes, labels = x
    n, height, width, _ = images.shape
    flip_key, shift_key, light_key = jax.random.split(key, 3)
    flips = jax.random.bernoulli(flip_key, 0.5, (2, n))
    shifts = jax.random.randint(shift_key, (n, 2), -pixels, pixels + 1)

    def change(image, boxes, labels, flip_x, flip_y, shift):
        image = jnp.where(flip_x, image[:, ::-1], image)
        image = jnp.where(flip_y, image[::-1], image)
        x0, y0, x1, y1 = boxes.T
        # Mirrored edges change places, so that x0 <= x1.
        x0, x1 = jnp.where(flip_x, width - x1, x0), jnp.where(flip_x, width - x0, x1)
        y0, y1 = jnp.where(flip_y, height - y1, y0), jnp.where(flip_y, height - y0, y1)
        mean = image.mean((0, 1))
        # Subtracting the mean makes the zeros of the padding equal to it.
        padded = jnp.pad(image - mean, ((pixels, pixels), (pixels, pixels), (0, 0)))
        start = (pixels - shift[1], pixels - shift[0], 0)
        image = jax.lax.dynamic_slice(padded, start, image.shape) + mean
        moved = jnp.stack([x0, y0, x1, y1], -1) + jnp.tile(shift, 2).astype(boxes.dtype)
        limit = np.array([width, height, width, height], np.float32)
        cut = jnp.clip(moved, 0, limit)
        area = jnp.prod(cut[:, 2:] - cut[:, :2], -1)
        stays = area > 0.4 * jnp.prod(moved[:, 2:] - moved[:, :2], -1)
        return image, jnp.where(stays[:, None], cut, 0), jnp.where(stays, labels, 0)

    images, boxes, labels = jax.vmap(change)(images, boxes, labels, flips[0], flips[1], shifts)
    light = jax.random.uniform(light_key, (n, 1, 1, 3), images.dtype, 0.9, 1.1)
    return (images * light, boxes, labels), y


def join(*splits: data.DetectionSplit) -> data.DetectionSplit:
    return data.DetectionSplit(*(np.concatenate(parts) for parts in zip(*splits, strict=True)))


def split(
    cells: data.DetectionDataset, *, validate: bool
) -> tuple[data.DetectionSplit, data.DetectionSplit, tuple[np.ndarray, np.ndarray]]:
    """Returns the images for training and test, standardized, and the mean and the deviation."""
    mean, deviation = cells.train.x.mean((0, 1, 2)), cells.train.x.std((0, 1, 2))
    learned = cells.train if validate else join(cells.train, cells.validation)
    test = cells.validation if validate else cells.test
    learned, test = (part._replace(x=(part.x - mean) / deviation) for part in (learned, test))
    return learned, test, (mean, deviation)


def train_network(
    learned: data.DetectionSplit, config: Config
) -> tuple[jaxdl.Module, train.TrainState, dict[str, Any]]:
    """Trains a network on standardized images, in a smoke run for two steps."""
    steps = 2 if config.smoke else config.steps
    model = network()
    optimizer = optax.chain(
        optax.clip_by_global_norm(5.0),
        optax.adamw(
            optax.warmup_cosine_decay_schedule(0.0, config.rate, max(steps // 20, 1), steps),
            weight_decay=1e-4,
        ),
    )
    state, history = train.fit(
        model,
        # Boxes are inputs: the model matches them with its anchors and returns the losses.
        train.AugmentedData(((learned.x, learned.boxes, learned.labels), learned.labels), augment),
        loss=total_loss,
        optimizer=optimizer,
        batch_size=config.batch_size,
        epochs=train.Steps(steps),
        metrics={part: functools.partial(loss_part, part) for part in PARTS},
        seed=config.seed,
        verbose=2,
    )
    return model, state, history


def run(config: Config) -> dict:
    train.keep_memory()
    cells = load_images(config)
    learned, test, (mean, deviation) = split(cells, validate=config.validate or config.smoke)
    model, state, history = train_network(learned, config)
    detections = train.predict(model, state, test.x, batch_size=8)
    boxes, scores, labels, _ = (np.asarray(part) for part in detections)
    everything = (boxes, scores, labels, test.boxes, test.labels)
    coco = metrics.coco_map(*everything)
    voc, _ = metrics.voc_map(*everything)
    names = cells.classes
    result = {
        "images": {"train": len(learned.x), "test": len(test.x)},
        "steps": 2 if config.smoke else config.steps,
        "parameters": jaxdl.tree.count(state.params),
        "map_50": coco.map_50,
        "map": coco.map,
        "map_75": coco.map_75,
        "voc_2010": voc,
        "by_class": {names[label]: value for label, value in coco.by_class.items()},
        "losses": {part: history[part][-1] for part in ("loss", *PARTS)},
        "seconds": float(np.sum(history["seconds"])),
    }
    for name, value in result.items():
        print(f"{name:12s} {value}")
    figure = draw(test.x * deviation + mean, boxes, scores, labels, test.boxes, names)
    _figure.save(figure, config, "cells", "cells")
    return result


def loss_part(part: str, output: dict, target: Any) -> jax.Array:
    del target
    return output[part]


def draw(images, boxes, scores, labels, true_boxes, names) -> Any:
    """Draws detections with a score above 0.5, and the true boxes as thin white lines."""
    plt = _figure.pyplot()
    shown = np.linspace(0, len(images) - 1, SHOWN).astype(int)
    figure, axes = plt.subplots(2, SHOWN // 2, figsize=(9, 7.2), layout="constrained")
    for axis, i in zip(axes.flat, shown, strict=True):
        height, width, _ = images[i].shape
        # Boxes have the coordinates of edges, where imshow's default has those of centres.
        axis.imshow(np.clip(images[i], 0, 1), extent=(0, width, height, 0))
        axis.set(xticks=[], yticks=[])
        for box in true_boxes[i]:
            axis.add_patch(rectangle(plt, box, "white", 0.8))
        for box, score, label in zip(boxes[i], scores[i], labels[i], strict=True):
            if score > 0.5:
                axis.add_patch(rectangle(plt, box, COLOURS[int(label)], 1.8))
                axis.text(box[0] + 2, box[1] + 2, f"{score:.2f}", color="black", size=6, va="top")
    handles = [plt.Line2D([], [], color=COLOURS[k], label=names[k]) for k in COLOURS]
    handles.append(plt.Line2D([], [], color="lightgray", lw=0.8, label="true box"))
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False)
    return figure


def rectangle(plt, box, colour, width) -> Any:
    size = box[2:] - box[:2]
    return plt.Rectangle(box[:2], *size, fill=False, edgecolor=colour, linewidth=width)
