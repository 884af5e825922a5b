"""Sanity checks: whether explanations depend on the parameters and on the label."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp

from jaxdl._check import require_ints
from jaxdl.interpret import _batching, _input, _target

__all__ = ["agreement", "random_label", "random_parameters"]


def random_parameters(
    explain: Callable[[Any], Any],
    params: Any,
    redraw: Callable[[jax.Array], Any],
    *,
    key: jax.Array,
    models: int = 10,
    batching: Literal["auto", "vmap", "map"] = "auto",
) -> jax.Array:
    """Compares explanations of the trained network with those of random networks.

    Adebayo et al. 2018 (arXiv 1810.03292), sec. 3: a method whose results do not change when the
    parameters are drawn again does not explain the network. All random networks run in one program.

    Args:
      explain: `params -> attributions (N, ...)`.
      params: the trained parameters.
      redraw: `key -> params`, with all or some parameters new: `lambda key: jaxdl.init(model, key,
        x)[0]`, or with some trained ones merged in.
      key: a PRNG key.
      models: number of random networks.
      batching: "vmap" runs the largest number within `memory_budget` side by side, "map" one after
        the other in the same program. "auto" maps on a CPU, where convolutions by several kernels
        at once are slow.

    Returns:
      (models, N), the rank correlation of the absolute attributions, from -1 to 1; near 0 is best.

    Example:
      >>> explain = lambda params: interpret.lrp(apply(params), images, target=labels)
      >>> redraw = lambda key: jaxdl.init(model, key, images)[0]
      >>> evaluate.random_parameters(explain, params, redraw, key=key, models=100).mean()
    """
    name = "random_parameters"
    (models,) = require_ints(name, 1, models=models)
    trained = jax.jit(explain)(params)
    one_by_one = batching == "map" or (batching == "auto" and jax.default_backend() == "cpu")

    @jax.jit
    def run(key):
        def evaluate(i):
            return agreement(explain(redraw(jax.random.fold_in(key, i))), trained)

        return _batching.map_evaluations(name, evaluate, models, 1 if one_by_one else None)

    return run(key)


def random_label(
    method: Callable[..., Any],
    f: Callable[[Any], Any],
    x: Any,
    *,
    key: jax.Array,
    target: _target.Target,
    num_classes: int,
    **options,
) -> jax.Array:
    """Compares the explanation of the target with that of another, random class.

    Sixt, Granz and Landgraf 2020 (arXiv 1912.09818), sec. 3.

    Args:
      method: any attribution method.
      f, x: as for `saliency`; f returns scores (N, K).
      key: a PRNG key, which draws another class for each example.
      target: an int, ints (N,) or "argmax".
      num_classes: K, 2 or more.
      **options: passed to the method.

    Returns:
      (N,), the rank correlation of the absolute attributions, from -1 to 1; near 0 is best.

    Raises:
      ValueError: there are fewer than 2 classes; or the target is None or a function.
    """
    name = "random_label"
    (num_classes,) = require_ints(name, 2, num_classes=num_classes)
    if target is None or callable(target):
        raise ValueError(
            f"{name}: target is {target!r}; expected an int, ints (N,) or 'argmax', so that "
            "another class can be drawn."
        )
    n = _input.count_examples(name, x)
    _target.verify(name, f, x, target)
    label = jnp.broadcast_to(jnp.asarray(_target.resolve_argmax(name, f, x, target)), (n,))
    other = (label + jax.random.randint(key, (n,), 1, num_classes)) % num_classes
    # Adding 1 to K - 1 modulo K never gives the label itself.
    first, second = (method(f, x, target=t, **options) for t in (label, other))
    return agreement(first, second)


def agreement(first: Any, second: Any) -> jax.Array:
    """Computes Spearman's rank correlation of the absolute values of two attributions.

    Args:
      first, second: (N, ...) of one shape, or trees of such arrays.

    Returns:
      (N,), from -1 to 1. Equal values are ranked by position.
    """

    def rank(a):
        sizes = jnp.abs(_input.flatten(a))
        # The argsort of an argsort is the rank; Spearman's correlation is Pearson's of the ranks.
        order = jnp.argsort(jnp.argsort(sizes, axis=1), axis=1).astype(sizes.dtype)
        return order - jnp.mean(order, axis=1, keepdims=True)

    a, b = rank(first), rank(second)
    return jnp.sum(a * b, 1) / jnp.sqrt(jnp.sum(a * a, 1) * jnp.sum(b * b, 1))
