"""Compares deep and thin networks with shallow and fat ones. Lecture rows A14, T06, T07.

All pairs have equal numbers of parameters. The lectures' table is of speech data that are not free
(Seide, Li and Yu 2011); it is included as a reference, with the parameters of its networks counted.
Ours are two tasks. The first has real data and random initial values, five layers against one, each
at the better of two learning rates by the same test images: the last digit of the sum of two
handwritten digits, which takes several steps, and one digit, which does not. The second is the tent
map iterated (Telgarsky 2016, arXiv 1602.04485), whose teeth double with every iteration: two ReLUs
per layer represent it exactly, while one hidden layer needs a unit for every kink. The theorem is
about what a network can represent, not about what gradient descent finds. From random values the
thin network does not find it, which is measured too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax

import jaxdl
from experiments import _figure, _lecture, _run, _seeds
from experiments._claim import Claim, Verdict, numbers
from jaxdl import data, nn, train, tree

CLAIM = Claim(
    rows=("A14", "T06", "T07"),
    step="set",
    statement="With the same number of parameters, a deep network can do what a fat one cannot.",
    deck=dict.fromkeys(("sum of two digits, fat", "sum of two digits, deep")),
    source="nn/dense.py",
    minutes=8,
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
    "1 x 16384": 22.1,  # the slide's 1 x 16k
}
FOLDS = 5
"""Iterations of the tent map."""
DEPTH, CLASSES = 5, 10
# Each kind is judged at its better rate, because one rate would favour one depth.
RATES = 0.001, 0.003
WIDTHS = {"sum of two digits": (95, 79), "one digit": (85, 64)}
"""Units of the one layer and of each of the five, for parameters that agree within 0.1 %."""


@dataclasses.dataclass(frozen=True)
class Config(_run.Config):
    digit_seeds: int = 5
    """Networks of each kind and rate for the digits."""
    epochs: int = 5
    """Epochs of the digits."""
    seeds: int = 10
    """Networks of each kind for the tents."""
    steps: int = 6000
    """Steps of Adam on all points."""


def tents(x: np.ndarray) -> np.ndarray:
    """Applies the tent map of [0, 1] `FOLDS` times, which has 2^(FOLDS - 1) teeth."""
    for _ in range(FOLDS):
        x = 1 - np.abs(2 * x - 1)
    return x


def perceptron(widths: tuple[int, ...], outputs: int = 1) -> jaxdl.Module:
    hidden = [part for w in widths for part in (nn.dense(w, kernel_init="he_normal"), jax.nn.relu)]
    return jaxdl.serial(*hidden, nn.dense(outputs))


def construct_tents() -> dict:
    """Returns weights that compute `tents`: each layer is tent(x) = 2 relu(x) - 4 relu(x - 1/2)."""
    fold = np.array([[2.0], [-4.0]], np.float32)
    bias = np.array([0.0, -0.5], np.float32)
    params = {"dense_0": {"kernel": np.ones((1, 2), np.float32), "bias": bias}}
    for i in range(1, FOLDS):
        params[f"dense_{i}"] = {"kernel": np.repeat(fold, 2, 1), "bias": bias}
    params[f"dense_{FOLDS}"] = {"kernel": fold, "bias": np.zeros(1, np.float32)}
    return params


def make_pairs(split: data.Split, count: int, seed: int) -> data.Split:
    """Returns pairs of images side by side, with the last digit of the sum of their labels."""
    i, j = np.random.default_rng(seed).integers(0, len(split.y), (2, count))
    both = np.concatenate([split.x[i], split.x[j]], axis=2)
    return data.Split(both, (split.y[i] + split.y[j]) % CLASSES)


def measure_digits(config: Config) -> dict[str, Any]:
    """Returns test errors of both kinds on both tasks, (rates, seeds), and their parameters."""
    dataset = _lecture.load_images(config.smoke)
    seeds, epochs = (2, 1) if config.smoke else (config.digit_seeds, config.epochs)
    counts = (200, 200) if config.smoke else (40_000, 10_000)
    both = [
        make_pairs(split, count, seed)
        for seed, (split, count) in enumerate(
            zip((dataset.train, dataset.test), counts, strict=True)
        )
    ]
    tasks = {"sum of two digits": both, "one digit": [dataset.train, dataset.test]}
    errors, parameters, many = {}, {}, {}
    for task, (seen, test) in tasks.items():
        for kind, hidden in zip(("fat", "deep"), hidden_widths(task), strict=True):
            name = f"{task}, {kind}"
            many[name] = trained = _seeds.train_networks(
                config,
                jaxdl.serial(nn.flatten(), perceptron(hidden, CLASSES)),
                seen,
                seeds=seeds,
                loss="cross_entropy",
                optimizer=adam(epochs * (len(seen.y) // 100)),
                hyper={"learning_rate": RATES},
                batch_size=100,
                epochs=epochs,
            )
            errors[name] = 1 - trained.accuracy(test.x, test.y).reshape(seeds, len(RATES)).T
            parameters[name] = tree.count(jax.tree.map(lambda a: a[0], trained.params))
            print(f"{name:24s} test error", dict(zip(RATES, errors[name].mean(1), strict=True)))
    return {"errors": errors, "parameters": parameters, "many": many}


def hidden_widths(task: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Returns the widths of the hidden layers of the fat and of the deep network."""
    fat, deep = WIDTHS[task]
    return (fat,), (deep,) * DEPTH


def adam(steps: int) -> Callable[..., optax.GradientTransformation]:
    """Returns Adam by its learning rate, which falls to 0 along a cosine."""
    return lambda learning_rate: optax.chain(
        optax.scale_by_adam(),
        optax.scale_by_schedule(optax.cosine_decay_schedule(1.0, steps)),
        optax.scale(-learning_rate),
    )


def run(config: Config) -> dict:
    digits = measure_digits(config)
    seeds, steps = (2, 20) if config.smoke else (config.seeds, config.steps)
    x = np.linspace(0, 1, 513, dtype=np.float32)[:, None]
    y = tents(x)
    deep = perceptron((2,) * FOLDS)
    budget = tree.count(construct_tents())
    # The largest fat network within the deep one's number of parameters.
    units = (budget - 1) // 3  # two weights and a bias each, and the output's bias
    fat = perceptron((units,))
    optimizer = optax.adam(optax.cosine_decay_schedule(0.01, steps))
    options = {"loss": "squared_error", "batch_size": len(x), "metrics": (), "verbose": 0}
    many = {
        name: _seeds.train_networks(
            config,
            model,
            (x, y),
            seeds=seeds,
            optimizer=optimizer,
            epochs=steps,
            **options,
        )
        for name, model in (("fat", fat), ("deep, from random values", deep))
    }
    errors = {name: np.sqrt(nets.history["loss"][:, -1]) for name, nets in many.items()}
    # From random values the deep network does not find the tents, so it starts near the solution.
    near = [
        train_near_construction(deep, (x, y), config.seed + i, steps // 6, options)
        for i in range(seeds)
    ]
    errors["deep"] = np.array([error for error, _ in near])
    best = int(errors["fat"].argmin())
    fits = {
        "fat": fat.apply(jax.tree.map(lambda a: a[best], many["fat"].params), {}, x)[0],
        "deep": deep.apply(near[int(errors["deep"].argmin())][1], {}, x)[0],
    }
    sizes = {"fat": 3 * units + 1, "deep": budget}
    best_rate = {name: rows[rows.mean(1).argmin()] for name, rows in digits["errors"].items()}
    measured = {name: _seeds.summarize(values) for name, values in best_rate.items()}
    tents_in_order = ("fat", "deep", "deep, from random values")
    measured |= {f"tents, {name}": _seeds.summarize(errors[name]) for name in tents_in_order}
    for name, spread in measured.items():
        print(f"{name:31s} error {_seeds.format_summary(spread)}")
    result = {
        "measured": measured,
        "parameters": digits["parameters"] | {f"tents, {name}": n for name, n in sizes.items()},
        **_seeds.summarize_times(many | digits["many"]),
        "rates": list(RATES),
        "digits": numbers(digits["errors"]),
        "speech": {
            shape: {"error": SEIDE[shape], "parameters": speech_parameters(shape)}
            for shape in SEIDE
        },
        "errors": numbers(errors),
        "target": numbers([x[:, 0], y[:, 0]]),
        "fits": numbers({name: fit[:, 0] for name, fit in fits.items()}),
    }
    _figure.save(draw(result), config, "deep_or_fat", "deep_or_fat")
    return result


def judge(result: dict) -> Verdict:
    """Requires the deep network to be better from random values, and on tents from known ones.

    On the sum of two digits, each kind at its best rate, its error must be smaller by more than
    twice the pooled deviation over the seeds; on the tents, below a fifth of the fat one's least.
    """
    measured, sizes, errors = result["measured"], result["parameters"], result["errors"]

    def ahead(task: str) -> bool:
        fat, deep = (measured[f"{task}, {kind}"] for kind in ("fat", "deep"))
        pooled = np.hypot(fat["deviation"], deep["deviation"]) / 2**0.5
        return bool(fat["mean"] - deep["mean"] > 2 * pooled)

    known = max(errors["deep"]) < 0.2 * min(errors["fat"])
    random = ahead("sum of two digits")
    outcome = "holds in part" if known or random else "does not hold"
    mean = {name: f"{s['mean']:.3f} ± {s['deviation']:.3f}" for name, s in measured.items()}
    fat, deep = "sum of two digits, fat", "sum of two digits, deep"
    one = "does better, too" if ahead("one digit") else "is not better by twice the deviation"
    near, lost = measured["tents, deep"]["mean"], mean["tents, deep, from random values"]
    return Verdict(
        "holds" if known and random else outcome,
        f"both from random values, on the last digit of the sum of two handwritten digits, five "
        f"layers with {sizes[deep]:,} parameters have a test error of {mean[deep]}, one with "
        f"{sizes[fat]:,} has {mean[fat]}; on one digit the deep network {one}: "
        f"{mean['one digit, deep']} against {mean['one digit, fat']}; on "
        f"{2 ** (FOLDS - 1)} teeth with {sizes['tents, deep']} parameters the deep network has "
        f"{near:.1e} near the known weights and from random ones {lost}, the fat one "
        f"{mean['tents, fat']}",
        {
            "deep": mean[deep],
            "fat": mean[fat],
            "deep_parameters": sizes[deep],
            "fat_parameters": sizes[fat],
            "one_better": ahead("one digit"),
            "one_deep": mean["one digit, deep"],
            "one_fat": mean["one digit, fat"],
            "teeth": 2 ** (FOLDS - 1),
            "tents_parameters": sizes["tents, deep"],
            "near": near,
            "lost": lost,
            "tents_fat": mean["tents, fat"],
        },
    )


def train_near_construction(
    model, split, seed: int, steps: int, options: dict
) -> tuple[float, dict]:
    """Trains from the known weights with small noise; returns the error and the parameters."""
    optimizer = optax.adam(optax.cosine_decay_schedule(1e-3, max(1, steps)))
    state = train.init_state(model, optimizer, jax.random.key(seed), split[0])
    rng = np.random.default_rng(seed)
    noisy = jax.tree.map(
        lambda a: a + 0.003 * rng.normal(size=a.shape).astype(np.float32), construct_tents()
    )
    state, history = train.fit(
        model,
        split,
        optimizer=optimizer,
        state=state.replace(params=noisy),
        epochs=max(1, steps),
        **options,
    )
    return history["loss"][-1] ** 0.5, state.params


def speech_parameters(shape: str) -> int:
    """Counts the parameters of a speech network of the lectures: 429 inputs, 9,304 outputs.

    Args:
      shape: "layers x width" of the hidden layers.
    """
    layers, width = map(int, shape.split(" x "))
    sizes = [429, *[width] * layers, 9304]
    return sum((a + 1) * b for a, b in zip(sizes, sizes[1:], strict=False))


def draw(result: dict) -> Any:
    """Draws the errors on the digits and on the tents, the best fits, and the lectures' table."""
    plt = _figure.pyplot()
    figure, axes = plt.subplots(1, 4, figsize=(15, 3.5), layout="constrained")
    best = {name: min(rows, key=np.mean) for name, rows in result["digits"].items()}
    for axis, points, title in (
        (axes[0], best, "digits: test error, a point a seed"),
        (axes[1], result["errors"], "tents: error, a point a seed"),
    ):
        for i, errors in enumerate(points.values()):
            axis.scatter(np.full(len(errors), i), errors, alpha=0.6)
        names = [name.replace(" of two", " of\ntwo").replace(", ", ",\n") for name in points]
        axis.set(xticks=range(len(names)), title=title, xlim=(-0.5, len(names) - 0.5))
        axis.set_xticklabels(names, fontsize=8)
    axes[0].set(ylim=(0, None))
    axes[1].set(yscale="log")
    x, y = result["target"]
    axes[2].plot(x, y, "k", lw=3, alpha=0.3)
    for name, fit in result["fits"].items():
        axes[2].plot(x, fit, lw=1, label=name)
    axes[2].set(title="the best of each", ylim=(-0.05, 1.3))
    axes[2].legend(frameon=False, fontsize=8, ncols=2, loc="upper center")
    deep = [shape for shape in SEIDE if shape.endswith("2048")]
    fat = [shape for shape in SEIDE if shape not in deep]
    for shapes, label in ((deep, "2048 wide"), (fat, "one layer")):
        millions = [result["speech"][shape]["parameters"] / 1e6 for shape in shapes]
        axes[3].plot(millions, [SEIDE[shape] for shape in shapes], "o-", label=label)
    axes[3].set(xscale="log", xlabel="million parameters", title="the lectures: word errors, %")
    axes[3].set(xticks=[20, 40, 80, 160], xticklabels=["20", "40", "80", "160"])
    axes[3].minorticks_off()
    axes[3].legend(frameon=False)
    return figure
