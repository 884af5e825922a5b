"""Explains a classifier of 4,000 images: Grad-CAM, LRP, gradients, and a picture of each class.

The network is that of `cifar_classify` with a shorter schedule. Its explanations are checked by
insertion and deletion, and the sum of the relevance; the pictures of classes on shifted copies.
Letters: N images of H x W pixels with C channels, K classes.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxdl
from experiments import _figure, _run, cifar_classify, explain_digits
from jaxdl import interpret, train
from jaxdl.interpret import plot
from jaxdl.zoo.vision.cifar_resnet import cifar_resnet


@dataclasses.dataclass(frozen=True)
class Config(_run.Config):
    epochs: int = 15
    """Epochs of training, of 60 in `cifar_classify`."""
    measured: int = 32
    """Test images of which the explanations are measured."""


RIGHT, WRONG = 6, 2
"""Test images in the figure, of right answers and of mistakes."""

METHODS: dict[str, explain_digits.Explain] = {
    "Grad-CAM": lambda f, x, t, key: interpret.grad_cam(f, x, target=t, layer="block_2"),
    "LRP": lambda f, x, t, key: interpret.lrp(f, x, target=t, composite="epsilon_plus_flat"),
    "integrated gradients": lambda f, x, t, key: interpret.integrated_gradients(
        f, x, target=t, steps=32
    ),
    "SmoothGrad": lambda f, x, t, key: interpret.smooth_grad(f, x, target=t, key=key, sigma=0.2),
    "random": lambda f, x, t, key: jax.random.normal(key, x.shape[:3]),
}
"""Explanations of an image, as `explain_digits.compare` takes them. The last is a baseline."""
COMPOSITES = ("epsilon", "epsilon_plus", "epsilon_plus_flat")
"""Rules of LRP whose sums are compared with the logit."""


class Classifier(NamedTuple):
    """A trained network and its test images."""

    apply: Callable[..., jax.Array]
    """From parameters and standardized images (N, H, W, C) to logits (N, K)."""
    params: Any
    x: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    limits: tuple[np.ndarray, np.ndarray]
    """The values of each channel that are black and white."""

    def colors(self, x: Any) -> np.ndarray:
        """Returns images in [0, 1], gray ones without a channel axis."""
        low, high = self.limits
        images = np.clip((np.asarray(x) - low) / (high - low), 0, 1)
        return images[..., 0] if images.shape[-1] == 1 else images


def run(config: Config) -> dict:
    train.keep_memory()
    recipe = cifar_classify.Config(seed=config.seed, smoke=config.smoke, epochs=config.epochs)
    dataset = cifar_classify.load_images(recipe)
    if config.smoke:
        model = cifar_resnet(8, width=4)
        state = random_state(model, dataset.train.x[:1])
    else:
        model, state, _ = cifar_classify.train_network(dataset, recipe)

    def apply(params, x):
        return model.apply(params, state.model_state, x)[0]

    (x, labels), pixels = dataset.test, dataset.train.x
    limits = pixels.min((0, 1, 2)), pixels.max((0, 1, 2))
    network = Classifier(apply, state.params, x, labels, dataset.classes, limits)
    logits = train.predict(model, state, x)
    probabilities = np.asarray(jax.nn.softmax(logits))
    accuracy = float((probabilities.argmax(1) == labels).mean())
    print(f"accuracy {accuracy:.4f}", flush=True)
    methods, composites, measured = METHODS, COMPOSITES, config.measured
    if config.smoke:
        methods, composites = {"Grad-CAM": METHODS["Grad-CAM"]}, COMPOSITES[:1]
        measured = 2
    figure = draw_examples(network, probabilities, methods)
    _figure.save(figure, config, "explain_classifier", "answers")

    baseline = jnp.zeros(())  # the mean colour, because images are standardized
    areas = explain_digits.compare(apply, [state.params], x[:measured], methods, baseline)
    result = {
        "accuracy": accuracy,
        "test images": len(labels),
        "areas": areas,
        "relevance over logit": measure_sums(network, x[:measured], composites),
        "classes": picture_classes(network, config),
    }
    return result


def random_state(model: jaxdl.Module, x: Any) -> train.TrainState:
    """Returns random weights for a smoke run, by NumPy, because initialization compiles long."""
    key, rng = jax.random.key(0), np.random.default_rng(0)

    def fill(path, a):
        if len(a.shape) > 1:
            values = rng.normal(size=a.shape) * np.sqrt(2 / np.prod(a.shape[:-1]))
        else:
            values = np.full(a.shape, path[-1].key in ("scale", "var"))
        return jnp.asarray(values, a.dtype)

    shapes = jax.eval_shape(model.init, key, x)
    params, state = jax.tree_util.tree_map_with_path(fill, shapes)
    return train.TrainState(params, state, (), key, jnp.zeros((), jnp.int32))


def choose_examples(
    probabilities: np.ndarray, labels: np.ndarray, right: int, wrong: int
) -> tuple[list[int], list[int]]:
    """Returns the indices of the most certain right answers and mistakes, one of each label.

    Args:
      probabilities: (N, K).
      labels: (N,).
      right, wrong: how many, at most.
    """
    certainty, correct = probabilities.max(1), probabilities.argmax(1) == labels
    order = np.argsort(certainty)

    def choose(eligible, count):
        # Later ones are more certain and replace the earlier ones of their label.
        best = {int(labels[i]): int(i) for i in order if eligible[i]}
        return sorted(best.values(), key=lambda i: -certainty[i])[:count]

    return choose(correct, right), choose(~correct, wrong)


def draw_examples(network: Classifier, probabilities: np.ndarray, methods: dict) -> Any:
    """Draws right answers, and mistakes explained for the predicted class and for the label."""
    right, wrong = choose_examples(probabilities, network.labels, RIGHT, WRONG)
    rows = np.array([*right, *np.repeat(wrong, 2)], int)
    targets = probabilities[rows].argmax(1)
    targets[len(right) + 1 :: 2] = network.labels[wrong]
    titles = []
    for i, (row, target) in enumerate(zip(rows, targets, strict=True)):
        title = f"{network.classes[target]}\n{probabilities[row, target]:.2f}"
        kind = "" if i < len(right) else ("label: " if i - len(right) & 1 else "answer: ")
        titles.append(kind + title)
    maps = {}
    for name, explain in methods.items():
        if name != "random":
            compiled = explain_digits.compile_method(network.apply, explain)
            values = compiled(network.params, network.x[rows], targets, jax.random.key(0))
            maps[name.replace(" ", "\n")] = np.asarray(
                values if values.ndim == 3 else values.sum(-1)
            )
    size = (1.02 * len(rows) + 1.2, 1.02 * (len(maps) + 1) + 0.6)
    figure = _figure.pyplot().figure(figsize=size, layout="constrained")
    _figure.compare_maps(figure, {"image": network.colors(network.x[rows])}, maps, titles)
    return figure


def measure_sums(
    network: Classifier, x: np.ndarray, composites: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Returns the sum of LRP's relevance over the largest logit, for each composite.

    Biases, and sums without a term of the required sign, keep the rest.
    """

    def f(x):
        return network.apply(network.params, x)

    logits = np.asarray(jnp.max(f(x), 1))
    ratios = {}
    for composite in composites:
        relevance = interpret.lrp(f, x, target="argmax", composite=composite, check=False)
        ratios[composite] = spread(np.asarray(relevance.sum((1, 2, 3))) / logits)
        print(f"relevance over logit, {composite}: {ratios[composite]}", flush=True)
    return ratios


def spread(values: np.ndarray) -> dict[str, float]:
    """Returns the median and both ends of values."""
    ends = {"median": np.median(values), "least": values.min(), "greatest": values.max()}
    return {name: float(value) for name, value in ends.items()}


# Class pictures


def picture_classes(network: Classifier, config: Config) -> dict:
    """Draws the input with the highest score of each class, and tests it on shifted copies."""
    shape, steps = network.x.shape[1:], 2 if config.smoke else 100
    k = len(network.classes)
    # One range for all channels, in which every channel has a colour.
    bounds = float(network.limits[0].max()), float(network.limits[1].min())

    def f(x):
        return network.apply(network.params, x)

    def coarse(x):
        return jax.image.resize(x, (len(x), *shape), "cubic")

    def average(x):
        return average_views(f, coarse(x))

    @jax.jit
    def draw(key):
        options: dict[str, Any] = {"target": jnp.arange(k), "steps": steps, "noise": 0.1}
        maximize = functools.partial(interpret.activation_maximization, **options, bounds=bounds)
        keys = jax.random.split(key)
        plain = maximize(f, shape, key=keys[0], l2=1e-3).image
        half = (shape[0] // 2, shape[1] // 2, shape[2])
        smooth = maximize(average, half, key=keys[1], l2=5e-3).image
        return plain, jnp.clip(coarse(smooth), *bounds)

    plain, smooth = map(np.asarray, draw(jax.random.key(config.seed)))
    pictures = {"highest logit": plain, "highest mean over views": smooth}
    logits = np.asarray(jax.jit(f)(network.x))
    best = logits.argmax(0)
    result: dict[str, Any] = {"best logit of a test image": logits.max(0).tolist()}
    titles = []
    for name, x in pictures.items():
        result[name] = measure_pictures(f, x)
        titles += [
            f"{label} {p:.2f}"
            for label, p in zip(network.classes, result[name]["probability"], strict=True)
        ]
        mean = {measure: round(float(np.mean(v)), 3) for measure, v in result[name].items()}
        print(f"pictures of classes, {name}: mean {mean}", flush=True)
    own = np.asarray(jax.nn.softmax(logits[best]))[np.arange(k), np.arange(k)]
    titles += [f"{label} {p:.2f}" for label, p in zip(network.classes, own, strict=True)]
    figure = plot.image_grid(
        network.colors(np.concatenate([*pictures.values(), network.x[best]])),
        titles=titles,
        columns=k,
        size=1.0,
    )
    labels = ["highest\nlogit", "highest mean\nover views", "test image of\nhighest logit"]
    for axis, label in zip(figure.axes[::k], labels, strict=True):
        axis.set_ylabel(label, fontsize=9)
    _figure.save(figure, config, "explain_classifier", "classes", dpi="figure")
    return result


def average_views(f: Callable[[jax.Array], jax.Array], x: Any, pixels: int = 2) -> jax.Array:
    """Returns the mean of f over shifted and mirrored copies of x.

    Args:
      f: from (M, H, W, C) to (M, K).
      x: (N, H, W, C).
      pixels: the shift, in four directions. Pixels from outside are those of the opposite edge.
    """
    shifts = [(0, 0), (pixels, 0), (-pixels, 0), (0, pixels), (0, -pixels)]
    views = [jnp.roll(x, shift, (1, 2)) for shift in shifts] + [x[:, :, ::-1]]
    return f(jnp.concatenate(views)).reshape(len(views), len(x), -1).mean(0)


def measure_pictures(f: Callable[[jax.Array], jax.Array], x: np.ndarray) -> dict[str, list[float]]:
    """Returns logit and probability of each class for its picture, and as it is shifted.

    The shifts, by 3 pixels along both axes, are none of those in `average_views`.
    """
    k = len(x)
    shifted = np.concatenate([np.roll(x, (i, j), (1, 2)) for i in (-3, 3) for j in (-3, 3)])
    logits = jax.jit(f)(np.concatenate([x, shifted])).reshape(5, k, -1)
    own = np.asarray(jax.nn.softmax(logits))[:, np.arange(k), np.arange(k)]
    return {
        "logit": np.asarray(logits)[0, np.arange(k), np.arange(k)].tolist(),
        "probability": own[0].tolist(),
        "probability of shifted copies": own[1:].mean(0).tolist(),
    }
