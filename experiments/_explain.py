"""All attributions on one network, beside each other and measured."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments import _figure
from jaxdl import interpret
from jaxdl.interpret import evaluate

Explain = Callable[..., jax.Array]
"""`(f, x, target, key) -> attributions like x, or (N, H, W)`."""


def methods(layer: str, patches: np.ndarray, background: Any) -> dict[str, Explain]:
    """Every method by name.

    Args:
      layer: the path of the features for class activation maps.
      patches: (H, W, 1), which patch each pixel belongs to, for methods that need few features.
      background: (M, H, W, C) images for expected gradients; their mean is the baseline.
    """
    i = interpret
    mean = jnp.mean(background, axis=0, keepdims=True)
    smooth = i.smooth(i.saliency, sigma=0.1, samples=25)
    patch = {"mask": patches, "baseline": mean, "batch_size": 16}

    def plain(method, **options):
        return lambda f, x, t, key: method(f, x, target=t, **options)

    def drawn(method, *args, **options):
        return lambda f, x, t, key: method(f, x, *args, target=t, key=key, **options)

    side = patches.shape[0] // 7
    window = (side, side, background.shape[-1])
    return {
        "random": lambda f, x, t, key: jax.random.normal(key, x.shape[:3]),
        "saliency": plain(i.saliency),
        "input x gradient": plain(i.input_x_gradient),
        "SmoothGrad": drawn(smooth, batch_size=5),
        "integrated gradients": plain(i.integrated_gradients, baseline=mean, batch_size=5),
        "expected gradients": drawn(i.expected_gradients, background, batch_size=5),
        "guided backprop": plain(i.guided_backprop),
        "deconvnet": plain(i.deconvnet),
        "DeepLIFT": plain(i.deep_lift, baseline=mean),
        "LRP epsilon": plain(i.lrp),
        "LRP epsilon plus flat": plain(i.lrp, composite="epsilon_plus_flat"),
        "LRP gamma": plain(i.lrp, composite="gamma"),
        "Grad-CAM": plain(i.grad_cam, layer=layer),
        "Grad-CAM++": plain(i.grad_cam_plus_plus, layer=layer),
        "LayerCAM": plain(i.layer_cam, layer=layer),
        "occlusion": plain(i.occlusion, window=window, stride=(2, 2, window[2]), batch_size=16),
        "Shapley, patches": drawn(i.shapley_sampling, **patch | {"orders": 4, "batch_size": 1}),
        "KernelSHAP, patches": drawn(i.kernel_shap, **patch, samples=256),
        "LIME, patches": drawn(i.lime, **patch, samples=256),
        "RISE": drawn(i.rise, baseline=mean, samples=512, batch_size=16),
    }


def squares(side: int, count: int) -> np.ndarray:
    """(side, side, 1), the number of each pixel's square, `count` along each side."""
    line = np.arange(side) * count // side
    return (line[:, None] * count + line)[..., None]


@functools.cache
def compiled(apply: Callable, explain: Explain):
    """One program a method, for all networks of one shape."""

    @jax.jit
    def run(params, x, target, key):
        return explain(lambda x: apply(params, x), x, target, key)

    return run


@functools.cache
def judge(apply: Callable):
    """`(params, x, attributions, target, baseline, key) -> areas` of the class' probability."""

    @jax.jit
    def run(params, x, attributions, target, baseline, key):
        f = lambda x: jax.nn.softmax(apply(params, x))  # noqa: E731
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
    """For each method and measure the mean area over images, one number a network.

    All methods draw the same random numbers.
    """
    found: dict[str, dict[str, list[float]]] = {}
    for name, explain in kinds.items():
        found[name] = {"insertion": [], "deletion": [], "ROAD": []}
        for params in networks:
            target = jnp.argmax(apply(params, x), axis=1)
            maps = compiled(apply, explain)(params, x, target, jax.random.key(0))
            areas = judge(apply)(params, x, maps, target, baseline, jax.random.key(0))
            for measure, values in areas.items():
                found[name][measure].append(float(jnp.mean(values)))
        shown = "  ".join(f"{m} {np.mean(v):.3f}" for m, v in found[name].items())
        print(f"{name:24s} {shown}", flush=True)
    return found


def best(found: dict[str, dict[str, list[float]]], measure: str) -> str:
    mean = {name: np.mean(rows[measure]) for name, rows in found.items()}
    return max(mean, key=lambda n: mean[n] if measure == "insertion" else -mean[n])


def draw_scores(config: Any, experiment: str, found: dict[str, dict[str, list[float]]]) -> None:
    """A bar for each method and measure; the line is one standard deviation over networks."""
    pyplot = _figure.pyplot()
    figure, axes = pyplot.subplots(1, 3, figsize=(11, 5), layout="constrained")
    better = {"insertion": "greater", "deletion": "smaller", "ROAD": "smaller"}
    for axis, (measure, side) in zip(axes, better.items(), strict=True):
        order = sorted(found, key=lambda name: np.mean(found[name][measure]))
        order = order if side == "greater" else order[::-1]
        means = [np.mean(found[name][measure]) for name in order]
        spread = [np.std(found[name][measure]) for name in order]
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
    """Each method on the same images, in columns; each map by its own scale."""
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
        maps = np.asarray(compiled(apply, explain)(params, x, target, jax.random.key(1)))
        strips.append((name, maps if maps.ndim == 3 else maps.sum(-1)))
    for axis in axes.flat:
        axis.axis("off")
    for axis, (name, maps) in zip(axes.flat, strips, strict=False):
        axis.set_title(name, fontsize=8)
        if name == "image":
            strip = np.concatenate(list(maps), axis=1)
            axis.imshow(strip if strip.shape[-1] == 3 else strip[..., 0], cmap="gray")
            continue
        if name == "RISE":  # the mean score is everywhere
            maps = maps - maps.mean((1, 2), keepdims=True)
        greatest = np.abs(maps).max((1, 2), keepdims=True)
        strip = np.concatenate(list(maps / np.where(greatest == 0, 1, greatest)), axis=1)
        signed = strip.min() < 0
        axis.imshow(strip, cmap="RdBu_r" if signed else "magma", vmin=-1 if signed else 0, vmax=1)
    answers = ", ".join(names[int(t)] for t in target)
    figure.suptitle(f"the network's answers: {answers}", fontsize=9)
    _figure.save(figure, config, experiment, "methods")
