"""Counts the linear pieces of ReLU networks by their number of neurons. Lecture row X04.

A ReLU network is piecewise linear. Along the line between two test images its pieces are counted
exactly, in float64, from the zeros of every unit, layer by layer. With one hidden layer of n units
there are at most n + 1. Montufar et al. 2014 (arXiv 1402.1869), sec. 2; Hanin and Rolnick 2019
(arXiv 1901.09021).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments import _figure, _run, _seeds, how_large
from experiments._claim import Claim, Verdict, numbers
from jaxdl import data

WIDTHS, LAYERS = (4, 8, 16, 32, 64), (1, 3)
KINDS = ("random", "trained")
CLAIM = Claim(
    rows=("X04",),
    step="set",
    statement="More neurons make more complex non-linear mappings.",
    deck={},
    source="nn/activation.py",
    minutes=1,
)


@dataclasses.dataclass(frozen=True)
class Config(_run.Config):
    seeds: int = 5
    """Networks of each kind."""
    lines: int = 50
    """Pairs of test images, of different digits."""


def run(config: Config) -> dict:
    seeds = range(config.seed, config.seed + (2 if config.smoke else config.seeds))
    digits = data.digits()
    shapes = [(width, layers) for layers in LAYERS for width in WIDTHS]
    lines = choose_lines(digits.test, 2 if config.smoke else config.lines, config.seed)
    # All shapes as one program, and with masks that do not change the pieces.
    networks = how_large.sweep(shapes, seeds, digits.train, 1 if config.smoke else 30)
    initial = how_large.init_shapes(networks.model, shapes, seeds, digits.train.x[:32])
    size = len(LAYERS), len(WIDTHS), len(seeds)
    pieces = {}
    for kind, params in zip(KINDS, (initial.params, networks.params), strict=True):
        runs = [
            how_large.slice_shape(params, i, *shapes[i // len(seeds)])
            for i in range(len(shapes) * len(seeds))
        ]
        counts = [np.mean([len(knots(run, *line)) - 1 for line in lines]) for run in runs]
        pieces[kind] = numbers(np.reshape(counts, size))
    accuracy = networks.accuracy(digits.test.x, digits.test.y).reshape(size)
    result = {
        "measured": {
            f"{kind}, {layers} x {WIDTHS[j]}": _seeds.summarize(pieces[kind][i][j])
            for kind in KINDS
            for i, layers in enumerate(LAYERS)
            for j in (0, -1)
        },
        "widths": list(WIDTHS),
        "layers": list(LAYERS),
        "pieces": pieces,
        "accuracy": numbers(accuracy),
        "example": numbers(example_slopes(networks, shapes, len(seeds), lines[0])),
    }
    for name, values in result["measured"].items():
        print(f"{name:16s} pieces {_seeds.format_summary(values)}")
    _figure.save(draw(result), config, "linear_pieces", "linear_pieces")
    return result


def choose_lines(split: data.Split, count: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns pairs of flat images of different classes, (D,) each."""
    rng = np.random.default_rng(seed)
    x = np.asarray(split.x, np.float64).reshape(len(split.x), -1)
    pairs = []
    while len(pairs) < count:
        i, j = rng.choice(len(x), 2, replace=False)
        if split.y[i] != split.y[j]:
            pairs.append((x[i], x[j]))
    return pairs


def knots(layers: Sequence[Any], start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Returns the places where the slope of a ReLU network changes along a line, from 0 to 1.

    Args:
      layers: (kernel, bias) of each dense layer, (D, H) and (H,); ReLU after all but the last.
      start, end: (D,), the ends of the line.

    Returns:
      (pieces + 1,), sorted, with both ends.
    """
    places = np.array([0.0, 1.0])
    # In double precision: rounding must not separate or merge crossings.
    values = np.stack([start, end]).astype(np.float64)
    for kernel, bias in layers[:-1]:
        inputs = values @ np.asarray(kernel, np.float64) + bias
        left, right = inputs[:-1], inputs[1:]
        interval, unit = np.nonzero(left * right < 0)
        share = left[interval, unit] / (left[interval, unit] - right[interval, unit])
        crossings = places[interval] + share * np.diff(places)[interval]
        more = np.sort(np.concatenate([places, crossings]))
        # Places closer than 1e-10 are one crossing, found twice by rounding.
        more = more[np.append(True, np.diff(more) > 1e-10)]
        values = np.stack([np.interp(more, places, column) for column in inputs.T], 1)
        places, values = more, np.maximum(values, 0)
    kernel, bias = layers[-1]
    slopes = np.diff(values @ np.asarray(kernel, np.float64) + bias, axis=0)
    slopes /= np.diff(places)[:, None]
    # A crossing of a unit without influence on the outputs does not end a piece.
    changes = np.abs(np.diff(slopes, axis=0)).max(1) > 1e-6 * np.abs(slopes).max()
    return places[np.concatenate([[True], changes, [True]])]


def example_slopes(
    networks: _seeds.Networks, shapes: list, seeds: int, line: Any
) -> dict[str, np.ndarray]:
    """Returns the slope of a logit of some trained networks along a line."""
    steps = np.linspace(0, 1, 201)
    x = jnp.asarray(line[0] + steps[:, None] * (line[1] - line[0]), jnp.float32)
    names = {f"{layers} x {width}": i for i, (width, layers) in enumerate(shapes)}
    curves = {}
    for name in (f"1 x {WIDTHS[0]}", f"1 x {WIDTHS[-1]}", f"3 x {WIDTHS[-1]}"):
        i = names[name] * seeds
        params, state = (
            jax.tree.map(lambda a, i=i: a[i], tree)
            for tree in (networks.params, networks.model_state)
        )
        logit = np.asarray(networks.model.apply(params, state, x)[0], np.float64)[:, 0]
        curves[name] = np.diff(logit) / np.diff(steps)
    return {"steps": steps[:-1]} | curves


def judge(result: dict) -> Verdict:
    """Requires more pieces on average at every larger width, at both depths, random and trained."""
    pieces = {kind: np.array(values).mean(-1) for kind, values in result["pieces"].items()}
    grows = {kind: bool(np.all(np.diff(means, axis=1) > 0)) for kind, means in pieces.items()}
    first, last = result["widths"][0], result["widths"][-1]
    random, trained = (pieces[kind] for kind in KINDS)
    return Verdict(
        "holds"
        if all(grows.values())
        else "holds in part"
        if any(grows.values())
        else "does not hold",
        f"between two test images a trained network of one hidden layer of {first} units has "
        f"{trained[0, 0]:.1f} linear pieces and of {last} units {trained[0, -1]:.1f}, with three "
        f"layers {trained[1, 0]:.1f} and {trained[1, -1]:.1f}; before training it is "
        f"{random[0, 0]:.1f}, {random[0, -1]:.1f}, {random[1, 0]:.1f} and {random[1, -1]:.1f}",
        {
            "first": first,
            "last": last,
            "random": random[:, [0, -1]],
            "trained": trained[:, [0, -1]],
        },
    )


def draw(result: dict) -> Any:
    """Draws the number of pieces by width, and the slope of a logit along one line."""
    plt = _figure.pyplot()
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
    for i, layers in enumerate(result["layers"]):
        for kind, style in zip(KINDS, ("--", "-"), strict=True):
            counts = np.array(result["pieces"][kind][i])
            label = f"{layers} layer{'s' * (layers > 1)}, {kind}"
            left.errorbar(
                result["widths"],
                counts.mean(-1),
                counts.std(-1),
                ls=style,
                color=f"C{i}",
                marker="o",
                capsize=3,
                label=label,
            )
    left.set_xscale("log", base=2)
    left.set_yscale("log", base=2)
    left.set(xlabel="units in a layer", title="linear pieces between two test images")
    left.legend(frameon=False)
    curves = dict(result["example"])
    steps = curves.pop("steps")
    for name, values in curves.items():
        right.step(steps, values, where="post", label=name)
    right.set(xlabel="from one image to the other", title="slope of the logit of 0, trained")
    right.legend(frameon=False)
    return figure
