"""Detects a "Clever Hans" network by LRP and corrects it with a penalty on the relevance.

Every training image of one digit has a small mark, as photographs of one class may have a
photographer's name. The network learns the mark, which its accuracy on similar images does not
reveal; the relevance of that digit, which is inside of the mark, does. Training then continues with
a penalty on the relevance inside of the mark, through the derivative of the explanation. The
network has to use other features, though none of its training images of the digit is without the
mark. Lecture row Q11.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxdl
from experiments import _figure, _run
from jaxdl import data, interpret, losses, nn
from jaxdl.interpret import evaluate
from jaxdl.interpret.lrp import rules

BATCH = 64
MARK = np.zeros((8, 8, 1), bool)
MARK[:2, :2] = True
# A larger epsilon than LRP's default: at sums near 0, relevance and its gradient are unbounded.
SOFT = {"composite": {"*": rules.epsilon(1e-2)}, "eps": 1e-2}


@dataclasses.dataclass(frozen=True)
class Config(_run.Config):
    digit: int = 8
    """The digit whose training images have the mark."""
    steps: int = 1_500
    """Steps of the first training, and of the training with the penalty."""
    strength: float = 1.0
    """Weight of the penalty on the relevance inside of the mark."""
    seeds: int = 3
    """Networks, from different initial values and orders."""


def network() -> jaxdl.Module:
    return jaxdl.serial(
        nn.conv(16, 3),
        jax.nn.relu,
        nn.max_pool(2),
        nn.conv(32, 3),
        jax.nn.relu,
        nn.max_pool(2),
        nn.flatten(),
        nn.dense(10),
    )


def add_mark(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, MARK.astype(np.float32))


def run(config: Config) -> dict:
    if config.smoke:
        config = dataclasses.replace(config, steps=3, seeds=1)
    digits = data.digits()
    own = (digits.train.y == config.digit)[:, None, None, None]
    training = np.where(own, add_mark(digits.train.x), digits.train.x), digits.train.y
    rows: dict[str, list] = {"before": [], "after": []}
    for seed in range(config.seed, config.seed + config.seeds):
        model = network()
        params, state = jaxdl.init(model, jax.random.key(seed), training[0][:2])

        def apply(params, model=model, state=state):
            return lambda x: model.apply(params, state, x)[0]

        biased = descend(apply, params, training, config, seed, strength=0.0)
        # Another key: with that of the first training the batches would repeat in the same order.
        corrected = descend(apply, biased, training, config, seed + 100, strength=config.strength)
        for name, trained in (("before", biased), ("after", corrected)):
            rows[name].append(measure(apply(trained), digits.test, config.digit))
        if seed == config.seed:
            draw(config, apply(biased), apply(corrected), digits.test)
    results = {
        name: {key: float(np.mean([row[key] for row in of])) for key in of[0]}
        for name, of in rows.items()
    }
    for name, of in results.items():
        print(f"{name} correction: " + ", ".join(f"{key} {value:.4f}" for key, value in of.items()))
    spread = [row["clean"] for row in rows["after"]]
    return results | {"clean_after_each_seed": spread}


def descend(apply, params, training, config: Config, seed: int, strength: float):
    """Trains with a penalty on the relevance inside of the mark; returns the parameters."""
    optimizer = optax.adam(2e-3)
    x, y = (jnp.asarray(a) for a in training)

    def loss(params, x, y, key):
        value = jnp.mean(losses.cross_entropy(apply(params)(x), y))
        if not strength:
            return value
        # For the true digit and a random one: the mark must be evidence neither for nor against.
        both = jnp.stack([y, jax.random.randint(key, y.shape, 0, 10)])
        r = interpret.lrp(apply(params), x, target=both, **SOFT)
        return value + strength * jnp.sum(jnp.where(MARK, r, 0) ** 2) / len(x)

    def update(carry, key):
        params, moments = carry
        of_batch, of_loss = jax.random.split(key)
        rows = jax.random.randint(of_batch, (BATCH,), 0, len(x))
        gradient = jax.grad(loss)(params, x[rows], y[rows], of_loss)
        change, moments = optimizer.update(gradient, moments, params)
        return (optax.apply_updates(params, change), moments), None

    @jax.jit
    def whole(params):
        keys = jax.random.split(jax.random.key(seed), config.steps)
        return jax.lax.scan(update, (params, optimizer.init(params)), keys)[0][0]

    return whole(params)


def measure(f, test, digit: int) -> dict[str, float]:
    """Measures accuracies with and without the mark, and the relevance inside of it."""

    def accuracy(x, y):
        return float(np.mean(np.argmax(f(x), 1) == y))

    own = test.y == digit
    # Test images made like the training images hide the fault: their accuracy stays high.
    like_training = np.where(own[:, None, None, None], add_mark(test.x), test.x)
    x = jnp.asarray(add_mark(test.x[own]))
    mask = jnp.broadcast_to(MARK, x.shape)
    inside = {
        name: float(jnp.mean(evaluate.relevance_mass(jnp.abs(method(f, x, target=digit)), mask)))
        for name, method in (("saliency", interpret.saliency), ("lrp", interpret.lrp))
    }
    return {
        "like_training": accuracy(like_training, test.y),
        "clean": accuracy(test.x, test.y),
        "clean_of_the_digit": accuracy(test.x[own], test.y[own]),
        "mark_on_all": accuracy(add_mark(test.x), test.y),
        "saliency_in_the_mark": inside["saliency"],
        "relevance_in_the_mark": inside["lrp"],
    }


def draw(config: Config, biased, corrected, test) -> None:
    """Draws images with the mark, and their explanations before and after the correction."""
    pyplot = _figure.pyplot()
    own, others = (np.flatnonzero((test.y == config.digit) == yes)[:3] for yes in (True, False))
    rows = np.concatenate([own, others])
    x = jnp.asarray(add_mark(test.x[rows]))
    maps = [
        ("saliency, before", interpret.saliency(biased, x, target=config.digit)),
        ("relevance, before", interpret.lrp(biased, x, target=config.digit)),
        ("saliency, after", interpret.saliency(corrected, x, target=config.digit)),
        ("relevance, after", interpret.lrp(corrected, x, target=config.digit)),
    ]
    figure, axes = pyplot.subplots(5, 6, figsize=(7.4, 6.4), layout="constrained")
    answers = [np.argmax(f(x), 1) for f in (biased, corrected)]
    for column, axis in enumerate(axes[0]):
        axis.imshow(x[column, ..., 0], cmap="gray", vmin=0, vmax=1)
        before, after = answers[0][column], answers[1][column]
        axis.set_title(f"a {test.y[rows[column]]}\nbefore {before}, after {after}", fontsize=8)
    for line, (name, values) in zip(axes[1:], maps, strict=True):
        limit = float(np.abs(values).max())
        signed = name.startswith("relevance")
        for axis, value in zip(line, values[..., 0], strict=True):
            axis.imshow(
                value,
                cmap="RdBu_r" if signed else "magma",
                vmin=-limit if signed else 0,
                vmax=limit,
            )
    for name, line in zip(["image", *(name for name, _ in maps)], axes, strict=True):
        line[0].set_ylabel(name, fontsize=8, rotation=0, ha="right", va="center")
        for axis in line:
            axis.set(xticks=[], yticks=[])
    figure.suptitle(f"evidence for {config.digit} in images with the mark", fontsize=10)
    _figure.save(figure, config, "clever_hans", "clever_hans")
