"""Compares initializations of nine layers. Lecture rows D17, D18, D13.

Nine layers of 100 ReLUs learn the embedded digits from weights that are too small, too large,
Glorot's, He's, and those of LSUV ("all you need is a good init"). Each layer multiplies the signal
by about the same factor, so that small weights leave no signal at the output and no gradient at the
input. The deviation of every layer's output before training is measured. On few
labels, four sigmoid layers are then initialized by restricted Boltzmann machines (Hinton et al.
2006), and compared with random values and with ReLUs. Their random values are Glorot's; He's are
larger, and sigmoid layers learn a part of the task from them without pretraining.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxdl
from experiments import _figure, _run, _seeds
from experiments._claim import Claim, Verdict, numbers
from jaxdl import data, nn, train
from jaxdl.zoo.classic.rbm import deep_belief_net, initialize_network

CLAIM = Claim(
    rows=("D17", "D18", "D19", "D13"),
    step="best",
    statement="A good initialization is what a deep network needs to train at all.",
    deck={"too small": None, "Glorot": None, "He": None, "LSUV": None, "too large": None},
    source="nn/initializers.py",
    minutes=1,
)
LAYERS, WIDTH = 9, 100
LABELS = 200
KERNELS: dict[str, Any] = {
    # A layer of W ReLUs scales the signal by s sqrt(W / 2): here by 0.07, and by 7 for s = 1.
    "too small": jax.nn.initializers.normal(0.01),
    "Glorot": "glorot_normal",
    "He": "he_normal",
    "LSUV": "orthogonal",
    "too large": jax.nn.initializers.normal(1.0),
}


@dataclasses.dataclass(frozen=True)
class Config(_run.Config):
    seeds: int = 5
    """Networks of each kind."""
    epochs: int = 15
    """Epochs."""


def network(kernel: Any, activation: Callable = jax.nn.relu) -> jaxdl.Module:
    hidden = [
        part
        for _ in range(LAYERS - 1)
        for part in (nn.dense(WIDTH, kernel_init=kernel), activation)
    ]
    return jaxdl.serial(nn.flatten(), *hidden, nn.dense(10, kernel_init=kernel))


def run(config: Config) -> dict:
    seeds, epochs = (2, 1) if config.smoke else (config.seeds, config.epochs)
    digits = data.digits()
    networks, accuracy, deviations = {}, {}, {}
    for name, kernel in KERNELS.items():
        model, optimizer = network(kernel), optax.sgd(0.01, momentum=0.9)
        states = []
        for seed in range(config.seed, config.seed + seeds):
            state = train.init_state(model, optimizer, jax.random.key(seed), digits.train.x[:1])
            # LSUV rescales orthogonal kernels by the data, which an initializer does not get.
            if name == "LSUV":
                fitted = nn.lsuv(model, state.params, {}, digits.train.x[:500])
                state = state.replace(params=fitted)
            states.append(state)
        deviations[name] = layer_deviations(model, states[0].params, digits.train.x[:500])
        networks[name] = _seeds.train_networks(
            config,
            model,
            digits.train,
            seeds=seeds,
            epochs=epochs,
            states=stack_states(states),
            loss="cross_entropy",
            optimizer=optimizer,
            batch_size=50,
            eval_data=digits.test,
            metrics=["accuracy"],
        )
        # The accuracy of a network that has diverged is NaN; it counts as chance.
        accuracy[name] = np.nan_to_num(networks[name].history["eval_accuracy"], nan=0.1)
        print(
            f"{name:10s} test accuracy {np.mean(accuracy[name][:, -1]):.3f}, "
            f"deviation after layer 1 {deviations[name][0]:.2g}, {LAYERS} "
            f"{deviations[name][-1]:.2g}",
            flush=True,
        )
    few = train_on_few_labels(config, seeds)
    test = digits.test.x.reshape(-1, 64)
    few_accuracy = {name: trained.accuracy(test, digits.test.y) for name, trained in few.items()}
    for name, values in few_accuracy.items():
        print(f"{name:27s} test accuracy {_seeds.format_summary(_seeds.summarize(values))}")
    last = {name: values[:, -1] for name, values in accuracy.items()} | few_accuracy
    result = {
        "measured": {name: _seeds.summarize(values) for name, values in last.items()},
        "accuracy": numbers(accuracy),
        "few": numbers(few_accuracy),
        "deviations": numbers(deviations),
        **_seeds.summarize_times(networks | few),
    }
    _figure.save(draw(result), config, "initialization", "initialization")
    return result


def judge(result: dict) -> Verdict:
    """Requires good values to train nine layers and bad ones not to, and the claim of row D19.

    He's and LSUV's values must reach 0.9, small and large ones at most 0.3. Random values are good
    enough if they come within 0.05 of Boltzmann machines, with sigmoids and with ReLUs.
    """
    mean = {name: spread["mean"] for name, spread in result["measured"].items()}
    good = min(mean["He"], mean["LSUV"]) >= 0.9
    bad = max(mean["too small"], mean["too large"]) <= 0.3
    machines = mean["sigmoid, Boltzmann machines"]
    sigmoid, relu = mean["sigmoid, random"], mean["ReLU, random"]
    enough = min(sigmoid, relu) > machines - 0.05
    small, large, he, lsuv = (
        result["deviations"][name][-1] for name in ("too small", "too large", "He", "LSUV")
    )
    return Verdict(
        "does not hold" if not (good and bad) else "holds" if enough else "holds in part",
        f"from weights of deviation 0.01 nine layers reach {mean['too small']:.2f}, of deviation 1 "
        f"{mean['too large']:.2f}, from He's {mean['He']:.3f}, from LSUV's {mean['LSUV']:.3f}; the "
        f"signal after nine layers is {small:.0e}, {large:.0e}, {he:.2g} and {lsuv:.2g}; the "
        "lectures also say that random values are usually good enough in place of Boltzmann "
        f"machines: with {LABELS} labels four layers of ReLUs reach {relu:.2f} from random values "
        f"and four of sigmoids {sigmoid:.2f}, where the machines reach {machines:.2f}",
        {
            "mean": mean,
            "labels": LABELS,
            "relu": relu,
            "sigmoid": sigmoid,
            "machines": machines,
        },
    )


def train_on_few_labels(config: Config, seeds: int) -> dict[str, _seeds.Networks]:
    """Trains four layers on few labels from each initialization. Lecture row D19."""
    digits = data.digits()
    x = jnp.asarray(digits.train.x.reshape(-1, 64))
    widths, own = (64,) * 4, range(config.seed, config.seed + seeds)
    pretraining = 1 if config.smoke else 40
    machines = [
        # Pretraining needs no labels, and takes all images.
        deep_belief_net(jax.random.key(seed), x, widths, epochs=pretraining, batch_size=20)
        for seed in own
    ]
    networks = {}
    # ReLUs have larger gradients than sigmoids, and so need a smaller rate.
    for name, activation, rate in (("sigmoid", jax.nn.sigmoid, 0.1), ("ReLU", jax.nn.relu, 0.01)):
        hidden = [
            part for w in widths for part in (nn.dense(w, kernel_init="glorot_uniform"), activation)
        ]
        model, optimizer = jaxdl.serial(*hidden, nn.dense(10)), optax.sgd(rate, momentum=0.9)

        def init_states(model=model, optimizer=optimizer):
            return [train.init_state(model, optimizer, jax.random.key(s), x[:1]) for s in own]

        initial = {f"{name}, random": init_states()}
        if name == "sigmoid":
            initial["sigmoid, Boltzmann machines"] = [
                state.replace(params=initialize_network(state.params, layers))
                for state, layers in zip(init_states(), machines, strict=True)
            ]
        for kind, states in initial.items():
            networks[kind] = _seeds.train_networks(
                config,
                model,
                (x[:LABELS], digits.train.y[:LABELS]),
                seeds=seeds,
                epochs=1 if config.smoke else 60,
                states=stack_states(states),
                loss="cross_entropy",
                optimizer=optimizer,
                batch_size=20,
            )
    return networks


def stack_states(states: list[train.TrainState]) -> train.TrainState:
    """Stacks states along a new leading axis."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)


def layer_deviations(model: jaxdl.Module, params: Any, x: Any) -> list[float]:
    """Returns the deviation of every dense layer's output."""
    outputs = jaxdl.capture(model, params, {}, x)[1]
    return [float(outputs[f"dense_{i}"].std()) for i in range(LAYERS)]


def draw(result: dict) -> Any:
    """Draws the accuracy by epoch, and the deviation of the outputs by layer."""
    plt = _figure.pyplot()
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
    _figure.curves(left, result["accuracy"], {})
    left.set(ylabel="test accuracy", ylim=(0, 1))
    for name, values in result["deviations"].items():
        right.semilogy(np.arange(1, LAYERS + 1), values, marker=".", label=name)
    right.set(xlabel="layer", title="deviation of its output, untrained")
    return figure
