"""Validation of data on the host: finite values, labels, weights, and ids of embeddings.

JAX accepts some errors silently, such as a label outside the classes, NaN in the input, or an id
beyond the rows of an embedding. Here they raise a `ValueError` before anything is compiled.
"""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxdl import _cache, losses
from jaxdl.core import Module
from jaxdl.data import convert
from jaxdl.jaxpr import equations, evaluation, tracing
from jaxdl.metrics.names import CLASS_METRICS, NamedMetrics
from jaxdl.nn.embedding import record_lookups
from jaxdl.nn.recurrent.stacked import reset_carry
from jaxdl.train.step import Augment, count_arguments, inputs, normalize_augment
from jaxdl.train.validation import annotate_errors, apply_model, show, spec


def _warn_of_probabilities(
    model: Module, params: Any, model_state: Any, x: Any, task: str, name: str
) -> None:
    """Warns if a model ends in a softmax or sigmoid and the loss takes logits.

    Such a model trains, but badly: the loss applies the function a second time.
    """
    model_state = reset_carry(model_state, jax.tree.leaves(x)[0].shape[0])
    args = jax.tree.map(spec, (params, model_state, x))

    def forward(params, model_state, x):
        return model.apply(params, model_state, *inputs(x, params))[0]

    function = equations.output_activation(tracing.make_jaxpr(forward, *args)[0].jaxpr)
    if function == "sigmoid" or (function == "softmax" and task == "multiclass"):
        warnings.warn(
            f"{name}: the model ends in a {function}, and the loss takes logits; leave the "
            f"{function} out of the model, and apply it to the predictions.",
            stacklevel=4,
        )


def validate_batch(
    model: Module,
    params: Any,
    model_state: Any,
    data: tuple[Any, ...],
    loss: str | Callable | None,
    name: str,
    measures: NamedMetrics | None = (),
    augment: Augment | None = None,
) -> Callable[[tuple[Any, ...], str], None]:
    """Raises unless model and loss accept the data, and all values are in range.

    Args:
      augment: the augmentation; the loss is checked with the inputs and targets that it returns,
        such as the rows of probabilities of mixup.

    Returns:
      `check(data, name)`, which validates the values of a later batch. It traces nothing if the
      shapes are the same.
    """
    x, y, weight = data if len(data) == 3 else (*data, None)
    params, model_state = jax.tree.map(spec, (params, model_state))  # `check` must not keep arrays
    _validate_values(x, y, weight, name)
    if weight is not None and not np.asarray(weight).any():
        raise ValueError(f"{name}: all weights are 0; expected some above 0.")
    predicted = validate_ids(model, params, model_state, x, name)
    task = losses.task(loss) if callable(loss) else None
    if task in ("multiclass", "binary") and loss is not losses.hinge:
        _warn_of_probabilities(model, params, model_state, x, task, name)
    labels = None
    if hasattr(predicted, "shape") and hasattr(y, "dtype"):
        if task == "binary":
            labels = _validate_binary
        elif y.shape == predicted.shape[:-1]:
            labels = functools.partial(_validate_classes, predicted.shape[-1])
        elif y.shape == predicted.shape and predicted.shape[-1] > 1:
            by_class = any(value in CLASS_METRICS for _, value in measures or ())
            labels = _validate_distributions if task == "multiclass" or by_class else None

    def check_labels(y, weight, name):
        if labels is not None:
            if weight is not None and weight.shape == y.shape[: weight.ndim]:
                # Labels of weight 0, such as -100, may be out of range.
                y = np.asarray(y)[np.asarray(weight) != 0]
            labels(y, f"{name}: y")

    check_labels(y, weight, name)
    if loss is not None:
        target = y
        if augment is not None and count_arguments(augment) > 2:
            specs = jax.tree.map(spec, (x, y, weight))
            change = normalize_augment(augment)
            changed, target, _ = jax.eval_shape(change, jax.random.key(0), *specs)
            if changed != specs[0]:  # as after a crop of images and masks
                state = reset_carry(model_state, jax.tree.leaves(changed)[0].shape[0])
                apply = functools.partial(apply_model, model, None)
                with annotate_errors(model, changed):
                    predicted = jax.eval_shape(apply, params, state, changed)
        try:
            jax.eval_shape(losses.loss(loss), predicted, jax.tree.map(spec, target))
        except (AttributeError, TypeError, ValueError) as error:
            shapes = f"the output {show(predicted)} with y {show(target)}"
            fix = _suggest_labels(y, predicted) if task == "multiclass" else ""
            raise ValueError(f"{name}: the loss does not take {shapes}: {error}{fix}") from error

    def check(data, name):
        x, y, weight = data if len(data) == 3 else (*data, None)
        _validate_values(x, y, weight, name)
        validate_ids_again(model, params, model_state, x, name)
        check_labels(y, weight, name)

    return check


def _suggest_labels(y: Any, predicted: Any) -> str:
    """Suggests how to convert y to classes, if it has the shape of classes or of a column."""
    rows = getattr(predicted, "shape", (None,))[:-1]
    if not hasattr(y, "dtype") or y.shape not in (rows, (*rows, 1)):
        return ""
    column = "" if y.shape == rows else "[:, 0]" if y.ndim == 2 else "[..., 0]"
    kind = "" if jnp.issubdtype(y.dtype, jnp.integer) else ".astype(int)"
    return f" As classes, pass y{column}{kind}."


def _validate_values(x: Any, y: Any, weight: Any, name: str) -> None:
    """Raises unless all numbers are finite and in the range of their dtype on the device."""
    if weight is not None:
        _validate_weights(weight, x, name)
    for label, part in (("x", x), ("y", y)):
        for leaf in jax.tree.leaves(part):
            _validate_finite(leaf, f"{name}: {label}")
            convert.check_range(leaf, f"{name}: {label}")


def _validate_weights(weight: Any, x: Any, name: str) -> None:
    """Raises unless weights are numbers of at least 0, with one row per example."""
    rows = jax.tree.leaves(x)[0].shape[0]
    if (
        not hasattr(weight, "dtype")
        or weight.shape[:1] != (rows,)
        or weight.dtype.kind not in "biuf"
    ):
        shown = f"{weight.dtype}{list(weight.shape)}" if hasattr(weight, "dtype") else repr(weight)
        raise ValueError(
            f"{name}: weight is {shown}; expected floats or bools with one row for each of the "
            f"{rows} examples: (N,), or (N, T) for the steps of sequences."
        )
    numbers = np.asarray(weight, np.float64)
    if not np.isfinite(numbers).all() or numbers.min() < 0:
        raise ValueError(
            f"{name}: weights are in {numbers.min():g} .. {numbers.max():g}; expected finite "
            "numbers of at least 0, some of them above 0."
        )


def _validate_binary(y: Any, name: str) -> None:
    """Raises unless targets of independent labels are in [0, 1]."""
    if y.size and not 0 <= y.min() <= y.max() <= 1:
        raise ValueError(
            f"{name} has labels from {y.min()} to {y.max()}, and the loss takes 0 or 1 for each "
            "output; expected labels in [0, 1]. For labels -1 and 1 pass (y + 1) / 2; for classes "
            "use one output per class and loss='cross_entropy'."
        )


def _validate_distributions(y: Any, name: str) -> None:
    """Raises unless every row of y is a probability distribution over the classes."""
    sums = np.asarray(y, np.float32).sum(-1)
    if y.size and (y.min() < 0 or abs(sums - 1).max() > 1e-2):
        raise ValueError(
            f"{name} has rows that sum to {sums.min():g} .. {sums.max():g}, and the loss or a "
            "metric treats them as probabilities of classes; expected integer classes, or rows "
            "that sum to 1. For independent labels use loss='binary_cross_entropy', for numbers "
            "metrics such as 'mae'; check=False skips this check."
        )


def _validate_classes(classes: int, y: Any, name: str) -> None:
    """Raises unless integer labels are in 0 .. C - 1; the loss validates other targets."""
    if not jnp.issubdtype(y.dtype, jnp.integer) or not y.size:
        return
    low, high = int(y.min()), int(y.max())
    if classes > 1 and (low < 0 or high >= classes):
        raise ValueError(
            f"{name} has labels from {low} to {high}, and the model has {classes} outputs; "
            f"expected labels in 0 .. {classes - 1}. Number the classes from 0, ignore a label by "
            f"data.add_weights(x, y, ignore_index={low if low < 0 else high}), or give the model "
            "more outputs; check=False skips this check."
        )


def validate_ids(model: Module, params: Any, model_state: Any, x: Any, name: str) -> Any:
    """Raises unless ids that `nn.embedding` reads are in 0 .. V - 1; returns the output's shape.

    Covers arrays of x, and results of integer operations on them, such as `ids[:, :-1]`, but no
    lookups inside loops.
    """
    _validate_lengths(model, x, name)
    # V of each lookup, with the index of the leaf of x that it reads, None for a computed array.
    sizes: list[tuple[int | None, int]] = []

    def apply(x, params, model_state):
        with record_lookups() as lookups:
            output = apply_model(model, None, params, model_state, x)
        # By identity: a layer that reads a leaf of x gets the same tracer.
        same = [[i for i, a in enumerate(jax.tree.leaves(x)) if a is ids] for ids, _ in lookups]
        sizes[:] = [(i[0] if i else None, size) for i, (_, size) in zip(same, lookups, strict=True)]
        return output, [ids for (ids, _), i in zip(lookups, same, strict=True) if not i]

    model_state = reset_carry(model_state, jax.tree.leaves(x)[0].shape[0])
    args = jax.tree.map(spec, (x, params, model_state))
    with annotate_errors(model, x):
        output = jax.eval_shape(lambda *a: apply(*a)[0], *args)
    read, program = list(sizes), None
    if any(i is None for i, _ in read):
        with contextlib.suppress(jax.errors.UnexpectedTracerError):  # a lookup inside a loop
            program = tracing.make_jaxpr(lambda *a: apply(*a)[1], *args)[0]
    # Later batches of this kind are then checked without tracing the model again.
    _lookups(model)[_kind(x)] = read, program
    _validate_known_ids(x, read, program, name)
    return output


@_cache.per_model
def _lookups(model: Module) -> dict:
    """Cache of `validate_ids`: by kind of x, the lookups and the program of computed ids."""
    return {}


def validate_ids_again(model: Module, params: Any, model_state: Any, x: Any, name: str) -> None:
    """Same as `validate_ids`, but traces the model only for the first x of a kind."""
    if all(not jnp.issubdtype(leaf.dtype, jnp.integer) for leaf in jax.tree.leaves(x)):
        return
    known = _lookups(model).get(_kind(x))
    if known is None:
        validate_ids(model, params, model_state, x, name)
    else:
        _validate_lengths(model, x, name)
        sizes, program = known
        _validate_known_ids(x, sizes, program, name)


def _kind(x: Any) -> Any:
    return jax.tree.structure(x), tuple((a.dtype, a.shape) for a in jax.tree.leaves(x))


def _validate_lengths(model: Module, x: Any, name: str) -> None:
    """Raises unless the lengths that follow a first input of T steps are in 0 .. T."""
    if not (model.takes_lengths and isinstance(x, tuple) and len(x) > 1):
        return
    steps, lengths = (getattr(part, "shape", ()) for part in x[:2])
    if len(steps) < 2 or len(lengths) != 1 or isinstance(x[1], Tracer):
        return
    low, high = x[1].min(), x[1].max()
    if low < 0 or high > steps[1]:
        raise ValueError(
            f"{name}: x[1] has lengths from {low} to {high}; expected 0 .. {steps[1]}, the number "
            "of steps of x[0] before the padding. data.pad returns them."
        )


def _validate_known_ids(
    x: Any, sizes: list[tuple[int | None, int]], program: Any, name: str
) -> None:
    leaves = jax.tree.leaves_with_path(x)
    if program is not None:
        computed = evaluation.evaluate_known(program, [leaf for _, leaf in leaves])
        for leaf, size in zip(computed, [size for i, size in sizes if i is None], strict=True):
            if leaf is not None and not isinstance(leaf, Tracer):
                _validate_id_range(leaf, size, f"{name}: an array that the model computes from x")
    for i, size in sizes:
        if i is not None and not isinstance(leaves[i][1], Tracer):
            path, leaf = leaves[i]
            _validate_id_range(leaf, size, f"{name}: x{jax.tree_util.keystr(path)}")


def _validate_id_range(leaf: Any, size: int, name: str) -> None:
    low, high = (int(leaf.min()), int(leaf.max())) if leaf.size else (0, 0)
    if low < 0 or high >= size:
        raise ValueError(
            f"{name} has ids from {low} to {high}, and nn.embedding has {size} rows; expected "
            f"ids in 0 .. {size - 1}. Enlarge the embedding, or map unknown tokens and padding to "
            "ids in range."
        )


def _validate_finite(leaf: Any, name: str) -> None:
    if not jnp.issubdtype(leaf.dtype, jnp.floating) or not leaf.size:
        return
    with np.errstate(all="ignore"):
        # A finite sum has finite terms: one pass over large data, without a mask of its size.
        if np.isfinite(float(leaf.sum())):
            return
    bad = np.argwhere(~np.isfinite(np.asarray(leaf, np.float64)))
    if not bad.size:
        return
    first = tuple(int(i) for i in bad[0])
    raise ValueError(
        f"{name} has {len(bad)} values that are NaN or infinite, the first at {first}; expected "
        "finite numbers. Drop or fill in these rows; data.add_weights(x, y, ignore_index=np.nan) "
        "ignores missing targets."
    )
