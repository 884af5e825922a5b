"""`target=`: the number of f's output that is explained.

N is the number of examples, K the number of classes.
"""

from __future__ import annotations

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
    """Returns the explained score of each example, (N,).

    Args:
      caller: the public function's name, for messages.
      output: the output of f for a batch of N examples.
      target: None if f returns one score per example, (N,) or (N, 1); an int, the class of all;
        ints (N,), a class for each; "argmax", the predicted class of each example; or a function
        from the output to scores (N,) or (N, 1).

    Returns:
      (N,) floating-point numbers. A class out of range raises an error. If the class is traced
      (under `jit` or `vmap`), its score is NaN instead.

    Raises:
      ValueError: the target does not fit the output.
    """
    if callable(target):
        output, target = _check_scores(caller, target(output)), None
    n, k = _infer_shape(caller, output, target)
    output = jnp.reshape(output, (n, k))
    if not jnp.issubdtype(output.dtype, jnp.inexact):  # counts of votes, or truth values
        output = output.astype(float)
    if target is None:
        return output[:, 0]
    if isinstance(target, str):
        classes = jnp.argmax(output, axis=1)
    else:
        classes = jnp.broadcast_to(_as_classes(caller, target, n, k), (n,))
    valid = (classes >= 0) & (classes < k)
    chosen = jnp.take_along_axis(output, jnp.where(valid, classes, 0)[:, None], axis=1)[:, 0]
    # A product and not a select, so that the gradient is NaN too.
    return chosen * jnp.where(valid, 1, jnp.nan).astype(chosen.dtype)


def verify(
    caller: str, f: Callable[[Any], Any], x: Any, target: Target, *, derivative: bool = False
) -> int:
    """Returns the number of scores that f computes for each example, after checks.

    Only shapes are computed, in every call, since values that f closes over can have changed.
    Classes are checked here because they are traced later, under a method's own `jit` or `vmap`,
    where a class out of range can only give NaN.

    Args:
      caller: the public function's name, for messages.
      f: the function to explain.
      x: a batch.
      target: as for `score`, or ints (K', N).
      derivative: whether the caller differentiates the score.

    Raises:
      ValueError: f cannot be traced, or returns no row for each example; the target does not fit,
        or has a class out of range; the scores are complex, or have no derivative.
    """
    n = len(jax.tree.leaves(x)[0])
    try:
        output = _eval_shape(f, x)
        if callable(target):
            output, target = _check_scores(caller, _eval_shape(target, output)), None
    except (AttributeError, TypeError) as error:
        # PyTorch's error names the class of the value, or an attribute of the DLPack protocol.
        foreign = isinstance(error, TypeError) and "Tracer" in str(error)
        if not (isinstance(error, UNTRACEABLE) or foreign or "__dlpack" in str(error)):
            raise
        raise ValueError(
            f"{caller}: f needs the values of x while JAX traces it, as NumPy, scikit-learn, "
            "PyTorch or an `if` do; expected a function that jax.jit accepts. For methods without "
            "a derivative (ablation, kernel_shap, lime, ...), pass lambda x: jax.pure_callback(f, "
            "jax.ShapeDtypeStruct((len(x), K), x.dtype), x, vmap_method='sequential')."
        ) from error
    if getattr(output, "shape", (n,))[:1] != (n,):
        raise ValueError(
            f"{caller}: f returns {output.shape} for a batch of {n}; expected a row for each "
            "example. Give one example a batch axis, x[None], and do not average over examples in "
            "f."
        )
    _, k = _infer_shape(caller, output, target)
    dtype = output.dtype
    if jnp.issubdtype(dtype, jnp.complexfloating):
        raise ValueError(
            f"{caller}: f returns {dtype} scores; expected real numbers. Pass for example "
            "lambda x: jnp.abs(f(x))."
        )
    if derivative and not jnp.issubdtype(dtype, jnp.floating):
        raise ValueError(
            f"{caller}: f returns {dtype} scores, which have no gradient; expected floating-point "
            "scores. Pass logits or probabilities, or explain by ablation, kernel_shap or lime."
        )
    if target is not None and not isinstance(target, str):
        _as_classes(caller, target, n, k, several=True)
    return k


def resolve_argmax(caller: str, f: Callable[[Any], Any], x: Any, target: Target) -> Target:
    """Returns the target, with "argmax" replaced by the predicted classes of x.

    Methods that run f on perturbed inputs need it: they explain the class of x, not the class of
    each perturbed input.
    """
    if isinstance(target, str) and target == "argmax":
        output = f(x)
        n, k = _infer_shape(caller, output, target)
        return jnp.argmax(jnp.reshape(output, (n, k)), axis=1)
    return target


def prepare(
    caller: str, f: Callable[[Any], Any], x: Any, target: Target
) -> tuple[Callable[[Any], Any], Any, Target]:
    """Checks f, x and target; returns them for floating-point arrays only."""
    x = _input.as_batch(caller, x)
    verify(caller, f, x, target)
    f, x = _input.separate(f, x)
    return f, x, resolve_argmax(caller, f, x, target)


def require_rows(caller: str, f: Callable[[Any], Any], x: Any, target: Target) -> Callable:
    """Returns f with a check that parts of the batch x have a row per example."""
    n = len(jax.tree.leaves(x)[0])

    def f_of_part(part):
        size = len(jax.tree.leaves(part)[0])
        if size == n:
            return f(part)
        try:
            output = f(part)
            shape = (_eval_shape(target, output) if callable(target) else output).shape
            if shape[:1] != (size,):
                raise ValueError(f"the scores have shape {shape}")
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{caller}: f does not accept {size} of the {n} examples ({error}); expected a row "
                "for each. Pass arrays that belong to the examples in x, or omit batch_size and "
                "raise memory_budget."
            ) from error
        return output

    return f_of_part


def as_array(numbers: Any) -> Any:
    """Returns classes or labels as an array, of NumPy unless traced."""
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(numbers)):
        return jnp.asarray(numbers)
    return np.asarray(numbers)


def _eval_shape(f: Callable[[Any], Any], x: Any) -> Any:
    """Returns the shapes of f(x).

    `jax.eval_shape` caches by identity, so f gets a new wrapper.
    """
    return jax.eval_shape(lambda x: f(x), x)


def _check_scores(caller: str, scores: Any) -> Any:
    """Checks that the scores of a target's function are (N,) or (N, 1)."""
    shape = jnp.shape(scores)
    if len(shape) not in (1, 2) or math.prod(shape[1:]) != 1:
        raise ValueError(
            f"{caller}: target(output) has shape {shape}; expected (N,), one score per example: "
            "reduce every axis but the first."
        )
    return scores


def _infer_shape(caller: str, output: Any, target: Target) -> tuple[int, int]:
    """Returns (N, K) of an output. K is 1 for one score per example, (N,)."""
    if isinstance(target, str) and target != "argmax":
        raise ValueError(f"{caller}: target is {target!r}; the only valid string is 'argmax'.")
    if not hasattr(output, "shape"):
        part = ".scores"
        if isinstance(output, tuple | list | dict):
            part = f"[{next(iter(output), 'scores')!r}]" if isinstance(output, dict) else "[0]"
        raise ValueError(
            f"{caller}: f returns a {type(output).__name__}; expected one array of scores, (N, K) "
            f"or (N,). Pass lambda x: f(x){part}, or as target a function from the output to (N,)."
        )
    shape = output.shape
    if len(shape) not in (1, 2):
        raise ValueError(
            f"{caller}: f returns {shape}; target={target!r} expects (N, K), K scores for each of "
            "N examples. Pass a function from the output to scores (N,) as target."
        )
    if target is None and shape[1:] not in ((), (1,)):
        raise ValueError(
            f"{caller}: f returns {shape} and target is None; expected (N,). Select a score with "
            "target=: an int, ints (N,), 'argmax', or a function from the output."
        )
    return shape[0], math.prod(shape[1:])


def _as_classes(caller: str, target: Any, n: int, k: int, several: bool = False) -> Any:
    """Returns ints () or (N,), with `several` also (K', N), in range unless traced."""
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
            f"({n},), or for methods ints (K, {n}), which give K explanations of each example."
        )
    if not isinstance(classes, Tracer):
        wrong = [int(c) for c in np.ravel(classes) if not 0 <= int(c) < k]
        if wrong and k == 1:
            raise ValueError(
                f"{caller}: target is {wrong[0]} and f returns one score per example; expected 0. "
                "Omit target, or explain lambda x: -f(x) for the other class."
            )
        if wrong:
            raise ValueError(f"{caller}: target is {wrong[0]}; expected a class of 0 to {k - 1}.")
    # A narrow dtype, such as int8, overflows in the comparison with k.
    return classes.astype(np.int32) if classes.dtype.itemsize < 4 else classes
