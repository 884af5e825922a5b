"""Attributions by gradients along a path from a baseline to the input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.core import suggest
from jaxdl.interpret import _compile, _input, _layer, _target

__all__ = ["conductance", "expected_gradients", "integrated_gradients", "internal_influence"]

RULES = ("gauss_legendre", "riemann_left", "riemann_middle", "riemann_right", "trapezoid")


@_compile.once
@_target.each_by_derivative
def integrated_gradients(
    f: Callable[[Any], Any],
    x: Any,
    *,
    target: _target.Target = None,
    baseline: Any = 0.0,
    steps: int = 50,
    rule: str = "gauss_legendre",
    multiply: bool = True,
    layer: str | None = None,
    batch_size: int | None = None,
) -> Any:
    """(x_n - x'_n) times the mean of d y_k / d x_n along the line from the baseline x' to x.

    Sundararajan, Taly and Yan 2017 (arXiv 1703.01365), eq. 1. The attributions of an example add up
    to y_k(x) - y_k(x'), exactly where the rule is exact: Gauss-Legendre with n nodes for
    polynomials of degree 2n along the line.

    Args:
      f, x, target: as for `saliency`; "argmax" is the class that x itself is given.
      baseline: x', a number, an array that broadcasts to x, or a tree like x.
      steps: nodes of the quadrature.
      rule: "gauss_legendre", "riemann_left", "riemann_middle", "riemann_right" or "trapezoid".
      multiply: False gives the mean gradient alone, in units of score per unit of input.
      layer: a path; the way is then one of the value there, and the baseline is one of it, e.g.
        `intermedilayere(f, x0, layer)`.
      batch_size: nodes computed side by side; None for as many, and as many examples, as
        `memory_budget` allows.

    Returns:
      Arrays like x, or like the value at `layer`, in units of the score.

    Raises:
      ValueError: as `saliency`; the baseline does not broadcast to x; `steps` is below 1 (below 2
        for the trapezoid); the rule is unknown; `batch_size` is below 1.
    """
    name = "integrated_gradients"
    x, like = _layer.arrays(name, f, x, layer)
    # Outside of `explained`, since it may be another for each example.
    base = _input.baselines(name, like, baseline)

    def explained(rows, target):
        x, base = rows
        target = _target.settled(name, f, x, target)
        g, x = _layer.located(name, f, x, layer)

        def gradient(point):
            return jax.grad(lambda x: jnp.sum(_target.score(name, g(x), target)))(point)

        mean = _mean(name, gradient, x, base, rule, steps, batch_size)
        return jax.tree.map(lambda x, b, g: (x - b) * g if multiply else g, x, base, mean)

    return _input.by_examples_or_evaluations(name, explained, (x, base), target, batch_size)


def _mean(
    name: str, value: Callable, x, base, rule: str, steps: int, batch_size: int | None
) -> Any:
    """The mean of `value(point)` along the line from the baseline to x."""
    places, weights = _quadrature(name, rule, steps)
    nodes = jnp.asarray(places)

    def at_node(i):
        return value(jax.tree.map(lambda b, x: b + nodes[i].astype(x.dtype) * (x - b), base, x))

    return _input.weighted_sum(name, at_node, jnp.asarray(weights), batch_size)


def _quadrature(name: str, rule: str, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights on [0, 1]."""
    if rule not in RULES:
        raise ValueError(f"{name}: no rule {rule!r}; {suggest(str(rule), RULES, 'rules')}")
    (steps,) = _input.at_least(name, 2 if rule == "trapezoid" else 1, steps=steps)
    if rule == "gauss_legendre":
        nodes, weights = np.polynomial.legendre.leggauss(steps)
        return (nodes + 1) / 2, weights / 2
    if rule == "trapezoid":
        weights = np.full(steps, 1 / (steps - 1))
        weights[[0, -1]] /= 2
        return np.linspace(0, 1, steps), weights
    shift = {"riemann_left": 0.0, "riemann_middle": 0.5, "riemann_right": 1.0}[rule]
    return (np.arange(steps) + shift) / steps, np.full(steps, 1 / steps)


@_compile.once
@_target.each_by_derivative
def conductance(
    f: Callable[[Any], Any],
    x: Any,
    *,
    layer: str,
    target: _target.Target = None,
    baseline: Any = 0.0,
    steps: int = 50,
    rule: str = "gauss_legendre",
    batch_size: int | None = None,
) -> jax.Array:
    """How much of integrated gradients flows through each unit of a layer.

    Dhamdhere, Sundararajan and Yan 2018 (arXiv 1805.12233), eq. 2: the mean along the line from the
    baseline to x of d y / d h times the rate at which h moves. Over the units of a layer that all
    paths go through they add up to y(x) - y(x').

    Args:
      f, x, target, baseline, steps, rule, batch_size: as for `integrated_gradients`; the baseline is one
        of x.
      layer: the layer's path.

    Returns:
      Like the value at `layer`, in units of the score.

    Raises:
      ValueError: as `integrated_gradients`.
    """
    name = "conductance"
    x = _input.checked(name, x)
    base = _input.baselines(name, x, baseline)

    def explained(rows, target):
        x, base = rows
        target = _target.settled(name, f, x, target)
        g, x = _input.separate(name, f, x)
        way = jax.tree.map(jnp.subtract, x, base)

        def flow(point):
            rest, _ = _layer.split(name, g, point, layer)
            value, rate = jax.jvp(lambda x: _layer.split(name, g, x, layer)[1], (point,), (way,))
            slope = jax.grad(lambda h: jnp.sum(_target.score(name, rest(h), target)))(value)
            return slope * rate

        return _mean(name, flow, x, base, rule, steps, batch_size)

    return _input.by_examples_or_evaluations(name, explained, (x, base), target, batch_size)


@_compile.once
@_target.each_by_derivative
def internal_influence(
    f: Callable[[Any], Any],
    x: Any,
    *,
    layer: str,
    target: _target.Target = None,
    baseline: Any = 0.0,
    steps: int = 50,
    rule: str = "gauss_legendre",
    batch_size: int | None = None,
) -> jax.Array:
    """The mean derivative of the score by each unit of a layer, along the line of inputs.

    Leino et al. 2018 (arXiv 1802.03788), def. 1.

    Args:
      f, x, layer, target, baseline, steps, rule, batch_size: as for `conductance`.

    Returns:
      Like the value at `layer`, in units of score per unit of the value.

    Raises:
      ValueError: as `conductance`.
    """
    name = "internal_influence"
    x = _input.checked(name, x)
    base = _input.baselines(name, x, baseline)

    def explained(rows, target):
        x, base = rows
        target = _target.settled(name, f, x, target)
        g, x = _input.separate(name, f, x)

        def slope(point):
            rest, value = _layer.split(name, g, point, layer)
            return jax.grad(lambda h: jnp.sum(_target.score(name, rest(h), target)))(value)

        return _mean(name, slope, x, base, rule, steps, batch_size)

    return _input.by_examples_or_evaluations(name, explained, (x, base), target, batch_size)


@_compile.once
@_target.each_by_derivative
def expected_gradients(
    f: Callable[[Any], Any],
    x: Any,
    background: Any,
    *,
    key: jax.Array,
    target: _target.Target = None,
    samples: int = 50,
    noise: float = 0.0,
    batch_size: int | None = None,
) -> Any:
    """The mean of (x - x') d y / d x at random points between x and random examples x'.

    Erion et al. 2021 (arXiv 1906.10670), eq. 2; with noise added to x it is GradientSHAP (Lundberg
    and Lee 2017). In expectation the attributions of an example add up to y(x) less the mean of y
    over the background.

    Args:
      f, x, target: as for `integrated_gradients`.
      background: (M, ...) examples to compare with, or a tree of them like x.
      key: a PRNG key.
      samples: random points for each example.
      noise: standard deviation of noise added to x at each point, in units of the input.
      batch_size: points computed side by side; None as for `integrated_gradients`.

    Returns:
      Arrays like x, in units of the score.

    Raises:
      ValueError: as `integrated_gradients`; the background's examples are of another shape, or
        none; the noise is no number of 0 or more.
    """
    name = "expected_gradients"
    whole = _input.checked(name, x)
    _, x = _input.separate(name, f, x)
    (samples,) = _input.at_least(name, 1, samples=samples)
    background, m = _input.examples(name, x, "background", background)
    noise = _input.number(name, "a number of 0 or more", lambda v: v >= 0, noise=noise)
    n = len(jax.tree.leaves(x)[0])

    def explained(numbers, target):
        take = lambda tree: jax.tree.map(lambda leaf: leaf[numbers], tree)  # noqa: E731
        target = _target.settled(name, f, take(whole), target)
        g, _ = _input.separate(name, f, take(whole))

        def sample(i):  # draws are those of the whole batch, however it is cut
            which, where, jitter = jax.random.split(jax.random.fold_in(key, i), 3)
            rows = jax.random.randint(which, (n,), 0, m)[numbers]
            base = jax.tree.map(lambda b: b[rows], background)
            share = jax.random.uniform(where, (n,))[numbers]
            moved = take(x if isinstance(noise, float) and not noise else noisy(jitter, x, noise))

            def between(b, x):
                return b + share.reshape(-1, *[1] * (x.ndim - 1)).astype(x.dtype) * (x - b)

            point = jax.tree.map(between, base, moved)
            slope = jax.grad(lambda x: jnp.sum(_target.score(name, g(x), target)))(point)
            return jax.tree.map(lambda x, b, s: (x - b) * s, moved, base, slope)

        return _input.weighted_sum(name, sample, jnp.full(samples, 1 / samples), batch_size)

    return _input.by_examples_or_evaluations(name, explained, jnp.arange(n), target, batch_size)


def noisy(key: jax.Array, x: Any, sigma: float) -> Any:
    """x with normal noise of standard deviation sigma; each leaf has its own."""
    leaves, tree = jax.tree.flatten(x)
    keys = jax.random.split(key, len(leaves))
    return jax.tree.unflatten(
        tree,
        [
            leaf + jnp.asarray(sigma, leaf.dtype) * jax.random.normal(k, leaf.shape, leaf.dtype)
            for k, leaf in zip(keys, leaves, strict=True)
        ],
    )
