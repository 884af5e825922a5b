"""Integrated gradients, and other means of gradients along a path."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl._check import require_ints, require_number
from jaxdl.core import suggest
from jaxdl.interpret import _batching, _input, _layer
from jaxdl.interpret._explanation import explain_batches, explanation_by_gradient
from jaxdl.interpret._target import Target

__all__ = ["conductance", "expected_gradients", "integrated_gradients", "internal_influence"]

QUADRATURES = ("gauss_legendre", "riemann_left", "riemann_middle", "riemann_right", "trapezoid")


@explanation_by_gradient
def integrated_gradients(
    f: Callable[[Any], Any],
    x: Any,
    *,
    target: Target = None,
    baseline: Any = 0.0,
    steps: int = 50,
    quadrature: str = "gauss_legendre",
    multiply_by_inputs: bool = True,
    layer: str | None = None,
    batch_size: int | None = None,
) -> Any:
    """Computes x_n - x'_n times the mean gradient between the baseline x' and x.

    Sundararajan, Taly and Yan 2017 (arXiv 1703.01365), eq. 1. The attributions of an example sum to
    y_k(x) - y_k(x') where the quadrature is exact: Gauss-Legendre with n nodes for scores that are
    polynomials of degree 2n on the line.

    Args:
      f, x, target: as for `saliency`. "argmax" is the predicted class of x itself.
      baseline: x', a number, an array that broadcasts to x, or a tree like x.
      steps: nodes of the quadrature.
      quadrature: "gauss_legendre", "riemann_left", "riemann_middle", "riemann_right" or
        "trapezoid".
      multiply_by_inputs: False returns the mean gradient, in units of score per unit of input.
      layer: as for `saliency`. The baseline is then one of the layer's value, e.g.
        `intermediate(f, x0, layer)`.
      batch_size: nodes computed side by side; None for the largest number of nodes and examples
        within `memory_budget`.

    Returns:
      Arrays like x, or like the value of the layer, in units of the score.

    Raises:
      ValueError: as `saliency`; the baseline does not broadcast to x; `steps` is below 1 (below 2
        for the trapezoid); the quadrature is unknown; `batch_size` is below 1.
    """
    name = "integrated_gradients"
    # A baseline can differ between examples, so it is divided into batches together with x.
    shapes = _layer.eval_shape(name, f, x, layer)
    base = _input.broadcast_baseline(name, shapes, baseline)

    def explain(f, score, x, base):
        gradient = jax.grad(lambda x: jnp.sum(score(f(x))))
        mean = _average_along_path(name, gradient, x, base, quadrature, steps, batch_size)
        if not multiply_by_inputs:
            return mean
        return jax.tree.map(lambda x, b, g: (x - b) * g, x, base, mean)

    options = {"others": (base,), "perturbs": True}
    return explain_batches(name, explain, f, x, target, layer, batch_size, **options)


def _average_along_path(
    name: str,
    evaluate: Callable[[Any], Any],
    x: Any,
    base: Any,
    quadrature: str,
    steps: int,
    batch_size: int | None,
) -> Any:
    """Returns the mean of `evaluate(point)` along the line from the baseline to x."""
    nodes, weights = map(jnp.asarray, _choose_nodes(name, quadrature, steps))

    def evaluate_node(i):
        point = jax.tree.map(lambda b, x: b + nodes[i].astype(x.dtype) * (x - b), base, x)
        return evaluate(point)

    return _batching.accumulate(name, evaluate_node, weights, batch_size)


def _choose_nodes(name: str, quadrature: str, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the nodes of a quadrature on [0, 1], and their weights."""
    if quadrature not in QUADRATURES:
        hint = suggest(str(quadrature), QUADRATURES, "quadratures")
        raise ValueError(f"{name}: unknown quadrature {quadrature!r}; {hint}")
    (steps,) = require_ints(name, 2 if quadrature == "trapezoid" else 1, steps=steps)
    if quadrature == "gauss_legendre":
        # On [-1, 1], with weights of sum 2.
        nodes, weights = np.polynomial.legendre.leggauss(steps)
        return (nodes + 1) / 2, weights / 2
    if quadrature == "trapezoid":
        weights = np.full(steps, 1 / (steps - 1))
        weights[[0, -1]] /= 2
        return np.linspace(0, 1, steps), weights
    shift = {"riemann_left": 0.0, "riemann_middle": 0.5, "riemann_right": 1.0}[quadrature]
    return (np.arange(steps) + shift) / steps, np.full(steps, 1 / steps)


@explanation_by_gradient
def conductance(
    f: Callable[[Any], Any],
    x: Any,
    *,
    layer: str,
    target: Target = None,
    baseline: Any = 0.0,
    steps: int = 50,
    quadrature: str = "gauss_legendre",
    batch_size: int | None = None,
) -> jax.Array:
    """Computes the part of integrated gradients through each unit of a layer.

    Dhamdhere, Sundararajan and Yan 2018 (arXiv 1805.12233), eq. 2: the mean of d y / d h dh/dt for
    units h, over points t on the line from the baseline to x. The sum over a layer that all paths
    pass through is y(x) - y(x').

    Args:
      f, x, target, steps, quadrature, batch_size: as for `integrated_gradients`.
      layer: the layer's path.
      baseline: the baseline of x, not of the layer.

    Returns:
      Like the value of the layer, in units of the score.

    Raises:
      ValueError: as `integrated_gradients`.
    """
    name = "conductance"
    base = _input.broadcast_baseline(name, x, baseline)

    def explain(f, score, x, base):
        # dh/dt is the directional derivative of the layer along the line.
        direction = jax.tree.map(jnp.subtract, x, base)

        def flow(point):
            rest, _ = _layer.split(name, f, point, layer)
            value, rate = jax.jvp(
                lambda x: _layer.split(name, f, x, layer)[1], (point,), (direction,)
            )
            return jax.grad(lambda value: jnp.sum(score(rest(value))))(value) * rate

        return _average_along_path(name, flow, x, base, quadrature, steps, batch_size)

    options = {"others": (base,), "perturbs": True}
    return explain_batches(name, explain, f, x, target, None, batch_size, **options)


@explanation_by_gradient
def internal_influence(
    f: Callable[[Any], Any],
    x: Any,
    *,
    layer: str,
    target: Target = None,
    baseline: Any = 0.0,
    steps: int = 50,
    quadrature: str = "gauss_legendre",
    batch_size: int | None = None,
) -> jax.Array:
    """Computes the mean derivative of the score by each unit of a layer.

    Leino et al. 2018 (arXiv 1802.03788), def. 1.

    Args:
      f, x, layer, target, baseline, steps, quadrature, batch_size: as for `conductance`.

    Returns:
      Like the value of the layer, in units of score per unit of the value.

    Raises:
      ValueError: as `conductance`.
    """
    name = "internal_influence"
    base = _input.broadcast_baseline(name, x, baseline)

    def explain(f, score, x, base):
        def gradient(point):
            rest, value = _layer.split(name, f, point, layer)
            return jax.grad(lambda value: jnp.sum(score(rest(value))))(value)

        return _average_along_path(name, gradient, x, base, quadrature, steps, batch_size)

    options = {"others": (base,), "perturbs": True}
    return explain_batches(name, explain, f, x, target, None, batch_size, **options)


@explanation_by_gradient
def expected_gradients(
    f: Callable[[Any], Any],
    x: Any,
    background: Any,
    *,
    key: jax.Array,
    target: Target = None,
    samples: int = 50,
    noise: float = 0.0,
    batch_size: int | None = None,
) -> Any:
    """Computes the mean of (x - x') d y / d x over random background examples x'.

    Erion et al. 2021 (arXiv 1906.10670), eq. 2. With noise added to x it is GradientSHAP (Lundberg
    and Lee 2017). The expected sum of an example's attributions is y(x) minus the mean of y over
    the background.

    Args:
      f, x, target: as for `integrated_gradients`.
      background: (M, ...) reference examples, or a tree of them like x.
      key: a PRNG key.
      samples: random points for each example.
      noise: standard deviation of noise added to x at each point, in units of the input.
      batch_size: points computed side by side; None as for `integrated_gradients`.

    Returns:
      Arrays like x, in units of the score.

    Raises:
      ValueError: as `integrated_gradients`; the background is empty or its examples have another
        shape; `noise` is not a number of 0 or more.
    """
    name = "expected_gradients"
    _, whole = _input.separate(f, x)
    (samples,) = require_ints(name, 1, samples=samples)
    background, m = _input.as_examples(name, whole, "background", background)
    noise = require_number(name, "a number of 0 or more", lambda v: v >= 0, noise=noise)
    n = len(jax.tree.leaves(x)[0])

    def explain(f, score, x, numbers):
        def evaluate(i):
            # Draws are those of the whole batch, so that batches do not change the result.
            of_rows, of_shares, of_noise = jax.random.split(jax.random.fold_in(key, i), 3)
            rows = jax.random.randint(of_rows, (n,), 0, m)[numbers]
            base = jax.tree.map(lambda b: b[rows], background)
            share = jax.random.uniform(of_shares, (n,))[numbers]
            noisy = x
            if not isinstance(noise, float) or noise:
                noisy = jax.tree.map(lambda a: a[numbers], add_noise(of_noise, whole, noise))

            def interpolate(b, x):
                return b + share.reshape(-1, *[1] * (x.ndim - 1)).astype(x.dtype) * (x - b)

            point = jax.tree.map(interpolate, base, noisy)
            slope = jax.grad(lambda x: jnp.sum(score(f(x))))(point)
            return jax.tree.map(lambda x, b, s: (x - b) * s, noisy, base, slope)

        return _batching.accumulate(name, evaluate, jnp.full(samples, 1 / samples), batch_size)

    options = {"others": (jnp.arange(n),), "perturbs": True}
    return explain_batches(name, explain, f, x, target, None, batch_size, **options)


def add_noise(key: jax.Array, x: Any, sigma: float) -> Any:
    """Returns x with normal noise of standard deviation sigma, drawn for each leaf."""
    leaves, tree = jax.tree.flatten(x)
    keys = jax.random.split(key, len(leaves))
    return jax.tree.unflatten(
        tree,
        [
            leaf + jnp.asarray(sigma, leaf.dtype) * jax.random.normal(k, leaf.shape, leaf.dtype)
            for k, leaf in zip(keys, leaves, strict=True)
        ],
    )
