"""Activation maximization compared with attributions of real images. Lecture row X06.

The lectures: activation maximization helps to see what an output attends to, but not what the model
attends to in a real image. One picture for each class cannot differ between images; attributions
do. Measured: the rank correlation of the pictures, and how far the probability of the class falls
when the ten pixels that a picture ranks first are set to 0.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy import stats

import jaxdl
from experiments import _figure, _run, _seeds
from experiments._claim import Claim, Verdict, numbers
from jaxdl import data, interpret, nn, train

CLAIM = Claim(
    rows=("X06",),
    step="goodness",
    statement="Activation maximization does not show what a model attends to in a real image.",
    deck={},
    source="interpret/activation_maximization.py",
    minutes=1,
)
MEASURED = (
    "fall, activation maximization",
    "fall, input x gradient",
    "fall, random pixels",
    "correlation of both pictures",
    "correlation between two images",
)
PIXELS = 10
"""Pixels that are removed."""
SHOWN = 3
"""Test images of one class in the figure."""


@dataclasses.dataclass(frozen=True)
class Config(_run.Config):
    seeds: int = 5
    """Networks."""
    digit: int = 8
    """The class in the figure."""


def network() -> jaxdl.Module:
    layers = [nn.conv(16), jax.nn.relu, nn.conv(32), jax.nn.relu, nn.max_pool(2)]
    return jaxdl.serial(*layers, nn.flatten(), nn.dense(10))


def run(config: Config) -> dict:
    seeds, rows = (2, 40) if config.smoke else (config.seeds, None)
    digits = data.digits()
    x, labels = jnp.asarray(digits.test.x[:rows]), digits.test.y[:rows]
    model = network()
    states, history = train.train_many(
        model,
        digits.train,
        seeds=range(config.seed, config.seed + seeds),
        loss="cross_entropy",
        optimizer=optax.adam(1e-3),
        batch_size=32,
        epochs=1 if config.smoke else 15,
        eval_data=digits.test,
        metrics=["accuracy"],
        verbose=0,
    )

    @jax.jit
    def pictures(params, key):
        def f(x):
            return model.apply(params, {}, x)[0]

        best = interpret.activation_maximization(
            f, x.shape[1:], target=jnp.arange(10), key=key, bounds=(0.0, 1.0)
        )
        attributions = interpret.input_x_gradient(f, x, target=labels)
        return best.image, attributions, interpret.saliency(f, x, target=labels)

    @jax.jit
    def probability(params, x):
        return jax.nn.softmax(model.apply(params, {}, x)[0])[jnp.arange(len(labels)), labels]

    values: dict[str, list[float]] = {name: [] for name in MEASURED}
    shown = []
    for seed, params in enumerate(_seeds.split(states.params, seeds)):
        best, attributions, slopes = pictures(params, jax.random.key(seed))
        ideal = np.asarray(best)[labels]
        whole = probability(params, x)
        # The control: removing any ten pixels costs some probability.
        noise = np.random.default_rng(seed).random(x.shape)
        ranks = {
            "activation maximization": ideal,
            "input x gradient": attributions,
            "random pixels": noise,
        }
        for name, picture in ranks.items():
            changed = remove_pixels(np.asarray(x), np.asarray(picture), PIXELS)
            values[f"fall, {name}"].append(float((whole - probability(params, changed)).mean()))
        values["correlation of both pictures"].append(correlate(ideal, attributions))
        first, second = pair_images(labels)
        between = correlate(np.asarray(attributions)[first], np.asarray(attributions)[second])
        values["correlation between two images"].append(between)
        if seed == 0:
            some = np.flatnonzero(labels == config.digit)[:SHOWN]
            some = some if len(some) == SHOWN else np.arange(SHOWN)
            shown = [np.asarray(part)[some, ..., 0] for part in (x, ideal, attributions, slopes)]
    measured = {name: _seeds.summarize(each) for name, each in values.items()}
    for name, spread in measured.items():
        print(f"{name:32s} {_seeds.format_summary(spread)}")
    result = {
        "measured": measured,
        "values": numbers(values),
        "accuracy": numbers(history["eval_accuracy"][:, -1]),
        "shown": numbers(
            dict(zip(("image", "ideal", "attribution", "saliency"), shown, strict=True)), 3
        ),
    }
    _figure.save(draw(result), config, "attention_in_image", "attention_in_image")
    return result


def remove_pixels(images: np.ndarray, pictures: np.ndarray, count: int) -> np.ndarray:
    """Sets the `count` pixels with the largest values of each picture to 0.

    Args:
      images, pictures: (N, H, W, 1).
      count: pixels of each image.
    """
    flat = images.reshape(len(images), -1).copy()
    # Stable, so that ties are broken in the same way on every machine.
    first = np.argsort(-pictures.reshape(len(images), -1), axis=1, kind="stable")[:, :count]
    np.put_along_axis(flat, first, 0, axis=1)
    return flat.reshape(images.shape)


def correlate(a: Any, b: Any) -> float:
    """Returns the mean Spearman correlation of pictures, (N, H, W, 1) each."""
    ranks = [stats.rankdata(np.asarray(part).reshape(len(part), -1), axis=1) for part in (a, b)]
    return float(np.mean([np.corrcoef(*pair)[0, 1] for pair in zip(*ranks, strict=True)]))


def pair_images(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the rows of each image that has a next one of its class, and of the next ones."""
    rows = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    return np.concatenate([r[:-1] for r in rows]), np.concatenate([r[1:] for r in rows])


def judge(result: dict) -> Verdict:
    """Requires attributions to explain an image better than activation maximization does.

    In every network, the probability must fall further without their first ten pixels, and the
    attribution of another image of the class must be closer to an image's own. The claim is true in
    full if the pixels of activation maximization are closer to random ones than to attributions.
    """
    values = {name: np.array(each) for name, each in result["values"].items()}
    ideal, real, random = (
        values[f"fall, {name}"]
        for name in ("activation maximization", "input x gradient", "random pixels")
    )
    both, between = (
        values[f"correlation {of}"] for of in ("of both pictures", "between two images")
    )
    less = bool(np.all(ideal < real) and np.all(both < between))
    half = (random.mean() + real.mean()) / 2
    outcome = "does not hold"
    if less:
        outcome = "holds" if ideal.mean() < half else "holds in part"
    return Verdict(
        outcome,
        f"without the {PIXELS} pixels that activation maximization ranks first the probability of "
        f"the class falls by {ideal.mean():.2f}, without those of input x gradient by "
        f"{real.mean():.2f}, without random ones by {random.mean():.2f}; the rank correlation of "
        f"both pictures is {both.mean():.2f}, and that of the attributions of two images of a "
        f"class {between.mean():.2f}",
        {
            "pixels": PIXELS,
            "ideal": ideal.mean(),
            "real": real.mean(),
            "random": random.mean(),
            "both": both.mean(),
            "between": between.mean(),
        },
    )


def draw(result: dict) -> Any:
    """Draws images of one class, each with both kinds of picture."""
    plt = _figure.pyplot()
    rows = {
        "image": ("test image", "gray_r"),
        "ideal": ("activation\nmaximization", "gray_r"),
        "attribution": ("input x gradient", "RdBu_r"),
        "saliency": ("saliency", "gray_r"),
    }
    figure, axes = plt.subplots(
        SHOWN, len(rows), figsize=(7, 5), layout="constrained", squeeze=False
    )
    for axis_row, i in zip(axes, range(SHOWN), strict=True):
        for axis, (name, (title, colours)) in zip(axis_row, rows.items(), strict=True):
            picture = np.array(result["shown"][name][i])
            limit = max(np.abs(picture).max(), 1e-9)
            low = -limit if name == "attribution" else 0
            axis.imshow(picture, cmap=colours, vmin=low, vmax=limit)
            axis.set(xticks=[], yticks=[])
            if i == 0:
                axis.set_title(title, fontsize=10)
    return figure
