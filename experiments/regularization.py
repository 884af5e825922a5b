"""Compares early stopping, weight decay, dropout, rotated images and ensembles. Lecture row E04.

784-500-500-10 with ReLUs memorizes 500 digits. Weight decay is that of the lectures, after the
step: w <- (1 - lambda) (w - eta g), with the slide's lambda of 0.01 and with 0.0005. Early stopping
monitors the loss or the accuracy on other images, and is compared by both. An ensemble averages
five networks. Dropout's scaled network is compared with the mean of many thinned ones, which it
approximates.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxdl
from experiments import _figure, _lecture, _run, _seeds
from experiments._claim import Claim, Verdict, numbers
from jaxdl import data, nn, optim, train
from jaxdl.data import augment

CLAIM = Claim(
    rows=("E04", "E03", "E05", "E06", "E07", "E09", "S22"),
    step="best",
    statement="Early stopping, weight decay, dropout and turned images help against overfitting.",
    deck=dict.fromkeys(
        (
            "nothing",
            "stopped by loss",
            "stopped by accuracy",
            "weight decay 0.01",
            "weight decay 0.0005",
            "dropout",
            "turned images",
            "ensemble",
        )
    ),
    source="optim.py",
    minutes=6,
)
DECAYS = 0.01, 0.0005  # the slide's, and one that suits this network
STOPS = {"stopped by loss": "eval_loss", "stopped by accuracy": "eval_accuracy"}
TOGETHER = 5


@dataclasses.dataclass(frozen=True)
class Config(_run.Config):
    seeds: int = 5
    """Networks of each kind, and ensembles."""
    rows: int = 500
    """Training images, and validation images for early stopping."""
    epochs: int = 100
    """Epochs; for early stopping, at most."""


def network(width: int, dropout: bool = False) -> jaxdl.Module:
    parts: list[Any] = [nn.flatten()]
    for _ in range(2):
        parts += [nn.dense(width, kernel_init="he_normal"), jax.nn.relu]
        parts += [nn.dropout(0.5)] if dropout else []
    return jaxdl.serial(*parts, nn.dense(10))


def run(config: Config) -> dict:
    seeds, rows, epochs, width = config.seeds, config.rows, config.epochs, _lecture.WIDTH
    if config.smoke:
        seeds, rows, epochs, width = 2, 100, 2, 16
    dataset = _lecture.load_images(config.smoke)
    seen, other = (
        data.Split(dataset.train.x[part], dataset.train.y[part])
        # Early stopping needs other images: those of the test would choose the result.
        for part in (slice(0, rows), slice(rows, 2 * rows))
    )
    test = dataset.test
    plain, dropped = network(width), network(width, dropout=True)
    sgd = optax.sgd(_lecture.RATE)
    options = {"loss": "cross_entropy", "batch_size": 50, "metrics": ["accuracy"]}

    def fit(model=plain, data: Any = seen, optimizer=sgd, networks=seeds) -> _seeds.Networks:
        return _seeds.train_networks(
            config,
            model,
            data,
            optimizer=optimizer,
            seeds=networks,
            epochs=epochs,
            eval_data=other,
            **options,
        )

    many = {
        # The networks of the ensembles too: an ensemble is five of them.
        "nothing": fit(networks=seeds * TOGETHER),
        **{
            f"weight decay {decay:g}": fit(
                optimizer=optax.chain(sgd, optim.decay_after_step(decay))
            )
            for decay in DECAYS
        },
        "dropout": fit(dropped),
        "turned images": fit(data=train.AugmentedData(seen, augment.rotate)),
    }
    accuracy = {name: networks.accuracy(test.x, test.y) for name, networks in many.items()}
    shares = jax.nn.softmax(many["nothing"].predict(test.x))
    # The mean of probabilities, because scores of different networks have different scales.
    together = shares.reshape(seeds, TOGETHER, *shares.shape[1:]).mean(1)
    accuracy["ensemble"] = np.asarray((together.argmax(-1) == test.y).mean(-1))
    losses = {"nothing": label_losses(shares, test.y)}
    stops = {}
    for name, monitor in STOPS.items():
        rows_of = [
            stop_early(plain, seen, other, test, monitor, seed, epochs, options)
            for seed in range(config.seed, config.seed + seeds)
        ]
        accuracy[name], losses[name], stops[name] = np.array(rows_of).T
    measured = {name: _seeds.summarize(accuracy[name]) for name in CLAIM.deck}
    measured |= {f"loss, {name}": _seeds.summarize(values) for name, values in losses.items()}
    for name, values in measured.items():
        print(f"{name:25s} {_seeds.format_summary(values)}")
    thinned = measure_thinning(dropped, many["dropout"], test, 3 if config.smoke else 100)
    print(f"dropout: scaled {thinned['scaled']:.3f}, mean of thinned {thinned['mean']:.3f}")
    result = {
        "measured": measured,
        "rows": rows,
        "accuracy": numbers(accuracy),
        "losses": numbers(losses),
        "curves": numbers({name: f.history["eval_accuracy"] for name, f in many.items()}),
        "stops": numbers(stops),
        "thinned": thinned,
        "never_inked": unused_weight_norms(seen, many),
        **_seeds.summarize_times(many),
    }
    _figure.save(draw(result), config, "regularization", "regularization")
    return result


def judge(result: dict) -> Verdict:
    """Requires every method to raise the test accuracy by more than two standard errors.

    Early stopping and weight decay have two forms; the better one counts.
    """
    measured = result["measured"]
    nothing = measured["nothing"]
    cures = [name for name in CLAIM.deck if name != "nothing"]

    def gain(name: str) -> float:
        return measured[name]["mean"] - nothing["mean"]

    def helps(name: str) -> bool:
        error = np.hypot(*(s["deviation"] / s["seeds"] ** 0.5 for s in (measured[name], nothing)))
        return gain(name) > 2 * error

    forms = [list(STOPS), [f"weight decay {decay:g}" for decay in DECAYS]]
    forms += [["dropout"], ["turned images"], ["ensemble"]]
    helped = [any(map(helps, names)) for names in forms]
    outcome = "holds" if all(helped) else "holds in part" if any(helped) else "does not hold"
    thinned, border = result["thinned"], result["never_inked"]
    loss = {name: measured[f"loss, {name}"]["mean"] for name in ("nothing", *STOPS)}
    text = ", ".join(
        f"{name} {gain(name):+.3f}{'' if helps(name) else ' (no help)'}" for name in cures
    )
    decay = f"weight decay {DECAYS[0]:g}"
    return Verdict(
        outcome,
        f"with {result['rows']} training images the test accuracy is {nothing['mean']:.3f}, and "
        f"changes by: {text}; the test loss is {loss['nothing']:.3f}, stopped by loss "
        f"{loss['stopped by loss']:.3f} and by accuracy {loss['stopped by accuracy']:.3f}; "
        f"dropout's scaled network has {thinned['scaled']:.3f}, the mean of "
        f"{thinned['networks']} thinned ones {thinned['mean']:.3f}, one of them "
        f"{thinned['one']:.3f}; weights of pixels that are never inked shrink to "
        f"{border[decay]:.1e} of their initial norm at a decay of {DECAYS[0]:g}",
        {
            "rows": result["rows"],
            "nothing": nothing["mean"],
            "cures": [{"name": name, "gain": gain(name), "helps": helps(name)} for name in cures],
            "loss": loss,
            "thinned": thinned,
            "decay": DECAYS[0],
            "shrunk": border[decay],
        },
    )


def label_losses(shares: Any, labels: np.ndarray) -> np.ndarray:
    """Returns the mean cross-entropy of S networks, (S,), from their probabilities (S, N, C)."""
    of_label = np.take_along_axis(np.asarray(shares), labels[None, :, None], 2)
    # A probability may underflow to 0 in float32.
    return -np.log(of_label.clip(1e-30)).mean((1, 2))


def stop_early(
    model, seen, other, test, monitor: str, seed: int, epochs: int, options: dict
) -> tuple[float, float, int]:
    """Trains until `monitor` stops improving; returns test accuracy, test loss and epochs."""
    state, history = train.fit(
        model,
        seen,
        optimizer=optax.sgd(_lecture.RATE),
        epochs=epochs,
        eval_data=other,
        seed=seed,
        callbacks=[train.EarlyStopping(monitor, patience=5)],
        verbose=0,
        **options,
    )
    row = train.evaluate(model, state, test, loss="cross_entropy", metrics=["accuracy"])
    return row["accuracy"], row["loss"], len(history["loss"])


def measure_thinning(
    model: jaxdl.Module, trained: _seeds.Networks, test: data.Split, networks: int
) -> dict[str, float]:
    """Returns the accuracy of the first network scaled, and thinned: one, and the mean of all."""
    params = jax.tree.map(lambda a: a[0], trained.params)
    x = jnp.asarray(test.x[:2000])

    @jax.jit
    def thin(key):
        return jax.nn.softmax(model.apply(params, {}, x, train=True, key=key)[0])

    keys = jax.random.split(jax.random.key(0), networks)
    shares = np.stack([thin(key) for key in keys])

    def right(p):
        return (p.argmax(-1) == test.y[:2000]).mean(-1)

    return {
        "scaled": float(right(trained.predict(x)[0])),
        "mean": float(right(shares.mean(0))),
        "one": float(right(shares).mean()),
        "networks": networks,
    }


def unused_weight_norms(seen: data.Split, many: dict[str, _seeds.Networks]) -> dict[str, float]:
    """Returns the final over the initial norm of the weights of pixels that are always empty."""
    empty = ~np.any(seen.x.reshape(len(seen.x), -1), 0)
    norms = {}
    for name in ("nothing", *(f"weight decay {decay:g}" for decay in DECAYS)):
        model, seed = many[name].model, int(many[name].history["seed"][0])
        start = jaxdl.init(model, jax.random.key(seed), seen.x[:1])[0]["dense_0"]["kernel"]
        end = many[name].params["dense_0"]["kernel"][0]
        # These weights have no gradient, so that only the decay changes them.
        norms[name] = float(jnp.linalg.norm(end[empty]) / jnp.linalg.norm(start[empty]))
    return norms


def draw(result: dict) -> Any:
    """Draws the validation accuracy by epoch, and the test accuracy of each method."""
    plt = _figure.pyplot()
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
    _figure.curves(left, result["curves"], {})
    worst = min(np.array(values)[:, 5:].min(initial=1) for values in result["curves"].values())
    left.set(ylabel="accuracy on other images", ylim=(worst, None))
    means, deviations = (
        [result["measured"][kind][name] for kind in CLAIM.deck] for name in ("mean", "deviation")
    )
    right.errorbar(means, range(len(means)), xerr=deviations, fmt="o", capsize=3)
    right.axvline(means[0], color="0.5", ls=":", lw=1)
    right.set(yticks=range(len(means)), yticklabels=list(CLAIM.deck), xlabel="test accuracy")
    right.invert_yaxis()
    return figure
