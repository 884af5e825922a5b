"""Pictures of the documentation: each method's explanation of a photograph by EfficientNet-Lite0.

`python -m experiments docs --pictures` draws them; `--only lrp` draws that of docs/interpret/lrp.md
alone. The weights are read from `$JAXDL_DATA/pretrained`. Each function draws the picture of the
page with its name. Letters: N photographs of H x W pixels, M maps.
"""

from __future__ import annotations

import functools
import io
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from experiments import _pretrained, _visualizations
from jaxdl import interpret
from jaxdl.interpret import evaluate, plot, text

FOLDER = pathlib.Path(__file__).parent.parent / "docs" / "_static"
LAYERS = {"early": "stage2_1", "middle": "stage4_1", "late": "stage6_0", "last": "relu2"}
"""Layers of the network, from 56 x 56 positions to 7 x 7."""
MAX_BYTES = 60_000
"""Size of a picture, to which the quality of noisy maps is reduced."""
GUIDE_BYTES = 240_000
"""The same for the picture of all methods."""
# Pixels 0 and 255 in the units of the network, (pixel - 127) / 128.
BLACK, WHITE = -127 / 128, 1.0
BOX = interpret.epsilon_gamma_box(low=-1.0, high=1.0)


class Photographs(NamedTuple):
    """The photographs and the network that classifies them."""

    images: np.ndarray
    """(N, H, W, 3) uint8."""
    x: np.ndarray
    """The images as the network takes them."""
    scores: Callable[[jax.Array], jax.Array]
    """From (N, H, W, 3) to logits (N, 1000)."""
    titles: list[str]
    """The predicted class of each photograph and its probability."""

    def one(self, name: str) -> Photographs:
        """Returns one of the photographs, by a name of `_pretrained.PHOTOGRAPHS`."""
        i = _pretrained.PHOTOGRAPHS.index(name)
        return self._replace(
            images=self.images[i : i + 1], x=self.x[i : i + 1], titles=self.titles[i : i + 1]
        )


@functools.cache
def load() -> Photographs:
    """Returns all photographs with the pretrained network."""
    model, (params, state) = _pretrained.lite0()
    images, classes = _pretrained.photographs()
    x = (images.astype(np.float32) - 127) / 128

    def scores(x):
        return model.apply(params, state, x)[0]

    probabilities = np.asarray(jax.nn.softmax(jax.jit(scores)(x)))
    titles = [f"{classes[p.argmax()]}, {p.max():.2f}" for p in probabilities]
    return Photographs(images, x, scores, titles)


def draw_all(only: str | None = None) -> None:
    """Draws `photographs.jpg` and the pictures below `methods`, or one of the latter.

    Raises:
      ValueError: there is no picture of that name, or the weights are missing.
    """
    if only is not None and only not in METHODS:
        raise ValueError(f"no picture {only!r}; choose one of {', '.join(METHODS)}.")
    folder = FOLDER / "methods"
    folder.mkdir(exist_ok=True)
    if only is None:
        draw_photographs(FOLDER / "photographs.jpg")
    for name, draw in METHODS.items():
        if only in (None, name):
            draw(folder)
            print(f"docs/_static/methods: {name}", flush=True)


def draw_photographs(path: pathlib.Path) -> None:
    """Draws the photographs whose licences are known above their relevance by LRP."""
    images, x, scores, titles = load()
    free = [i for i, name in enumerate(_pretrained.PHOTOGRAPHS) if name != "dog"]
    relevance = interpret.lrp(scores, x, target="argmax", composite=BOX)
    figure = plot.overlay(
        images[free],
        np.asarray(relevance)[free],
        titles=[titles[i] for i in free],
        scale_each=True,
        columns=len(free),
        originals=True,
    )
    figure.savefig(path, pil_kwargs={"quality": 88})


# Methods, in the order of the guide


def guide(folder: pathlib.Path) -> None:
    coffee, others = load().one("coffee"), np.delete(load().x, 2, axis=0)
    f, x, key = coffee.scores, coffee.x, jax.random.key(0)
    t: dict[str, Any] = {"target": "argmax"}
    last: dict[str, Any] = t | {"layer": LAYERS["last"]}
    window: dict[str, Any] = {"window": (32, 32, 3), "stride": (16, 16, 3)}
    patches: dict[str, Any] = t | {"mask": interpret.superpixels(jnp.asarray(x), 40)}
    masks = interpret.rise(f, x, **t, key=key, samples=300)
    maps = {
        "saliency": interpret.saliency(f, x, **t),
        "input x gradient": interpret.input_x_gradient(f, x, **t),
        "SmoothGrad": interpret.smooth_grad(f, x, **t, key=key, samples=25, sigma=0.3),
        "integrated gradients": interpret.integrated_gradients(f, x, **t),
        "expected gradients": interpret.expected_gradients(f, x, others, **t, key=key, samples=60),
        "guided backprop": interpret.guided_backprop(f, x, **t),
        "DeepLIFT": interpret.deep_lift(f, x, **t),
        "LRP, epsilon plus flat": interpret.lrp(f, x, **t, composite="epsilon_plus_flat"),
        "LRP, epsilon gamma box": interpret.lrp(f, x, **t, composite=BOX),
        "Grad-CAM": interpret.grad_cam(f, x, **last),
        "LayerCAM": interpret.layer_cam(f, x, **last),
        "occlusion": interpret.occlusion(f, x, **t, **window),
        "KernelSHAP": interpret.kernel_shap(f, x, **patches, key=key, samples=300),
        "RISE less its mean": masks - masks.mean(),  # mean scores are all positive
    }
    draw_maps(folder / "guide.jpg", coffee, maps, columns=5, max_bytes=GUIDE_BYTES)


def saliency(folder: pathlib.Path) -> None:
    cat = load().one("chelsea")
    maps = {
        "saliency": interpret.saliency(cat.scores, cat.x, target="argmax"),
        "input x gradient": interpret.input_x_gradient(cat.scores, cat.x, target="argmax"),
    }
    draw_maps(folder / "saliency.jpg", cat, maps)


def smooth_grad(folder: pathlib.Path) -> None:
    coffee = load().one("coffee")
    options: dict[str, Any] = {"target": "argmax", "key": jax.random.key(0), "samples": 25}
    maps = {"saliency": interpret.saliency(coffee.scores, coffee.x, target="argmax")}
    for sigma in (0.1, 0.3):
        values = interpret.smooth_grad(coffee.scores, coffee.x, **options, sigma=sigma)
        maps[f"sigma {sigma}"] = values
    draw_maps(folder / "smooth_grad.jpg", coffee, maps)


def integrated_gradients(folder: pathlib.Path) -> None:
    coffee, others = load().one("coffee"), np.delete(load().x, 2, axis=0)
    f, x = coffee.scores, coffee.x
    options: dict[str, Any] = {"key": jax.random.key(0), "samples": 60}
    maps = {
        "from gray": interpret.integrated_gradients(f, x, target="argmax", baseline=0.0),
        "from black": interpret.integrated_gradients(f, x, target="argmax", baseline=BLACK),
        "from photographs": interpret.expected_gradients(f, x, others, target="argmax", **options),
    }
    draw_maps(folder / "integrated_gradients.jpg", coffee, maps)


def guided_backprop(folder: pathlib.Path) -> None:
    cat = load().one("chelsea")
    maps = {
        "guided backprop": interpret.guided_backprop(cat.scores, cat.x, target="argmax"),
        "deconvnet": interpret.deconvnet(cat.scores, cat.x, target="argmax"),
    }
    draw_maps(folder / "guided_backprop.jpg", cat, maps)


def deep_lift(folder: pathlib.Path) -> None:
    coffee, others = load().one("coffee"), np.delete(load().x, 2, axis=0)
    f, x = coffee.scores, coffee.x
    deep_shap = interpret.average_over_baselines(interpret.deep_lift, others)
    maps = {
        "from gray": interpret.deep_lift(f, x, target="argmax", baseline=0.0),
        "from black": interpret.deep_lift(f, x, target="argmax", baseline=BLACK),
        "from photographs": deep_shap(f, x, target="argmax"),
    }
    draw_maps(folder / "deep_lift.jpg", coffee, maps)


def lrp(folder: pathlib.Path) -> None:
    coffee = load().one("coffee")
    composites: dict[str, Any] = {
        "epsilon_plus": "epsilon_plus",
        "epsilon_plus_flat": "epsilon_plus_flat",
        "epsilon_gamma_box": BOX,
    }
    maps = {
        name: interpret.lrp(coffee.scores, coffee.x, target="argmax", composite=composite)
        for name, composite in composites.items()
    }
    draw_maps(folder / "lrp.jpg", coffee, maps)


def cam(folder: pathlib.Path) -> None:
    cat = load().one("chelsea")
    options: dict[str, Any] = {"target": "argmax", "layer": LAYERS["last"]}
    maps = {
        "Grad-CAM": interpret.grad_cam(cat.scores, cat.x, **options),
        "LayerCAM": interpret.layer_cam(cat.scores, cat.x, **options),
        "guided Grad-CAM": interpret.guided_grad_cam(cat.scores, cat.x, **options),
    }
    draw_maps(folder / "cam.jpg", cat, maps, over=True)


def occlusion(folder: pathlib.Path) -> None:
    coffee, options = load().one("coffee"), {"target": "argmax", "key": jax.random.key(0)}
    patches, f = interpret.superpixels(jnp.asarray(coffee.x), 40), coffee.scores
    window: dict[str, Any] = {"window": (32, 32, 3), "stride": (16, 16, 3)}
    maps = {
        "occlusion": interpret.occlusion(f, coffee.x, **window, target="argmax"),
        "ablation": interpret.ablation(f, coffee.x, target="argmax", mask=patches),
        "KernelSHAP": interpret.kernel_shap(f, coffee.x, **options, mask=patches, samples=300),
        "LIME": interpret.lime(f, coffee.x, **options, mask=patches, samples=300),
    }
    rise = interpret.rise(f, coffee.x, **options, samples=300)
    maps["RISE less its mean"] = rise - rise.mean()  # mean scores are all positive
    draw_maps(folder / "occlusion.jpg", coffee, maps, over=True, columns=3)


def layer(folder: pathlib.Path) -> None:
    coffee = load().one("coffee")

    def relevance(name):
        values = interpret.lrp(
            coffee.scores, coffee.x, target="argmax", layer=LAYERS[name], composite=BOX
        )
        cells = np.asarray(values).sum(-1)
        scale = coffee.x.shape[1] // cells.shape[1]
        # Divided, so that the enlarged map has the same sum of relevance.
        return np.kron(cells, np.ones((1, scale, scale))) / scale**2

    maps = {LAYERS[name]: relevance(name) for name in ("early", "middle", "late")}
    draw_maps(folder / "layer.jpg", coffee, maps)


def activation_maximization(folder: pathlib.Path) -> None:
    photographs, classes = load(), _visualizations.CLASSES[:2]
    result = interpret.activation_maximization(
        photographs.scores,
        photographs.x.shape[1:],
        target=jnp.asarray(classes[:1]),
        key=jax.random.key(0),
        l2=1e-3,
        bounds=(BLACK, WHITE),
        steps=100,
    )
    path = folder / "activation_maximization.jpg"
    plain = _visualizations.as_pixels(result.image)
    _visualizations.draw_pixels_and_fourier(path, plain, result.score[:, -1])


def feature_vis(folder: pathlib.Path) -> None:
    _visualizations.draw_classes_and_channels(folder / "feature_vis.jpg")


def dream_style(folder: pathlib.Path) -> None:
    _visualizations.draw_dream_and_style(folder / "dream_style.jpg")


def plots(folder: pathlib.Path) -> None:
    coffee = load().one("coffee")
    relevance = interpret.lrp(coffee.scores, coffee.x, target="argmax", composite=BOX)
    figures = (
        plot.image_grid(coffee.images, titles=["image_grid"]),
        plot.heat_map(relevance, titles=["heat_map"]),
        plot.overlay(coffee.images, relevance, titles=["overlay"]),
        plot.reveal(coffee.images, relevance, titles=["reveal"], share=0.1),
    )
    save(folder / "plot.jpg", figures)


def evaluation(folder: pathlib.Path) -> None:
    coffee, key = load().one("coffee"), jax.random.key(0)

    # Probabilities as in Petsiuk et al. 2018, arXiv 1806.07421; logits have no fixed range.
    def probabilities(x):
        return jax.nn.softmax(coffee.scores(x))

    maps = {
        "LRP": interpret.lrp(coffee.scores, coffee.x, target="argmax", composite=BOX),
        "integrated gradients": interpret.integrated_gradients(
            coffee.scores, coffee.x, target="argmax", baseline=0.0, steps=20
        ),
        "saliency": interpret.saliency(coffee.scores, coffee.x, target="argmax"),
        "random": jax.random.normal(key, coffee.x.shape),
    }
    figure = Figure(figsize=(7.4, 3.0), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for name, values in maps.items():
        deleted, inserted = (
            measure(probabilities, coffee.x, values, target="argmax", steps=25)
            for measure in (evaluate.deletion, evaluate.insertion)
        )
        areas = f"{float(deleted.area[0]):.2f}, {float(inserted.area[0]):.2f}"
        for ax, curve in ((left, deleted), (right, inserted)):
            ax.plot(np.linspace(0, 1, 26), np.asarray(curve.scores[0]), label=f"{name}: {areas}")
    left.set(title="deletion", xlabel="share of pixels", ylabel="probability", ylim=(0, 1))
    right.set(title="insertion", xlabel="share of pixels")
    options: dict[str, Any] = {"loc": "outside lower center", "ncols": 2, "fontsize": 8}
    title = "area by deletion, by insertion"
    figure.legend(handles=left.get_lines(), title=title, title_fontsize=8, **options)
    figure.savefig(file := io.BytesIO(), dpi=150)
    Image.open(file).convert("RGB").quantize(32).save(folder / "evaluate.png", optimize=True)


def words(folder: pathlib.Path) -> None:
    """Writes the colored words of two sentences that MiniLM compares, as HTML."""
    params = _pretrained.load("minilm")
    sentences = ["The cat sat on the mat.", "A cat is resting on a rug."]
    tokens, ids, mask = _pretrained.tokenize(sentences)
    embeddings = jax.jit(_pretrained.minilm)(params, ids, mask)

    def similarity(ids):
        return jnp.sum(_pretrained.minilm(params, ids, mask) * embeddings[::-1], axis=1)

    relevance = interpret.lrp(similarity, ids, layer="words", composite="attn_lrp")
    rows = [
        text.to_html(row, values[: len(row)])
        for row, values in zip(tokens, np.asarray(relevance), strict=True)
    ]
    (folder / "text.html").write_text("\n".join(map(str, rows)) + "\n", "utf-8")


METHODS: dict[str, Callable[[pathlib.Path], None]] = {
    "guide": guide,
    "saliency": saliency,
    "smooth_grad": smooth_grad,
    "integrated_gradients": integrated_gradients,
    "guided_backprop": guided_backprop,
    "deep_lift": deep_lift,
    "lrp": lrp,
    "cam": cam,
    "occlusion": occlusion,
    "layer": layer,
    "activation_maximization": activation_maximization,
    "feature_vis": feature_vis,
    "dream_style": dream_style,
    "plot": plots,
    "evaluate": evaluation,
    "text": words,
}
"""Function that draws the picture of a page in docs/interpret."""


# Figures


def draw_maps(
    path: pathlib.Path,
    photograph: Photographs,
    maps: Mapping[str, Any],
    *,
    over: bool = False,
    columns: int | None = None,
    max_bytes: int = MAX_BYTES,
) -> None:
    """Draws a photograph and its maps, each with a separate color scale around zero."""
    figures = [plot.image_grid(photograph.images, titles=photograph.titles)]
    for name, values in maps.items():
        if over:
            figures.append(plot.overlay(photograph.images, values, titles=[name]))
        else:
            figures.append(plot.heat_map(values, titles=[name]))
    save(path, figures, columns, max_bytes)


def save(
    path: pathlib.Path,
    figures: Sequence[Figure],
    columns: int | None = None,
    max_bytes: int = MAX_BYTES,
) -> None:
    """Writes figures of equal size next to each other, with one dot per pixel of a photograph."""
    panels = []
    for figure in figures:
        figure.savefig(file := io.BytesIO(), dpi=100)
        panels.append(Image.open(file))
    columns, (width, height) = columns or len(panels), panels[0].size
    rows = -(-len(panels) // columns)
    picture = Image.new("RGB", (columns * width, rows * height), "white")
    for i, panel in enumerate(panels):
        picture.paste(panel, (i % columns * width, i // columns * height))
    for quality in (80, 70, 60, 50):
        picture.save(path, quality=quality, optimize=True)
        if path.stat().st_size < max_bytes:
            break
