"""Common steps of all methods: compilation, checks, targets, layers, batches.

A method is a decorated function that ends in `explain_batches`:

    @explanation_by_gradient
    def method(f, x, *, target=None, layer=None, batch_size=None):
        def explain(f, score, x): ...  # of a part of the batch

        return explain_batches("method", explain, f, x, target, layer, batch_size)
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from jaxdl._check import require_key
from jaxdl.interpret import _batching, _input, _layer, _target
from jaxdl.interpret._compile import compile_once

Method = TypeVar("Method", bound=Callable[..., Any])


def explanation(method: Method) -> Method:
    """Makes a method of a function of f, a checked batch x, one target and one layer.

    Eager calls are compiled once for each program. The key, x, f and the target are checked. x is
    passed on as JAX arrays, at least one of them floating-point, unless `layer` is optional and
    given. Targets (K, N) give K explanations, (K, N, ...). A tuple, list or dict of layers gives
    one like it with the explanation at each layer.
    """
    return _decorate(method, derivative=False)


def explanation_by_gradient(method: Method) -> Method:
    """Makes a method that differentiates the score; otherwise as `explanation`."""
    return _decorate(method, derivative=True)


def _decorate(method: Method, derivative: bool) -> Method:
    name = method.__name__.lstrip("_")
    parameter = inspect.signature(method).parameters.get("layer")
    # With a required layer, as of `cam`, x itself takes part in the explanation.
    layer_only = parameter is not None and parameter.default is None

    @functools.wraps(method)
    def call(f, x, *args, target=None, **options):
        layer = options.get("layer")
        if isinstance(layer, tuple | list | dict):
            return jax.tree.map(
                lambda one: call(f, x, *args, target=target, **options | {"layer": one}), layer
            )
        if "key" in options:
            require_key(name, options["key"])
        if layer_only and layer is not None:
            _input.count_examples(name, x)
            x = jax.tree.map(jnp.asarray, x)
        else:
            x = _input.as_batch(name, x)
        # In every call, because under the vmap below a class out of range could only give NaN.
        _target.verify(name, f, x, target, derivative=derivative)
        f = _target.require_rows(name, f, x, target)
        if isinstance(target, list | tuple):
            target = _target.as_array(target)
        if getattr(target, "ndim", 0) != 2:
            return method(f, x, *args, target=target, **options)
        explain_one = functools.partial(method, f, x, *args, **options)
        return jax.vmap(lambda one: explain_one(target=one))(jnp.asarray(target))

    return compile_once(call)  # pyright: ignore[reportReturnType]


def explain_batches(
    name: str,
    explain: Callable[..., Any],
    f: Callable[[Any], Any],
    x: Any,
    target: _target.Target,
    layer: str | None,
    batch_size: int | None,
    *,
    others: tuple[Any, ...] = (),
    perturbs: bool = False,
) -> Any:
    """Returns `explain(f, score, x, *others)`, computed in batches of examples.

    Args:
      name: the public function's name, for messages.
      explain: a function of parts of the batch. Its f and x are those of `_layer.select`, and its
        `score` is from the output of f to the explained scores (N,).
      f, x, target, layer: the arguments of the method.
      batch_size: examples at a time; None for the largest number within the memory budget.
      others: trees of arrays with a row for each example, or one row for all.
      perturbs: whether `explain` runs f on perturbed inputs. If so, "argmax" is the predicted class
        of x itself, and `batch_size` bounds the evaluations in `explain`, not the examples.
    """

    def explain_part(rows, target):
        x, *others = rows
        if perturbs:
            target = _target.resolve_argmax(name, f, x, target)
        rest, value = _layer.select(name, f, x, layer)
        return explain(rest, lambda output: _target.score(name, output, target), value, *others)

    rows = (x, *others)
    if perturbs and _batching.as_batch_size(name, batch_size) is not None:
        return explain_part(rows, target)
    batch_size = None if perturbs else batch_size
    return _batching.map_examples(name, explain_part, rows, target, batch_size)
