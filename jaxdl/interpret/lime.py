"""Attributions as the weights of a linear function fitted to masked copies of the input."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl._precision import widen
from jaxdl.interpret import _compile, _input, _layer, _target
from jaxdl.interpret.occlusion import features, of_coalitions, to_values

__all__ = ["kernel_shap", "lime"]


@_compile.once
@_target.each
def kernel_shap(
    f: Callable[[Any], Any],
    x: Any,
    *,
    key: jax.Array,
    target: _target.Target = None,
    baseline: Any = 0.0,
    mask: Any = None,
    samples: int | None = None,
    layer: str | None = None,
    batch_size: int | None = None,
) -> Any:
    """Shapley values by a weighted regression on coalitions of features.

    Lundberg and Lee 2017 (arXiv 1705.07874), theorem 2; coalitions come with their complements, and
    the sum is held to y(x) - y(baseline): Covert and Lee 2021 (arXiv 2012.01536), sec. 3. Every
    feature alone is always a coalition, so that linear functions have their exact values. All
    coalitions of the next sizes are run where `samples` reach for them, and others are drawn; where
    they reach for all 2^M, the values are exact for every function.

    Args:
      f, x, target, baseline, mask, layer: as for `ablation`.
      key: a PRNG key.
      samples: coalitions, at least 2 M for M features; None for 1024, or 4 M where that is more.
      batch_size: coalitions run side by side; None for as many as `memory_budget` allows.

    Returns:
      Like x; all that belongs to a feature has its value, in units of the score.

    Raises:
      ValueError: as `ablation`; there are fewer samples than 2 M.
    """
    name = "kernel_shap"
    x, like = _layer.arrays(name, f, x, layer)
    base, ids, count = features(name, like, baseline, mask)
    samples = max(1024, 4 * count) if samples is None else samples
    (samples,) = _input.at_least(f"{name} of {count} features", 2 * count, samples=samples)
    run = functools.partial(of_coalitions, name, f, (x, base, ids), target, layer, batch_size)
    empty, whole = run(lambda score: [widen(score(jnp.full(count, all))) for all in (False, True)])
    if count == 1:
        return to_values((whole - empty)[:, None], ids, like)
    half, weights = _coalitions(key, count, samples // 2)

    def explain(score):  # coalitions and their complements take turns
        alternate = lambda i: widen(score(half[i // 2] ^ (i % 2 == 1)))  # noqa: E731
        return _input.mapped(name, alternate, 2 * len(half), batch_size).T

    scores = run(explain).T
    # Of a pair z, 1 - z the regression sees half the difference of the scores, (z - 1/2) . values;
    # the values are their mean, which the sum fixes, and what `_fit` finds across it.
    mean = (whole - empty) / count
    design = half.astype(scores.dtype) - 0.5
    design -= jnp.mean(design, axis=1, keepdims=True)
    centre = jnp.mean(half.astype(scores.dtype) - 0.5, axis=1, keepdims=True) * (whole - empty)
    values = _fit(design, weights, (scores[::2] - scores[1::2]) / 2 - centre, 0.0)
    values += mean - jnp.mean(values, axis=0)
    return to_values(values.T, ids, like)


def _coalitions(key: jax.Array, count: int, pairs: int) -> tuple[jax.Array, jax.Array]:
    """Returns one coalition of each pair, (P, M) truth values, and their weights (P,), sum 1.

    A pair is a coalition and its complement. Small sizes are complete as far as drawing as many at
    random would repeat them; single features always are, and make the regression well-posed.
    """
    sizes = np.arange(1, count)
    kernel = 1 / (sizes * (count - sizes))
    kernel /= kernel.sum()
    members, weights, left = [], [], pairs
    size, rest = 1, 1.0
    while 2 * size <= count:
        middle = 2 * size == count  # both of a pair have this size: those with the first feature
        total = math.comb(count, size) // (1 + middle)
        share = kernel[size - 1] * (1 if middle else 2)
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
    """Returns the v (M, N) that minimize sum_i w_i |scores_i - design_i v|^2 + ridge |v|^2.

    Where several do, the least of them. The normal equations are solved with a little more ridge,
    which keeps them regular in any precision, and the residuals are solved for again: each turn
    takes away the error that the ridge and the rounding made (the proximal point method).
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


@_compile.once
@_target.each
def lime(
    f: Callable[[Any], Any],
    x: Any,
    *,
    key: jax.Array,
    target: _target.Target = None,
    baseline: Any = 0.0,
    mask: Any = None,
    samples: int = 1024,
    width: float = 0.25,
    ridge: float = 1.0,
    layer: str | None = None,
    batch_size: int | None = None,
) -> Any:
    """The weights of a ridge regression from which features are there to the score, near x.

    Ribeiro, Singh and Guestrin 2016 (arXiv 1602.04938), algorithm 1. Each feature is there with
    chance 1/2; a copy with a share s of its features weighs exp(-(1 - sqrt(s))^2 / 2 width^2).

    Args:
      f, x, target, baseline, mask, layer: as for `ablation`; a mask of `superpixels` makes features
        of an image.
      key: a PRNG key.
      samples: masked copies, more than features.
      width: how near to x a copy must be to weigh.
      ridge: the penalty on the squares of the weights, not on the intercept, 0 or more.
      batch_size: copies run side by side; None for as many as `memory_budget` allows.

    Returns:
      Like x; all that belongs to a feature has its weight, in units of the score.

    Raises:
      ValueError: as `ablation`; there are fewer samples than features, the width is not above 0, or
        the ridge below 0.
    """
    name = "lime"
    x, like = _layer.arrays(name, f, x, layer)
    base, ids, count = features(name, like, baseline, mask)
    (samples,) = _input.at_least(f"{name} of {count} features", count + 1, samples=samples)
    if not width > 0 or not ridge >= 0:
        raise ValueError(
            f"{name}: width={width}, ridge={ridge}; expected a width above 0, and a ridge of 0 or "
            "more."
        )
    present = jax.random.bernoulli(key, 0.5, (samples, count))

    def explain(score):
        return _input.mapped(name, lambda i: widen(score(present[i])), samples, batch_size).T

    scores = of_coalitions(name, f, (x, base, ids), target, layer, batch_size, explain).T
    design = present.astype(scores.dtype)
    far = 1 - jnp.sqrt(jnp.mean(design, axis=1))
    logits = -(far**2) / (2 * width**2)
    shares = jax.nn.softmax(logits)  # for a narrow width, where the weights themselves underflow
    weights = jnp.exp(logits) if ridge else shares
    # Less the weighted means there is no intercept, which the ridge must not shrink.
    centred = lambda a: a - jnp.average(a, axis=0, weights=shares)  # noqa: E731
    values = _fit(centred(design), weights, centred(scores), ridge)
    return to_values(values.T, ids, like)
