"""Approximates functions with one hidden layer of increasing width. Lecture row A13.

Cybenko 1989, Hornik 1991: one wide hidden layer can approximate any continuous function on a
bounded set as closely as needed. Such weights exist, but gradient descent may not find them. The
largest error is measured for widths from 4 to 64 on a wave and on a bump in the plane, after
training to convergence.
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
from jaxdl import nn

CLAIM = Claim(
    rows=("A13",),
    step="set",
    statement="With enough hidden units, one hidden layer can approximate any continuous function.",
    deck={"width 4": None, "width 64": None},
    source="nn/dense.py",
    minutes=4,
)
WIDTHS = (4, 8, 16, 32, 64)


@dataclasses.dataclass(frozen=True)
class Config(_run.Config):
    seeds: int = 5
    """Networks of each width."""
    steps: int = 6000
    """Steps of Adam on all points."""


def targets() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    line = np.linspace(-1, 1, 256, dtype=np.float32)[:, None]
    plane = np.stack(np.meshgrid(*2 * [np.linspace(-1, 1, 24)]), -1).reshape(-1, 2)
    plane = plane.astype(np.float32)
    bump = np.exp(-4 * (plane**2).sum(1, keepdims=True)) * np.sin(4 * plane[:, :1])
    return {"sin(3 pi x)": (line, np.sin(3 * np.pi * line)), "a bump in the plane": (plane, bump)}


def run(config: Config) -> dict:
    seeds, steps = (2, 20) if config.smoke else (config.seeds, config.steps)
    many, errors, fits = {}, {}, {}
    for name, (x, y) in targets().items():
        for width in WIDTHS:
            model = jaxdl.serial(nn.dense(width), jax.nn.tanh, nn.dense(1))
            many[f"{name}, {width}"] = trained = _seeds.train_networks(
                config,
                model,
                (x, y),
                seeds=seeds,
                loss="squared_error",
                # To 0, because at a constant rate Adam's steps would hide the smallest errors.
                optimizer=optax.adam(optax.cosine_decay_schedule(0.02, steps)),
                batch_size=len(x),
                epochs=steps,
            )
            outputs = trained.predict(x)
            # The theorem is about the largest error, not the mean.
            errors[name, width] = np.abs(outputs - y).max((1, 2))
            fits[name, width] = outputs
        print(name, {w: round(float(errors[name, w].mean()), 4) for w in WIDTHS}, flush=True)
    wave = "sin(3 pi x)"
    result = {
        "measured": {f"width {w}": _seeds.summarize(errors[wave, w]) for w in WIDTHS},
        "widths": list(WIDTHS),
        **_seeds.summarize_times(many),
        "errors": numbers({n: [errors[n, w] for w in WIDTHS] for n in targets()}),
        "fits": numbers({w: fits[wave, w][0, ::2, 0] for w in (4, 8, 64)}),
    }
    _figure.save(draw(result), config, "universal_approximation", "universal_approximation")
    return result


def judge(result: dict) -> Verdict:
    """Requires the largest error to fall by a factor of 5, and in full with every width.

    The theorem promises the second for the best weights, but gradient descent may miss them. The
    means over the seeds are compared.
    """
    every = {name: np.mean(errors, 1) for name, errors in result["errors"].items()}
    falls = all(values[-1] < 0.2 * values[0] for values in every.values())
    ever = all(np.all(np.diff(values) < 0) for values in every.values())
    wave, bump = every.values()
    least = WIDTHS[int(wave.argmin())]
    text = {
        name: ", ".join(f"{value:.3f}" for value in values)
        for name, values in zip(("wave", "bump"), (wave, bump), strict=True)
    }
    widths = ", ".join(map(str, WIDTHS))
    return Verdict(
        "holds" if falls and ever else "holds in part" if falls else "does not hold",
        f"with {widths} units the largest error is {text['wave']} on a wave and {text['bump']} on "
        f"a bump in the plane; on the wave it is least with {least}; from 16 units on, descent "
        f"brings the bump only from {bump[2]:.3f} to {bump[-1]:.3f}",
        {
            "widths": widths,
            "text": text,
            "least": least,
            "bump": bump,
        },
    )


def draw(result: dict) -> Any:
    """Draws the largest error by width, and three fits of the wave."""
    plt = _figure.pyplot()
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
    for name, errors in result["errors"].items():
        values = np.array(errors)
        left.loglog(WIDTHS, values.mean(1), marker="o", label=name)
        left.fill_between(WIDTHS, values.min(1), values.max(1), alpha=0.2)
    left.set(xlabel="hidden units", title="largest error", xticks=WIDTHS, xticklabels=WIDTHS)
    left.minorticks_off()
    left.legend(frameon=False)
    x, y = targets()["sin(3 pi x)"]
    right.plot(x, y, "k", lw=3, alpha=0.3, label="the function")
    for width, fit in result["fits"].items():
        right.plot(x[::2], fit, lw=1.2, label=f"{width} units")
    right.set(ylim=(-1.15, 1.8))
    right.legend(frameon=False, fontsize=8, ncols=2, loc="upper center")
    return figure
