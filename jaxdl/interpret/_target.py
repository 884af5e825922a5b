"""`target=` of every method: which number of f's output is explained.

N is the number of examples, K the number of classes.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxdl.interpret import _input

Target = int | list[int] | np.ndarray | jax.Array | str | Callable[[Any], jax.Array] | None
"""None, an int, an array of ints, "argmax", or a function from outputs (N, ...) to scores (N,)."""

UNTRACEABLE = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
)


def score(caller: str, output: Any, target: Target) -> jax.Array:
    """Returns the explained number of each example: (N, K) scores and a target give (N,).

    Args:
      caller: the public function's name, for messages.
      output: what f gave for a batch of N examples.
      target: None where f gives one score per example, (N,) or (N, 1); an int, the class for all;
        ints (N,), a class for each; "argmax", the class that each example is given; or a function
        from the output to scores (N,) or (N, 1).

    Returns:
      (N,) floating-point numbers. A class out of range raises; where it is known only when the
      program runs (under `jit` or `vmap`), its score is NaN.

    Raises:
      ValueError: the target does not fit the output.
    """
    if callable(target):
        output, target = _scores(caller, target(output)), None
    n, k = _table(caller, output, target)
    output = jnp.reshape(output, (n, k))
    if not jnp.issubdtype(output.dtype, jnp.inexact):  # a count of votes, or whether a class won
        output = output.astype(float)
    if target is None:
        return output[:, 0]
    if isinstance(target, str):
        classes = jnp.argmax(output, axis=1)
    else:
        classes = jnp.broadcast_to(_classes(caller, target, n, k), (n,))
    valid = (classes >= 0) & (classes < k)
    chosen = jnp.take_along_axis(output, jnp.where(valid, classes, 0)[:, None], axis=1)[:, 0]
    return chosen * jnp.where(valid, 1, jnp.nan).astype(chosen.dtype)


def verify(
    caller: str, f: Callable[[Any], Any], x: Any, target: Target, *, derivative: bool = False
) -> int:
    """Returns the number of scores that f gives each example; raises where the target is none.

    Only shapes are computed, in every call: what f closes over may have changed. Here classes are
    still numbers: under a method's own `jit` or `vmap` one out of range could only give NaN.

    Args:
      caller: the public function's name, for messages.
      f: the function to explain.
      x: its input, a tree of arrays with one batch axis.
      target: as for `score`, or ints (K', N).
      derivative: whether the caller takes the score's derivative.

    Raises:
      ValueError: x is no batch; f cannot be traced, or gives no row for each example; the target
        does not fit, or has a class out of range; the scores are complex, or have no derivative.
    """
    n = _input.count_examples(caller, x)
    try:
        output = _shapes(f, x)
        if callable(target):
            output, target = _scores(caller, _shapes(target, output)), None
    except (AttributeError, TypeError) as error:
        # PyTorch names the class of the value that it cannot take, or asks it for its memory.
        foreign = isinstance(error, TypeError) and "Tracer" in str(error)
        if not (isinstance(error, UNTRACEABLE) or foreign or "__dlpack" in str(error)):
            raise
        raise ValueError(
            f"{caller}: f needs the values of x while JAX traces it, as NumPy, scikit-learn, "
            "PyTorch or an `if` do; expected a function that jax.jit takes. Methods without a "
            "derivative (ablation, kernel_shap, lime, ...) take lambda x: jax.pure_callback(f, "
            "jax.ShapeDtypeStruct((len(x), K), x.dtype), x, vmap_method='sequential')."
        ) from error
    if getattr(output, "shape", (n,))[:1] != (n,):
        raise ValueError(
            f"{caller}: f gives {output.shape} for a batch of {n}; expected a row for each example."
            " Give one example a batch axis, x[None], and do not average over examples in f."
        )
    _, k = _table(caller, output, target)
    kind = output.dtype
    if jnp.issubdtype(kind, jnp.complexfloating):
        raise ValueError(
            f"{caller}: f gives {kind} scores; expected real numbers. Pass lambda x: "
            "jnp.abs(f(x)), or what else is to be explained of them."
        )
    if derivative and not jnp.issubdtype(kind, jnp.floating):
        raise ValueError(
            f"{caller}: f gives {kind} scores, which have no gradient; expected floating-point "
            "scores. Pass logits or probabilities, or explain by ablation, kernel_shap or lime."
        )
    if target is not None and not isinstance(target, str):
        _classes(caller, target, n, k, several=True)
    return k


def each(method: Callable[..., Any], *, derivative: bool = False) -> Callable[..., Any]:
    """Verifies f, x and target of a method, and gives several targets and places their meaning.

    Targets (K, N) give K explanations, (K, N, ...). A tuple, list or dict of places gives one like
    it, with the explanation at each place by itself. `derivative` is that of `verify`.
    """

    name = method.__name__.lstrip("_")

    @functools.wraps(method)
    def explain(f, x, *args, target=None, **options):
        if isinstance(options.get("layer"), tuple | list | dict):
            at_one = lambda place: explain(f, x, *args, target=target, **options | {"layer": place})  # noqa: E731
            return jax.tree.map(at_one, options["layer"])
        if options.get("layer") is None:
            _input.checked(name, x)
        verify(name, f, x, target, derivative=derivative)
        f = _of_parts(name, f, x, target)
        if isinstance(target, list | tuple):
            target = as_array(target)
        if getattr(target, "ndim", 0) != 2:
            return method(f, x, *args, target=target, **options)
        explain_one = lambda one: method(f, x, *args, target=one, **options)  # noqa: E731
        return jax.vmap(explain_one)(jnp.asarray(target))

    return explain


each_by_derivative = functools.partial(each, derivative=True)
"""`each`, of a method that takes the score's derivative."""


def settled(caller: str, f: Callable[[Any], Any], x: Any, target: Target) -> Target:
    """The target with "argmax" replaced by the classes of x itself.

    Methods that run f on other inputs, noisy or between x and a baseline, explain the class that x
    is given, not whatever class each of those would be.
    """
    if isinstance(target, str) and target == "argmax":
        output = f(x)
        n, k = _table(caller, output, target)
        return jnp.argmax(jnp.reshape(output, (n, k)), axis=1)
    return target


def prepare(
    caller: str, f: Callable[[Any], Any], x: Any, target: Target
) -> tuple[Callable[[Any], Any], Any, Target]:
    """Returns f and x of floating-point arrays and the target with "argmax" replaced, verified."""
    _input.checked(caller, x)
    verify(caller, f, x, target)
    g, x = _input.separate(caller, f, x)
    return g, x, settled(caller, g, x, target)


def as_array(numbers: Any) -> Any:
    """Returns classes or labels as an array: NumPy's, with all their bits, where they are known."""
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(numbers)):
        return jnp.asarray(numbers)
    return np.asarray(numbers)


def _shapes(f: Callable[[Any], Any], x: Any) -> Any:
    """Returns the shapes of f(x) as f is now: JAX caches by identity, a new function has none."""
    return jax.eval_shape(lambda x: f(x), x)


def _of_parts(caller: str, f: Callable[[Any], Any], x: Any, target: Target) -> Callable[[Any], Any]:
    """Returns f, which of a part of the batch x must give a row for each example of the part."""
    n = _input.count_examples(caller, x)

    def of_part(part):
        size = len(jax.tree.leaves(part)[0])
        if size == n:
            return f(part)
        try:
            output = f(part)
            shape = (_shapes(target, output) if callable(target) else output).shape
            if shape[:1] != (size,):
                raise ValueError(f"the scores have shape {shape}")
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{caller}: f does not take {size} of the {n} examples by themselves ({error}); "
                "expected a row for each. Pass what belongs to the examples in x, or leave batch_size "
                "out and raise memory_budget."
            ) from error
        return output

    return of_part


def _scores(caller: str, scores: Any) -> Any:
    """Returns what a target's function makes of an output, which must be (N,) or (N, 1)."""
    shape = jnp.shape(scores)
    if len(shape) not in (1, 2) or math.prod(shape[1:]) != 1:
        raise ValueError(
            f"{caller}: target(output) has shape {shape}; expected (N,), one score per example: "
            "reduce every axis but the first."
        )
    return scores


def _table(caller: str, output: Any, target: Target) -> tuple[int, int]:
    """Returns (N, K) of an output: one score for each example, (N,), is like (N, 1)."""
    if isinstance(target, str) and target != "argmax":
        raise ValueError(f"{caller}: target is {target!r}; the one word known is 'argmax'.")
    if not hasattr(output, "shape"):
        part = ".scores"
        if isinstance(output, tuple | list | dict):
            part = f"[{next(iter(output), 'scores')!r}]" if isinstance(output, dict) else "[0]"
        raise ValueError(
            f"{caller}: f gives a {type(output).__name__}; expected one array of scores, (N, K) "
            f"or (N,). Pass lambda x: f(x){part}; target= also takes a function from the output "
            "to (N,)."
        )
    shape = output.shape
    if len(shape) not in (1, 2):
        raise ValueError(
            f"{caller}: f gives {shape}; target={target!r} needs (N, K), K scores for each of N "
            "examples: pass a function from the output to scores (N,) as target."
        )
    if target is None and shape[1:] not in ((), (1,)):
        raise ValueError(
            f"{caller}: f gives {shape} and no target is given; expected (N,): say which score is "
            "explained by target=, an int, ints (N,), 'argmax', or a function from the output."
        )
    return shape[0], math.prod(shape[1:])


def _classes(caller: str, target: Any, n: int, k: int, several: bool = False) -> Any:
    """Returns ints () or (N,), with `several` also (K', N): those that are known are in range."""
    try:
        classes = as_array(target)
    except ValueError as error:
        raise ValueError(f"{caller}: target is {target!r}; expected rows of one length.") from error
    if not jnp.issubdtype(classes.dtype, jnp.integer):
        raise ValueError(
            f"{caller}: target is {target!r}; expected ints: class numbers from 0 to {k - 1}."
        )
    if classes.shape not in ((), (n,)) and not (several and classes.shape[1:] == (n,)):
        raise ValueError(
            f"{caller}: target has shape {classes.shape} for {n} examples; expected one int, ints "
            f"({n},), or of a method ints (K, {n}) for K explanations of each."
        )
    if not isinstance(classes, Tracer):
        wrong = [int(c) for c in np.ravel(classes) if not 0 <= int(c) < k]
        if wrong and k == 1:
            raise ValueError(
                f"{caller}: target is {wrong[0]} and f gives one score per example; expected 0. "
                "Leave target out; of the other class, explain lambda x: -f(x)."
            )
        if wrong:
            raise ValueError(f"{caller}: target is {wrong[0]}; expected a class of 0 to {k - 1}.")
    # A narrow integer could not be compared with k.
    return classes.astype(np.int32) if classes.dtype.itemsize < 4 else classes
