"""Restricted Boltzmann machines (RBM) and deep belief nets.

A joint distribution of binary visible units v and hidden units h without links within a layer:

    E(v, h) = -b v - c h - v W h,      p(v, h) = exp(-E) / Z
    p(h_j = 1 | v) = sigmoid(c_j + v W_j),   p(v_i = 1 | h) = sigmoid(b_i + W_i h)
    F(v) = -b v - sum_j log(1 + exp(c_j + v W_j)),   p(v) = exp(-F(v)) / Z

Contrastive divergence (Hinton 2002, doi:10.1162/089976602760128018) samples a reconstruction v' of
the data and moves the parameters by the difference of the statistics of v and v'. A stack of
machines, each trained on the hidden units of the one below, is a deep belief net (Hinton, Osindero
and Teh 2006); its weights can initialize a feed-forward network (Hinton and Salakhutdinov 2006).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxdl.core import Tree

__all__ = [
    "RBM",
    "contrastive_divergence",
    "deep_belief_net",
    "free_energy",
    "initialize_network",
    "rbm",
    "reconstruct",
]


class RBM(NamedTuple):
    """Parameters of a restricted Boltzmann machine.

    Attributes:
      weights: (V, H), W.
      visible: (V,), b.
      hidden: (H,), c.
    """

    weights: jax.Array
    visible: jax.Array
    hidden: jax.Array

    def up(self, v: jax.Array) -> jax.Array:
        """Returns p(h = 1 | v), (..., V) -> (..., H)."""
        return jax.nn.sigmoid(self.hidden + v @ self.weights)

    def down(self, h: jax.Array) -> jax.Array:
        """Returns p(v = 1 | h), (..., H) -> (..., V)."""
        return jax.nn.sigmoid(self.visible + h @ self.weights.T)


def free_energy(machine: RBM, v: jax.Array) -> jax.Array:
    """Returns F(v) = -b v - sum_j log(1 + exp(c_j + v W_j)), where p(v) = exp(-F(v)) / Z.

    Args:
      machine: the machine.
      v: (..., V) in [0, 1].

    Returns:
      (...), in nats; a lower energy means a higher probability.
    """
    hidden = jax.nn.softplus(machine.hidden + v @ machine.weights)
    return -(v @ machine.visible) - hidden.sum(-1)


def reconstruct(machine: RBM, v: jax.Array) -> jax.Array:
    """Maps v to hidden probabilities and back to visible probabilities.

    Args:
      machine: the machine.
      v: (..., V) in [0, 1].

    Returns:
      (..., V) in [0, 1].
    """
    return machine.down(machine.up(v))


def contrastive_divergence(machine: RBM, key: jax.Array, v: jax.Array, *, steps: int = 1) -> RBM:
    """Returns the CD-k update: mean statistics of the data minus those of the reconstruction.

    Args:
      machine: the machine.
      key: a PRNG key for the sampled units.
      v: (N, V) in [0, 1].
      steps: k, steps of Gibbs sampling; k to infinity gives the gradient of the likelihood.

    Returns:
      An `RBM` of changes, to be multiplied by a rate and added.
    """
    h = machine.up(v)
    fantasy, hidden = v, h
    for i in range(steps):
        below, above = jax.random.split(jax.random.fold_in(key, i))
        sample = jax.random.bernoulli(above, hidden).astype(v.dtype)
        fantasy = jax.random.bernoulli(below, machine.down(sample)).astype(v.dtype)
        hidden = machine.up(fantasy)
    n = len(v)
    return RBM(
        (v.T @ h - fantasy.T @ hidden) / n,
        (v - fantasy).mean(0),
        (h - hidden).mean(0),
    )


def rbm(
    key: jax.Array,
    v: jax.Array,
    hidden: int,
    *,
    epochs: int = 10,
    batch_size: int = 100,
    rate: float = 0.1,
    momentum: float = 0.5,
) -> RBM:
    """Trains a machine by contrastive divergence, with the recipe of Hinton 2010 (TR 2010-003).

    Args:
      key: a PRNG key.
      v: (N, V) in [0, 1]; values between are taken as probabilities.
      hidden: H.
      epochs: passes through the data.
      batch_size: rows of a batch, at most N; an incomplete last batch is dropped.
      rate, momentum: learning rate and momentum.

    Returns:
      The machine.

    Raises:
      ValueError: v is no matrix of numbers in [0, 1], or the batch is larger than it.
    """
    v = jnp.asarray(v)
    if v.ndim != 2 or not v.size or not bool((v.min() >= 0) & (v.max() <= 1)):
        raise ValueError(f"rbm: v is {v.shape}; expected (N, V) of numbers in [0, 1].")
    if not 1 <= batch_size <= len(v):
        raise ValueError(f"rbm: batch_size is {batch_size} for {len(v)} rows; expected 1 .. N.")
    start, order = jax.random.split(key)
    batches = len(v) // batch_size
    eta, inertia = jnp.asarray(rate, v.dtype), jnp.asarray(momentum, v.dtype)

    def update(carry, now):
        machine, speed = carry
        rows, key = now
        change = contrastive_divergence(machine, key, v[rows])
        speed = jax.tree.map(lambda s, c: inertia * s + eta * c, speed, change)
        return (jax.tree.map(jnp.add, machine, speed), speed), None

    def epoch(carry, key):
        shuffle, draws = jax.random.split(key)
        rows = jax.random.permutation(shuffle, len(v))[: batches * batch_size]
        now = rows.reshape(batches, batch_size), jax.random.split(draws, batches)
        return jax.lax.scan(update, carry, now)

    mean = jnp.clip(v.mean(0), 0.01, 0.99)
    machine = RBM(
        0.01 * jax.random.normal(start, (v.shape[1], hidden), v.dtype),
        jnp.log(mean / (1 - mean)),
        jnp.zeros(hidden, v.dtype),
    )
    still = jax.tree.map(jnp.zeros_like, machine)
    keys = jax.random.split(order, epochs)
    (machine, _), _ = jax.jit(lambda: jax.lax.scan(epoch, (machine, still), keys))()
    return machine


def deep_belief_net(
    key: jax.Array, v: jax.Array, widths: Sequence[int], **options: Any
) -> list[RBM]:
    """Trains a stack of machines, each on the hidden units of the one below.

    Args:
      key: a PRNG key.
      v: (N, V) in [0, 1].
      widths: hidden units of each machine.
      **options: for `rbm`.

    Returns:
      The machines, from the data upwards.
    """
    machines = []
    for i, width in enumerate(widths):
        machines.append(rbm(jax.random.fold_in(key, i), v, width, **options))
        v = machines[-1].up(v)
    return machines


def initialize_network(params: Tree, machines: Sequence[RBM]) -> Tree:
    """Returns a network's parameters with its first dense layers copied from machines.

    Args:
      params: of `serial(nn.dense(...), sigmoid, ...)`: `dense_0`, `dense_1`, ... with kernel and
        bias.
      machines: of the same widths, from `deep_belief_net`.

    Returns:
      New parameters; layers above the machines are unchanged.

    Raises:
      ValueError: a layer is missing or of another shape.
    """
    changed = dict(params)
    for i, machine in enumerate(machines):
        name = f"dense_{i}"
        shape = params.get(name, {}).get("kernel", jnp.zeros(0)).shape
        if shape != machine.weights.shape:
            raise ValueError(
                f"initialize_network: {name} has a kernel {shape}, machine {i} weights "
                f"{machine.weights.shape}; expected the same: give both the same widths."
            )
        changed[name] = {"kernel": machine.weights, "bias": machine.hidden}
    return changed
