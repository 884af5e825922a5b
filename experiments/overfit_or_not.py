"""Diagnoses networks by their training error, and adds dropout to each. Lecture row E01.

There are three networks: one that is too small to fit its training images, one that memorizes few
images, and one that learns from many. `train.diagnose` distinguishes them by their accuracies in
training and test. Dropout, which helps against overfitting alone, is added to each of them.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np
import optax

import jaxdl
from experiments import _figure, _lecture, _run, _seeds
from experiments._claim import Claim, Verdict, numbers
from jaxdl import nn, train

CLAIM = Claim(
    rows=("E01",),
    step="best",
    statement="A bad result on the test data is not always overfitting: look at the training "
    "first.",
    deck={},
    source="train/lr_finder.py",
    minutes=3,
)
# Four units are a bottleneck for ten classes; 500 can memorize 300 images.
KINDS = {"too small": (4, 10_000), "few images": (500, 300), "many images": (500, 10_000)}
"""Hidden units and training images."""


@dataclasses.dataclass(frozen=True)
class Config(_run.Config):
    seeds: int = 5
    """Networks of each kind."""
    steps: int = 3000
    """Steps of gradient descent."""


def network(width: int, dropout: bool) -> jaxdl.Module:
    layers = [nn.dropout(0.5)] if dropout else []
    hidden = [nn.flatten(), nn.dense(width, kernel_init="he_normal"), jax.nn.relu, *layers]
    return jaxdl.serial(*hidden, nn.dense(10))


def run(config: Config) -> dict:
    seeds, steps = (2, 20) if config.smoke else (config.seeds, config.steps)
    dataset = _lecture.load_images(config.smoke)
    many, accuracy, diagnoses = {}, {}, {}
    for kind, (width, rows) in KINDS.items():
        x, y = dataset.train.x[:rows], dataset.train.y[:rows]
        for dropout in (False, True):
            name = f"{kind}, dropout" if dropout else kind
            many[name] = _seeds.train_networks(
                config,
                network(width, dropout),
                (x, y),
                seeds=seeds,
                loss="cross_entropy",
                optimizer=optax.sgd(_lecture.RATE),
                batch_size=100,
                # The same number of steps for all sizes of the training set.
                epochs=max(1, steps * 100 // len(y)),
                metrics=["accuracy"],
            )
            if not dropout:
                accuracy[f"{kind}, in training"] = many[name].accuracy(x, y)
            accuracy[name] = many[name].accuracy(dataset.test.x, dataset.test.y)
        seen, unseen = (float(accuracy[kind + part].mean()) for part in (", in training", ""))
        diagnoses[kind] = train.diagnose({"accuracy": [seen], "eval_accuracy": [unseen]})
        print(
            f"{kind:12s} training {seen:.3f}, test {unseen:.3f}: {diagnoses[kind].problem}; "
            f"with dropout {accuracy[f'{kind}, dropout'].mean():.3f}"
        )
    result = {
        "measured": {name: _seeds.summarize(values) for name, values in accuracy.items()},
        "accuracy": numbers(accuracy, 6),
        "diagnoses": {kind: diagnosis.problem for kind, diagnosis in diagnoses.items()},
        "advice": {kind: diagnosis.advice for kind, diagnosis in diagnoses.items()},
        **_seeds.summarize_times(many),
    }
    _figure.save(draw(result), config, "overfit_or_not", "overfit_or_not")
    return result


def judge(result: dict) -> Verdict:
    """Requires three right diagnoses, and dropout to help against overfitting alone.

    Dropout must change the accuracy by more than the larger deviation over the seeds.
    """
    measured = result["measured"]
    mean = {name: spread["mean"] for name, spread in measured.items()}
    right = result["diagnoses"] == {
        "too small": "training",
        "few images": "overfitting",
        "many images": "none",
    }
    gain, chance = {}, {}
    for kind in ("too small", "few images"):
        cured = f"{kind}, dropout"
        gain[kind] = mean[cured] - mean[kind]
        chance[kind] = max(measured[name]["deviation"] for name in (kind, cured))
    cures = gain["too small"] < -chance["too small"] and gain["few images"] > chance["few images"]
    return Verdict(
        "holds" if right and cures else "holds in part" if right else "does not hold",
        f"a network of {KINDS['too small'][0]} hidden units has {mean['too small']:.3f} on the "
        f"test images and {mean['too small, in training']:.3f} in training: it does not "
        f"overfit, and dropout changes it by {gain['too small']:+.3f}; one of "
        f"{KINDS['few images'][0]} units and {KINDS['few images'][1]} images has "
        f"{mean['few images']:.3f} and {mean['few images, in training']:.3f}: it overfits, and "
        f"dropout changes it by {gain['few images']:+.3f}",
        {
            "small_units": KINDS["too small"][0],
            "few_images": KINDS["few images"][1],
            "mean": mean,
            "gain": gain,
        },
    )


def draw(result: dict) -> Any:
    """Draws the accuracy in training and on the test images, with and without dropout."""
    plt = _figure.pyplot()
    figure, axis = plt.subplots(figsize=(7, 3.5), layout="constrained")
    parts = {", in training": "training", "": "test", ", dropout": "test, with dropout"}
    for i, (part, label) in enumerate(parts.items()):
        spreads = [result["measured"][kind + part] for kind in KINDS]
        means, deviations = ([s[name] for s in spreads] for name in ("mean", "deviation"))
        axis.bar(np.arange(len(KINDS)) + (i - 1) * 0.27, means, 0.25, yerr=deviations, label=label)
    names = [f"{kind}:\n{result['diagnoses'][kind]}" for kind in KINDS]
    axis.set(xticks=range(len(KINDS)), xticklabels=names, ylabel="accuracy", ylim=(0, 1.05))
    figure.legend(frameon=False, ncols=3, loc="outside upper center")
    return figure
