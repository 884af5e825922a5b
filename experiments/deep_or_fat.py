"""At equal parameters, deep and thin beats shallow and fat. Lecture rows A14, T06, T07.

The lectures' table is of speech that is not free (Seide, Li and Yu 2011); it stands as a reference,
with the parameters that pair its networks counted. Ours is a function made of a tent folded upon
itself again and again (Telgarsky 2016, arXiv 1602.04485), which has twice as many teeth with every
layer: networks of one, two and four hidden layers, with the same number of parameters, learn it.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np
import optax

import jaxdl
from experiments import _figure, _lecture, _run
from experiments._claim import Claim, metrics, numbers
from jaxdl import nn, train, tree

CLAIM = Claim(
    rows=("A14", "T06", "T07"),
    step="set",
    english="With the same number of parameters, a deep network does better than a fat one.",
    chinese="参数一样多时，又深又瘦的网络胜过又矮又胖的网络。",
    deck={"fat": None, "deep": None},
    words={
        "fat": "一层",
        "two layers": "两层",
        "deep": "四层",
    },
    source="nn/dense.py",
    minutes=4,
)
SEIDE = {  # word error rate on Switchboard in percent: layers x width: rate
    "1 x 2048": 24.2,
    "2 x 2048": 20.4,
    "3 x 2048": 18.4,
    "4 x 2048": 17.8,
    "5 x 2048": 17.2,
    "7 x 2048": 17.1,
    "1 x 3772": 22.5,
    "1 x 4634": 22.6,
    "1 x 16000": 22.1,
}
SHAPES = {"1 x 152": (152,), "2 x 20": (20, 20), "4 x 11": (11, 11, 11, 11)}


@dataclasses.dataclass(frozen=True)
class Config(_run.Config):
    seeds: int = 10
    """Networks of each shape."""
    steps: int = 8000
    """Steps of Adam on all points."""
    folds: int = 3
    """How often the tent is folded: 2^(folds - 1) teeth."""


def tents(x: np.ndarray, folds: int) -> np.ndarray:
    """The tent map of [0, 1] upon itself, `folds` times."""
    for _ in range(folds):
        x = 1 - np.abs(2 * x - 1)
    return x


def perceptrons(widths: tuple[int, ...]) -> jaxdl.Module:
    hidden = [
        part for width in widths for part in (nn.dense(width, kernel_init="he_normal"), jax.nn.relu)
    ]
    return jaxdl.serial(*hidden, nn.dense(1))


def run(config: Config) -> dict:
    seeds, steps = (2, 20) if config.smoke else (config.seeds, config.steps)
    x = np.linspace(0, 1, 257, dtype=np.float32)[:, None]
    y = tents(x, config.folds)
    errors, parameters, fits = {}, {}, {}
    for name, widths in SHAPES.items():
        model = perceptrons(widths)
        states, history = train.train_many(
            model,
            (2 * x - 1, y),
            seeds=range(config.seed, config.seed + seeds),
            loss="squared_error",
            optimizer=optax.adam(optax.cosine_decay_schedule(0.01, steps)),
            batch_size=len(x),
            epochs=steps,
            metrics=(),
            verbose=0,
        )
        errors[name] = np.sqrt(history["loss"][:, -1])
        one = jax.tree.map(lambda a: a[0], states.params)
        first = int(errors[name].argmin())
        best = jax.tree.map(lambda a, i=first: a[i], states.params)
        parameters[name] = tree.count(one)
        fits[name] = model.apply(best, {}, 2 * x - 1)[0]
        print(
            f"{name:8s} {parameters[name]:5d} parameters, error {errors[name].mean():.4f}, "
            f"median {np.median(errors[name]):.4f}, best {errors[name].min():.4f}",
            flush=True,
        )
    speech = {shape: speech_parameters(shape) for shape in SEIDE}
    names = list(SHAPES)
    found = {
        "fat": _lecture.spread(errors[names[0]]),
        "two layers": _lecture.spread(errors[names[1]]),
        "deep": _lecture.spread(errors[names[2]]),
    }
    medians = {name: float(np.median(values)) for name, values in errors.items()}
    fat, deep = medians[names[0]], medians[names[2]]
    result = metrics(
        found,
        holds=deep < fat,
        said=(
            f"with {parameters[names[0]]} and {parameters[names[2]]} parameters the median error "
            f"of one hidden layer is {fat:.3f}, of four {deep:.3f}; the best of {seeds} have "
            f"{errors[names[0]].min():.3f} and {errors[names[2]].min():.4f}"
        ),
        chinese=(
            f"参数约 {parameters[names[0]]} 个：一层隐藏层误差的中位数 {fat:.3f}，四层 {deep:.3f}"
        ),
        medians=medians,
        parameters=parameters,
        speech={shape: {"error": SEIDE[shape], "parameters": speech[shape]} for shape in SEIDE},
        errors=numbers(errors),
        target=numbers([x[:, 0], y[:, 0]]),
        fits=numbers({name: fit[:, 0] for name, fit in fits.items()}),
    )
    _figure.save(draw(result), config, "deep_or_fat", "deep_or_fat")
    return result


def speech_parameters(shape: str) -> int:
    """Of the lectures' speech networks: 429 inputs, 9,304 outputs, layers x width between."""
    layers, width = map(int, shape.split(" x "))
    sizes = [429, *[width] * layers, 9304]
    return sum((a + 1) * b for a, b in zip(sizes, sizes[1:], strict=False))


def draw(result: dict) -> Any:
    """The errors, the best fits, and the lectures' table."""
    plt = _figure.pyplot()
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.5), layout="constrained")
    for i, errors in enumerate(result["errors"].values()):
        axes[0].scatter(np.full(len(errors), i), errors, alpha=0.6)
    axes[0].set(xticks=range(len(SHAPES)), xticklabels=list(SHAPES), yscale="log")
    axes[0].set(title="error, a point a seed", xlabel="hidden layers x units")
    x, y = result["target"]
    axes[1].plot(x, y, "k", lw=3, alpha=0.3)
    for name, fit in result["fits"].items():
        axes[1].plot(x, fit, lw=1, label=name)
    axes[1].set(title="the best of each")
    axes[1].legend(frameon=False, fontsize=8)
    deep = [shape for shape in SEIDE if shape.endswith("2048")]
    fat = [shape for shape in SEIDE if shape not in deep]
    for shapes, label in ((deep, "2048 wide"), (fat, "one layer")):
        millions = [result["speech"][shape]["parameters"] / 1e6 for shape in shapes]
        axes[2].plot(millions, [SEIDE[shape] for shape in shapes], "o-", label=label)
    axes[2].set(xscale="log", xlabel="million parameters", title="the lectures: word errors, %")
    axes[2].legend(frameon=False)
    return figure
