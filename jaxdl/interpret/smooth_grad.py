"""Wrappers that take an attribution and give one: averages over noise and over baselines."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp

from jaxdl._precision import widen
from jaxdl.interpret import _compile, _input, _layer, _target
from jaxdl.interpret.integrated_gradients import noisy

__all__ = ["expectation", "smooth"]

Method = Callable[..., Any]
"""`method(f, x, *, target=None, ...) -> arrays like x`."""


def smooth(
    method: Method,
    *,
    sigma: float,
    samples: int = 25,
    kind: Literal["mean", "square", "variance"] = "mean",
) -> Method:
    """An attribution averaged over noisy copies of the input: SmoothGrad and its kin.

    "mean": Smilkov et al. 2017 (arXiv 1706.03825), lecture row Q03; "square", the mean of squares,
    and "variance": Adebayo et al. 2018 (arXiv 1810.03307).

    Args:
      method: `saliency`, `integrated_gradients`, or any other `method(f, x, *, target=, ...)`.
      sigma: standard deviation of the noise, in units of the input.
      samples: noisy copies.
      kind: what is computed over the copies; squares and variances are float32 at least.

    Returns:
      `method(f, x, *, key, target=None, batch_size=None, ...)`, which needs a PRNG key and passes other
      arguments on; `batch_size` is how many copies are explained side by side. A method that needs a key
      gets another for each copy. "argmax" is the class that x itself is given. The noise is added
      to x; where x has integers only (token ids), to the value at `layer`.

    Raises:
      ValueError: `method` is no function, `samples` is below 1, `sigma` below 0, or `kind` another
        word.

    Example:
      >>> smoothgrad = interpret.smooth(interpret.saliency, sigma=0.1, samples=50)
      >>> smoothgrad(f, x, target="argmax", key=jax.random.key(0), batch_size=10)
    """
    (samples,) = _input.at_least("smooth", 1, samples=samples)
    _input.number("smooth", "a number of 0 or more", lambda v: v >= 0, sigma=sigma)
    if kind not in ("mean", "square", "variance"):
        raise ValueError(f"smooth: kind is {kind!r}; expected 'mean', 'square' or 'variance'.")
    random = _parameters("smooth", method).get("key")
    keyed = random is not None and random.default is inspect.Parameter.empty

    @_compile.once
    def smoothed(f, x, *, key, target=None, batch_size=None, **options):
        _target.verify("smooth", f, x, target)
        whole = any(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in jax.tree.leaves(x))
        f, x = _layer.located("smooth", f, x, None if whole else options.pop("layer", None))
        target = _target.settled("smooth", f, x, target)

        def sample(i):
            own = jax.random.fold_in(key, i)
            drawn = {"key": jax.random.fold_in(own, 1)} if keyed else {}
            a = method(f, noisy(own, x, sigma), target=target, **drawn, **options)
            if kind == "mean":
                return a
            wide = jax.tree.map(widen, a)
            return wide, jax.tree.map(jnp.square, wide)

        total = _input.weighted_sum("smooth", sample, jnp.full(samples, 1 / samples), batch_size)
        if kind == "mean":
            return total
        mean, square = total
        if kind == "square":
            return square
        return jax.tree.map(lambda m, s: jnp.maximum(s - m * m, 0), mean, square)

    return smoothed


def expectation(method: Method, baselines: Any) -> Method:
    """An attribution averaged over several baselines.

    Args:
      method: `integrated_gradients`, `ablation`, or any other that takes `baseline=`.
      baselines: (M, ...) baselines, each of an example's shape, or a tree of them like x.

    Returns:
      `method(f, x, *, target=None, batch_size=None, ...)`, without `baseline=`; `batch_size` is how many
      baselines are taken side by side. With `layer=`, baselines are those of the method.

    Raises:
      ValueError: the method takes no `baseline=`; or, when it is called, baselines are not
        (M, ...) of one M of at least 1.
    """
    parameters = _parameters("expectation", method)
    others = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    if "baseline" not in parameters and not others:
        raise ValueError(
            "expectation: the method has no baseline=; expected one such as integrated_gradients, "
            "deep_lift or ablation."
        )

    @_compile.once
    def averaged(f, x, *, target=None, batch_size=None, **options):
        _target.verify("expectation", f, x, target)
        count = _count(f, x, options.get("layer"), baselines)
        target = _target.settled("expectation", f, x, target)

        def one(i):
            base = jax.tree.map(lambda b: jnp.asarray(b)[i][None], baselines)
            return method(f, x, target=target, baseline=base, **options)

        return _input.weighted_sum("expectation", one, jnp.full(count, 1 / count), batch_size)

    return averaged


def _parameters(caller: str, method: Any) -> Mapping[str, inspect.Parameter]:
    """Returns the parameters of a method by their names."""
    if not callable(method):
        raise ValueError(
            f"{caller}: method is {method!r}; expected a function, e.g. interpret.saliency."
        )
    return inspect.signature(method).parameters


def _count(f: Callable[[Any], Any], x: Any, layer: Any, baselines: Any) -> int:
    """Returns M of baselines (M, ...) that are like x, or like the value at `layer`."""
    if isinstance(layer, str):  # a baseline is of x too, for `conductance`
        try:
            return _input.examples("expectation", x, "baselines", baselines)[1]
        except ValueError:
            x = _layer.arrays("expectation", f, x, layer)[1]
    return _input.examples("expectation", x, "baselines", baselines)[1]
