"""Sweeps learning rates from too small to too large. Lecture row D05.

On a quadratic with the largest curvature lambda, gradient descent converges for rates below
2 / lambda and diverges above; it is run at 0.99 and at 1.01 of that rate. For a network on digits
the same sweep has the same three parts, and the curvature of its loss at the initial values is
measured.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

import jaxdl
from experiments import _figure, _run, _seeds
from experiments._claim import Claim, Verdict, numbers
from jaxdl import data, losses, nn

CLAIM = Claim(
    rows=("D05",),
    step="best",
    statement="Too large a learning rate does not lower the loss, too small a one hardly does.",
    deck={"too small": None, "right": None, "too large": None},
    source="optim.py",
    minutes=2,
)
RATES = tuple(float(rate) for rate in 10.0 ** np.arange(-4, 2.01, 0.5))


@dataclasses.dataclass(frozen=True)
class Config(_run.Config):
    seeds: int = 5
    """Networks at each rate."""
    epochs: int = 20
    """Epochs."""


def run(config: Config) -> dict:
    seeds, epochs = (2, 1) if config.smoke else (config.seeds, config.epochs)
    digits = data.digits()
    model = jaxdl.serial(nn.flatten(), nn.dense(64), jax.nn.relu, nn.dense(10))
    many = _seeds.train_networks(
        config,
        model,
        digits.train,
        seeds=seeds,
        loss="cross_entropy",
        optimizer=optax.sgd,
        hyper={"learning_rate": RATES},
        batch_size=100,
        epochs=epochs,
    )
    last = many.history["loss"][:, -1].reshape(seeds, len(RATES))
    last = np.where(np.isfinite(last), last, np.inf)
    # Gradient descent on a quadratic of curvature lambda diverges above 2 / lambda.
    threshold = 2 / curvature(model, digits.train)
    best = int(np.median(last, 0).argmin())
    measured = {
        "too small": _seeds.summarize(last[:, 0]),
        "right": _seeds.summarize(last[:, best]),
        "too large": _seeds.summarize(np.minimum(last[:, -1], 1e6)),
    }
    ends = {str(share): quadratic(share) for share in (0.99, 1.01)}
    print(
        f"loss at {RATES[0]:g}, {RATES[best]:.2g}, {RATES[-1]:g}:",
        *(f"{spread['mean']:.3g}" for spread in measured.values()),
    )
    print("quadratic:", *(f"{end:.1e} at {share} of 2 / lambda" for share, end in ends.items()))
    result = {
        "measured": measured,
        "rates": list(RATES),
        # JSON has no infinity.
        "losses": numbers(np.minimum(last, 1e6)),
        "threshold": threshold,
        "quadratic": ends,
        **_seeds.summarize_times({"rates": many}),
    }
    _figure.save(draw(result), config, "learning_rate", "learning_rate")
    return result


def judge(result: dict) -> Verdict:
    """Requires a threshold of 2 / lambda on the quadratic, and three parts of a network's sweep.

    The loss at chance is ln 10: the smallest rate must end above 0.8 of it, the largest above it,
    and the best below 0.2.
    """
    below, above = (result["quadratic"][share] for share in ("0.99", "1.01"))
    turns = below < 1e-3 and above > 1e3
    middle, rates = np.median(result["losses"], 0), result["rates"]
    best, chance = int(middle.argmin()), np.log(10)
    parts = middle[best] < 0.2 and middle[0] > 0.8 * chance and middle[-1] > chance
    # At an end of the sweep it would not be clear that the rate is the best.
    parts &= 0 < best < len(rates) - 1
    return Verdict(
        "holds" if turns and parts else "holds in part" if turns or parts else "does not hold",
        f"on a quadratic 0.99 of 2 / lambda ends at {below:.1e} of the first distance and 1.01 "
        f"at {above:.1e}; on the digits a rate of {rates[0]:g} ends at a loss of "
        f"{middle[0]:.2f}, {rates[best]:.2g} at {middle[best]:.3f}, {rates[-1]:g} at "
        f"{middle[-1]:.1f}; 2 / lambda of the untrained network is {result['threshold']:.2g}",
        {
            "below": below,
            "above": above,
            "rates": [rates[i] for i in (0, best, -1)],
            "losses": [middle[i] for i in (0, best, -1)],
        },
    )


def quadratic(share: float, steps: int = 2000) -> float:
    """Returns the distance from the minimum after descent at a share of 2 / lambda, from 1."""
    with jax.enable_x64(True):
        curvatures = jnp.array([1.0, 3.0, 10.0])

        def descend(x):
            return x - share * 2 / 10.0 * curvatures * x

        x = jax.lax.fori_loop(0, steps, lambda _, x: descend(x), jnp.ones(3))
        return float(jnp.abs(x).max())


def curvature(model: jaxdl.Module, split: data.Split, rounds: int = 100) -> float:
    """Computes the largest eigenvalue of the Hessian at initial values, by power iteration."""
    params, state = jaxdl.init(model, jax.random.key(0), split.x)
    x, y = jnp.asarray(split.x), jnp.asarray(split.y)
    flat, unravel = ravel_pytree(params)

    def loss(flat):
        return losses.cross_entropy(model.apply(unravel(flat), state, x)[0], y).mean()

    @jax.jit
    def multiply(v):
        return jax.jvp(jax.grad(loss), (flat,), (v / jnp.linalg.norm(v),))[1]

    v = jax.random.normal(jax.random.key(1), flat.shape)
    for _ in range(rounds):
        v = multiply(v)
    return float(jnp.linalg.norm(v))


def draw(result: dict) -> Any:
    """Draws the final loss by the learning rate."""
    plt = _figure.pyplot()
    figure, axis = plt.subplots(figsize=(6, 3.5), layout="constrained")
    values = np.array(result["losses"])
    axis.loglog(result["rates"], np.median(values, 0), marker="o")
    axis.fill_between(result["rates"], values.min(0), values.max(0), alpha=0.2)
    axis.axhline(np.log(10), color="0.5", ls=":", lw=1)
    axis.axvline(result["threshold"], color="C1", ls="--", lw=1, label="2 / lambda, untrained")
    axis.set(xlabel="learning rate", ylabel="loss after the last epoch")
    axis.legend(frameon=False)
    return figure
