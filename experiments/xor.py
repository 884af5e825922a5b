"""Trains networks with and without a hidden layer on XOR. Lecture rows A08, A09.

A single unit's decision boundary is a line, and no line separates the classes of XOR. Hidden units
bend it: the figure shows the output of a network with four of them over the plane.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxdl
from experiments import _figure, _run, _seeds
from experiments._claim import Claim, Verdict, numbers
from jaxdl import nn

CLAIM = Claim(
    rows=("A08", "A09"),
    step="set",
    statement="A network without a hidden layer cannot compute XOR; with one it can.",
    deck={"no hidden layer": None, "hidden layer": None},
    source="nn/dense.py",
    minutes=0.5,
)
CORNERS = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
XOR = np.array([0, 1, 1, 0], np.int32)


@dataclasses.dataclass(frozen=True)
class Config(_run.Config):
    seeds: int = 20
    """Networks of each kind."""
    steps: int = 3000
    """Steps of gradient descent on all four corners."""


def run(config: Config) -> dict:
    seeds, steps = (3, 50) if config.smoke else (config.seeds, config.steps)
    models = {
        "no hidden layer": jaxdl.serial(nn.dense(2)),
        "hidden layer": jaxdl.serial(nn.dense(4), jax.nn.tanh, nn.dense(2)),
    }
    many = {}
    for name, model in models.items():
        # One batch of all four corners, so that the gradient has no sampling noise.
        many[name] = _seeds.train_networks(
            config,
            model,
            (CORNERS, XOR),
            seeds=seeds,
            loss="cross_entropy",
            optimizer=optax.sgd(0.5, momentum=0.9),
            batch_size=4,
            epochs=steps,
            eval_data=(CORNERS, XOR),
            metrics=["accuracy"],
        )
    histories = {name: trained.history for name, trained in many.items()}
    accuracy = {name: history["eval_accuracy"][:, -1] for name, history in histories.items()}
    losses = {name: _seeds.summarize(h["eval_loss"][:, -1]) for name, h in histories.items()}
    for name, values in accuracy.items():
        right = _seeds.format_summary(_seeds.summarize(values))
        print(f"{name:16s} accuracy {right}, loss {losses[name]['mean']:.2e}")
    params = jax.tree.map(lambda a: a[0], many["hidden layer"].params)
    # Beyond the corners, where the boundary is not determined by data.
    grid = np.stack(np.meshgrid(*2 * [np.linspace(-0.5, 1.5, 40)]), -1).astype(np.float32)
    logits, _ = models["hidden layer"].apply(params, {}, jnp.asarray(grid.reshape(-1, 2)))
    every = max(1, steps // 100)
    result = {
        "measured": {name: _seeds.summarize(values) for name, values in accuracy.items()},
        "accuracy": numbers(accuracy),
        "losses": losses,
        "curves": numbers({n: h["eval_loss"][:, ::every] for n, h in histories.items()}),
        **_seeds.summarize_times(many),
        "answers": numbers(jax.nn.softmax(logits)[:, 1].reshape(40, 40), 3),
    }
    _figure.save(draw(result), config, "xor", "xor")
    return result


def judge(result: dict) -> Verdict:
    """Requires four right corners of all networks with a hidden layer, of none without.

    If only some with a hidden layer succeed, a part of the claim is true: it is possible.
    """
    one, two = (np.array(result["accuracy"][name]) for name in CLAIM.deck)
    possible = one.max() <= 0.75 and two.max() == 1
    low, high = (result["losses"][name]["mean"] for name in CLAIM.deck)
    return Verdict(
        "does not hold" if not possible else "holds" if two.min() == 1 else "holds in part",
        f"without a hidden layer {one.mean():.2f} of the corners on average and {one.max():.2f} at "
        f"best, with one all of them in {int((two == 1).sum())} of {len(two)} networks; loss "
        f"{low:.3f} and {high:.1e}",
        {
            "mean": one.mean(),
            "best": one.max(),
            "networks": len(two),
            "solved": int((two == 1).sum()),
        },
    )


def draw(result: dict) -> Any:
    """Draws the loss of every network, and the output of one over the plane."""
    plt = _figure.pyplot()
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.5), layout="constrained")
    for i, (name, curves) in enumerate(result["curves"].items()):
        times = np.linspace(0, 1, len(curves[0]))
        left.semilogy(times, np.transpose(curves), color=f"C{i}", lw=0.6)
        left.plot([], [], color=f"C{i}", label=name)
    left.set(xlabel="share of the training", title="loss, a line a seed")
    left.legend(frameon=False)
    extent = (-0.5, 1.5, -0.5, 1.5)
    look = {"origin": "lower", "extent": extent, "cmap": "RdBu_r", "vmin": 0, "vmax": 1}
    right.imshow(result["answers"], **look)
    right.scatter(*CORNERS.T, c=XOR, cmap="RdBu_r", edgecolors="k", s=80)
    right.set(title="output of a network with a hidden layer")
    return figure
