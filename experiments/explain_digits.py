"""Every explanation of a digit network side by side, and which finds what its score hangs on.

LeNet-like networks learn MNIST, or the embedded digits where its files are not at hand. Each method
explains the same images; insertion, deletion and ROAD say how fast the probability of the answer
rises or falls by the order that a method gives, for several networks. Lecture rows Q01-Q04, Q13.
"""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import optax

import jaxdl
from experiments import _explain, _run
from jaxdl import data, nn, train


@dataclasses.dataclass(frozen=True)
class Config(_run.Config):
    epochs: int = 2
    """Epochs of each network's training."""
    seeds: int = 3
    """Networks, from different initial values and orders."""
    images: int = 64
    """Test images that are explained."""


def network() -> jaxdl.Module:
    return jaxdl.serial(
        nn.conv(16, 3),
        jax.nn.relu,
        nn.max_pool(2),
        nn.conv(32, 3),
        jax.nn.relu,
        nn.max_pool(2),
        nn.flatten(),
        nn.dense(64),
        jax.nn.relu,
        nn.dense(10),
    )


def run(config: Config) -> dict:
    if config.smoke:
        config = dataclasses.replace(config, epochs=1, seeds=1, images=2)
    digits, source = images(config)
    model = network()
    networks, accuracies, model_state = [], [], None
    for seed in range(config.seed, config.seed + config.seeds):
        steps = config.epochs * -(-len(digits.train.y) // 50)
        state, _ = train.fit(
            model,
            digits.train,
            loss="cross_entropy",
            optimizer=optax.adam(optax.cosine_decay_schedule(2e-3, steps)),
            batch_size=50,
            epochs=config.epochs,
            seed=seed,
            verbose=0,
        )
        measured = train.evaluate(model, state, digits.test, loss="cross_entropy")
        accuracies.append(measured["accuracy"])
        networks.append(state.params)
        model_state = state.model_state
    print(f"{source}: accuracy {np.mean(accuracies):.4f} of {config.seeds} networks", flush=True)
    apply = lambda params, x: model.apply(params, model_state, x)[0]  # noqa: E731
    side = digits.test.x.shape[1]
    background = digits.train.x[:20]
    kinds = _explain.methods("relu_1", _explain.squares(side, 4 if side < 20 else 7), background)
    if config.smoke:
        kinds = {name: kinds[name] for name in ("random", "saliency", "Grad-CAM", "LRP epsilon")}
    x = digits.test.x[: config.images]
    mean = background.mean(0, keepdims=True)
    found = _explain.compare(apply, networks, x, kinds, mean)
    _explain.draw_scores(config, "explain_digits", found)
    three = digits.test.x[[1, 4, 7] if len(digits.test.x) > 7 else [0, 1]]
    _explain.draw_maps(config, "explain_digits", apply, networks[0], three, kinds, digits.classes)
    return {
        "source": source,
        "accuracy": accuracies,
        "areas": found,
        "best": {m: _explain.best(found, m) for m in ("insertion", "deletion", "ROAD")},
    }


def images(config: Config) -> tuple[data.Dataset, str]:
    """MNIST, or the embedded digits."""
    try:
        mnist = data.mnist() if not config.smoke else data.digits()
        return mnist, "MNIST" if not config.smoke else "embedded digits"
    except ValueError as missing:
        print(f"the embedded digits: {missing}")
        return data.digits(), "embedded digits"
