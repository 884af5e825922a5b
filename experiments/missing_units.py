"""Removes hidden units of networks trained with and without dropout. Lecture row X09.

The lectures compare dropout to a team: who knows that the partner may be absent works better.
Units that rely on particular other units are co-adapted (Srivastava et al. 2014, JMLR 15, sec. 7).
Measured: the accuracy when a random part of the hidden units is removed from a trained network. The
remaining units are not scaled up.
"""

from __future__ import annotations

import dataclasses
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
    rows=("X09",),
    step="best",
    statement="Who knows that the partner may be absent works better: dropout as a team.",
    deck={},
    source="nn/dropout.py",
    minutes=1,
)
RATES = {"no dropout": 0.0, "dropout 0.2": 0.2, "dropout 0.5": 0.5}
SHARES = (0.0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75)
"""Shares of the hidden units that are removed."""
WIDTH, LAYERS = 128, 2


@dataclasses.dataclass(frozen=True)
class Config(_run.Config):
    seeds: int = 5
    """Networks of each kind."""
    choices: int = 20
    """Random choices of the removed units."""


def network(rate: float) -> jaxdl.Module:
    dropout = [nn.dropout(rate)] if rate else []
    hidden = [
        part
        for _ in range(LAYERS)
        for part in (nn.dense(WIDTH, kernel_init="he_normal"), jax.nn.relu, *dropout)
    ]
    return jaxdl.serial(nn.flatten(), *hidden, nn.dense(10))


def choose_units(share: float, count: int, seed: int) -> np.ndarray:
    """Returns random masks with exactly that share of zeros, (count, LAYERS, WIDTH)."""
    rng = np.random.default_rng(seed)
    # An exact number of units, so that the share does not vary between the choices.
    rows = np.tile(np.arange(WIDTH) >= round(share * WIDTH), (count, LAYERS, 1))
    return rng.permuted(rows, axis=-1).astype(np.float32)


def logits_without(params: Any, x: jax.Array, masks: Sequence[jax.Array]) -> jax.Array:
    """Computes the logits with the hidden units multiplied by masks, one (H,) for each layer."""
    x = x.reshape(len(x), -1)
    for i, mask in enumerate(masks):
        layer = params[f"dense_{i}"]
        x = jax.nn.relu(nn.functional.dense(x, layer["kernel"], layer["bias"])) * mask
    layer = params[f"dense_{len(masks)}"]
    return nn.functional.dense(x, layer["kernel"], layer["bias"])


@jax.jit
def accuracy_without(params: Any, masks: jax.Array, x: jax.Array, labels: jax.Array) -> jax.Array:
    """Returns the accuracy for each choice of masks (choices, layers, H), (choices,)."""
    answers = jax.lax.map(lambda mask: logits_without(params, x, tuple(mask)).argmax(-1), masks)
    return (answers == labels).mean(-1)


def run(config: Config) -> dict:
    seeds, choices = (2, 2) if config.smoke else (config.seeds, config.choices)
    digits = data.digits()
    x, y = jnp.asarray(digits.test.x), jnp.asarray(digits.test.y)
    accuracy = {}
    for name, rate in RATES.items():
        states, _ = train.train_many(
            network(rate),
            digits.train,
            seeds=range(config.seed, config.seed + seeds),
            loss="cross_entropy",
            optimizer=optax.sgd(0.1),
            batch_size=32,
            epochs=1 if config.smoke else 60,
            verbose=0,
        )
        accuracy[name] = [
            [
                # The same choices for every rate: the networks differ by their training alone.
                float(accuracy_without(tree, choose_units(share, choices, i), x, y).mean())
                for i, tree in enumerate(_seeds.split(states.params, seeds))
            ]
            for share in SHARES
        ]
    measured = {}
    for name, values in accuracy.items():
        measured[name] = _seeds.summarize(values[0])
        measured[f"{name}, half removed"] = _seeds.summarize(values[SHARES.index(0.5)])
    for name, spread in measured.items():
        print(f"{name:26s} test accuracy {_seeds.format_summary(spread)}")
    result = {"measured": measured, "shares": list(SHARES), "accuracy": numbers(accuracy)}
    _figure.save(draw(result), config, "missing_units", "missing_units")
    return result


def judge(result: dict) -> Verdict:
    """Requires dropout to be ahead with half of the units removed.

    Every seed must be above every seed without dropout, and the mean by 0.1; with all units,
    dropout may be behind by 0.01 at most.
    """
    accuracy = {name: np.array(values) for name, values in result["accuracy"].items()}
    half = result["shares"].index(0.5)
    plain, low, high = accuracy.values()
    ahead = [
        bool(values[half].min() > plain[half].max())
        and values[half].mean() - plain[half].mean() > 0.1
        for values in (low, high)
    ]
    whole = all(values[0].mean() > plain[0].mean() - 0.01 for values in (low, high))
    outcome = "does not hold"
    if any(ahead):
        outcome = "holds" if all(ahead) and whole else "holds in part"
    return Verdict(
        outcome,
        f"with half of the hidden units removed the accuracy is {plain[half].mean():.3f} without "
        f"dropout, {low[half].mean():.3f} after dropout of 0.2 and {high[half].mean():.3f} after "
        f"0.5; with all units {plain[0].mean():.3f}, {low[0].mean():.3f} and {high[0].mean():.3f}",
        {
            "halved": [values[half].mean() for values in (plain, low, high)],
            "full": [values[0].mean() for values in (plain, low, high)],
        },
    )


def draw(result: dict) -> Any:
    """Draws the accuracy by the share of the units that are removed."""
    plt = _figure.pyplot()
    figure, axis = plt.subplots(figsize=(6, 3.5), layout="constrained")
    for name, values in result["accuracy"].items():
        means, deviations = np.mean(values, 1), np.std(values, 1)
        axis.errorbar(result["shares"], means, deviations, marker="o", capsize=3, label=name)
    axis.set(xlabel="share of the hidden units removed", ylabel="test accuracy", ylim=(0, 1.02))
    axis.legend(frameon=False)
    return figure
