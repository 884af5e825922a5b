"""Compares all explanation methods on digit networks, by insertion, deletion and ROAD.

LeNet-like networks learn MNIST, or the embedded digits without its files. Each method explains the
same images. The three measures insert or remove pixels in the order of a method's attributions:
they are the area under the probability of the answer, for several networks. Lecture rows Q01-Q04,
Q13.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxdl
from experiments import _figure, _run
from jaxdl import data, interpret, nn, train
from jaxdl.interpret import evaluate


@dataclasses.dataclass(frozen=True)
class Config(_run.Config):
    epochs: int = 2
    """Epochs of each network's training."""
    seeds: int = 3
    """Networks, from different initial values and orders."""
    images: int = 64
    """Test images that are explained."""


def network() -> jaxdl.Module:
    return jaxdl.serial(
        nn.conv(16, 3),
        jax.nn.relu,
        nn.max_pool(2),
        nn.conv(32, 3),
        jax.nn.relu,
        nn.max_pool(2),
        nn.flatten(),
        nn.dense(64),
        jax.nn.relu,
        nn.dense(10),
    )


def run(config: Config) -> dict:
    if config.smoke:
        config = dataclasses.replace(config, epochs=1, seeds=1, images=2)
    digits, source = load_images(config)
    model = network()
    networks, accuracies, model_state = [], [], None
    for seed in range(config.seed, config.seed + config.seeds):
        steps = config.epochs * -(-len(digits.train.y) // 50)
        state, _ = train.fit(
            model,
            digits.train,
            loss="cross_entropy",
            optimizer=optax.adam(optax.cosine_decay_schedule(2e-3, steps)),
            batch_size=50,
            epochs=config.epochs,
            seed=seed,
            verbose=0,
        )
        measured = train.evaluate(model, state, digits.test, loss="cross_entropy")
        accuracies.append(measured["accuracy"])
        networks.append(state.params)
        model_state = state.model_state
    print(f"{source}: accuracy {np.mean(accuracies):.4f} of {config.seeds} networks", flush=True)

    def apply(params, x):
        return model.apply(params, model_state, x)[0]

    side = digits.test.x.shape[1]
    background = digits.train.x[:20]
    # The activation of the last convolution: class activation maps need features with positions.
    kinds = make_methods("relu_1", squares(side, 4 if side < 20 else 7), background)
    if config.smoke:
        kinds = {name: kinds[name] for name in ("random", "saliency", "Grad-CAM", "LRP epsilon")}
    x = digits.test.x[: config.images]
    mean = background.mean(0, keepdims=True)
    areas = compare(apply, networks, x, kinds, mean)
    draw_areas(config, "explain_digits", areas)
    three = digits.test.x[[1, 4, 7] if len(digits.test.x) > 7 else [0, 1]]
    draw_maps(config, "explain_digits", apply, networks[0], three, kinds, digits.classes)
    best = {measure: find_best(areas, measure) for measure in MEASURES}
    return {"source": source, "accuracy": accuracies, "areas": areas, "best": best}


def load_images(config: Config) -> tuple[data.Dataset, str]:
    """Returns MNIST, or the embedded digits without its files, and the name of the data."""
    try:
        mnist = data.mnist() if not config.smoke else data.digits()
        return mnist, "MNIST" if not config.smoke else "embedded digits"
    except ValueError as missing:
        print(f"the embedded digits: {missing}")
        return data.digits(), "embedded digits"


# All methods on one network, for `explain_photo` and `explain_pretrained` too.

Explain = Callable[..., jax.Array]
"""`(f, x, target, key) -> attributions like x, or (N, H, W)`."""

MEASURES = {"insertion": "greater", "deletion": "smaller", "ROAD": "smaller"}
"""The measures of an explanation, and which area is better."""


def make_methods(layer: str, patches: np.ndarray, background: Any) -> dict[str, Explain]:
    """Returns every method by name.

    Args:
      layer: the path of the features for class activation maps.
      patches: (H, W, 1), which patch each pixel belongs to, for methods that need few features.
      background: (M, H, W, C) images for expected gradients; their mean is the baseline.
    """
    i = interpret
    # The mean image is the baseline: in photographs, black is a colour and not the absence of
    # features.
    mean = jnp.mean(background, axis=0, keepdims=True)
    smooth_grad = i.average_over_noise(i.saliency, sigma=0.1, samples=25)
    patch = {"mask": patches, "baseline": mean, "batch_size": 16}

    def without_key(method, **options):
        return lambda f, x, t, key: method(f, x, target=t, **options)

    def with_key(method, *args, **options):
        return lambda f, x, t, key: method(f, x, *args, target=t, key=key, **options)

    side = patches.shape[0] // 7
    window = (side, side, background.shape[-1])
    return {
        "random": lambda f, x, t, key: jax.random.normal(key, x.shape[:3]),
        "saliency": without_key(i.saliency),
        "input x gradient": without_key(i.input_x_gradient),
        "SmoothGrad": with_key(smooth_grad, batch_size=5),
        "integrated gradients": without_key(i.integrated_gradients, baseline=mean, batch_size=5),
        "expected gradients": with_key(i.expected_gradients, background, batch_size=5),
        "guided backprop": without_key(i.guided_backprop),
        "deconvnet": without_key(i.deconvnet),
        "DeepLIFT": without_key(i.deep_lift, baseline=mean),
        "LRP epsilon": without_key(i.lrp),
        "LRP epsilon plus flat": without_key(i.lrp, composite="epsilon_plus_flat"),
        "LRP gamma": without_key(i.lrp, composite="gamma"),
        "Grad-CAM": without_key(i.grad_cam, layer=layer),
        "Grad-CAM++": without_key(i.grad_cam_plus_plus, layer=layer),
        "LayerCAM": without_key(i.layer_cam, layer=layer),
        "occlusion": without_key(
            i.occlusion, window=window, stride=(2, 2, window[2]), batch_size=16
        ),
        "Shapley, patches": with_key(i.shapley_sampling, **patch | {"orders": 4, "batch_size": 1}),
        "KernelSHAP, patches": with_key(i.kernel_shap, **patch, samples=256),
        "LIME, patches": with_key(i.lime, **patch, samples=256),
        "RISE": with_key(i.rise, baseline=mean, samples=512, batch_size=16),
    }


def squares(side: int, count: int) -> np.ndarray:
    """Returns the number of each pixel's square, (side, side, 1), `count` along each side."""
    line = np.arange(side) * count // side
    return (line[:, None] * count + line)[..., None]


@functools.cache
def compile_method(apply: Callable, explain: Explain):
    """Compiles a method once for all networks of one shape."""

    @jax.jit
    def run(params, x, target, key):
        return explain(lambda x: apply(params, x), x, target, key)

    return run


@functools.cache
def compile_measures(apply: Callable):
    """Compiles `(params, x, attributions, target, baseline, key) -> area by measure`."""

    @jax.jit
    def run(params, x, attributions, target, baseline, key):
        def f(x):
            return jax.nn.softmax(apply(params, x))

        # Summed and not averaged over channels: a pixel's relevance is the sum of its channels'.
        maps = attributions if attributions.ndim == 3 else jnp.sum(attributions, -1)
        options = {"target": target, "baseline": baseline, "steps": 20, "batch_size": 2}
        return {
            "insertion": evaluate.insertion(f, x, maps, **options).area,
            "deletion": evaluate.deletion(f, x, maps, **options).area,
            "ROAD": evaluate.road(f, x, maps, target=target, key=key).area,
        }

    return run


def compare(
    apply: Callable, networks: list[Any], x: np.ndarray, kinds: dict[str, Explain], baseline: Any
) -> dict[str, dict[str, list[float]]]:
    """Measures each method on each network.

    All methods use the same random key, so that they differ by the method alone.

    Returns:
      By method and measure, the mean area over the images for each network.
    """
    areas: dict[str, dict[str, list[float]]] = {}
    for name, explain in kinds.items():
        areas[name] = {measure: [] for measure in MEASURES}
        for params in networks:
            target = jnp.argmax(apply(params, x), axis=1)
            maps = compile_method(apply, explain)(params, x, target, jax.random.key(0))
            measure_maps = compile_measures(apply)
            values = measure_maps(params, x, maps, target, baseline, jax.random.key(0))
            for measure, area in values.items():
                areas[name][measure].append(float(jnp.mean(area)))
        line = "  ".join(f"{m} {np.mean(v):.3f}" for m, v in areas[name].items())
        print(f"{name:24s} {line}", flush=True)
    return areas


def find_best(areas: dict[str, dict[str, list[float]]], measure: str) -> str:
    """Returns the method with the best mean area by a measure."""
    mean = {name: np.mean(rows[measure]) for name, rows in areas.items()}
    return max(mean, key=lambda n: mean[n] if MEASURES[measure] == "greater" else -mean[n])


def draw_areas(config: Any, experiment: str, areas: dict[str, dict[str, list[float]]]) -> None:
    """Draws a bar for each method and measure, with the deviation over the networks."""
    pyplot = _figure.pyplot()
    figure, axes = pyplot.subplots(1, 3, figsize=(11, 5), layout="constrained")
    for axis, (measure, side) in zip(axes, MEASURES.items(), strict=True):
        order = sorted(areas, key=lambda name: np.mean(areas[name][measure]))
        order = order if side == "greater" else order[::-1]
        means = [np.mean(areas[name][measure]) for name in order]
        spread = [np.std(areas[name][measure]) for name in order]
        colours = ["0.7" if name == "random" else "tab:blue" for name in order]
        axis.barh(order, means, xerr=spread, color=colours, error_kw={"lw": 1})
        axis.tick_params(labelsize=8)
        axis.set_title(f"{measure}: area ({side} is better)", fontsize=9)
        axis.margins(y=0.01)
    _figure.save(figure, config, experiment, "scores")


def draw_maps(
    config: Any,
    experiment: str,
    apply: Callable,
    params: Any,
    x: np.ndarray,
    kinds: dict[str, Explain],
    names: tuple[str, ...],
) -> None:
    """Draws the maps of each method on the same images, each map on its own scale."""
    pyplot = _figure.pyplot()
    shown = {name: explain for name, explain in kinds.items() if name != "random"}
    target = jnp.argmax(apply(params, x), axis=1)
    columns = 5
    rows = -(-(len(shown) + 1) // columns)
    figure, axes = pyplot.subplots(
        rows, columns, figsize=(2.9 * columns, 1.25 * rows), layout="constrained"
    )
    strips = [("image", np.asarray(x))]
    for name, explain in shown.items():
        maps = np.asarray(compile_method(apply, explain)(params, x, target, jax.random.key(1)))
        strips.append((name, maps if maps.ndim == 3 else maps.sum(-1)))
    for axis in axes.flat:
        axis.axis("off")
    for axis, (name, maps) in zip(axes.flat, strips, strict=False):
        axis.set_title(name, fontsize=8)
        if name == "image":
            strip = np.concatenate(list(maps), axis=1)
            axis.imshow(strip if strip.shape[-1] == 3 else strip[..., 0], cmap="gray")
            continue
        if name == "RISE":  # its maps are means of scores, which share a large offset
            maps = maps - maps.mean((1, 2), keepdims=True)
        greatest = np.abs(maps).max((1, 2), keepdims=True)
        strip = np.concatenate(list(maps / np.where(greatest == 0, 1, greatest)), axis=1)
        signed = strip.min() < 0
        axis.imshow(strip, cmap="RdBu_r" if signed else "magma", vmin=-1 if signed else 0, vmax=1)
    answers = ", ".join(names[int(t)] for t in target)
    figure.suptitle(f"the network's answers: {answers}", fontsize=9)
    _figure.save(figure, config, experiment, "methods")
