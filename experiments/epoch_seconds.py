"""Times epochs of twenty mini-batches and of the full batch. Lecture row X03.

An epoch of twenty mini-batches has twenty updates, one of the full batch has one. Both use the same
rows and the same number of products. Epochs of both kinds are timed in turn, for several sizes of
the training set; the test accuracy is compared after the same number of epochs.
"""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import numpy as np
import optax

import jaxdl
from experiments import _figure, _lecture, _run, _seeds
from experiments._claim import Claim, Verdict, numbers
from jaxdl import train

BATCHES = 20
KINDS = {"mini-batch": BATCHES, "full batch": 1}
"""Updates in an epoch."""
CLAIM = Claim(
    rows=("X03",),
    step="best",
    statement="A mini-batch epoch takes no longer than a full-batch epoch and performs better.",
    deck={},
    source="data/batches.py",
    minutes=2,
)


@dataclasses.dataclass(frozen=True)
class Config(_run.Config):
    seeds: int = 5
    """Networks of each kind."""
    repeats: int = 3
    """Timed epochs of each kind and size."""


def run(config: Config) -> dict:
    seeds, repeats = (2, 1) if config.smoke else (config.seeds, config.repeats)
    dataset = _lecture.load_images(config.smoke)
    rows = len(dataset.train.y)
    sizes = [size for size in (2000, 20_000) if size <= rows] or [rows // 20 * 20]
    model = _lecture.network(3, "relu", 16 if config.smoke else _lecture.WIDTH)
    seconds = {
        str(size): time_epochs(model, [a[:size] for a in dataset.train], repeats) for size in sizes
    }
    accuracy = {}
    for kind, updates in KINDS.items():
        few = [a[: sizes[0]] for a in dataset.train]
        _, history = train_many(
            model,
            few,
            updates,
            seeds=range(config.seed, config.seed + seeds),
            epochs=1 if config.smoke else 10,
            eval_data=tuple(a[:2000] for a in dataset.test),
            metrics=["accuracy"],
        )
        accuracy[kind] = numbers(history["eval_accuracy"])
    measured = {
        kind: _seeds.summarize(np.array(values)[:, -1]) for kind, values in accuracy.items()
    }
    largest = seconds[str(sizes[-1])]
    measured |= {f"{kind}, seconds": _seeds.summarize(values) for kind, values in largest.items()}
    for name, spread in measured.items():
        print(f"{name:20s} {_seeds.format_summary(spread)}")
    result = {"measured": measured, "epoch_seconds": numbers(seconds), "accuracy": accuracy}
    _figure.save(draw(result), config, "epoch_seconds", "epoch_seconds")
    return result


def train_many(model: jaxdl.Module, split: Any, updates: int, **options: Any) -> Any:
    """Trains by plain SGD with `updates` equal batches in an epoch."""
    return train.train_many(
        model,
        tuple(split),
        loss="cross_entropy",
        optimizer=optax.sgd(_lecture.RATE),
        # Equal batches without a remainder: padding would be work that the full batch does not
        # have.
        batch_size=len(split[1]) // updates,
        verbose=0,
        **options,
    )


def time_epochs(model: jaxdl.Module, split: Any, repeats: int) -> dict[str, list[float]]:
    """Times single epochs of each kind in turn, after one that compiles.

    In turn, because the speed of a shared machine changes from minute to minute.
    """
    seconds: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for repeat in range(repeats + 1):
        for kind, updates in KINDS.items():
            start = time.perf_counter()
            train_many(model, split, updates, seeds=[0], epochs=1)
            # The first epoch of each kind compiles.
            if repeat:
                seconds[kind].append(time.perf_counter() - start)
    return seconds


def judge(result: dict) -> Verdict:
    """Requires mini-batch epochs to be no slower and to reach a higher accuracy.

    The fastest of the repeats may take at most 1.1 times as long as with the full batch. The
    accuracy must be higher by 0.1 on average, and higher for every seed.
    """
    # The fastest of the repeats is the one that other processes disturbed least.
    fastest = {
        size: {kind: min(values) for kind, values in kinds.items()}
        for size, kinds in result["epoch_seconds"].items()
    }
    small, full = (np.array(result["accuracy"][kind])[:, -1] for kind in KINDS)
    ratios = {size: kinds["mini-batch"] / kinds["full batch"] for size, kinds in fastest.items()}
    no_slower = max(ratios.values()) <= 1.1
    better = bool(small.min() > full.max()) and small.mean() - full.mean() > 0.1
    shown = ", ".join(f"{ratio:.2f} for {int(size):,} images" for size, ratio in ratios.items())
    return Verdict(
        "holds" if no_slower and better else "holds in part" if better else "does not hold",
        f"the seconds of an epoch of {BATCHES} mini-batches over those of the full batch are "
        f"{shown}; after {np.shape(result['accuracy']['mini-batch'])[1]} epochs the test accuracy "
        f"is {small.mean():.3f} against {full.mean():.3f}",
        {
            "batches": BATCHES,
            "ratios": [{"size": size, "ratio": ratio} for size, ratio in ratios.items()],
            "small": small.mean(),
            "full": full.mean(),
        },
    )


def draw(result: dict) -> Any:
    """Draws the seconds of an epoch by the size of the training set, and the accuracy by epoch."""
    plt = _figure.pyplot()
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
    sizes = list(result["epoch_seconds"])
    for i, kind in enumerate(KINDS):
        times = [result["epoch_seconds"][size][kind] for size in sizes]
        places = np.arange(len(sizes)) + 0.4 * (i - 0.5)
        left.bar(places, [min(values) for values in times], 0.4, label=kind)
        for place, values in zip(places, times, strict=True):
            left.plot([place] * len(values), values, "k.", ms=4)
    left.set(yscale="log", xlabel="training images", title="seconds of an epoch")
    left.set(xticks=range(len(sizes)), xticklabels=[f"{int(size):,}" for size in sizes])
    left.legend(frameon=False)
    _figure.curves(right, result["accuracy"], {})
    right.set(title=f"test accuracy, {int(sizes[0]):,} training images", ylim=(0, 1))
    return figure
