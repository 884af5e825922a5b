"""Checks of the data on the host, before anything is compiled.

What JAX would let pass in silence (a label outside the classes, NaN in the input), or refuse in the
words of a compiler, is refused here by the argument's name, with what was given, what is expected
and how to mend it.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxdl import _jaxpr, losses
from jaxdl.core import Module
from jaxdl.nn.carry import carry_rows, reset_carry
from jaxdl.nn.embedding import record_lookups
from jaxdl.train.step import inputs


def positive(who: str, **values: Any) -> None:
    """Every value is an integer of at least 1."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
            raise ValueError(f"{who}: {name} is {value!r}; expected an integer of at least 1.")


def batch_size(who: str, size: Any, n: int) -> None:
    """A batch of at least one row, and of no more than there are."""
    positive(who, batch_size=size)
    if size > n:
        raise ValueError(
            f"{who}: batch_size is {size} and the data hold {n} rows; expected at most {n}: pass "
            f"batch_size={n} to train on all rows at once."
        )


def seed(who: str, value: Any) -> None:
    """A seed is an integer of at least 0."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 0:
        raise ValueError(f"{who}: seed is {value!r}; expected an integer of at least 0.")


def choice(who: str, name: str, value: Any, known: tuple) -> None:
    """The value is one of those known."""
    if value not in known:
        raise ValueError(f"{who}: {name} is {value!r}; expected one of {known}.")


def unpacked(data: Any, name: str) -> tuple[Any, Any]:
    """`(x, y)`, with lists of numbers as arrays."""
    if hasattr(data, "train") and hasattr(data, "test"):
        raise ValueError(
            f"{name} is a {type(data).__name__} of several splits; expected one: pass its .train, "
            "or its .test to evaluate on."
        )
    if not (isinstance(data, tuple | list) and len(data) == 2):
        got = f"{len(data)} parts" if isinstance(data, tuple | list) else type(data).__name__
        raise ValueError(
            f"{name} is {got}; expected a pair (x, y) of arrays; for several inputs x is a tuple."
        )
    x, y = (jax.tree.map(_array, part, is_leaf=lambda p: isinstance(p, list)) for part in data)
    return x, y


def _array(leaf: Any) -> Any:
    return leaf if hasattr(leaf, "dtype") and hasattr(leaf, "shape") else np.asarray(leaf)


def rows(data: Any, name: str) -> int:
    """The number of rows, the same in every array, at least one."""
    leaves = jax.tree.leaves(data)
    if any(leaf.ndim == 0 for leaf in leaves):
        raise ValueError(f"{name} holds a single number; expected arrays with one row an example.")
    lengths = [leaf.shape[0] for leaf in leaves]
    if len(set(lengths)) > 1:
        raise ValueError(
            f"{name}: arrays of {', '.join(map(str, lengths))} rows; expected as many of each, one "
            "row an example."
        )
    if not any(lengths):
        raise ValueError(f"{name} is empty, 0 rows; expected at least one: was it filtered away?")
    return lengths[0]


def taken(model: Module, x: Any, make: Callable[[], Any]) -> Any:
    """`make()`, or its error with the input's shape."""
    try:
        return make()
    except (TypeError, ValueError) as error:
        hint = ""
        if any(
            leaf.ndim > 2 and jnp.issubdtype(leaf.dtype, jnp.integer) for leaf in jax.tree.leaves(x)
        ):
            hint = " Integer images become input by x.astype(np.float32) / 255."
        raise ValueError(
            f"the model {model.kind} does not take x, {show(x)}: {error}{hint}"
        ) from error


def stateless(who: str, model_state: Any) -> None:
    """No layer keeps a carry from batch to batch: the rows are shuffled."""
    if carry_rows(model_state) is not None:
        raise ValueError(
            f"{who}: the model keeps a carry from batch to batch, and {who} shuffles the rows; "
            "expected a model without stateful layers: build it with stateful=False, or use fit."
        )


def batch(
    model: Module,
    params: Any,
    model_state: Any,
    data: tuple[Any, Any],
    loss: str | Callable | None,
    name: str,
) -> None:
    """The model takes x, the loss takes its output and y, and the values are in their ranges."""
    x, y = data
    for at, part in (("x", x), ("y", y)):
        for leaf in jax.tree.leaves(part):
            _finite(leaf, f"{name}: {at}")
    ys = jax.tree.map(spec, y)
    output = ids(model, params, model_state, x, name)
    if hasattr(output, "shape") and hasattr(y, "dtype"):
        _classes(output, y, f"{name}: y")
    if loss is None:
        return
    try:
        jax.eval_shape(losses.loss(loss), output, ys)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{name}: the loss does not take the output {show(output)} with y {show(y)}: {error}"
        ) from error


def _classes(output: Any, y: Any, name: str) -> None:
    """Integer labels are in 0 .. C - 1; the rest of what y may be is the loss's to refuse."""
    if not jnp.issubdtype(y.dtype, jnp.integer) or y.shape != output.shape[:-1]:
        return
    low, high, classes = int(y.min()), int(y.max()), output.shape[-1]
    if classes > 1 and (low < 0 or high >= classes):
        raise ValueError(
            f"{name} holds labels from {low} to {high}, and the model has {classes} outputs; "
            f"expected labels in 0 .. {classes - 1}: number the classes from 0, drop the rows "
            "without a label, or give the model more outputs. If y is no label, pass check=False."
        )


def ids(model: Module, params: Any, model_state: Any, x: Any, name: str) -> Any:
    """Ids that `nn.embedding` reads from x are in 0 .. V - 1; returns the output's shape.

    Checked are arrays of x, and what integer operations make of them, such as `ids[:, :-1]`; not
    what is read inside of loops.
    """
    leaves = jax.tree.leaves_with_path(x)
    sizes: list[tuple[int | None, int]] = []  # the leaf that is read as it is, or None; and V

    def apply(x, params, model_state):
        with record_lookups() as lookups:
            output, _ = model.apply(params, model_state, *inputs(x, params))
        same = [[i for i, a in enumerate(jax.tree.leaves(x)) if a is ids] for ids, _ in lookups]
        sizes[:] = [(i[0] if i else None, size) for i, (_, size) in zip(same, lookups, strict=True)]
        return output, [ids for (ids, _), i in zip(lookups, same, strict=True) if not i]

    model_state = reset_carry(model_state, leaves[0][1].shape[0])
    args = jax.tree.map(spec, (x, params, model_state))
    output = taken(model, x, lambda: jax.eval_shape(lambda *a: apply(*a)[0], *args))
    _READ.setdefault(model, {})[_kind(x)] = list(sizes)
    _check_ids(x, sizes, name)
    if any(i is None for i, _ in sizes):
        with contextlib.suppress(jax.errors.UnexpectedTracerError):  # some are read inside a loop
            made = _jaxpr.evaluate_known(
                lambda *a: apply(*a)[1], args, [leaf for _, leaf in leaves]
            )
            for leaf, size in zip(made, [size for i, size in sizes if i is None], strict=True):
                if leaf is not None and not isinstance(leaf, Tracer):
                    _in_vocabulary(leaf, size, f"{name}: what the model makes of x")
    return output


_READ: weakref.WeakKeyDictionary[Module, dict] = weakref.WeakKeyDictionary()
"""By model and kind of x, which of its leaves are read by which size of embedding."""


def ids_again(model: Module, params: Any, model_state: Any, x: Any, name: str) -> None:
    """As `ids`, but traces the model only for the first x of a kind."""
    if all(not jnp.issubdtype(leaf.dtype, jnp.integer) for leaf in jax.tree.leaves(x)):
        return
    sizes = _READ.get(model, {}).get(_kind(x))
    if sizes is None or any(i is None for i, _ in sizes):
        ids(model, params, model_state, x, name)
    else:
        _check_ids(x, sizes, name)


def _kind(x: Any) -> Any:
    return jax.tree.structure(x), tuple((a.dtype, a.shape[1:]) for a in jax.tree.leaves(x))


def _check_ids(x: Any, sizes: list[tuple[int | None, int]], name: str) -> None:
    leaves = jax.tree.leaves_with_path(x)
    for i, size in sizes:
        if i is not None:
            path, leaf = leaves[i]
            _in_vocabulary(leaf, size, f"{name}: x{jax.tree_util.keystr(path)}")


def _in_vocabulary(leaf: Any, size: int, name: str) -> None:
    low, high = (int(leaf.min()), int(leaf.max())) if leaf.size else (0, 0)
    if low < 0 or high >= size:
        raise ValueError(
            f"{name} holds ids from {low} to {high}, and nn.embedding has {size} rows; expected "
            f"ids in 0 .. {size - 1}. Give the embedding a row for every id, or map unknown tokens "
            "and padding to ids in range."
        )


def _finite(leaf: Any, name: str) -> None:
    if not jnp.issubdtype(leaf.dtype, jnp.floating) or not leaf.size:
        return
    with np.errstate(all="ignore"):
        if np.isfinite(float(leaf.sum())):  # then every term is; one pass over large data
            return
    bad = np.argwhere(~np.isfinite(np.asarray(leaf, np.float64)))
    if not bad.size:
        return
    at = tuple(int(i) for i in bad[0])
    raise ValueError(
        f"{name} holds {len(bad)} values that are NaN or infinite, the first at {at}; expected "
        "finite numbers: drop these rows or fill them in."
    )


def spec(leaf: Any, rows: int | None = None) -> jax.ShapeDtypeStruct:
    """The shape and the dtype of an array on the device, or of `rows` of its rows."""
    shape = leaf.shape if rows is None else (rows, *leaf.shape[1:])
    return jax.ShapeDtypeStruct(shape, jax.dtypes.canonicalize_dtype(leaf.dtype))


def show(tree: Any) -> str:
    """Dtypes and shapes of arrays, for errors."""
    return " and ".join(f"{leaf.dtype}{list(leaf.shape)}" for leaf in jax.tree.leaves(tree))
