"""Compares training losses with robustness, by attacks and noise. Lecture row X05.

The lectures: the smaller the difference that the loss gives, the more robust the model. There are
two counterexamples on the embedded digits. The longer a network trains, the smaller its loss and,
after the first epochs, its accuracy under attack; and weight decay gives a larger loss and a more
robust network. The attack is projected gradient ascent (Madry et al. 2018, arXiv 1706.06083).
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
from jaxdl import attack, data, losses, nn, train

CLAIM = Claim(
    rows=("X05",),
    step="goodness",
    statement="The smaller the difference the loss gives, the more robust the model.",
    deck={},
    source="losses.py",
    minutes=1,
)
EPOCHS = (2, 5, 10, 30, 100, 200)
EARLY = 10
DECAYS = (0.0, 0.01)
SIZE, DEVIATION = 0.1, 0.3
"""Largest change of a pixel by the attack, and deviation of the noise; pixels are in [0, 1]."""
MEASURES = ("loss", "clean", "under attack", "with noise")


@dataclasses.dataclass(frozen=True)
class Config(_run.Config):
    seeds: int = 5
    """Networks of each kind."""


def network() -> jaxdl.Module:
    hidden = nn.dense(128, kernel_init="he_normal")
    return jaxdl.serial(nn.flatten(), hidden, jax.nn.relu, nn.dense(10))


def run(config: Config) -> dict:
    seeds = range(config.seed, config.seed + (2 if config.smoke else config.seeds))
    epochs = (1, 2) if config.smoke else EPOCHS
    digits = data.digits()
    values = trace(network(), digits, seeds, epochs, steps=2 if config.smoke else 20)
    early = epochs.index(EARLY) if EARLY in epochs else 0
    places = {"early": (early, 0), "end": (-1, 0), "weight decay": (-1, 1)}
    measured = {
        f"{measure}, {name}": _seeds.summarize(values[measure][place])
        for measure in ("loss", "under attack", "with noise")
        for name, place in places.items()
    }
    for name, spread in measured.items():
        print(f"{name:28s} {_seeds.format_summary(spread)}")
    result = {
        "measured": measured,
        "epochs": list(epochs),
        "decays": list(DECAYS),
        "by_epoch": numbers(values),
    }
    _figure.save(draw(result), config, "smaller_loss", "smaller_loss")
    return result


def trace(
    model: jaxdl.Module, dataset: data.Dataset, seeds: Any, epochs: Any, steps: int
) -> dict[str, np.ndarray]:
    """Trains with and without weight decay, and measures after some epochs.

    Returns:
      (epochs, decays, seeds) arrays: the training loss and the test accuracies of `MEASURES`.
    """
    measure = make_measure(model, dataset, steps)
    states, rows, done = None, [], 0
    for epoch in epochs:
        states, _ = train.train_many(
            model,
            dataset.train,
            seeds=seeds,
            loss="cross_entropy",
            optimizer=sgd_with_decay,
            hyper={"decay": DECAYS},
            batch_size=32,
            # Continued and not trained again: the points of a curve are the same networks.
            epochs=epoch - done,
            states=states,
            verbose=0,
        )
        done = epoch
        rows.append([measure(p) for p in _seeds.split(states.params, len(states.step))])
    values = np.array(rows).reshape(len(epochs), len(seeds), len(DECAYS), len(MEASURES))
    return dict(zip(MEASURES, values.transpose(3, 0, 2, 1), strict=True))


def sgd_with_decay(decay: Any) -> optax.GradientTransformation:
    return optax.chain(optax.add_decayed_weights(decay), optax.sgd(0.1))


def make_measure(model: jaxdl.Module, dataset: data.Dataset, steps: int) -> Any:
    """Builds `params -> (4,)`: the training loss and three test accuracies, as `MEASURES`."""
    test = dataset.test
    # All networks are measured with the same noise.
    noise = np.random.default_rng(0).normal(0, DEVIATION, test.x.shape).astype(np.float32)

    @jax.jit
    def measure(params, x, y, test_x, test_y):
        def f(x):
            return model.apply(params, {}, x)[0]

        inputs = test_x, attack.pgd(f, test_x, test_y, SIZE, steps=steps), test_x + noise
        right = [(f(part).argmax(-1) == test_y).mean() for part in inputs]
        return jnp.stack([losses.cross_entropy(f(x), y).mean(), *right])

    return lambda params: np.asarray(measure(params, *dataset.train, *test))


def judge(result: dict) -> Verdict:
    """Looks for networks with a smaller loss and a smaller accuracy under attack.

    There are two counterexamples: the end of training against the tenth epoch, and no decay against
    weight decay. Each needs at most half of the loss and 0.03 less accuracy for every seed.
    """
    loss, attacked, noisy = (
        np.array(result["by_epoch"][name]) for name in ("loss", "under attack", "with noise")
    )
    early = result["epochs"].index(EARLY) if EARLY in result["epochs"] else 0
    # As (epoch, decay): the tenth epoch, and the end with weight decay.
    pairs = [(early, 0), (-1, 1)]
    against = [
        bool(np.all(loss[-1, 0] < loss[other] / 2))
        and bool(np.all(attacked[-1, 0] < attacked[other] - 0.03))
        for other in pairs
    ]
    outcome = "does not hold" if all(against) else "holds in part" if any(against) else "holds"
    means = [[values[p].mean() for p in (*pairs, (-1, 0))] for values in (loss, attacked, noisy)]
    (l_early, l_decay, l_end), (a_early, a_decay, a_end), (n_early, n_decay, n_end) = means
    last = result["epochs"][-1]
    return Verdict(
        outcome,
        f"from epoch {result['epochs'][early]} to epoch {last} the training loss falls from "
        f"{l_early:.3f} to {l_end:.4f}, and the accuracy under attack from {a_early:.3f} to "
        f"{a_end:.3f}; weight decay ends at a loss of {l_decay:.3f} and "
        f"{a_decay:.3f} under attack; with noise the accuracy is {n_early:.3f}, {n_end:.3f} and "
        f"{n_decay:.3f}",
        {
            "epochs": (result["epochs"][early], last),
            **dict(zip(("loss", "attacked", "noisy"), means, strict=True)),
        },
    )


def draw(result: dict) -> Any:
    """Draws the loss and the accuracies by epoch, with weight decay dashed."""
    plt = _figure.pyplot()
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
    for i, name in enumerate(MEASURES):
        axis = right if i else left
        for j, (decay, style) in enumerate(zip(result["decays"], ("-", "--"), strict=True)):
            values = np.array(result["by_epoch"][name])[:, j]
            label = name + (f", weight decay {decay:g}" if decay else "")
            axis.errorbar(
                result["epochs"],
                values.mean(1),
                values.std(1),
                color=f"C{i}",
                ls=style,
                marker="o",
                ms=4,
                capsize=3,
                label=label,
            )
    left.set(xscale="log", yscale="log", xlabel="epoch", title="training loss")
    right.set(xscale="log", xlabel="epoch", title="test accuracy", ylim=(0, 1.02))
    for axis in (left, right):
        axis.legend(frameon=False, fontsize=8)
    return figure
