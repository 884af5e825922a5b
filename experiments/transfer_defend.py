"""Transfer of attacks among five architectures, and defences against known and unknown attacks.

Five networks learn disjoint parts of MNIST. Adversarial inputs of each are shown to all: the matrix
of transfer. Defences of one of them, the CNN, are then judged by attacks that know less or more:
inputs made for the other four networks (black box), for the CNN without the defence (grey box), for
the defended function as it is (white box), and by an adaptive attack, which knows how the defence
can be passed, restarts, and also searches without gradients. The rounding of pixels is no defence:
it hides the gradient, as `check_gradient_masking` reports. Lecture rows R04, R05, R07.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxdl
from experiments import _figure, _lecture, _run
from jaxdl import attack, data, defend, nn, train
from jaxdl.zoo.vision.cifar_resnet import cifar_resnet

Classify = Callable[[Any], jax.Array]

EPSILON = 0.2
"""The largest change of a pixel; pixels are in [0, 1]."""
BOUNDS = (0.0, 1.0)


@dataclasses.dataclass(frozen=True)
class Config(_run.Config):
    rows: int = 10_000
    """Training images of each network."""
    images: int = 400
    """Test images that are attacked."""
    epochs: int = 8
    """Epochs of each training; defences that train on changed inputs take twice as many."""


class Defence(NamedTuple):
    """A defended classifier, and what an attack that knows the defence differentiates instead."""

    f: Classify
    adaptive: Classify


def cnn() -> jaxdl.Module:
    """Builds the network that is defended, of strided convolutions."""
    return jaxdl.serial(
        nn.conv(16, 5, stride=2),
        jax.nn.relu,
        nn.conv(32, 3, stride=2),
        jax.nn.relu,
        nn.flatten(),
        nn.dense(64),
        jax.nn.relu,
        nn.dense(10),
    )


def pooling_cnn() -> jaxdl.Module:
    return jaxdl.serial(
        nn.conv(8, 3),
        jax.nn.relu,
        nn.max_pool(2),
        nn.conv(16, 3),
        jax.nn.relu,
        nn.max_pool(2),
        nn.flatten(),
        nn.dense(10),
    )


def mlp() -> jaxdl.Module:
    return jaxdl.serial(nn.flatten(), nn.dense(256), jax.nn.relu, nn.dense(10))


def rows_rnn() -> jaxdl.Module:
    """Builds a GRU that reads an image row by row."""
    return jaxdl.serial(lambda x: x[..., 0], nn.rnn(nn.gru(64), returns="last"), nn.dense(10))


NETWORKS: dict[str, Callable[[], jaxdl.Module]] = {
    "CNN": cnn,
    "pooling CNN": pooling_cnn,
    "MLP": mlp,
    "residual": lambda: cifar_resnet(8, width=4),
    "GRU": rows_rnn,
}


def run(config: Config) -> dict:
    kinds = NETWORKS
    if config.smoke:
        config = dataclasses.replace(config, rows=60, images=16, epochs=8)
        kinds = {name: NETWORKS[name] for name in ("CNN", "MLP")}
    dataset = _lecture.load_images(config.smoke)
    x, y = (jnp.asarray(part[: config.images]) for part in dataset.test)
    steps = 2 if config.smoke else 40
    parts = [slice(i * config.rows, (i + 1) * config.rows) for i in range(len(kinds))]
    networks: dict[str, Classify] = {}
    defended = None
    for (name, make), part in zip(kinds.items(), parts, strict=True):
        model, rows = make(), [a[part] for a in dataset.train]
        state = train_network(model, rows, config)
        networks[name] = jax.jit(train.predictor(model, state))
        defended = defended or (model, state, rows)
    moved = {
        name: jax.jit(functools.partial(move, f, steps=steps))(x, y) for name, f in networks.items()
    }
    matrix = {
        source: {target: accuracy(f, inputs, y) for target, f in networks.items()}
        for source, inputs in ({"clean": x} | moved).items()
    }
    for source, row in matrix.items():
        print(f"{source:12s}", {target: round(value, 3) for target, value in row.items()})
    assert defended is not None  # the first network
    defences = make_defences(networks["CNN"], *defended, config)
    table, signs, pictures = {}, {}, {}
    for name, defence in defences.items():
        table[name], pictures[name] = judge_defence(defence, moved, x, y, config)
        report = defend.check_gradient_masking(
            defence.f,
            x,
            y,
            EPSILON,
            key=jax.random.key(config.seed),
            steps=steps,
            queries=5 if config.smoke else 200,
            substitute=networks["MLP"],
        )
        signs[name] = [sign for sign in report._fields[:-1] if getattr(report, sign).suspicious]
        print(f"{name:16s}", {k: round(v, 3) for k, v in table[name].items()}, signs[name])
    result = {"epsilon": EPSILON, "transfer": matrix, "defences": table, "signs": signs}
    _figure.save(draw(result), config, "transfer_defend", "transfer_defend")
    _figure.save(draw_pictures(x, pictures), config, "transfer_defend", "changes")
    return result


def train_network(
    model: jaxdl.Module,
    rows: Any,
    config: Config,
    loss: Any = "cross_entropy",
    start: train.TrainState | None = None,
    longer: int = 1,
) -> train.TrainState:
    """Trains a network, from the weights of `start` if there are any."""
    epochs, size = config.epochs * longer, 20 if config.smoke else 64
    schedule = optax.cosine_decay_schedule(2e-3, epochs * -(-config.rows // size))
    optimizer = optax.adam(schedule)
    if start is not None:
        opt_state = optimizer.init(start.params)
        start = start.replace(opt_state=opt_state, step=jnp.zeros_like(start.step))
    state, history = train.fit(
        model,
        rows,
        loss=loss,
        optimizer=optimizer,
        batch_size=size,
        epochs=epochs,
        metrics=() if loss == "squared_error" else None,
        seed=config.seed,
        state=start,
        verbose=0,
    )
    print(f"trained in {sum(history['seconds']):.0f} s", flush=True)
    return state


def make_defences(
    f: Classify, model: jaxdl.Module, state: train.TrainState, rows: Any, config: Config
) -> dict[str, Defence]:
    """Trains a network with each defence.

    Training on changed inputs starts from the weights of the network without a defence: from random
    ones, a network of this kind can stay at a constant answer.
    """

    def retrain(loss, longer=2):
        new = train_network(model, rows, config, loss, start=state, longer=longer)
        g = jax.jit(train.predictor(model, new))
        return Defence(g, g)

    noisy = functools.partial(data.augment.noise, deviation=0.3)
    autoencoder = defend.denoising_autoencoder(1, width=8)
    pairs = train.AugmentedData((rows[0], rows[0]), noisy)
    denoiser = train_network(autoencoder, pairs, config, "squared_error")
    purified = jax.jit(defend.purify(f, train.predictor(autoencoder, denoiser)))

    def round_pixels(x):
        return jnp.round(4 * x) / 4

    defences = {
        "none": Defence(f, f),
        "denoiser": Defence(purified, purified),
        "rounded pixels": Defence(
            jax.jit(defend.purify(f, round_pixels)),
            jax.jit(defend.purify(f, defend.straight_through(round_pixels))),
        ),
    }
    if config.smoke:  # the others differ by the loss only
        loss = defend.fast_adversarial_loss(EPSILON, bounds=BOUNDS)
        return defences | {"fast training": retrain(loss, longer=1)}
    return defences | {
        "PGD training": retrain(defend.adversarial_loss(EPSILON, bounds=BOUNDS, steps=7)),
        "fast training": retrain(defend.fast_adversarial_loss(EPSILON, bounds=BOUNDS)),
        "TRADES": retrain(defend.trades_loss(EPSILON, bounds=BOUNDS, steps=7)),
        "gradient penalty": retrain(defend.gradient_penalty_loss(10.0)),
    }


def move(f: Classify, x: jax.Array, y: jax.Array, steps: int, key: Any = None) -> jax.Array:
    """Returns adversarial inputs of f."""
    return attack.pgd(f, x, y, EPSILON, steps=steps, key=key, bounds=BOUNDS)


def is_right(f: Classify, x: Any, y: Any) -> np.ndarray:
    return np.asarray(f(x).argmax(-1) == y)


def accuracy(f: Classify, x: Any, y: Any) -> float:
    return float(is_right(f, x, y).mean())


def judge_defence(
    defence: Defence, moved: dict[str, jax.Array], x: jax.Array, y: jax.Array, config: Config
) -> tuple[dict[str, float], np.ndarray]:
    """Returns the accuracy under each attack, and the changes of the white-box attack."""
    steps, restarts = (2, 1) if config.smoke else (40, 3)
    white = jax.jit(functools.partial(move, defence.f, steps=steps))(x, y)
    others = [is_right(defence.f, inputs, y) for name, inputs in moved.items() if name != "CNN"]
    adaptive = jax.jit(functools.partial(move, defence.adaptive, steps=2 * steps))
    keys = jax.random.split(jax.random.key(config.seed), restarts + 1)
    # An image counts only if no attack of the kind succeeds.
    survivors = [is_right(defence.f, inputs, y) for inputs in (x, white)]
    survivors += [is_right(defence.f, adaptive(x, y, key=key), y) for key in keys[1:]]
    searched = attack.random_search(
        defence.f, x, y, EPSILON, key=keys[0], queries=5 if config.smoke else 500
    )
    survivors.append(is_right(defence.f, searched, y))
    return {
        "clean": accuracy(defence.f, x, y),
        "black box": float(np.all(others, axis=0).mean()),
        "grey box": accuracy(defence.f, moved["CNN"], y),
        "white box": accuracy(defence.f, white, y),
        "adaptive": float(np.all(survivors, axis=0).mean()),
    }, np.asarray(white[:5] - x[:5])


def draw(result: dict) -> Any:
    """Draws the matrix of transfer, and the accuracy of each defence under each attack."""
    plt = _figure.pyplot()
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(13, 4.6), layout="constrained", width_ratios=(1, 1.5)
    )
    matrix = result["transfer"]
    values = np.array([list(row.values()) for row in matrix.values()])
    image = left.imshow(values, cmap="viridis", vmin=0, vmax=1)
    names = list(matrix["clean"])
    left.set(
        xticks=range(len(names)),
        yticks=range(len(values)),
        ylabel="images made for",
        title=f"accuracy, changes of {result['epsilon']:g}",
    )
    left.set_xticklabels(names, rotation=30, ha="right")
    left.set_yticklabels(["clean", *names])
    for (i, j), value in np.ndenumerate(values):
        ink = "black" if value > 0.6 else "white"
        left.text(j, i, f"{value:.2f}", ha="center", va="center", color=ink, fontsize=9)
    left.spines[:].set_visible(False)
    left.set_xlabel("shown to")
    figure.colorbar(image, ax=left, shrink=0.8)
    table = result["defences"]
    attacks = list(next(iter(table.values())))
    width = 0.8 / len(attacks)
    for i, name in enumerate(attacks):
        places = np.arange(len(table)) + (i - (len(attacks) - 1) / 2) * width
        shares = [row[name] for row in table.values()]
        right.bar(places, shares, width, label=name, color=plt.cm.cividis(0.95 - 0.23 * i))
    signs = {name: len(names) for name, names in result["signs"].items()}
    labels = [f"{name}\n{signs[name]} signs of masking" if signs[name] else name for name in table]
    right.set_xticks(range(len(table)), labels, rotation=25, ha="right")
    right.set(ylabel="accuracy", ylim=(0, 1.02))
    right.set_title(f"defences of the CNN, changes of {result['epsilon']:g}", pad=24)
    right.legend(frameon=False, ncols=len(attacks), loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return figure


def draw_pictures(x: jax.Array, changes: dict[str, np.ndarray]) -> Any:
    """Draws the changes that the white-box attack makes against each defence."""
    plt = _figure.pyplot()
    columns = len(changes) + 1
    count = len(next(iter(changes.values())))
    figure, axes = plt.subplots(
        count, columns, figsize=(1.5 * columns, 1.5 * count + 0.4), layout="constrained"
    )
    for i, row in enumerate(np.atleast_2d(axes)):
        row[0].imshow(x[i, ..., 0], cmap="gray_r", vmin=0, vmax=1)
        for axis, (name, change) in zip(row[1:], changes.items(), strict=True):
            axis.imshow(change[i, ..., 0], cmap="RdBu_r", vmin=-EPSILON, vmax=EPSILON)
            if i == 0:
                axis.set_title(name, fontsize=9)
        for axis in row:
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
    axes[0][0].set_title("image", fontsize=9)
    return figure
