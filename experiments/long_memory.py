"""Long memory: recall, adding and copying over longer and longer sequences, and why Elman fails.

The three cells learn each task in one compiled program, which draws its own batches. Beside the
results stand pictures of backpropagation through time: how much the error at step t is felt at
step k, for each cell before training. Lecture rows D12-D14, J16, J17.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxdl
from experiments import _figure, _run
from jaxdl import data, losses, nn, train
from jaxdl.nn import bptt

BATCH = 50


@dataclasses.dataclass(frozen=True)
class Config(_run.Config):
    recall: tuple[int, ...] = (10, 100, 400)
    """Lengths of the sequences for recalling."""
    copying: tuple[int, ...] = (11, 100)
    """Lengths of the sequences for copying."""
    adding: tuple[int, ...] = (10, 100, 200)
    """Lengths of the sequences for adding."""
    updates: int = 1_500
    """Steps of training for recalling and copying."""
    adding_updates: int = 3_000
    """Steps of training for adding."""
    features: int = 64
    """Units of each cell."""


def cells(features: int, length: int) -> dict[str, Any]:
    """LSTM and GRU begin with units that forget over 1 to `length` steps.

    Tallec and Ollivier 2018 (arXiv 1804.11188), eq. 16: where a gate keeps, its bias is the
    logarithm of a time drawn up to the sequences' length, and minus that where the LSTM lets in.
    """

    def times(key, dtype):
        return jnp.log(jax.random.uniform(key, (features,), dtype, 1, max(length - 1, 2)))

    def lstm_biases(key, shape, dtype):
        keep = times(key, dtype)
        return jnp.zeros(shape, dtype).at[: 2 * features].set(jnp.concatenate([-keep, keep]))

    def gru_biases(key, shape, dtype):
        biases = jnp.zeros(shape, dtype)
        gates = shape[0] > features  # beside the gates' biases the GRU has one of the state
        return biases.at[features : 2 * features].set(times(key, dtype)) if gates else biases

    return {
        "Elman": nn.elman(features),
        "LSTM": nn.lstm(features, forget_bias=0.0, bias_init=lstm_biases),
        "GRU": nn.gru(features, bias_init=gru_biases),
    }


def task(name: str, length: int):
    """`draw(key, n) -> (x, y)`, how many outputs, what the network answers, the loss, the score."""
    draw = functools.partial(getattr(data.memory_tasks, name), length=length)
    if name == "adding":
        square = lambda o, y: (o[:, -1, 0] - y) ** 2  # noqa: E731
        return draw, 1, square, square
    if name == "recall":
        last = lambda o, y: losses.cross_entropy(o[:, -1], y)  # noqa: E731
        return draw, 8, last, lambda o, y: jnp.argmax(o[:, -1], -1) == y
    ends = lambda o, y: losses.cross_entropy(o[:, -5:], y).mean(1)  # noqa: E731
    return draw, 8, ends, lambda o, y: jnp.all(jnp.argmax(o[:, -5:], -1) == y, axis=1)


def learn(cell, name: str, length: int, updates: int, seed: int) -> tuple[float, np.ndarray]:
    """Trains one network in one program; its score on fresh sequences and its losses."""
    draw, outputs, loss, score = task(name, length)
    model = jaxdl.serial(cell, nn.dense(outputs))
    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adam(optax.cosine_decay_schedule(5e-3 if name != "adding" else 3e-3, updates)),
    )
    key = jax.random.key(seed)
    x, _ = draw(key, n=BATCH)
    state = train.init_state(model, optimizer, key, x)
    step = train.make_train_step(model, loss, optimizer)

    @jax.jit
    def whole(state):
        def update(state, i):
            batch = draw(jax.random.fold_in(jax.random.key(seed + 1), i), n=BATCH)
            state, metrics = step(state, batch)
            return state, metrics["loss"].sum / metrics["loss"].weight

        state, values = jax.lax.scan(update, state, jnp.arange(updates))
        x, y = draw(jax.random.key(seed + 2), n=500)
        output, _ = model.apply(state.params, state.model_state, x)
        return jnp.mean(score(output, y).astype(jnp.float32)), values

    final, values = whole(state)
    return float(final), np.asarray(values)


def run(config: Config) -> dict:
    if config.smoke:
        config = dataclasses.replace(
            config,
            recall=(10,),
            copying=(11,),
            adding=(10,),
            updates=3,
            adding_updates=3,
            features=8,
        )
    plan = [("recall", n, config.updates) for n in config.recall]
    plan += [("copying", n, config.updates) for n in config.copying]
    plan += [("adding", n, config.adding_updates) for n in config.adding]
    results: dict[str, dict] = {name: {} for name in ("recall", "copying", "adding")}
    curves = {}
    for name, length, updates in plan:
        row = {}
        for cell_name, cell in cells(config.features, length).items():
            row[cell_name], values = learn(cell, name, length, updates, config.seed)
            if name == "adding" and length == config.adding[-1]:
                curves[cell_name] = values
        results[name][str(length)] = row
        shown = "  ".join(f"{cell} {score:.4f}" for cell, score in row.items())
        what = "squared error" if name == "adding" else "right"
        print(f"{name:8s} T = {length:3d}  {what:13s}  {shown}", flush=True)
    norms = felt(config)
    draw_figure(config, curves, norms)
    ratios = {name: float(n[-1, 0] / n[-1, -1]) for name, n in norms.items()}
    for name, ratio in ratios.items():
        print(f"{name:6s} |dE_T/ds_1| / |dE_T/ds_T| = {ratio:.3g}")
    return results | {"reach_of_the_last_error": ratios}


def felt(config: Config, steps: int = 60) -> dict[str, np.ndarray]:
    """|| dE_t / ds_k || of untrained networks on noise, E_t = |y_t|^2 / 2."""
    x = jax.random.normal(jax.random.key(config.seed), (steps, 2))
    found = {}
    for name, cell in cells(config.features, steps).items():
        params, _ = jaxdl.init(cell, jax.random.key(config.seed), x[None])
        loss = lambda y, t: 0.5 * jnp.sum(y**2)  # noqa: E731
        norms = jax.jit(functools.partial(bptt.sensitivity, cell, loss=loss))
        found[name] = np.asarray(norms(params, x))
    return found


def draw_figure(config: Config, curves, norms) -> None:
    """Heat maps of the three cells, and the losses of adding over the longest sequences."""
    pyplot = _figure.pyplot()
    from matplotlib.colors import LogNorm

    figure, axes = pyplot.subplots(1, 4, figsize=(14, 3.4), layout="constrained")
    for axis, (name, values) in zip(axes, norms.items(), strict=False):
        scaled = values / np.diag(values)[:, None]
        limits = LogNorm(1e-4, 1, clip=True)
        shown = axis.imshow(np.where(scaled > 0, scaled, np.nan), norm=limits, cmap="magma")
        axis.set(title=name, xlabel="state k", ylabel="error t")
    figure.colorbar(shown, ax=axes[2], label="|dE_t/ds_k| / |dE_t/ds_t|")
    for name, values in curves.items():
        width = max(1, len(values) // 100)
        smooth = values[: len(values) - len(values) % width].reshape(-1, width).mean(1)
        axes[3].semilogy(np.arange(len(smooth)) * width, smooth, label=name)
    axes[3].axhline(1 / 6, color="0.6", linestyle=":")
    axes[3].set(title=f"adding, T = {config.adding[-1]}", xlabel="step", ylabel="squared error")
    axes[3].legend(frameon=False)
    _figure.save(figure, config, "long_memory", "long_memory")
