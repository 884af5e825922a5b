"""Changes that nobody notices deceive a network: digits, one pixel, noise and a photograph.

A convolutional network for MNIST is attacked by one and by forty gradient steps of several sizes,
and by single pixels; noise is changed until the network is sure of a digit. EfficientNet-Lite0
names a photograph after changes of one or a few of 255 brightness levels, rounded to whole levels
as a file stores them. Lecture rows R01-R03, R06.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments import _figure, _lecture, _pretrained, _run
from experiments.explain_pretrained import made_up_images
from experiments.transfer_defend import cnn
from jaxdl import attack, interpret, train

Classify = Callable[[Any], jax.Array]

SIZES = (0.0, 0.025, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3)
"""Largest changes of a pixel; pixels are in [0, 1]."""
SHOWN = 0.15
"""The size of the changes that are drawn."""
PIXELS = (1, 5)
"""Numbers of pixels that are changed."""
NOISE_SIZE = 0.2
"""The largest change of noise that becomes a digit."""


@dataclasses.dataclass(frozen=True)
class Config(_run.Config):
    epochs: int = 4
    """Epochs of training."""
    images: int = 500
    """Test images that gradients attack."""
    one_pixel_images: int = 200
    """Test images that single pixels attack."""
    photograph: Literal["astronaut", "chelsea", "coffee", "dog"] = "coffee"
    """The photograph that is drawn; all four are attacked."""
    wanted: str = "teapot"
    """The name that the targeted attack gives it."""


def run(config: Config) -> dict:
    if config.smoke:
        config = dataclasses.replace(config, epochs=1, images=4, one_pixel_images=2)
    return {"digits": fool_digits(config), "photographs": fool_photographs(config)}


def fool_digits(config: Config) -> dict:
    """Attacks a network of digits and draws the figure."""
    dataset = _lecture.load_images(config.smoke)
    model, rows = cnn(), len(dataset.train.y)
    schedule = optax.cosine_decay_schedule(2e-3, config.epochs * -(-rows // 50))
    state, _ = train.fit(
        model,
        dataset.train,
        loss="cross_entropy",
        optimizer=optax.adam(schedule),
        batch_size=50,
        epochs=config.epochs,
        seed=config.seed,
        verbose=0,
    )
    f = train.predictor(model, state)
    test = train.evaluate(model, state, dataset.test, loss="cross_entropy")["accuracy"]
    x, y = (jnp.asarray(part[: config.images]) for part in dataset.test)
    steps = 2 if config.smoke else 40
    probabilities = jax.jit(lambda x: jax.nn.softmax(f(x)))
    attacks = {
        "one step": jax.jit(lambda x, size: attack.fgsm(f, x, y, size)),
        "forty steps": jax.jit(lambda x, size: attack.pgd(f, x, y, size, steps=steps)),
    }
    curves: dict[str, list[float]] = {}
    moved = {}
    for name, change in attacks.items():
        for size in SIZES:
            inputs = change(x, size)
            right = probabilities(inputs).argmax(-1) == y
            curves.setdefault(name, []).append(float(right.mean()))
            if size == SHOWN:
                moved[name] = inputs
    sure, kinds = {}, jnp.arange(10)
    noise = jax.random.uniform(jax.random.key(config.seed), (10, *x.shape[1:]), x.dtype)
    toward = jax.jit(lambda x: attack.pgd(f, x, kinds, NOISE_SIZE, steps=5 * steps, targeted=True))(
        noise
    )
    sure = np.asarray(probabilities(toward))[kinds, kinds]
    single = one_pixel(f, x, y, config)
    result = {
        "accuracy": test,
        "sizes": list(SIZES),
        "curves": curves,
        "below_0.1": {
            name: next((s for s, v in zip(SIZES, values, strict=True) if v < 0.1), None)
            for name, values in curves.items()
        },
        "one_pixel": single["rates"],
        "noise": [float(value) for value in sure],
    }
    print(
        f"digits: accuracy {test:.4f}; below 0.1 at {result['below_0.1']}; one pixel "
        f"{single['rates']}; noise {sure.min():.4f} .. {sure.max():.4f}",
        flush=True,
    )
    figure = draw_digits(result, x, moved["forty steps"], single["inputs"], toward, probabilities)
    _figure.save(figure, config, "fooling", "digits")
    return result


def one_pixel(f: Classify, x: jax.Array, y: jax.Array, config: Config) -> dict[str, Any]:
    """Attacks by `PIXELS` pixels; returns the rates of success and the inputs."""
    x, y = x[: config.one_pixel_images], y[: config.one_pixel_images]
    right = np.asarray(jax.jit(f)(x).argmax(-1) == y)
    rates, inputs = {}, {}
    for pixels in PIXELS:
        change = functools.partial(
            attack.one_pixel,
            f,
            pixels=pixels,
            key=jax.random.key(config.seed + pixels),
            population=8 if config.smoke else 200,
            generations=2 if config.smoke else 60,
            batch_size=20,
        )
        moved = jax.jit(change)(x, y)
        wrong = np.asarray(jax.jit(f)(moved).argmax(-1) != y) & right
        rates[str(pixels)] = float(wrong.sum() / max(right.sum(), 1))
        # The shown ones succeed, as long as there are enough of them.
        order = np.argsort(~wrong, kind="stable")[:2]
        inputs[pixels] = x[order], moved[order]
    return {"rates": rates, "inputs": inputs}


def draw_digits(
    result: dict, x: Any, moved: Any, single: dict, noise: Any, probabilities: Classify
) -> Any:
    """Draws the accuracy by size, examples of each attack, and noise taken for digits."""
    plt = _figure.pyplot()
    figure = plt.figure(figsize=(12, 7.6), layout="constrained")
    upper, lower = figure.subfigures(2, 1, height_ratios=(3.2, 1))
    left, right = upper.subfigures(1, 2, width_ratios=(1, 1.35))
    axis = left.subplots()
    for name, values in result["curves"].items():
        axis.plot(result["sizes"], values, marker="o", label=name)
    axis.axhline(0.1, color="0.5", ls=":", lw=1)
    axis.set(xlabel="largest change of a pixel", ylabel="test accuracy", ylim=(0, 1.02))
    axis.legend(frameon=False)
    rates = result["one_pixel"]
    rows = [(f"forty steps, changes of up to {SHOWN:g}", x[:2], moved[:2])]
    for pixels, pair in single.items():
        name = f"{pixels} pixel{'s' * (pixels > 1)}"
        rows.append((f"{name}, enough for {rates[str(pixels)]:.1%} of the images", *pair))
    for part, (title, before, after) in zip(right.subfigures(3, 1), rows, strict=True):
        part.suptitle(title, fontsize=10)
        axes = part.subplots(1, 6)
        for i in range(2):
            draw_triple(axes[3 * i : 3 * i + 3], before[i], after[i], probabilities)
    values = np.asarray(probabilities(noise))
    for digit, axis in enumerate(lower.subplots(1, 10)):
        show(axis, noise[digit], f"{digit}, {values[digit, digit]:.4f}")
    title = f"noise, changed by up to {NOISE_SIZE:g}: the digit and its probability"
    lower.suptitle(title, fontsize=10)
    return figure


def draw_triple(axes: Any, before: Any, after: Any, probabilities: Classify) -> None:
    """Draws an image, its change and the sum, with the answers."""
    values = np.asarray(probabilities(jnp.stack([before, after])))
    answers = [f"{p.argmax()}, {p.max():.2f}" for p in values]
    change = np.asarray(after - before)[..., 0]
    limit = np.abs(change).max() or 1.0
    show(axes[0], before, answers[0])
    axes[1].imshow(change, cmap="RdBu_r", vmin=-limit, vmax=limit)
    axes[1].set(xticks=[], yticks=[])
    axes[1].set_title("change", fontsize=9)
    axes[1].spines[:].set_visible(False)
    show(axes[2], after, answers[1])


def show(axis: Any, image: Any, title: str) -> None:
    axis.imshow(np.asarray(image)[..., 0], cmap="gray_r", vmin=0, vmax=1)
    axis.set(xticks=[], yticks=[])
    axis.set_title(title, fontsize=9)
    axis.spines[:].set_visible(False)


# Photographs, in brightness levels from 0 to 255.


def fool_photographs(config: Config) -> dict:
    """Changes the names of photographs, and draws one with what Grad-CAM shows of it."""
    try:
        if config.smoke:
            raise ValueError("this is a smoke run")
        model, trees = _pretrained.lite0()
        images, names = _pretrained.photographs()
    except ValueError as missing:
        print(f"a made-up network and image: {missing}")
        model, trees = _pretrained.random_lite0(config.seed)
        images, names = made_up_images(config.seed), [str(i) for i in range(10)]

    def f(levels):
        return model.apply(*trees, (levels - 127) / 128)[0]

    chosen = min(_pretrained.PHOTOGRAPHS.index(config.photograph), len(images) - 1)
    x = jnp.asarray(images, jnp.float32)
    probabilities = jax.jit(lambda x: jax.nn.softmax(f(x)))
    first = np.asarray(probabilities(x)).argmax(-1)
    wanted = names.index(config.wanted) if config.wanted in names else len(names) - 1
    goal = np.full(len(x), wanted)
    steps = 2 if config.smoke else 20
    options: dict[str, Any] = {"bounds": (0.0, 255.0)}
    attacks = {
        "one step": jax.jit(lambda x, size: attack.fgsm(f, x, first, size, **options)),
        f"toward {names[wanted]}": jax.jit(
            lambda x, size: attack.pgd(f, x, goal, size, steps=steps, targeted=True, **options)
        ),
    }
    rows, drawn = {}, [("", x)]
    for label, change in attacks.items():
        for size in (1.0, 2.0, 4.0):
            # A file stores whole levels.
            inputs = jnp.round(change(x, size))
            p = np.asarray(probabilities(inputs))
            rows[f"{label}, {size:g}"] = {
                "changed": float((p.argmax(1) != first).mean()),
                "wanted": float((p.argmax(1) == wanted).mean()),
                "answers": [f"{names[row.argmax()]} {row.max():.3f}" for row in p],
            }
            if size == 2:
                drawn.append((f"{label}, changes up to 2 of 255 levels", inputs))
    answers = [f"{names[i]} {p:.3f}" for i, p in zip(first, probabilities(x).max(-1), strict=True)]
    for label, row in ({"unchanged": {"answers": answers}} | rows).items():
        print(f"{label}: {', '.join(row['answers'])}", flush=True)
    explain = jax.jit(lambda x: interpret.grad_cam(f, x, target="argmax", layer="relu2"))
    maps = [np.asarray(explain(inputs)[chosen]) for _, inputs in drawn]
    stack = jnp.stack([inputs[chosen] for _, inputs in drawn])
    titles = [f"{names[p.argmax()]}, {p.max():.2f}" for p in np.asarray(probabilities(stack))]
    figure = draw_photograph(np.asarray(stack), maps, titles, [label for label, _ in drawn])
    _figure.save(figure, config, "fooling", "photograph")
    return {"answers": answers, "attacks": rows}


def draw_photograph(
    images: np.ndarray, maps: Sequence[np.ndarray], titles: Sequence[str], labels: Sequence[str]
) -> Any:
    """Draws a row for each attack: the image, its change, the sum, and Grad-CAM of both."""
    plt = _figure.pyplot()
    rows = len(images) - 1
    figure, axes = plt.subplots(rows, 5, figsize=(13, 2.8 * rows + 0.2), layout="constrained")
    gray = images.mean(-1) / 255
    for row, image, own, title, label in zip(
        axes, images[1:], maps[1:], titles[1:], labels[1:], strict=True
    ):
        limit = np.abs(image - images[0]).max() or 1.0
        row[0].imshow(images[0] / 255)
        row[1].imshow(0.5 + (image - images[0]) / (2 * limit))
        row[2].imshow(image / 255)
        for axis, base, values in ((row[3], gray[0], maps[0]), (row[4], gray[0], own)):
            axis.imshow(base, cmap="gray", vmin=0, vmax=1)
            heat = values / (values.max() or 1.0)
            axis.imshow(heat, cmap="inferno", vmin=0, vmax=1, alpha=0.6)
        captions = (
            titles[0],
            f"change x {127 / limit:.0f}",
            title,
            f"Grad-CAM: {titles[0]}",
            f"Grad-CAM: {title}",
        )
        for axis, caption in zip(row, captions, strict=True):
            axis.set_title(caption, fontsize=9)
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
        row[0].set_ylabel(label.replace(", ", "\n", 1), fontsize=9)
    return figure
