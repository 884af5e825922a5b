"""Sanity checks: does an explanation change with the network that it explains?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp

from jaxdl.interpret import _input, _target

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
    """How much explanations of random networks resemble the trained one's.

    Adebayo et al. 2018 (arXiv 1810.03292), sec. 3: a method whose pictures stay when the weights
    are drawn anew does not explain the network. All random networks run in one program.

    Args:
      explain: `params -> attributions (N, ...)`.
      params: the trained parameters.
      redraw: `key -> params`, all of them new or some of them: `lambda key: jaxdl.init(model, key,
        x)[0]`, or with the trained ones merged in.
      key: a PRNG key.
      models: how many networks.
      batching: "vmap" runs as many side by side as `memory_budget` allows, "map" one after the
        other in the same program; "auto" maps on a CPU, where convolutions by many kernels at once
        are slow.

    Returns:
      (models, N), the rank correlation of the attributions' sizes, from -1 to 1; near 0 is best.

    Example:
      >>> explain = lambda params: interpret.lrp(apply(params), images, target=labels)
      >>> redraw = lambda key: jaxdl.init(model, key, images)[0]
      >>> evaluate.random_parameters(explain, params, redraw, key=key, models=100).mean()
    """
    name = "random_parameters"
    (models,) = _input.at_least(name, 1, models=models)
    given = jax.jit(explain)(params)

    in_turn = batching == "map" or (batching == "auto" and jax.default_backend() == "cpu")

    @jax.jit
    def run(key):
        one = lambda i: agreement(explain(redraw(jax.random.fold_in(key, i))), given)  # noqa: E731
        return _input.mapped(name, one, models, 1 if in_turn else None)

    return run(key)


def random_label(
    method: Callable[..., Any],
    f: Callable[[Any], Any],
    x: Any,
    *,
    key: jax.Array,
    target: _target.Target,
    classes: int,
    **options,
) -> jax.Array:
    """How much the explanation of another class resembles that of the target.

    Sixt, Granz and Landgraf 2020 (arXiv 1912.09818), sec. 3.

    Args:
      method: any attribution.
      f, x: as for `saliency`; f gives scores (N, K).
      key: a PRNG key, which draws another class for each example.
      target: an int, ints (N,) or "argmax".
      classes: K, 2 or more.
      **options: passed to the method.

    Returns:
      (N,), the rank correlation of the attributions' sizes, from -1 to 1; near 0 is best.

    Raises:
      ValueError: there are fewer than 2 classes.
    """
    name = "random_label"
    (classes,) = _input.at_least(name, 2, classes=classes)
    if target is None or callable(target):
        raise ValueError(
            f"{name}: target is {target!r}; expected an int, ints (N,) or 'argmax', of which there "
            "is another class to explain."
        )
    _target.verify(name, f, x, target)
    own = jnp.asarray(_target.settled(name, f, x, target))
    own = jnp.broadcast_to(own, (_input.count_examples(name, x),))
    other = (own + jax.random.randint(key, own.shape, 1, classes)) % classes
    first, second = (method(f, x, target=t, **options) for t in (own, other))
    return agreement(first, second)


def agreement(first: Any, second: Any) -> jax.Array:
    """The rank correlation (Spearman's) of two attributions' sizes.

    Args:
      first, second: (N, ...) of one shape, or trees of such arrays.

    Returns:
      (N,), from -1 to 1. Of equal sizes the ranks are those of their places.
    """

    def ranks(a):
        sizes = jnp.abs(_input.flatten(a))
        order = jnp.argsort(jnp.argsort(sizes, axis=1), axis=1).astype(sizes.dtype)
        return order - jnp.mean(order, axis=1, keepdims=True)

    a, b = ranks(first), ranks(second)
    return jnp.sum(a * b, 1) / jnp.sqrt(jnp.sum(a * a, 1) * jnp.sum(b * b, 1))
