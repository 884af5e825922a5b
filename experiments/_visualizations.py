"""Pictures of feature visualization, Deep Dream and style transfer in the documentation.

`python -m experiments docs --pictures --only feature_vis` draws one of them. The weights are read
from `$JAXDL_DATA/pretrained`, the paintings from `$JAXDL_DATA/style-transfer`.
"""

from __future__ import annotations

import functools
import io
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure
from PIL import Image

from experiments import _pretrained
from jaxdl.data._files import data_file
from jaxdl.interpret import feature_vis, plot
from jaxdl.interpret.feature_vis import objective, transform

BOUNDS = (-127 / 128, 1.0)
"""Pixels 0 and 255 in the units of EfficientNet-Lite0, (pixel - 127) / 128."""
CLASSES = (323, 949, 130, 340)
CHANNELS = {
    "stage2_1": range(0, 24, 3),
    "stage4_1": range(0, 80, 10),
    "stage6_0": range(0, 192, 24),
}
"""Channels of an early, a middle and a late layer."""
ROBUST = transform.chain(
    transform.pad(16, 0.0),
    transform.jitter(16),
    transform.scale(np.linspace(0.7, 1.3, 7).tolist()),
    transform.rotate([-10, -5, 0, 5, 10]),
    transform.jitter(8),
    transform.noise(0.1),
)
"""More scales than Lucid's transformations, so that whole objects appear."""


@functools.cache
def load() -> tuple[Callable[[jax.Array], jax.Array], list[str]]:
    """Returns EfficientNet-Lite0 as a function of images, and the names of its classes."""
    model, (params, state) = _pretrained.lite0()
    names = [name.split(",")[0] for name in _pretrained.photographs()[1]]
    return lambda x: model.apply(params, state, x)[0], names


def maximize(
    goal: objective.Objective, size: int, steps: int, *, decay: float = 1.4, rate: float = 0.015
) -> np.ndarray:
    """Returns (T, size, size, 3) uint8, images that maximize an objective of T targets."""
    result = feature_vis.visualize(
        load()[0],
        feature_vis.fourier((size, size, 3), BOUNDS, decay=decay),
        goal,
        key=jax.random.key(0),
        transform=ROBUST,
        steps=steps,
        optimizer=optax.adam(rate),
    )
    return as_pixels(result.image)


@functools.cache
def maximize_classes() -> np.ndarray:
    """Returns images of `CLASSES`."""
    return maximize(objective.logit(np.array(CLASSES)), 224, 200, rate=0.01)


def draw_classes_and_channels(path: pathlib.Path) -> None:
    """Draws images of four classes above those of channels of three layers."""
    names = load()[1]
    figures = [plot.image_grid(maximize_classes(), titles=[names[c] for c in CLASSES], columns=4)]
    for layer, channels in CHANNELS.items():
        images = maximize(objective.channel(layer, np.array(channels)), 112, 128)
        titles = [f"{layer}: {c}" for c in channels]
        figures.append(plot.image_grid(images, titles=titles, columns=8, size=1.1))
    save(path, figures)


def draw_pixels_and_fourier(path: pathlib.Path, plain: np.ndarray, scores: Any) -> None:
    """Draws an image (1, H, W, 3) by its pixels next to those of two classes by `visualize`."""
    f, names = load()
    images = maximize_classes()[:2]
    logits = np.asarray(jax.jit(f)((images.astype(np.float32) - 127) / 128))
    titles = [f"pixels: {names[CLASSES[0]]}, score {float(scores[0]):.0f}"]
    titles += [
        f"Fourier: {names[c]}, score {row[c]:.0f}" for c, row in zip(CLASSES, logits, strict=False)
    ]
    save(path, [plot.image_grid(np.concatenate([plain, images]), titles=titles, columns=3)])


def draw_dream_and_style(path: pathlib.Path) -> None:
    """Draws a photograph, its dream, a painting, and the photograph in its style."""
    params = _pretrained.load("hed_vgg16")
    photograph, painting = open_image("tubingen", 288), open_image("starry_night", 288)
    styled = feature_vis.style_transfer(
        functools.partial(_pretrained.vgg16_features, params),
        photograph,
        painting,
        content_layer="conv4_2",
        style_layers=["conv1_1", "conv2_1", "conv3_1", "conv4_1"],
        key=jax.random.key(0),
        style_weight=1.0,
        bounds=(0.0, 1.0),
        steps=150,
        optimizer=optax.adam(0.02),
    )
    options: dict[str, Any] = {"key": jax.random.key(0), "bounds": BOUNDS, "steps": 20}
    dreamed = feature_vis.deep_dream(load()[0], photograph * 2 - 1, "stage5_2", **options)
    images = [photograph, (dreamed.image + 1) / 2, painting, styled.image]
    titles = ["photograph", "Deep Dream", "painting", "in its style"]
    height = min(len(image) for image in images)
    images = [np.asarray(image)[:height].clip(0, 1) for image in images]
    save(path, [plot.image_grid(np.stack(images), titles=titles, columns=2)])


def open_image(name: str, width: int) -> jax.Array:
    """Returns one of the images of style-transfer, (H, width, 3) in [0, 1]."""
    with Image.open(data_file("style-transfer", f"{name}.jpg", root=None)) as image:
        height = round(image.height * width / image.width)
        pixels = image.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)
    return jnp.asarray(np.asarray(pixels, np.float32) / 255)


def as_pixels(images: Any) -> np.ndarray:
    """Returns images in the units of EfficientNet-Lite0 as uint8."""
    return np.round(np.asarray(images) * 128 + 127).clip(0, 255).astype(np.uint8)


def save(path: pathlib.Path, figures: Sequence[Figure], limit: int = 60_000) -> None:
    """Writes figures below each other, in the best quality of at most `limit` bytes."""
    panels = []
    for figure in figures:
        figure.savefig(file := io.BytesIO(), dpi=100)
        panels.append(Image.open(file))
    width = max(panel.width for panel in panels)
    picture = Image.new("RGB", (width, sum(panel.height for panel in panels)), "white")
    top = 0
    for panel in panels:
        picture.paste(panel, ((width - panel.width) // 2, top))
        top += panel.height
    # A smaller picture looks better than one of low quality.
    for scale in (1.0, 0.9, 0.8, 0.7):
        size = round(picture.width * scale), round(picture.height * scale)
        smaller = picture.resize(size, Image.Resampling.LANCZOS)
        for quality in range(85, 45, -5):
            smaller.save(path, quality=quality, optimize=True)
            if path.stat().st_size < limit:
                return
