"""Compares Elman, LSTM and GRU cells on recall, copying and adding over long sequences.

Each cell learns a task from all seeds in one compiled program, which generates its own batches. The
result includes the norms of backpropagation through time before training: the sensitivity of the
error at step t to the state at step k, for each cell. Lecture rows J17, J16, D13.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxdl
from experiments import _figure, _run, _seeds
from experiments._claim import Claim, Verdict, numbers
from jaxdl import data, losses, nn, train
from jaxdl.nn.recurrent import bptt

CELLS = ("Elman", "LSTM", "GRU")
CLAIM = Claim(
    rows=("J17", "J16", "D13"),
    step="set",
    statement="LSTM and GRU remember over long sequences, where a simple recurrent network "
    "forgets.",
    deck={f"{task}: {cell}": None for task in ("recall", "copying", "adding") for cell in CELLS},
    source="nn/recurrent/lstm.py",
    minutes=20,
)
BATCH = 50


@dataclasses.dataclass(frozen=True)
class Config(_run.Config):
    seeds: int = 3
    """Networks of each cell and task."""
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
    """Builds the cells, with biases that make LSTM and GRU forget over 1 to `length` steps.

    Tallec and Ollivier 2018 (arXiv 1804.11188), eq. 16: the bias of a forget gate is the logarithm
    of a random time up to the sequences' length, and that of the LSTM's input gate minus this.
    """

    def times(key, dtype):
        return jnp.log(jax.random.uniform(key, (features,), dtype, 1, max(length - 1, 2)))

    def lstm_biases(key, shape, dtype):
        keep = times(key, dtype)
        return jnp.zeros(shape, dtype).at[: 2 * features].set(jnp.concatenate([-keep, keep]))

    def gru_biases(key, shape, dtype):
        biases = jnp.zeros(shape, dtype)
        gates = shape[0] > features  # the other bias of the GRU is that of the candidate
        return biases.at[features : 2 * features].set(times(key, dtype)) if gates else biases

    return {
        "Elman": nn.elman(features),
        "LSTM": nn.lstm(features, forget_bias=0.0, bias_init=lstm_biases),
        "GRU": nn.gru(features, bias_init=gru_biases),
    }


def task(name: str, length: int):
    """Returns a task: `draw(key, n) -> (x, y)`, the number of outputs, the loss and the score.

    The loss and the score are functions of the outputs (N, T, outputs) and y.
    """
    draw = functools.partial(getattr(data.toy.memory_tasks, name), length=length)
    if name == "adding":

        def square(o, y):
            return (o[:, -1, 0] - y) ** 2

        return draw, 1, square, square

    steps = 1 if name == "recall" else 5

    def loss(o, y):
        return losses.cross_entropy(o[:, -steps:], y.reshape(len(y), steps)).mean(1)

    def score(o, y):
        return jnp.all(jnp.argmax(o[:, -steps:], -1) == y.reshape(len(y), steps), axis=1)

    return draw, 8, loss, score


def train_cell(
    cell, name: str, length: int, updates: int, seeds: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Trains a network for each seed in one program.

    Returns:
      The scores on 500 fresh sequences, (S,), and the losses, (S, updates).
    """
    draw, outputs, loss, score = task(name, length)
    model = jaxdl.serial(cell, nn.dense(outputs))
    optimizer = optax.chain(
        # Long sequences have steep cliffs in their loss, see `rough_surface`.
        optax.clip_by_global_norm(1.0),
        optax.adam(optax.cosine_decay_schedule(5e-3 if name != "adding" else 3e-3, updates)),
    )
    x, _ = draw(jax.random.key(0), n=BATCH)
    states = [train.init_state(model, optimizer, jax.random.key(seed), x) for seed in seeds]
    step = train.make_train_step(model, loss, optimizer)

    @jax.jit
    @jax.vmap
    def whole(state, seed):
        def update(state, i):
            # A fresh batch in every step, so that nothing can be memorized.
            batch = draw(jax.random.fold_in(jax.random.key(seed + 1), i), n=BATCH)
            state, metrics = step(state, batch)
            return state, metrics["loss"].total / metrics["loss"].count

        state, values = jax.lax.scan(update, state, jnp.arange(updates))
        x, y = draw(jax.random.key(seed + 2), n=500)
        output, _ = model.apply(state.params, state.model_state, x)
        return jnp.mean(score(output, y).astype(jnp.float32)), values

    # The seeds are a leading axis, which `vmap` maps over in one program.
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
    final, values = whole(stacked, 1000 * jnp.asarray(seeds))
    return np.asarray(final), np.asarray(values)


def run(config: Config) -> dict:
    if config.smoke:
        config = dataclasses.replace(
            config,
            seeds=2,
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
    seeds = range(config.seed, config.seed + config.seeds)
    scores: dict[str, dict] = {name: {} for name in ("recall", "copying", "adding")}
    curves, measured = {}, {}
    for name, length, updates in plan:
        row = {}
        for cell_name, cell in cells(config.features, length).items():
            row[cell_name], values = train_cell(cell, name, length, updates, seeds)
            # Lengths increase: the summary of the longest sequences remains.
            measured[f"{name}: {cell_name}"] = _seeds.summarize(row[cell_name])
            if name == "adding" and length == config.adding[-1]:
                width = max(1, updates // 100)
                whole = values[:, : updates - updates % width]
                curves[cell_name] = whole.reshape(config.seeds, -1, width).mean(2)
        scores[name][str(length)] = numbers(row)
        shown = "  ".join(f"{cell} {score.mean():.4f}" for cell, score in row.items())
        what = "squared error" if name == "adding" else "right"
        print(f"{name:8s} T = {length:3d}  {what:13s}  {shown}", flush=True)
    norms = sensitivities(config)
    reach = {name: float(n[-1, 0] / n[-1, -1]) for name, n in norms.items()}
    for name, ratio in reach.items():
        print(f"{name:6s} |dE_T/ds_1| / |dE_T/ds_T| = {ratio:.3g}")
    scaled = {name: (n / np.diag(n)[:, None])[1::2, 1::2] for name, n in norms.items()}
    result = {
        "measured": measured,
        "scores": scores,
        "reach_of_the_last_error": reach,
        "updates": config.adding_updates,
        "losses": numbers(curves, 3),
        "norms": numbers(scaled, 3),
    }
    _figure.save(draw(result), config, "long_memory", "long_memory")
    return result


def judge(result: dict) -> Verdict:
    """Requires LSTM and GRU to solve the longest sequences of every task, and Elman to fail.

    A task is solved if every seed has 0.9 of the answers right; adding, if every seed has a tenth
    of the squared error of always answering the mean, which is 1/6.
    """
    longest = {
        task: max(rows.items(), key=lambda item: int(item[0]))
        for task, rows in result["scores"].items()
    }

    def solves(task: str, cell: str) -> bool:
        values = np.array(longest[task][1][cell])
        return bool(np.all(values < 1 / 60 if task == "adding" else values >= 0.9))

    shown = {
        task: not solves(task, "Elman") and all(solves(task, cell) for cell in CELLS[1:])
        for task in longest
    }
    outcome = "holds" if all(shown.values()) else "holds in part"

    def means(task: str, digits: str) -> str:
        values = {cell: np.mean(scores) for cell, scores in longest[task][1].items()}
        return ", ".join(f"{cell} {value:{digits}}" for cell, value in values.items())

    recall, copying, adding = (
        means("recall", ".3f"),
        means("copying", ".3f"),
        means("adding", ".4f"),
    )
    steps = {task: length for task, (length, _) in longest.items()}
    reach = ", ".join(f"{c} {v:.0e}" for c, v in result["reach_of_the_last_error"].items())
    nobody = np.max([*longest["copying"][1].values()]) == 0
    return Verdict(
        outcome if any(shown.values()) else "does not hold",
        f"recall over {steps['recall']} steps: right {recall}; adding over {steps['adding']}: "
        f"squared error {adding}, where always answering the mean has 0.1667; copying over "
        f"{steps['copying']}: right {copying}{', so no cell learns it' if nobody else ''}; before "
        f"training, the last error at the first state is of its size at the last one {reach}",
        {
            "steps": steps,
            "recall": recall,
            "adding": adding,
            "copying": copying,
            "nobody": nobody,
            "reach": reach,
        },
    )


def sensitivities(config: Config, steps: int = 60) -> dict[str, np.ndarray]:
    """Computes || dE_t / ds_k || of untrained networks on noise, E_t = |y_t|^2 / 2."""
    x = jax.random.normal(jax.random.key(config.seed), (steps, 2))
    norms = {}
    for name, cell in cells(config.features, steps).items():
        params, _ = jaxdl.init(cell, jax.random.key(config.seed), x[None])

        def loss(y, t):
            return 0.5 * jnp.sum(y**2)

        measure = jax.jit(functools.partial(bptt.sensitivity, cell, loss=loss))
        norms[name] = np.asarray(measure(params, x))
    return norms


def draw(result: dict) -> Any:
    """Draws the sensitivities of the cells, and the losses of adding over the longest sequences."""
    pyplot = _figure.pyplot()
    from matplotlib.colors import LogNorm

    figure, axes = pyplot.subplots(1, 4, figsize=(14, 3.4), layout="constrained")
    for axis, (name, values) in zip(axes[:3], result["norms"].items(), strict=True):
        scaled = np.array(values)
        shown = axis.imshow(
            np.where(scaled > 0, scaled, np.nan),
            norm=LogNorm(1e-4, 1, clip=True),
            cmap="magma",
            extent=(0, 2 * len(scaled), 2 * len(scaled), 0),
        )
        axis.set(title=name, xlabel="state k", ylabel="error t")
    figure.colorbar(shown, ax=axes[2], label="|dE_t/ds_k| / |dE_t/ds_t|")
    for i, (name, values) in enumerate(result["losses"].items()):
        steps = np.linspace(0, result["updates"], len(values[0]), endpoint=False)
        axes[3].semilogy(steps, np.mean(values, 0), color=f"C{i}", label=name)
        axes[3].fill_between(
            steps, np.min(values, 0), np.max(values, 0), color=f"C{i}", alpha=0.25, lw=0
        )
    axes[3].axhline(1 / 6, color="0.6", linestyle=":")
    longest = max(result["scores"]["adding"], key=int)
    axes[3].set(title=f"adding, T = {longest}", xlabel="step", ylabel="squared error")
    axes[3].legend(frameon=False)
    return figure
