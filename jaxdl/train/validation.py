"""Validation of arguments, models and states on the host, before anything is compiled.

JAX reports some of these errors in terms of the compiler. Here they raise a `ValueError` that names
the argument, its value, what is expected and how to fix it.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl import tree
from jaxdl._check import require_ints
from jaxdl.core import Module, describe_result
from jaxdl.data import convert
from jaxdl.nn.recurrent.stacked import carry_rows
from jaxdl.train.checkpoint_format import format_array, list_differences
from jaxdl.train.step import inputs


def validate_positive(who: str, **values: Any) -> None:
    """Raises unless every value is an integer of at least 1."""
    require_ints(who, 1, **values)


def choose_batch_size(who: str, size: Any, n: int) -> int:
    """Returns `size`, or 32 (at most n) for None; raises unless it is in 1 .. n."""
    size = min(32, n) if size is None else size
    validate_positive(who, batch_size=size)
    if size > n:
        raise ValueError(
            f"{who}: batch_size is {size} and the data have {n} rows; expected at most {n}. Pass "
            f"batch_size={n} to train on all rows at once."
        )
    return size


def validate_seed(who: str, value: Any) -> None:
    """Raises unless the value is an integer of at least 0."""
    require_ints(who, 0, seed=value)


def validate_one_of(who: str, name: str, value: Any, known: tuple) -> None:
    """Raises unless the value is one of the known ones."""
    if value not in known:
        raise ValueError(f"{who}: {name} is {value!r}; expected one of {known}.")


def as_xy(data: Any, name: str) -> tuple[Any, ...]:
    """Returns `(x, y)` or `(x, y, weight)` as arrays."""
    if hasattr(data, "train") and hasattr(data, "test"):
        raise ValueError(
            f"{name} is a {type(data).__name__} of several splits; expected one. Pass its .train, "
            "or its .test for evaluation."
        )
    if not (isinstance(data, tuple | list) and len(data) in (2, 3)):
        raise ValueError(convert.expected_pair(data, name))
    parts = data[:2] if data[-1] is None else data  # no weight; y may be None
    labels = ("x", "y", "weight")
    arrays = tuple(
        convert.as_arrays(part, f"{name}: {label}")
        for label, part in zip(labels, parts, strict=False)
    )
    if not jax.tree.leaves(arrays[0]):
        raise ValueError(f"{name}: x is {parts[0]!r}; expected an array (N, ...), or several.")
    return arrays


def count_rows(data: Any, name: str) -> int:
    """Returns the number of rows; raises unless all arrays have the same, at least 1."""
    leaves = jax.tree.leaves(data)
    if any(leaf.ndim == 0 for leaf in leaves):
        raise ValueError(f"{name} has a single number; expected arrays with one row per example.")
    lengths = [leaf.shape[0] for leaf in leaves]
    if len(set(lengths)) > 1:
        raise ValueError(
            f"{name}: arrays of {', '.join(map(str, lengths))} rows; expected the same number, one "
            "row per example. A list is one array; several inputs are a tuple."
        )
    if not any(lengths):
        raise ValueError(f"{name} has 0 rows; expected at least one. Check how it was filtered.")
    return lengths[0]


def validate_state(who: str, state: Any, expected: Any) -> None:
    """Raises unless a state has the arrays of this model and optimizer.

    Args:
      who: the calling function, for errors.
      state: the state.
      expected: the first state of the run, as shapes.
    """
    flat = [
        {path: leaf if hasattr(leaf, "dtype") else np.asarray(leaf) for path, leaf in parts.items()}
        for parts in map(tree.flatten, (state, expected))
    ]
    wrong = list_differences(*({p: format_array(a) for p, a in part.items()} for part in flat))
    if not wrong:
        return
    fix = "expected a state of this model, for inputs of this shape"
    if all(text.startswith("opt_state") for text in wrong):
        fix = (
            "it is of another optimizer. To continue with this one, pass "
            "state.replace(opt_state=optimizer.init(state.params))"
        )
    elif all(text.startswith("loss_scale") for text in wrong):
        fix = "expected one of this precision: train.init_state(..., precision=...)"
    raise ValueError(f"{who}: state differs from the run's: {'; '.join(wrong[:8])}; {fix}.")


@contextlib.contextmanager
def annotate_errors(model: Module, x: Any) -> Iterator[None]:
    """Adds the model and the shape of x to errors that a layer raises."""
    try:
        yield
    except (AttributeError, TypeError, ValueError) as error:
        if str(error).startswith(("optimizer", "the model's ")):
            raise
        words = str(error).removesuffix(".")
        raise ValueError(
            f"the model {model.kind} does not take x, {show(x)}: {words}.{suggest_fix(x)}"
        ) from error


def suggest_fix(x: Any) -> str:
    """Returns a sentence that suggests how to convert an x that a model rejects, or ""."""
    if any(leaf.ndim > 2 and leaf.dtype.kind in "iu" for leaf in jax.tree.leaves(x)):
        return " Integer images become input by x.astype(np.float32) / 255."
    if isinstance(x, dict):
        return " A dict of columns becomes one array by np.stack([*x.values()], 1)."
    return ""


def validate_trainable(model: Module, params: Any, model_state: Any, x: Any) -> None:
    """Raises unless `apply` can be called in training and all parameters have a gradient."""
    try:
        inspect.signature(model.apply).bind(params, model_state, *inputs(x), train=True, key=None)
    except TypeError as error:
        raise ValueError(
            f"the model's apply ({model.kind}) cannot be called in training: {error}; expected "
            "apply(params, state, *inputs, train=False, key=None, tap=None). Add **_ to its "
            "arguments for those it does not use."
        ) from error
    for path, leaf in tree.flatten(params).items():
        if not jnp.issubdtype(leaf.dtype, jnp.inexact):
            raise ValueError(
                f"params {path} is {leaf.dtype}{list(leaf.shape)}, which has no gradient; expected "
                "floating-point parameters. Return it from init in the state."
            )
    if model.kind == "module" and model_state:  # written by hand
        key = jax.random.key(0)
        args = jax.tree.map(spec, (params, model_state, x))
        with annotate_errors(model, x):
            jax.eval_shape(functools.partial(apply_model, model, key), *args)


def apply_model(model: Module, key: jax.Array | None, params: Any, model_state: Any, x: Any) -> Any:
    """Applies a model, in training if there is a key; raises if the state changes its shape."""
    options = {} if key is None else {"train": True, "key": key}
    result = model.apply(params, model_state, *inputs(x, params), **options)
    if not (isinstance(result, tuple) and len(result) == 2):
        raise ValueError(
            f"the model's apply ({model.kind}) returns {describe_result(result)}; expected "
            "(output, state). Return the output and the new state, or the state that was passed in."
        )
    parts = [
        {path: jnp.shape(leaf) for path, leaf in jax.tree.leaves_with_path(part)}
        for part in (result[1], model_state)
    ]
    if parts[0] != parts[1]:
        new, first = (
            ", ".join(f"{jax.tree_util.keystr(p)} {list(s)}" for p, s in part.items()) or "nothing"
            for part in parts
        )
        raise ValueError(
            f"the model's apply ({model.kind}) returns a state of {new}; expected that of init, "
            f"{first}. Keep its entries and their shapes."
        )
    return result[0]


def validate_stateless(who: str, model_state: Any) -> None:
    """Raises if a layer keeps a carry from batch to batch, which shuffled rows would mix up."""
    if carry_rows(model_state) is not None:
        raise ValueError(
            f"{who}: the model keeps a carry from batch to batch, and {who} shuffles the rows; "
            "expected a model without stateful layers. Build it with stateful=False, or use fit."
        )


def spec(leaf: Any, rows: int | None = None) -> jax.ShapeDtypeStruct:
    """Returns shape and dtype of an array, or of `rows` of its rows, on the device."""
    shape = leaf.shape if rows is None else (rows, *leaf.shape[1:])
    return jax.ShapeDtypeStruct(shape, jax.dtypes.canonicalize_dtype(leaf.dtype))


def show(tree: Any) -> str:
    """Returns dtypes and shapes of arrays as text, for errors."""
    return " and ".join(f"{leaf.dtype}{list(leaf.shape)}" for leaf in jax.tree.leaves(tree))
