"""Compares optimizers in a ravine and on digits. Lecture rows D06, D07.

Each optimizer has the best of several learning rates, because one rate would not suit all of them.
The ravine is a quadratic with curvatures 1 and 100: the steep direction limits the steps of plain
gradient descent, which is then slow along the other. At a constant rate RMSprop, whose steps do not
shrink with the gradient, never converges. On the embedded digits all rates are trained over several
seeds, with one compiled program for each optimizer.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxdl
from experiments import _figure, _run, _seeds
from experiments._claim import Claim, Verdict, numbers
from jaxdl import data, nn, optim

CLAIM = Claim(
    rows=("D07", "D06"),
    step="best",
    statement="Momentum and adaptive learning rates descend faster than plain gradient descent.",
    deck={"SGD": None, "momentum": None, "Adagrad": None, "RMSprop": None, "Adam": None},
    source="optim.py",
    minutes=1,
)
MAKERS: dict[str, Callable[..., optax.GradientTransformation]] = {
    "SGD": lambda learning_rate: optax.sgd(learning_rate),
    "momentum": lambda learning_rate: optax.sgd(learning_rate, momentum=0.9),
    "Adagrad": lambda learning_rate: optim.adagrad(learning_rate),
    "RMSprop": lambda learning_rate: optax.rmsprop(learning_rate),
    "Adam": lambda learning_rate: optax.adam(learning_rate),
}
MOST = 5000
"""The largest number of steps down the ravine."""
RATES = tuple(float(rate) for rate in 10.0 ** np.arange(-4, 0.51, 0.5))


@dataclasses.dataclass(frozen=True)
class Config(_run.Config):
    seeds: int = 5
    """Networks of each optimizer and rate."""
    epochs: int = 5
    """Epochs on the digits."""


def run(config: Config) -> dict:
    seeds, epochs = (2, 1) if config.smoke else (config.seeds, config.epochs)
    digits = data.digits()
    model = jaxdl.serial(nn.flatten(), nn.dense(64), jax.nn.relu, nn.dense(10))
    many, losses, measured, best = {}, {}, {}, {}
    for name, make in MAKERS.items():
        trained = many[name] = _seeds.train_networks(
            config,
            model,
            digits.train,
            seeds=seeds,
            loss="cross_entropy",
            optimizer=make,
            hyper={"learning_rate": RATES},
            batch_size=100,
            epochs=epochs,
        )
        values = trained.history["loss"][:, -1].reshape(seeds, len(RATES))
        # A diverged run counts as a loss of 1,000, a number that JSON and the figure can have.
        losses[name] = np.where(np.isfinite(values), np.minimum(values, 1e3), 1e3)
        best[name] = int(np.median(losses[name], 0).argmin())
        measured[name] = _seeds.summarize(losses[name][:, best[name]])
    steps = {name: count_ravine_steps(make) for name, make in MAKERS.items()}
    for name, spread in measured.items():
        print(
            f"{name:9s} digits: loss {_seeds.format_summary(spread)} at rate "
            f"{RATES[best[name]]:.2g}; ravine: {steps[name]} steps"
        )
    result = {
        "measured": measured,
        "rates": list(RATES),
        "best": {name: RATES[i] for name, i in best.items()},
        "losses": numbers(losses),
        "ravine": steps,
        **_seeds.summarize_times(many),
    }
    _figure.save(draw(result), config, "optimizers", "optimizers")
    return result


def judge(result: dict) -> Verdict:
    """Requires each optimizer to have a lower loss than SGD on digits, and fewer ravine steps.

    On the digits the losses must differ by more than the larger deviation over the seeds.
    """
    measured, steps = result["measured"], result["ravine"]
    others = [name for name in measured if name != "SGD"]

    def ahead(name: str) -> bool:
        noise = max(measured[name]["deviation"], measured["SGD"]["deviation"])
        return measured["SGD"]["mean"] - measured[name]["mean"] > noise

    digits = {name: ahead(name) for name in others}
    down = {name: steps[name] < steps["SGD"] for name in others}
    if all((*digits.values(), *down.values())):
        outcome = "holds"
    elif digits["momentum"] and down["momentum"] and any(digits[n] and down[n] for n in others[1:]):
        outcome = "holds in part"
    else:
        outcome = "does not hold"
    losses = ", ".join(f"{name} {spread['mean']:.3f}" for name, spread in measured.items())
    ravine = ", ".join(f"{name} {format_steps(steps[name])}" for name in measured)
    behind = [name for name in others if not digits[name]]
    late = [name for name in others if not down[name]]
    return Verdict(
        outcome,
        f"loss on the digits, each at its best rate: {losses}; ahead of SGD by no more than the "
        f"deviation over the seeds: {', '.join(behind) or 'none'}; steps down a ravine: {ravine}; "
        f"not faster than SGD there: {', '.join(late) or 'none'}",
        {
            "losses": [{"name": name, "loss": spread["mean"]} for name, spread in measured.items()],
            "behind": [{"name": name} for name in behind],
            "steps": [
                {
                    "name": name,
                    "never": steps[name] >= MOST,
                    "steps": f"(> {MOST})" if steps[name] >= MOST else steps[name],
                }
                for name in measured
            ],
            "late": [{"name": name} for name in late],
        },
    )


def format_steps(count: int) -> str:
    """Returns the number of steps, or at `MOST` that the optimizer never came to rest."""
    return f"never at rest (> {MOST})" if count >= MOST else f"{count}"


def count_ravine_steps(make: Callable[..., optax.GradientTransformation], most: int = MOST) -> int:
    """Counts the steps from (1, 0.3) until x^2 + 100 y^2 stays below 1e-6, at the best rate."""
    curvatures = jnp.array([1.0, 100.0])

    def steps(rate):
        optimizer = make(rate)

        def advance(carry, _):
            x, state = carry
            # optax mixes integers and floats in its updates, which strict promotion would reject.
            with jax.numpy_dtype_promotion("standard"):
                updates, state = optimizer.update(curvatures * x, state, x)
            x = jnp.asarray(optax.apply_updates(x, updates))
            # Not (<=) rather than (>), so that NaN counts as not converged.
            return (x, state), ~(jnp.sum(curvatures * x**2) <= 1e-6)

        x = jnp.array([1.0, 0.3])
        _, above = jax.lax.scan(advance, (x, optimizer.init(x)), length=most)
        last = jnp.max(jnp.where(above, jnp.arange(1, most + 1), 0))
        return last + 1

    # A finer grid than on the digits, which costs little: all rates run in one `vmap`.
    rates = jnp.asarray(10.0 ** np.arange(-4, 1.01, 0.1), jnp.float32)
    return min(most, int(jax.jit(jax.vmap(steps))(rates).min()))


def draw(result: dict) -> Any:
    """Draws the final loss by the rate for each optimizer, and the steps down the ravine."""
    plt = _figure.pyplot()
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
    for name, values in result["losses"].items():
        middle = np.median(values, 0)
        left.loglog(result["rates"], middle, marker=".", label=name)
        left.fill_between(result["rates"], np.min(values, 0), np.max(values, 0), alpha=0.15)
    left.set(xlabel="learning rate", ylabel="loss on the digits", ylim=(0.01, 20))
    left.legend(frameon=False, fontsize=8)
    bars = right.barh(list(result["ravine"]), list(result["ravine"].values()))
    right.bar_label(bars, [format_steps(count) for count in result["ravine"].values()], padding=3)
    right.set(xscale="log", xlim=(1, 3e5), xlabel="steps down the ravine, best rate")
    right.invert_yaxis()
    return figure
