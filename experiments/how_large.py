"""Trains 24 shapes of network in one program to choose widths and depths. Lecture row X08.

The lectures choose the numbers of layers and neurons by trial and error, and intuition. Here masks
of units and layers are data, so that one compiled program trains all shapes from all seeds, on few
images and on many. A shape is chosen by its accuracy on validation images. The price of the masks:
a small network takes as long as the largest one.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxdl
from experiments import _figure, _run, _seeds
from experiments._claim import Claim, Verdict, numbers
from jaxdl import data, nn, train

CLAIM = Claim(
    rows=("X08",),
    step="set",
    statement="How many layers and neurons a task needs is found by trial and error.",
    deck={},
    source="train/sweep.py",
    minutes=1,
)
WIDTHS, LAYERS = (2, 4, 8, 16, 32, 64), (1, 2, 3, 4)
TASKS = {"few images": (200, 100), "many images": (1150, 30)}
"""Training images, and epochs."""


@dataclasses.dataclass(frozen=True)
class Config(_run.Config):
    seeds: int = 5
    """Networks of each shape."""


# Networks of many widths and depths in one program, which `linear_pieces` uses too. All runs have
# the arrays of the widest and deepest network. The masks are model state, which training does not
# change: a masked unit outputs 0, so that its incoming and outgoing weights have no gradient, and a
# masked layer returns its input. A run computes the same as an unmasked network of its shape.


def masked_layer() -> jaxdl.Module:
    """Builds a layer that masks the units of a new value, or returns the old value instead.

    Its state is `units` (D,), 1 for units in use, and `used` (), 1 where the layer is in use.
    """

    def init(key, new, old):
        return {}, {"units": jnp.ones(new.shape[-1]), "used": jnp.ones(())}

    def apply(params, state, new, old, **_):
        return jnp.where(state["used"] > 0, new * state["units"], old), state

    return jaxdl.Module(init, apply, "masked_layer")


def network(width: int, layers: int, classes: int = 10) -> jaxdl.Module:
    """Builds a ReLU classifier of at most `layers` hidden layers of at most `width` units."""
    children = {f"dense_{i}": nn.dense(width, kernel_init="he_normal") for i in range(layers)}
    children |= {f"mask_{i}": masked_layer() for i in range(layers)}
    children |= {"last": nn.dense(classes, kernel_init="he_normal")}

    def forward(call, x):
        x = x.reshape(len(x), -1)
        for i in range(layers):
            new = jax.nn.relu(call(f"dense_{i}", x))
            x = call(f"mask_{i}", new, x if i else new)
        return call("last", x)

    return jaxdl.compose("masked_network", children, forward, width=width, layers=layers)


def init_shapes(
    model: jaxdl.Module, shapes: Sequence[tuple[int, int]], seeds: Sequence[int], x: Any
) -> train.TrainState:
    """Initializes a run for each shape and seed, for plain SGD.

    Args:
      model: a `network`.
      shapes: (width, layers) of each network.
      seeds: of the initial values.
      x: a batch of inputs.

    Returns:
      States with a leading axis over the runs. Kernels that read w units of a width of W are
      scaled by sqrt(W / w), so that they have He's deviation for w inputs.
    """
    width, depth = model.config["width"], model.config["layers"]
    runs = [(shape, seed) for shape in shapes for seed in seeds]
    units = np.array([[np.arange(width) < w] * depth for (w, _), _ in runs], np.float32)
    used = np.array([np.arange(depth) < layers for (_, layers), _ in runs], np.float32)
    scale = np.array([(width / w) ** 0.5 for (w, _), _ in runs], np.float32)

    @jax.jit
    def init_run(key, units, used, scale):
        state = train.init_state(model, optax.sgd(0.1), key, x)
        params = {
            name: layer if name == "dense_0" else layer | {"kernel": layer["kernel"] * scale}
            for name, layer in state.params.items()
        }
        masks = {f"mask_{i}": {"units": units[i], "used": used[i]} for i in range(depth)}
        return state.replace(params=params, model_state=masks)

    keys = jax.vmap(jax.random.key)(jnp.array([seed for _, seed in runs]))
    return jax.vmap(init_run)(keys, units, used, scale)


def slice_shape(
    params: Any, run: int, width: int, layers: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns the kernels and biases of a run without their masked rows and columns."""
    names = [f"dense_{i}" for i in range(layers)] + ["last"]
    parts = []
    for i, name in enumerate(names):
        kernel, bias = (np.asarray(params[name][part][run]) for part in ("kernel", "bias"))
        rows = slice(None) if i == 0 else slice(width)
        columns = slice(None) if name == "last" else slice(width)
        parts.append((kernel[rows, columns], bias[columns]))
    return parts


def run(config: Config) -> dict:
    seeds = range(config.seed, config.seed + (2 if config.smoke else config.seeds))
    widths = WIDTHS[::5] if config.smoke else WIDTHS
    digits = data.digits()
    # Images 1150 and later are in no training set of `TASKS`.
    held_out = data.Split(digits.train.x[1150:], digits.train.y[1150:])
    shapes = [(width, layers) for width in widths for layers in LAYERS]
    accuracy, seconds, measured = {}, {}, {}
    for task, (rows, epochs) in TASKS.items():
        start = time.perf_counter()
        split = data.Split(digits.train.x[:rows], digits.train.y[:rows])
        networks = sweep(shapes, seeds, split, 1 if config.smoke else epochs)
        seconds[task] = time.perf_counter() - start
        size = len(widths), len(LAYERS), len(seeds)
        test, validation = (
            networks.accuracy(part.x, part.y).reshape(size) for part in (digits.test, held_out)
        )
        chosen = np.unravel_index(validation.mean(-1).argmax(), size[:2])
        accuracy[task] = {"test": numbers(test), "validation": numbers(validation)}
        measured |= {
            f"{task}, one layer": _seeds.summarize(test[-1, 0]),
            f"{task}, four layers": _seeds.summarize(test[-1, -1]),
            f"{task}, chosen": _seeds.summarize(test[chosen]),
        }
        print(f"{task}: chosen {widths[chosen[0]]} x {LAYERS[chosen[1]]}, {seconds[task]:.0f} s")
    for name, values in measured.items():
        print(f"{name:26s} test accuracy {_seeds.format_summary(values)}")
    result = {
        "measured": measured,
        "widths": list(widths),
        "layers": list(LAYERS),
        "accuracy": accuracy,
        "seconds": seconds,
    }
    _figure.save(draw(result), config, "how_large", "how_large")
    return result


def sweep(shapes: Any, seeds: Any, split: data.Split, epochs: int) -> _seeds.Networks:
    """Trains networks of all shapes from all seeds as one program, shape by shape."""
    width, layers = np.max(shapes, 0).tolist()
    model = network(width, layers)
    states, history = train.train_many(
        model,
        split,
        # The same seeds for every shape: runs of one seed have the same order of the data.
        seeds=[seed for _ in shapes for seed in seeds],
        states=init_shapes(model, shapes, seeds, split.x[:32]),
        loss="cross_entropy",
        optimizer=optax.sgd(0.1),
        batch_size=32,
        epochs=epochs,
        verbose=0,
    )
    return _seeds.Networks(model, states.params, states.model_state, history, 0.0, 1.0)


def judge(result: dict) -> Verdict:
    """Requires the best depth to differ between the tasks, and good shapes to be chosen.

    Depths are compared at the largest width: one layer must be better on few images and four on
    many, each by more than twice the standard error of the difference. The chosen shape may be at
    most 0.01 below the best.
    """
    tests = {task: np.array(values["test"]) for task, values in result["accuracy"].items()}
    lead = {task: test[-1, -1] - test[-1, 0] for task, test in tests.items()}
    error = {task: gain.std(ddof=1) / len(gain) ** 0.5 for task, gain in lead.items()}
    few, many = TASKS
    differ = lead[few].mean() < -2 * error[few] and lead[many].mean() > 2 * error[many]
    shapes = {
        task: choose(values["validation"], result) for task, values in result["accuracy"].items()
    }
    best = {task: test.mean(-1).max() for task, test in tests.items()}
    worst = {task: test.mean(-1).min() for task, test in tests.items()}
    chosen = {task: result["measured"][f"{task}, chosen"]["mean"] for task in TASKS}
    close = all(best[task] - chosen[task] <= 0.01 for task in TASKS)
    needed = all(best[task] - worst[task] > 0.1 for task in TASKS)
    outcome = "does not hold"
    if needed and close:
        outcome = "holds" if differ else "holds in part"
    return Verdict(
        outcome,
        f"at a width of {result['widths'][-1]}, four layers change the accuracy of one by "
        f"{lead[few].mean():+.3f} with {TASKS[few][0]} training images and by "
        f"{lead[many].mean():+.3f} with {TASKS[many][0]:,}; the shapes that the held-out images "
        f"choose, {shapes[few]} and {shapes[many]} units, reach {chosen[few]:.3f} and "
        f"{chosen[many]:.3f}, the best {best[few]:.3f} and {best[many]:.3f}, the worst "
        f"{worst[few]:.3f} and {worst[many]:.3f}",
        {
            "width": result["widths"][-1],
            "few_images": TASKS[few][0],
            "few_lead": lead[few].mean(),
            "many_images": TASKS[many][0],
            "many_lead": lead[many].mean(),
            "chosen": [*chosen.values()],
            "best": [*best.values()],
            "worst": [*worst.values()],
        },
    )


def choose(validation: Any, result: dict) -> str:
    """Returns the shape with the highest mean validation accuracy: "2 x 64"."""
    means = np.mean(validation, -1)
    width, layers = np.unravel_index(means.argmax(), means.shape)
    return f"{result['layers'][layers]} x {result['widths'][width]}"


def draw(result: dict) -> Any:
    """Draws the test accuracy by width, a line for each depth, for both tasks."""
    plt = _figure.pyplot()
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained", sharey=True)
    for axis, (task, values) in zip(axes, result["accuracy"].items(), strict=True):
        test = np.array(values["test"])
        for i, layers in enumerate(result["layers"]):
            means, deviations = test[:, i].mean(-1), test[:, i].std(-1)
            label = f"{layers} hidden layer{'s' * (layers > 1)}"
            axis.errorbar(result["widths"], means, deviations, marker="o", capsize=3, label=label)
        axis.set_xscale("log", base=2)
        axis.set(xlabel="units in a layer", title=f"{TASKS[task][0]:,} training images")
    axes[0].set(ylabel="test accuracy", ylim=(0, 1))
    axes[1].legend(frameon=False)
    return figure
