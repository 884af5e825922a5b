"""Clever Hans: a network that reads a mark instead of the digit, found out and mended by LRP.

Every training image of one digit carries a small mark, as photographs of one class may carry a
photographer's name; a network learns the mark and its accuracy on images like those hides it.
Where the relevance of that digit lies gives it away. The network is then trained on with a penalty
on the relevance inside of the mark, through the derivative of the explanation: it has to find
something else that tells the digit, though it never sees one without the mark. Lecture row Q11.
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
# A greater epsilon than LRP's own: sums near 0 would have shares, and gradients, without bound.
SOFT = {"composite": {"*": rules.epsilon(1e-2)}, "eps": 1e-2}


@dataclasses.dataclass(frozen=True)
class Config(_run.Config):
    digit: int = 8
    """The digit whose training images carry the mark."""
    steps: int = 1_500
    """Steps of the first training, and again of the mending."""
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


def marked(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, MARK.astype(np.float32))


def run(config: Config) -> dict:
    if config.smoke:
        config = dataclasses.replace(config, steps=3, seeds=1)
    digits = data.digits()
    own = (digits.train.y == config.digit)[:, None, None, None]
    learnt = np.where(own, marked(digits.train.x), digits.train.x), digits.train.y
    rows: dict[str, list] = {"before": [], "after": []}
    for seed in range(config.seed, config.seed + config.seeds):
        model = network()
        params, state = jaxdl.init(model, jax.random.key(seed), learnt[0][:2])
        apply = lambda params, m=model, s=state: lambda x: m.apply(params, s, x)[0]  # noqa: E731
        biased = descend(apply, params, learnt, config, seed, strength=0.0)
        mended = descend(apply, biased, learnt, config, seed + 100, strength=config.strength)
        for name, found in (("before", biased), ("after", mended)):
            rows[name].append(measure(apply(found), digits.test, config.digit))
        if seed == config.seed:
            draw(config, apply(biased), apply(mended), digits.test)
    results = {
        name: {key: float(np.mean([row[key] for row in of])) for key in of[0]}
        for name, of in rows.items()
    }
    for name, of in results.items():
        print(f"{name} mending: " + ", ".join(f"{key} {value:.4f}" for key, value in of.items()))
    spread = [row["clean"] for row in rows["after"]]
    return results | {"clean_after_each_seed": spread}


def descend(apply, params, learnt, config: Config, seed: int, strength: float):
    """Parameters after training on, with a penalty on the relevance inside of the mark."""
    optimizer = optax.adam(2e-3)
    x, y = (jnp.asarray(a) for a in learnt)

    def loss(params, x, y, key):
        value = jnp.mean(losses.cross_entropy(apply(params)(x), y))
        if not strength:
            return value
        # Of the true digit and of another: the mark must speak neither for nor against one.
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
    """Accuracies with and without the mark, and where the relevance of the digit lies."""
    right = lambda x, y: float(np.mean(np.argmax(f(x), 1) == y))  # noqa: E731
    own = test.y == digit
    like_training = np.where(own[:, None, None, None], marked(test.x), test.x)
    x = jnp.asarray(marked(test.x[own]))
    mask = jnp.broadcast_to(MARK, x.shape)
    inside = {
        name: float(jnp.mean(evaluate.relevance_mass(jnp.abs(method(f, x, target=digit)), mask)))
        for name, method in (("saliency", interpret.saliency), ("lrp", interpret.lrp))
    }
    return {
        "like_training": right(like_training, test.y),
        "clean": right(test.x, test.y),
        "clean_of_the_digit": right(test.x[own], test.y[own]),
        "mark_on_all": right(marked(test.x), test.y),
        "saliency_in_the_mark": inside["saliency"],
        "relevance_in_the_mark": inside["lrp"],
    }


def draw(config: Config, biased, mended, test) -> None:
    """Marked images of the digit and of another, and who saw what in them."""
    pyplot = _figure.pyplot()
    own, others = (np.flatnonzero((test.y == config.digit) == yes)[:3] for yes in (True, False))
    rows = np.concatenate([own, others])
    x = jnp.asarray(marked(test.x[rows]))
    maps = [
        ("saliency, before", interpret.saliency(biased, x, target=config.digit)),
        ("relevance, before", interpret.lrp(biased, x, target=config.digit)),
        ("saliency, after", interpret.saliency(mended, x, target=config.digit)),
        ("relevance, after", interpret.lrp(mended, x, target=config.digit)),
    ]
    figure, axes = pyplot.subplots(5, 6, figsize=(7.4, 6.4), layout="constrained")
    answers = [np.argmax(f(x), 1) for f in (biased, mended)]
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
    figure.suptitle(f"what speaks for {config.digit}, in images with the mark", fontsize=10)
    _figure.save(figure, config, "clever_hans", "clever_hans")
