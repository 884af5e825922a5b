"""LIME and KernelSHAP: linear models fitted to scores of masked inputs."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl._check import require_ints
from jaxdl._precision import widen
from jaxdl.interpret import _batching, _layer
from jaxdl.interpret._explanation import explanation
from jaxdl.interpret._target import Target
from jaxdl.interpret.occlusion import explain_coalitions, label_features, spread_values

__all__ = ["kernel_shap", "lime"]


@explanation
def kernel_shap(
    f: Callable[[Any], Any],
    x: Any,
    *,
    key: jax.Array,
    target: Target = None,
    baseline: Any = 0.0,
    mask: Any = None,
    samples: int | None = None,
    layer: str | None = None,
    batch_size: int | None = None,
) -> Any:
    """Estimates Shapley values by a weighted regression on coalitions of features.

    Lundberg and Lee 2017 (arXiv 1705.07874), theorem 2. Coalitions are paired with their
    complements, and the sum of the values is constrained to y(x) - y(baseline): Covert and Lee 2021
    (arXiv 2012.01536), sec. 3. Single features are always evaluated, so that values of linear
    functions are exact. Larger coalitions are enumerated by size as far as `samples` suffice, and
    drawn at random beyond. With all 2^M coalitions, the values of every function are exact.

    Args:
      f, x, target, baseline, mask, layer: as for `ablation`.
      key: a PRNG key.
      samples: coalitions, at least 2 M for M features; None for the larger of 1024 and 4 M.
      batch_size: coalitions evaluated side by side; None for the largest number within
        `memory_budget`.

    Returns:
      Like x, in units of the score. All values of a feature have the feature's attribution.

    Raises:
      ValueError: as `ablation`; or there are fewer samples than 2 M.
    """
    name = "kernel_shap"
    shapes = _layer.eval_shape(name, f, x, layer)
    base, ids, count = label_features(name, shapes, baseline, mask)
    samples = max(1024, 4 * count) if samples is None else samples
    (samples,) = require_ints(f"{name} of {count} features", 2 * count, samples=samples)

    def run(explain):
        return explain_coalitions(name, explain, f, x, base, ids, target, layer, batch_size)

    empty, whole = run(lambda score: [widen(score(jnp.full(count, all))) for all in (False, True)])
    if count == 1:
        return spread_values((whole - empty)[:, None], ids, shapes)
    half, weights = _choose_coalitions(key, count, samples // 2)

    def explain(score):
        def evaluate(i):
            is_complement = i % 2 == 1
            return widen(score(half[i // 2] ^ is_complement))

        return _batching.map_evaluations(name, evaluate, 2 * len(half), batch_size).T

    scores = run(explain).T
    # For a pair z, 1 - z the regression is on half the difference of the scores,
    # (z - 1/2) . values. The mean of the values is fixed by their sum, and `_fit` finds the rest.
    mean = (whole - empty) / count
    design = half.astype(scores.dtype) - 0.5
    design -= jnp.mean(design, axis=1, keepdims=True)
    centre = jnp.mean(half.astype(scores.dtype) - 0.5, axis=1, keepdims=True) * (whole - empty)
    values = _fit(design, weights, (scores[::2] - scores[1::2]) / 2 - centre, 0.0)
    values += mean - jnp.mean(values, axis=0)
    return spread_values(values.T, ids, shapes)


def _choose_coalitions(key: jax.Array, count: int, pairs: int) -> tuple[jax.Array, jax.Array]:
    """Returns one coalition of each pair, (P, M) bool, and weights (P,) of sum 1.

    A pair is a coalition and its complement. Small sizes are enumerated where random draws would
    repeat them. Single features are always included and make the regression well-posed.
    """
    sizes = np.arange(1, count)
    kernel = 1 / (sizes * (count - sizes))
    kernel /= kernel.sum()
    members, weights, left = [], [], pairs
    size, rest = 1, 1.0
    while 2 * size <= count:
        # Both of a pair have this size: only coalitions with the first feature are listed.
        middle = 2 * size == count
        total = math.comb(count, size) // (1 + middle)
        share = kernel[size - 1] * (1 if middle else 2)
        # With fewer draws than coalitions of this size, random ones hardly repeat.
        if size > 1 and left * share < total * rest * (1 - 1e-9):
            break
        chosen = itertools.islice(itertools.combinations(range(count), size), total)
        rows = np.zeros((total, count), bool)
        rows[np.arange(total)[:, None], np.array(list(chosen))] = True
        members.append(rows)
        weights.append(np.full(total, share / total))
        left, rest, size = left - total, rest - share, size + 1
    if left and 2 * size <= count:
        of_size, of_members = jax.random.split(key)
        inner = np.arange(size, count - size + 1)
        size = jax.random.choice(of_size, inner, (left,), p=jnp.asarray(kernel[inner - 1] / rest))
        rank = jnp.argsort(jax.random.uniform(of_members, (left, count)), axis=1)
        members.append(rank < size[:, None])
        weights.append(np.full(left, rest / left))
    weight = np.concatenate(weights)
    return jnp.concatenate(members), jnp.asarray(weight / weight.sum())


def _fit(design: jax.Array, weights: jax.Array, scores: jax.Array, ridge: float) -> jax.Array:
    """Returns the minimizer v (M, N) of a weighted ridge regression.

    The loss is sum_i w_i |scores_i - design_i v|^2 + ridge |v|^2.

    If there are several minimizers, the result is the one of least norm. The normal equations are
    solved with a little more ridge, which keeps them regular in any precision. Then the residuals
    are solved for repeatedly, which removes the error of that ridge and of rounding (proximal point
    method).
    """
    root = jnp.sqrt(weights.astype(scores.dtype))[:, None]
    design, scores = root * design, root * scores
    product = functools.partial(jnp.matmul, precision="highest")
    gram = product(design.T, design)
    finfo = jnp.finfo(gram.dtype)
    shift = ridge + 10 * finfo.eps * jnp.trace(gram) + finfo.tiny
    factor = jax.scipy.linalg.cho_factor(gram + shift * jnp.eye(len(gram), dtype=gram.dtype))

    def improve(_, v):
        slope = product(design.T, scores - product(design, v)) - ridge * v
        return v + jax.scipy.linalg.cho_solve(factor, slope)

    start = jnp.zeros((len(gram), scores.shape[1]), gram.dtype)
    return jax.lax.fori_loop(0, 30, improve, start)


@explanation
def lime(
    f: Callable[[Any], Any],
    x: Any,
    *,
    key: jax.Array,
    target: Target = None,
    baseline: Any = 0.0,
    mask: Any = None,
    samples: int = 1024,
    width: float = 0.25,
    ridge: float = 1.0,
    layer: str | None = None,
    batch_size: int | None = None,
) -> Any:
    """Computes the weights of a local ridge regression of the score on features.

    Ribeiro, Singh and Guestrin 2016 (arXiv 1602.04938), algorithm 1. Each feature is present with
    probability 1/2. A copy with a share s of its features has the weight
    exp(-(1 - sqrt(s))^2 / 2 width^2).

    Args:
      f, x, target, baseline, mask, layer: as for `ablation`. A mask from `superpixels` makes
        features of an image.
      key: a PRNG key.
      samples: masked copies, more than features.
      width: the kernel width: smaller values weight copies near x more.
      ridge: the penalty on the squared weights, without the intercept, 0 or more.
      batch_size: copies evaluated side by side; None for the largest number within `memory_budget`.

    Returns:
      Like x, in units of the score. All values of a feature have the feature's attribution.

    Raises:
      ValueError: as `ablation`; there are fewer samples than features, the width is not above 0, or
        the ridge is below 0.
    """
    name = "lime"
    shapes = _layer.eval_shape(name, f, x, layer)
    base, ids, count = label_features(name, shapes, baseline, mask)
    (samples,) = require_ints(f"{name} of {count} features", count + 1, samples=samples)
    if not width > 0 or not ridge >= 0:
        raise ValueError(
            f"{name}: width={width}, ridge={ridge}; expected a width above 0 and a ridge of 0 or "
            "more."
        )
    present = jax.random.bernoulli(key, 0.5, (samples, count))

    def explain(score):
        def evaluate(i):
            return widen(score(present[i]))

        return _batching.map_evaluations(name, evaluate, samples, batch_size).T

    scores = explain_coalitions(name, explain, f, x, base, ids, target, layer, batch_size).T
    design = present.astype(scores.dtype)
    far = 1 - jnp.sqrt(jnp.mean(design, axis=1))
    logits = -(far**2) / (2 * width**2)
    shares = jax.nn.softmax(logits)  # the weights underflow for a narrow width
    weights = jnp.exp(logits) if ridge else shares

    def center(a):
        # Centered by weighted means, the fit has no intercept, which the ridge must not shrink.
        return a - jnp.average(a, axis=0, weights=shares)

    values = _fit(center(design), weights, center(scores), ridge)
    return spread_values(values.T, ids, shapes)
