"""Checks of the data on the host, before anything is compiled.

What JAX would let pass in silence (a label outside the classes, NaN in the input), or refuse in the
words of a compiler, is refused here by the argument's name, with what was given, what is expected
and how to mend it.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxdl import _cache, losses, tree
from jaxdl.core import Module, show_returned
from jaxdl.data import convert
from jaxdl.jaxpr import reading
from jaxdl.nn.embedding import record_lookups
from jaxdl.nn.recurrent.stacked import carry_rows, reset_carry
from jaxdl.train import names
from jaxdl.train.checkpoint_format import differences
from jaxdl.train.checkpoint_format import spec as described
from jaxdl.train.step import inputs


def positive(who: str, **values: Any) -> None:
    """Every value is an integer of at least 1."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
            raise ValueError(f"{who}: {name} is {value!r}; expected an integer of at least 1.")


def batch_size(who: str, size: Any, n: int) -> int:
    """A batch of at least one row, and of no more than there are; None is 32, or all of fewer."""
    size = min(32, n) if size is None else size
    positive(who, batch_size=size)
    if size > n:
        raise ValueError(
            f"{who}: batch_size is {size} and the data hold {n} rows; expected at most {n}: pass "
            f"batch_size={n} to train on all rows at once."
        )
    return size


def seed(who: str, value: Any) -> None:
    """A seed is an integer of at least 0."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 0:
        raise ValueError(f"{who}: seed is {value!r}; expected an integer of at least 0.")


def choice(who: str, name: str, value: Any, known: tuple) -> None:
    """The value is one of those known."""
    if value not in known:
        raise ValueError(f"{who}: {name} is {value!r}; expected one of {known}.")


def unpacked(data: Any, name: str) -> tuple[Any, ...]:
    """Returns `(x, y)` or `(x, y, weight)` as arrays."""
    if hasattr(data, "train") and hasattr(data, "test"):
        raise ValueError(
            f"{name} is a {type(data).__name__} of several splits; expected one: pass its .train, "
            "or its .test to evaluate on."
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


def rows(data: Any, name: str) -> int:
    """The number of rows, the same in every array, at least one."""
    leaves = jax.tree.leaves(data)
    if any(leaf.ndim == 0 for leaf in leaves):
        raise ValueError(f"{name} holds a single number; expected arrays with one row an example.")
    lengths = [leaf.shape[0] for leaf in leaves]
    if len(set(lengths)) > 1:
        raise ValueError(
            f"{name}: arrays of {', '.join(map(str, lengths))} rows; expected as many of each, one "
            "row an example; a list is one array, several inputs are a tuple."
        )
    if not any(lengths):
        raise ValueError(f"{name} is empty, 0 rows; expected at least one: was it filtered away?")
    return lengths[0]


def same_state(who: str, given: Any, expected: Any) -> None:
    """A state has the arrays of this model and optimizer.

    Args:
      given: the state.
      expected: the first state of the run, as shapes.
    """
    flat = [
        {path: leaf if hasattr(leaf, "dtype") else np.asarray(leaf) for path, leaf in parts.items()}
        for parts in map(tree.flatten, (given, expected))
    ]
    wrong = differences(*({p: described(leaf) for p, leaf in part.items()} for part in flat))
    if not wrong:
        return
    fix = "expected a state of this model, for inputs of this shape"
    if all(text.startswith("opt_state") for text in wrong):
        fix = (
            "it is another optimizer's: to go on with this one give "
            "state.replace(opt_state=optimizer.init(state.params))"
        )
    elif all(text.startswith("loss_scale") for text in wrong):
        fix = "expected one of this precision: train.init_state(..., precision=...)"
    raise ValueError(f"{who}: state differs from the run's: {'; '.join(wrong[:8])}; {fix}.")


def taken(model: Module, x: Any, make: Callable[[], Any]) -> Any:
    """`make()`, or its error with the input's shape."""
    try:
        return make()
    except (AttributeError, TypeError, ValueError) as error:
        if str(error).startswith(("optimizer", "the model's ")):
            raise
        words = str(error).removesuffix(".")
        raise ValueError(
            f"the model {model.kind} does not take x, {show(x)}: {words}.{hint(x)}"
        ) from error


def hint(x: Any) -> str:
    """What may have been meant with an x that a model does not take, as a sentence, or ""."""
    if any(leaf.ndim > 2 and leaf.dtype.kind in "iu" for leaf in jax.tree.leaves(x)):
        return " Integer images become input by x.astype(np.float32) / 255."
    if isinstance(x, dict):
        return " A dict of columns becomes one array by np.stack([*x.values()], 1)."
    return ""


def trainable(model: Module, params: Any, model_state: Any, x: Any) -> None:
    """`apply` can be called in training, and all parameters have a gradient."""
    try:
        inspect.signature(model.apply).bind(params, model_state, *inputs(x), train=True, key=None)
    except TypeError as error:
        raise ValueError(
            f"the model's apply ({model.kind}) cannot be called in training: {error}; expected "
            "apply(params, state, *inputs, train=False, key=None, tap=None): add **_ to its "
            "arguments, for those that it does not use."
        ) from error
    for path, leaf in tree.flatten(params).items():
        if not jnp.issubdtype(leaf.dtype, jnp.inexact):
            raise ValueError(
                f"params {path} is {leaf.dtype}{list(leaf.shape)}, which has no gradient; expected "
                "floating-point parameters: let init return it in the state."
            )
    if model.kind == "module" and model_state:  # written by hand
        key = jax.random.key(0)
        args = jax.tree.map(spec, (params, model_state, x))
        taken(model, x, lambda: jax.eval_shape(functools.partial(_apply, model, key), *args))


def _apply(model: Module, key: jax.Array | None, params: Any, model_state: Any, x: Any) -> Any:
    """Returns the output of a model, in training if there is a key; its state keeps its shape."""
    options = {} if key is None else {"train": True, "key": key}
    made = model.apply(params, model_state, *inputs(x, params), **options)
    if not (isinstance(made, tuple) and len(made) == 2):
        raise ValueError(
            f"the model's apply ({model.kind}) returns {show_returned(made)}; expected (output, "
            "state): return the output and the state that apply was given, or the next one."
        )
    parts = [
        {path: jnp.shape(leaf) for path, leaf in jax.tree.leaves_with_path(part)}
        for part in (made[1], model_state)
    ]
    if parts[0] != parts[1]:
        shown = [
            ", ".join(f"{jax.tree_util.keystr(p)} {list(s)}" for p, s in part.items()) or "nothing"
            for part in parts
        ]
        raise ValueError(
            f"the model's apply ({model.kind}) returns a state of {shown[0]}; expected that of "
            f"init, {shown[1]}: keep its entries and their shapes."
        )
    return made[0]


def stateless(who: str, model_state: Any) -> None:
    """No layer keeps a carry from batch to batch: the rows are shuffled."""
    if carry_rows(model_state) is not None:
        raise ValueError(
            f"{who}: the model keeps a carry from batch to batch, and {who} shuffles the rows; "
            "expected a model without stateful layers: build it with stateful=False, or use fit."
        )


def _logits(model: Module, params: Any, model_state: Any, x: Any, task: str, name: str) -> None:
    """Warns where a loss of logits is given probabilities, with which it trains badly."""
    model_state = reset_carry(model_state, jax.tree.leaves(x)[0].shape[0])
    args = jax.tree.map(spec, (params, model_state, x))
    forward = lambda p, s, x: model.apply(p, s, *inputs(x, p))[0]  # noqa: E731
    function = reading.last_function(reading.traced(forward, *args)[0].jaxpr)
    if function == "sigmoid" or (function == "softmax" and task == "multiclass"):
        warnings.warn(
            f"{name}: the model ends in a {function}, and the loss takes logits; leave the "
            f"{function} out of the model, and apply it to the predictions.",
            stacklevel=4,
        )


def batch(
    model: Module,
    params: Any,
    model_state: Any,
    data: tuple[Any, ...],
    loss: str | Callable | None,
    name: str,
    measures: names.Measures | None = (),
) -> Callable[[tuple[Any, ...], str], None]:
    """The model takes x, the loss takes its output and y, and the values are in their ranges.

    Returns:
      `(data, name)`: the same check of the values of a later batch, which traces nothing for one of
      the same shapes.
    """
    x, y, weight = data if len(data) == 3 else (*data, None)
    params, model_state = jax.tree.map(spec, (params, model_state))  # not to keep the arrays
    _values(x, y, weight, name)
    if weight is not None and not np.asarray(weight).any():
        raise ValueError(f"{name}: all weights are 0; expected some above.")
    predicted = ids(model, params, model_state, x, name)
    task = losses.task(loss) if callable(loss) else None
    if task in ("multiclass", "binary") and loss is not losses.hinge:
        _logits(model, params, model_state, x, task, name)
    labels = None
    if hasattr(predicted, "shape") and hasattr(y, "dtype"):
        if task == "binary":
            labels = _binary
        elif y.shape == predicted.shape[:-1]:
            labels = functools.partial(_classes, predicted.shape[-1])
        elif y.shape == predicted.shape and predicted.shape[-1] > 1:
            by_class = any(value in names.CLASS_NAMES for _, value in measures or ())
            labels = _probabilities if task == "multiclass" or by_class else None

    def check_labels(y, weight, name):
        if labels is not None:
            if weight is not None and weight.shape == y.shape[: weight.ndim]:
                y = np.asarray(y)[np.asarray(weight) != 0]
            labels(y, f"{name}: y")

    check_labels(y, weight, name)
    if loss is not None:
        try:
            jax.eval_shape(losses.loss(loss), predicted, jax.tree.map(spec, y))
        except (AttributeError, TypeError, ValueError) as error:
            given = f"the output {show(predicted)} with y {show(y)}"
            fix = _label_fix(y, predicted) if task == "multiclass" else ""
            raise ValueError(f"{name}: the loss does not take {given}: {error}{fix}") from error

    def again(data, name):
        x, y, weight = data if len(data) == 3 else (*data, None)
        _values(x, y, weight, name)
        ids_again(model, params, model_state, x, name)
        check_labels(y, weight, name)

    return again


def _label_fix(y: Any, predicted: Any) -> str:
    """How targets become classes, where they have the shape of classes or of a column of them."""
    rows = getattr(predicted, "shape", (None,))[:-1]
    if not hasattr(y, "dtype") or y.shape not in (rows, (*rows, 1)):
        return ""
    column = "" if y.shape == rows else "[:, 0]" if y.ndim == 2 else "[..., 0]"
    kind = "" if jnp.issubdtype(y.dtype, jnp.integer) else ".astype(int)"
    return f" As classes, give y{column}{kind}."


def _values(x: Any, y: Any, weight: Any, name: str) -> None:
    """All numbers are finite, and in the range of their dtype on the device."""
    if weight is not None:
        _weights(weight, x, name)
    for at, part in (("x", x), ("y", y)):
        for leaf in jax.tree.leaves(part):
            _finite(leaf, f"{name}: {at}")
            convert.check_range(leaf, f"{name}: {at}")


def _weights(weight: Any, x: Any, name: str) -> None:
    """Weights are numbers of at least 0, with one row an example."""
    rows = jax.tree.leaves(x)[0].shape[0]
    if (
        not hasattr(weight, "dtype")
        or weight.shape[:1] != (rows,)
        or weight.dtype.kind not in "biuf"
    ):
        given = f"{weight.dtype}{list(weight.shape)}" if hasattr(weight, "dtype") else repr(weight)
        raise ValueError(
            f"{name}: weight is {given}; expected floats or bools with one row for each of the "
            f"{rows} examples: (N,), or (N, T) for the steps of sequences."
        )
    numbers = np.asarray(weight, np.float64)
    if not np.isfinite(numbers).all() or numbers.min() < 0:
        raise ValueError(
            f"{name}: weights lie in {numbers.min():g} .. {numbers.max():g}; expected finite "
            "numbers of at least 0, some of them above."
        )


def _binary(y: Any, name: str) -> None:
    """Targets of independent labels are in [0, 1]."""
    if y.size and not 0 <= y.min() <= y.max() <= 1:
        raise ValueError(
            f"{name} holds labels from {y.min()} to {y.max()}, and the loss takes 0 or 1 for each "
            "output; expected labels in [0, 1]: for -1 and 1 give (y + 1) / 2, for classes give "
            "the model an output for each and loss='cross_entropy'."
        )


def _probabilities(y: Any, name: str) -> None:
    """Rows over the classes are probabilities."""
    sums = np.asarray(y, np.float32).sum(-1)
    if y.size and (y.min() < 0 or abs(sums - 1).max() > 1e-2):
        raise ValueError(
            f"{name} holds rows that sum to {sums.min():g} .. {sums.max():g}, and the loss or a "
            "metric takes them for probabilities of classes; expected integer classes, or rows "
            "that sum to 1: for independent labels give loss='binary_cross_entropy', for numbers "
            "metrics such as 'mae'. If they are meant so, pass check=False."
        )


def _classes(classes: int, y: Any, name: str) -> None:
    """Integer labels are in 0 .. C - 1; other targets are checked by the loss."""
    if not jnp.issubdtype(y.dtype, jnp.integer) or not y.size:
        return
    low, high = int(y.min()), int(y.max())
    if classes > 1 and (low < 0 or high >= classes):
        raise ValueError(
            f"{name} holds labels from {low} to {high}, and the model has {classes} outputs; "
            f"expected labels in 0 .. {classes - 1}: number the classes from 0, give those without "
            f"a label weight 0 by data.weighted(x, y, ignore_index={low if low < 0 else high}), or "
            "give the model more outputs. If y is no label, pass check=False."
        )


def ids(model: Module, params: Any, model_state: Any, x: Any, name: str) -> Any:
    """Ids that `nn.embedding` reads from x are in 0 .. V - 1; returns the output's shape.

    Checked are arrays of x, and what integer operations make of them, such as `ids[:, :-1]`; not
    what is read inside of loops.
    """
    _lengths(model, x, name)
    sizes: list[tuple[int | None, int]] = []  # the leaf that is read as it is, or None; and V

    def apply(x, params, model_state):
        with record_lookups() as lookups:
            output = _apply(model, None, params, model_state, x)
        same = [[i for i, a in enumerate(jax.tree.leaves(x)) if a is ids] for ids, _ in lookups]
        sizes[:] = [(i[0] if i else None, size) for i, (_, size) in zip(same, lookups, strict=True)]
        return output, [ids for (ids, _), i in zip(lookups, same, strict=True) if not i]

    model_state = reset_carry(model_state, jax.tree.leaves(x)[0].shape[0])
    args = jax.tree.map(spec, (x, params, model_state))
    output = taken(model, x, lambda: jax.eval_shape(lambda *a: apply(*a)[0], *args))
    read, program = list(sizes), None
    if any(i is None for i, _ in read):
        with contextlib.suppress(jax.errors.UnexpectedTracerError):  # some are read inside a loop
            program = reading.traced(lambda *a: apply(*a)[1], *args)[0]
    _read(model)[_kind(x)] = read, program
    _check_ids(x, read, program, name)
    return output


@_cache.per_model
def _read(model: Module) -> dict:
    """By kind of x, which of its leaves embeddings of which sizes read, and what makes others."""
    return {}


def ids_again(model: Module, params: Any, model_state: Any, x: Any, name: str) -> None:
    """As `ids`, but traces the model only for the first x of a kind."""
    if all(not jnp.issubdtype(leaf.dtype, jnp.integer) for leaf in jax.tree.leaves(x)):
        return
    known = _read(model).get(_kind(x))
    if known is None:
        ids(model, params, model_state, x, name)
    else:
        _lengths(model, x, name)
        sizes, program = known
        _check_ids(x, sizes, program, name)


def _kind(x: Any) -> Any:
    return jax.tree.structure(x), tuple((a.dtype, a.shape) for a in jax.tree.leaves(x))


def _lengths(model: Module, x: Any, name: str) -> None:
    """The lengths that follow a first input of T steps are in 0 .. T."""
    if not (model.takes_lengths and isinstance(x, tuple) and len(x) > 1):
        return
    steps, lengths = (getattr(part, "shape", ()) for part in x[:2])
    if len(steps) < 2 or len(lengths) != 1 or isinstance(x[1], Tracer):
        return
    low, high = x[1].min(), x[1].max()
    if low < 0 or high > steps[1]:
        raise ValueError(
            f"{name}: x[1] holds lengths from {low} to {high}; expected 0 .. {steps[1]}, the steps "
            "of x[0] before each row's padding, as data.pad returns them."
        )


def _check_ids(x: Any, sizes: list[tuple[int | None, int]], program: Any, name: str) -> None:
    leaves = jax.tree.leaves_with_path(x)
    if program is not None:
        made = reading.evaluate_known(program, [leaf for _, leaf in leaves])
        for leaf, size in zip(made, [size for i, size in sizes if i is None], strict=True):
            if leaf is not None and not isinstance(leaf, Tracer):
                _in_vocabulary(leaf, size, f"{name}: what the model makes of x")
    for i, size in sizes:
        if i is not None and not isinstance(leaves[i][1], Tracer):
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
        "finite numbers: drop these rows or fill them in; data.weighted(x, y, ignore_index=np.nan) "
        "leaves out targets."
    )


def spec(leaf: Any, rows: int | None = None) -> jax.ShapeDtypeStruct:
    """The shape and the dtype of an array on the device, or of `rows` of its rows."""
    shape = leaf.shape if rows is None else (rows, *leaf.shape[1:])
    return jax.ShapeDtypeStruct(shape, jax.dtypes.canonicalize_dtype(leaf.dtype))


def show(tree: Any) -> str:
    """Dtypes and shapes of arrays, for errors."""
    return " and ".join(f"{leaf.dtype}{list(leaf.shape)}" for leaf in jax.tree.leaves(tree))
