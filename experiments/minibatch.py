"""Compares mini-batches with full batches over twenty epochs. Lecture rows T02, D08.

Twenty epochs of mini-batches are 12,000 updates, of full batches 20. The gradient of 100 images
costs a 600th of that of 60,000 and has almost the same direction: the cosine between the two is
measured.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from experiments import _figure, _lecture, _run, _seeds
from experiments._claim import Claim, Verdict, numbers
from jaxdl import losses

CLAIM = Claim(
    rows=("T02", "D08"),
    step="best",
    statement="In as many passes over the data, mini-batches train a network, full batches do not.",
    deck={"mini-batch": 0.84, "full batch": 0.12},
    source="data/batches.py",
    minutes=11,
)


@dataclasses.dataclass(frozen=True)
class Config(_run.Config):
    seeds: int = 5
    """Networks of each kind."""


def run(config: Config) -> dict:
    seeds = 2 if config.smoke else config.seeds
    rows = len(_lecture.load_images(config.smoke).train.y)
    networks = {
        "mini-batch": _lecture.train_networks(config, seeds=seeds),
        # The same rate for both: the claim is about equal passes over the data, not about tuning.
        "full batch": _lecture.train_networks(config, seeds=seeds, batch=rows),
    }
    accuracy = {name: trained.history["eval_accuracy"] for name, trained in networks.items()}
    measured = {name: _lecture.summarize_accuracy(network) for name, network in networks.items()}
    few = {
        name: _lecture.summarize_accuracy(
            _lecture.train_networks(config, seeds=seeds, rows=_lecture.FEW, batch=batch)
        )
        for name, batch in (("mini-batch", _lecture.BATCH), ("full batch", _lecture.FEW))
    }
    sizes, cosines = gradient_cosines(config, networks["mini-batch"])
    for name in measured:
        print(f"{name:10s} test accuracy {_seeds.format_summary(measured[name])}")
    # The batch size of the lectures.
    at_100 = float(np.mean(cosines[sizes.index(min(100, max(sizes)))]))
    print(f"cosine of the gradient of 100 rows with that of all: {at_100:.3f}")
    result = {
        "measured": measured,
        "few": few,
        "cosine_of_100": at_100,
        **_seeds.summarize_times(networks),
        "accuracy": numbers(accuracy),
        "sizes": sizes,
        "cosines": numbers(cosines),
    }
    _figure.save(draw(result), config, "minibatch", "minibatch")
    return result


def judge(result: dict) -> Verdict:
    """Requires mini-batches to be ahead by 0.4, with all images and with few.

    In full: the deck's 0.84, and its 0.12 within two deviations over the seeds; and the gradient of
    100 rows must have a cosine of at least 0.7 with that of all.
    """
    small, full = (result["measured"][name] for name in CLAIM.deck)
    few_small, few_full = (result["few"][name]["mean"] for name in CLAIM.deck)
    cosine = result["cosine_of_100"]
    ahead = small["mean"] - full["mean"] > 0.4 and few_small - few_full > 0.4
    met = full["mean"] - 2 * full["deviation"] <= 0.12 and small["mean"] >= 0.84 and cosine > 0.7
    return Verdict(
        "does not hold" if not ahead else "holds" if met else "holds in part",
        f"mini-batches reach {small['mean']:.3f}, full batches {full['mean']:.3f} with a deviation "
        f"of {full['deviation']:.3f} over the seeds (the lectures: 0.84 and 0.12) in as many "
        f"epochs; with {_lecture.FEW:,} training images {few_small:.3f} and {few_full:.3f}; the "
        f"gradient of 100 rows has a cosine of {cosine:.2f} with that of all",
        {
            "small": small,
            "full": full,
            "few": _lecture.FEW,
            "few_small": few_small,
            "few_full": few_full,
            "cosine": cosine,
        },
    )


def draw(result: dict) -> Any:
    """Draws the accuracy by epoch, and the cosines by the size of the batch."""
    plt = _figure.pyplot()
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
    _figure.curves(left, result["accuracy"], CLAIM.deck)
    left.set(ylabel="test accuracy", ylim=(0, 1), title="784-500-500-10, sigmoid")
    sizes, cosines = result["sizes"], result["cosines"]
    right.errorbar(sizes, np.mean(cosines, 1), np.std(cosines, 1), marker="o", capsize=3)
    right.set(xscale="log", xlabel="rows in the batch", ylim=(0, 1.02))
    right.set(title="cosine of its gradient with that of all rows")
    return figure


def gradient_cosines(
    config: Config, networks: _seeds.Networks
) -> tuple[list[int], list[list[float]]]:
    """Computes the cosines of batch gradients with the full one, before training.

    Returns:
      The sizes of the batches, and the cosines of ten batches of each size.
    """
    split = _lecture.load_images(config.smoke).train
    params, state = networks.model.init(jax.random.key(config.seed), split.x[:1])

    @jax.jit
    def gradient(x, y):
        def loss(p):
            return losses.cross_entropy(networks.model.apply(p, state, x)[0], y).mean()

        return ravel_pytree(jax.grad(loss)(params))[0]

    whole = gradient(split.x, split.y)
    rng = np.random.default_rng(config.seed)
    sizes = [size for size in (1, 10, 100, 1000) if size <= len(split.y)]
    cosines = []
    for size in sizes:
        drawn = [rng.choice(len(split.y), size, replace=False) for _ in range(10)]
        parts = [gradient(split.x[rows], split.y[rows]) for rows in drawn]
        cosines.append(
            [float(jnp.vdot(p, whole) / jnp.linalg.norm(p) / jnp.linalg.norm(whole)) for p in parts]
        )
    return sizes, cosines
