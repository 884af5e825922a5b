"""Descends the cliff in the loss of a recurrent network with and without gradient clipping.

A network with one unit, h_t = tanh(w h_{t-1} + b), runs for 50 steps from 0.5 and should end at 0.7
(after Pascanu, Mikolov and Bengio 2013, arXiv 1211.5063, fig. 6). Its loss over (w, b) has a wall
at the border of the region in which the unit saturates. At the wall one step of plain gradient
descent can be very long; clipping the gradient's norm bounds every step. The two descents of the
figure start at a point that was selected to end differently. From most points they do not: the ends
are counted over a grid of starts just above the wall. The lectures' y^1000 = w^999 is printed too.
Lecture rows D14, D16, S21, T15.
"""

from __future__ import annotations

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments import _figure, _run
from jaxdl import nn
from jaxdl.nn.recurrent import bptt

STEPS, START, GOAL = 50, 0.5, 0.7


@dataclasses.dataclass(frozen=True)
class Config(_run.Config):
    rate: float = 0.05
    """Learning rate of both descents."""
    clip: float = 0.5
    """The norm to which gradients are clipped."""
    updates: int = 100
    """Steps of gradient descent."""
    grid: int = 161
    """Points of the figure along each side."""


CELL = nn.elman(1)


def params(w, b):
    """Returns the unit's parameters; the input's weight is 0, as there is no input."""
    return {
        "kernel": jnp.zeros((1, 1)),
        "recurrent_kernel": jnp.reshape(w, (1, 1)),
        "bias": jnp.reshape(b, (1,)),
    }


def loss(point: jax.Array) -> jax.Array:
    """Returns (h_50 - 0.7)^2 at (w, b)."""
    silence, start = jnp.zeros((1, STEPS, 1)), jnp.full((1, 1), START)
    final, _ = nn.unroll(CELL, params(point[0], point[1]), silence, carry=start)
    return jnp.sum((final - GOAL) ** 2)


def descend(config: Config, begin: jax.Array, clip: float) -> tuple[jax.Array, jax.Array]:
    """Returns the path of gradient descent (updates + 1, 2), and the norms before clipping."""
    optimizer = optax.chain(optax.clip_by_global_norm(clip), optax.sgd(config.rate))

    def update(carry, _):
        point, state = carry
        gradient = jax.grad(loss)(point)
        change, state = optimizer.update(gradient, state)
        point += change
        return (point, state), (point, jnp.linalg.norm(gradient))

    _, (path, norms) = jax.lax.scan(update, (begin, optimizer.init(begin)), length=config.updates)
    return jnp.concatenate([begin[None], path]), norms


def starts_above_wall(side: int) -> jax.Array:
    """Returns points (n, 2) just above the wall: loss below 0.1, and above 1 at b - 0.1."""
    w, b = jnp.meshgrid(jnp.linspace(1.2, 2.4, side), jnp.linspace(-0.8, 0.2, side))
    starts = jnp.stack([w.ravel(), b.ravel()], axis=1)
    here, below = jax.vmap(loss)(starts), jax.vmap(loss)(starts - jnp.array([0.0, 0.1]))
    return starts[(here < 0.1) & (below > 1)]


def count_ends(config: Config, starts: jax.Array) -> dict[str, dict]:
    """Counts the ends and the longest steps of plain and clipped descents from some starts."""
    counts: dict[str, dict] = {}
    for name, clip in (("plain", math.inf), ("clipped", config.clip)):
        descents = jax.jit(jax.vmap(functools.partial(descend, config, clip=clip)))
        paths, _ = descents(starts)
        ends = np.asarray(jax.vmap(loss)(paths[:, -1]))
        steps = np.linalg.norm(np.diff(paths, axis=1), axis=-1).max(1)
        counts[name] = {
            "starts": len(starts),
            # Not (<=) rather than (>), so that NaN counts as a failure.
            "ends_above_1": int(np.sum(~(ends <= 1))),
            "ends_below_0.01": int(np.sum(ends < 0.01)),
            "has_a_step_above_1": int(np.sum(~(steps <= 1))),
        }
    return counts


def run(config: Config) -> dict:
    side = 21 if config.smoke else config.grid
    w, b = jnp.linspace(0, 2.5, side), jnp.linspace(-3.3, 0.4, side)
    directions = (jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0]))
    surface = bptt.loss_surface(loss, jnp.zeros(2), directions, (w, b))
    slope = jax.vmap(lambda w, b: jnp.linalg.norm(jax.grad(loss)(jnp.stack([w, b]))), (None, 0))
    steepest = jax.vmap(slope, (0, None))(w, b)
    # Selected so that the two descents end differently; `count_ends` shows how often they do.
    begin = jnp.array([1.7, -0.25])
    paths = {
        name: descend(config, begin, clip)
        for name, clip in (("plain", math.inf), ("clipped", config.clip))
    }
    result = {
        "steepest_on_the_grid": float(steepest.max()),
        "median_on_the_grid": float(jnp.median(steepest)),
        "powers": repeated_powers(),
    }
    for name, (path, norms) in paths.items():
        moves = jnp.linalg.norm(jnp.diff(path, axis=0), axis=1)
        result[name] = {
            "largest_gradient": float(norms.max()),
            "longest_step": float(moves.max()),
            "final_loss": float(loss(path[-1])),
            "lowest_loss": float(jnp.min(jax.vmap(loss)(path))),
        }
        print(
            f"{name:8s} largest gradient {float(norms.max()):9.3f}  longest step "
            f"{float(moves.max()):8.3f}  loss at the end {result[name]['final_loss']:.4f}"
        )
    result["from_the_edge"] = count_ends(config, starts_above_wall(side))
    for name, counts in result["from_the_edge"].items():
        print(f"{name:8s} {counts}")
    for row in result["powers"]:
        print("w = {w:<5} w^999 = {y:<24} d/dw = {slope}".format(**row))
    draw(config, w, b, surface, {name: path for name, (path, _) in paths.items()})
    return result


def repeated_powers() -> list[dict]:
    """Computes the deck's y after 1,000 steps of y <- w y from 1, w^999, and its derivative."""

    def power(w):
        return jax.lax.fori_loop(0, 999, lambda _, y: w * y, jnp.ones_like(w))

    rows = []
    with jax.enable_x64(True):
        for w in (1.0, 1.01, 0.99, 0.01):
            y, slope = jax.value_and_grad(power)(jnp.float64(w))
            rows.append({"w": w, "y": float(y), "slope": float(slope)})
    return rows


def draw(config: Config, w, b, surface, paths) -> None:
    """Draws the loss as a surface, and from above with the two descents."""
    pyplot = _figure.pyplot()
    figure = pyplot.figure(figsize=(10, 4.2), layout="constrained")
    solid = figure.add_subplot(1, 2, 1, projection="3d")
    x, y = np.meshgrid(w, b, indexing="ij")
    solid.plot_surface(x, y, np.asarray(surface), cmap="viridis", rcount=80, ccount=80)
    solid.view_init(elev=35, azim=-120)
    solid.set_box_aspect(None, zoom=0.88)
    solid.set(xlabel="w", ylabel="b", zlabel="loss")
    above = figure.add_subplot(1, 2, 2)
    shown = above.pcolormesh(x, y, np.asarray(surface), cmap="Greys", shading="auto")
    for (name, path), colour in zip(paths.items(), ("tab:red", "tab:blue"), strict=True):
        above.plot(path[:, 0], path[:, 1], ".-", color=colour, label=name, linewidth=1)
    above.set(xlabel="w", ylabel="b", xlim=(w[0], w[-1]), ylim=(b[0], b[-1]))
    above.legend(loc="center left")
    figure.colorbar(shown, ax=above, label="loss")
    _figure.save(figure, config, "rough_surface", "cliff")
