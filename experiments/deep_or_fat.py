"""At equal parameters, deep and thin can do what shallow and fat cannot. Rows A14, T06, T07.

The lectures' table is of speech that is not free (Seide, Li and Yu 2011); it stands as a reference,
with the parameters that pair its networks counted. Ours is a tent folded upon itself again and
again (Telgarsky 2016, arXiv 1602.04485), which has twice as many teeth with every fold: two ReLUs a
layer make it exactly, while one hidden layer needs a unit for every kink. The theorem is about what
a network can be, not about what descent finds: from random values the thin network does not find
it, and that is measured too.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np
import optax

import jaxdl
from experiments import _figure, _run, _seeds
from experiments._claim import Claim, Verdict, numbers
from jaxdl import nn, train, tree

CLAIM = Claim(
    rows=("A14", "T06", "T07"),
    step="set",
    english="With the same number of parameters, a deep network can do what a fat one cannot.",
    chinese="参数一样多时，又深又瘦的网络能做到又矮又胖的网络做不到的事。",
    deck={"fat": None, "deep": None, "deep, from random values": None},
    words={"fat": "一层", "deep": "多层", "deep, from random values": "多层，随机初值"},
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
    "1 x 16384": 22.1,  # the slide's 1 x 16k
}
FOLDS = 5


@dataclasses.dataclass(frozen=True)
class Config(_run.Config):
    seeds: int = 10
    """Networks of each kind."""
    steps: int = 6000
    """Steps of Adam on all points."""


def tents(x: np.ndarray) -> np.ndarray:
    """The tent map of [0, 1] upon itself, `FOLDS` times: 2^(FOLDS - 1) teeth."""
    for _ in range(FOLDS):
        x = 1 - np.abs(2 * x - 1)
    return x


def perceptrons(widths: tuple[int, ...]) -> jaxdl.Module:
    hidden = [part for w in widths for part in (nn.dense(w, kernel_init="he_normal"), jax.nn.relu)]
    return jaxdl.serial(*hidden, nn.dense(1))


def constructed() -> dict:
    """Weights that are the function: tent(x) = 2 relu(x) - 4 relu(x - 1/2), layer after layer."""
    fold = np.array([[2.0], [-4.0]], np.float32)
    bias = np.array([0.0, -0.5], np.float32)
    params = {"dense_0": {"kernel": np.ones((1, 2), np.float32), "bias": bias}}
    for i in range(1, FOLDS):
        params[f"dense_{i}"] = {"kernel": np.repeat(fold, 2, 1), "bias": bias}
    params[f"dense_{FOLDS}"] = {"kernel": fold, "bias": np.zeros(1, np.float32)}
    return params


def run(config: Config) -> dict:
    seeds, steps = (2, 20) if config.smoke else (config.seeds, config.steps)
    x = np.linspace(0, 1, 513, dtype=np.float32)[:, None]
    y = tents(x)
    deep = perceptrons((2,) * FOLDS)
    budget = tree.count(constructed())
    units = (budget - 1) // 3  # two weights and a bias each, and the output's bias
    fat = perceptrons((units,))
    optimizer = optax.adam(optax.cosine_decay_schedule(0.01, steps))
    options = {"loss": "squared_error", "batch_size": len(x), "metrics": (), "verbose": 0}
    many = {
        name: _seeds.trained(
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
    errors = {name: np.sqrt(found.history["loss"][:, -1]) for name, found in many.items()}
    near = [beside(deep, (x, y), config.seed + i, steps // 6, options) for i in range(seeds)]
    errors["deep"] = np.array([error for error, _ in near])
    best = int(errors["fat"].argmin())
    fits = {
        "fat": fat.apply(jax.tree.map(lambda a: a[best], many["fat"].params), {}, x)[0],
        "deep": deep.apply(near[int(errors["deep"].argmin())][1], {}, x)[0],
    }
    sizes = {"fat": 3 * units + 1, "deep": budget}
    found = {name: _seeds.spread(errors[name]) for name in CLAIM.deck}
    for name, spread in found.items():
        print(f"{name:26s} error {_seeds.said(spread)}, best {errors[name].min():.4f}")
    result = {
        "measured": found,
        "parameters": sizes,
        **_seeds.times(many),
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
    """Asks the deep network for a fifth of the fat one's least error, from known weights and not."""
    errors, sizes = result["errors"], result["parameters"]
    known = max(errors["deep"]) < 0.2 * min(errors["fat"])
    random = max(errors["deep, from random values"]) < 0.2 * min(errors["fat"])
    wide, thin, lost = (result["measured"][name]["mean"] for name in CLAIM.deck)
    return Verdict(
        "holds" if known and random else "holds in part" if known else "does not hold",
        f"with {sizes['fat']} parameters one hidden layer has an error of {wide:.3f} on "
        f"{2 ** (FOLDS - 1)} teeth; {FOLDS} layers of two units with {sizes['deep']} have "
        f"{thin:.1e} near the weights that are known, and {lost:.3f} from random ones",
        f"{sizes['fat']} 个参数的单隐藏层误差为 {wide:.3f}；{sizes['deep']} 个参数的 {FOLDS} 层"
        f"网络在已知解附近误差为 {thin:.1e}，但从随机初值出发只到 {lost:.3f}",
    )


def beside(model, split, seed: int, steps: int, options: dict) -> tuple[float, dict]:
    """The error, and the weights, after training from the known weights with a little noise."""
    optimizer = optax.adam(optax.cosine_decay_schedule(1e-3, max(1, steps)))
    state = train.init_state(model, optimizer, jax.random.key(seed), split[0])
    rng = np.random.default_rng(seed)
    noisy = jax.tree.map(
        lambda a: a + 0.003 * rng.normal(size=a.shape).astype(np.float32), constructed()
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
    names = [name.replace(", from", ",\nfrom") for name in result["errors"]]
    axes[0].set(xticks=range(len(names)), xticklabels=names, yscale="log")
    axes[0].set(title="error, a point a seed")
    x, y = result["target"]
    axes[1].plot(x, y, "k", lw=3, alpha=0.3)
    for name, fit in result["fits"].items():
        axes[1].plot(x, fit, lw=1, label=name)
    axes[1].set(title="the best of each")
    axes[1].set(ylim=(-0.05, 1.3))
    axes[1].legend(frameon=False, fontsize=8, ncols=2, loc="upper center")
    deep = [shape for shape in SEIDE if shape.endswith("2048")]
    fat = [shape for shape in SEIDE if shape not in deep]
    for shapes, label in ((deep, "2048 wide"), (fat, "one layer")):
        millions = [result["speech"][shape]["parameters"] / 1e6 for shape in shapes]
        axes[2].plot(millions, [SEIDE[shape] for shape in shapes], "o-", label=label)
    axes[2].set(xscale="log", xlabel="million parameters", title="the lectures: word errors, %")
    axes[2].set(xticks=[20, 40, 80, 160], xticklabels=["20", "40", "80", "160"])
    axes[2].minorticks_off()
    axes[2].legend(frameon=False)
    return figure
