"""Conversion of data to NumPy arrays, and errors with the call that converts the rest.

Tensors, data frames, lists and images become arrays if no information is lost; other data raise an
error with the call that prepares them. No other library is imported: their classes are recognised
by the names of their modules.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxdl._foreign import comes_from
from jaxdl.data.source import ENDLESS, BatchStream, RandomAccessSource, from_grain, from_iterable

IMAGE_MODES = ("1", "L", "LA", "RGB", "RGBA", "I", "I;16", "F")
"""Modes of PIL images whose values are intensities; in mode "P" they are indices of colours."""
SCALARS = (bool, int, float, complex, str, bytes, np.generic)


def as_source(data: Any, name: str) -> Any:
    """Converts a loader or data set of PyTorch or Grain to `BatchStream` or `RandomAccessSource`.

    Args:
      data: anything; other data are returned unchanged.
      name: name of the argument, for errors.

    Raises:
      ValueError: the length of the data is unknown.
    """
    if comes_from(data, "torch.utils.data.dataloader"):
        return _with_length(from_iterable, data, name, "data.from_iterable")
    if comes_from(data, "torch.utils.data"):
        if not (hasattr(data, "__getitem__") and hasattr(data, "__len__")):
            raise ValueError(
                f"{name} is {type(data).__name__}, which yields rows; expected "
                "batches: data.from_iterable(DataLoader(dataset, batch_size=32), steps=...)."
            )
        return RandomAccessSource(len(data), lambda rows: _collate([data[int(i)] for i in rows]))
    if comes_from(data, "grain"):
        return _with_length(from_grain, data, name, "data.from_grain")
    return data


def _with_length(
    make: Callable[[Any], BatchStream], data: Any, name: str, call: str
) -> BatchStream:
    with contextlib.suppress(TypeError):
        if len(data) < ENDLESS:
            return make(data)
    raise ValueError(
        f"{name} is {type(data).__name__} without an end; expected the number of batches in an "
        f"epoch: {call}(loader, steps=...)."
    )


def _collate(rows: list) -> Any:
    """Turns a list of trees of one row each into a tree of lists of rows."""
    if not isinstance(rows[0], tuple | list):
        raise ValueError(expected_pair(rows[0], "a row of the data set"))
    return jax.tree.map(lambda *leaves: list(leaves), *rows, is_leaf=lambda p: isinstance(p, list))


def expected_pair(data: Any, name: str) -> str:
    """Returns the text of the error for data that are not a tuple of arrays."""
    kind, fix = _suggest_pair(data, name)
    if fix is None:
        fix = "for several inputs x is a tuple"
    return f"{name} is {kind}; expected (x, y) or (x, y, weight) of arrays; {fix}."


def _suggest_pair(data: Any, name: str) -> tuple[str, str | None]:
    """Returns a description of the data and the call that makes a pair of them, or None."""
    kind = type(data).__name__
    if isinstance(data, BatchStream | RandomAccessSource):
        return kind, "only fit and evaluate accept it"
    if isinstance(data, tuple | list):
        if len(data) > 2 and all(isinstance(row, tuple | list) and len(row) == 2 for row in data):
            fix = "x, y = map(list, zip(*data)) of rows, data.from_iterable(data) of batches"
            return f"{len(data)} pairs", fix
        return f"{len(data)} parts", None
    if comes_from(data, "pandas"):
        return kind, f"({name}.drop(columns='label'), {name}['label'])"
    if comes_from(data, "polars"):
        return kind, f"({name}.drop('label'), {name}['label'])"
    if hasattr(data, "keys"):
        keys = [repr(key) for key in data]
        if comes_from(data, "datasets"):
            return kind, f"pass one of its splits, {name}[{keys[0]}]"
        x, y = keys if len(keys) == 2 else ("'x'", "'y'")
        return f"{kind} of {', '.join(keys)}", f"pass (d[{x}], d[{y}]) of it"
    if comes_from(data, "datasets") and hasattr(data, "__getitem__"):
        fix = "data.from_hugging_face(dataset, x=..., y=...)"
        return f"{kind} of {', '.join(map(repr, data.column_names))}", fix
    if comes_from(data, "tensorflow"):
        return kind, "data.from_iterable(dataset.as_numpy_iterator, steps=...)"
    if isinstance(data, Iterator) or callable(data):
        fix = "data.from_iterable(make, steps=...) with a function that returns a new iterator"
        return kind, fix
    if isinstance(data, Iterable) and not hasattr(data, "shape") and not isinstance(data, str):
        return kind, "data.from_iterable(loader, steps=...) if it yields batches of pairs"
    return kind, None


def as_arrays(tree: Any, name: str) -> Any:
    """Converts every leaf of x or y by `as_array`; a list is one array, not a tree."""

    def is_leaf(part):
        return isinstance(part, list) or hasattr(part, "todense")

    return jax.tree.map(lambda leaf: as_array(leaf, name), tree, is_leaf=is_leaf)


def as_array(leaf: Any, name: str) -> Any:
    """Converts array-like data to a NumPy array; JAX arrays stay on their devices.

    Args:
      leaf: an array, a tensor, a data frame, a list of rows, an image or similar data.
      name: name of the data, for errors.

    Raises:
      ValueError: the data are not numbers, have masked values, or rows of several shapes.
    """
    if hasattr(leaf, "todense"):
        raise ValueError(f"{name} is sparse, a {type(leaf).__name__}; expected x.todense().")
    if isinstance(leaf, Tracer):
        return leaf
    if isinstance(leaf, jax.Array):
        devices = leaf.sharding.device_set
        return leaf if len(devices) > 1 or jax.devices()[0] in devices else np.asarray(leaf)
    if isinstance(leaf, np.ma.MaskedArray):
        if np.ma.is_masked(leaf):
            raise ValueError(
                f"{name} has {np.ma.count_masked(leaf)} masked values; expected none. Fill them "
                "in by filled(value), or drop these rows."
            )
        leaf = leaf.data
    if comes_from(leaf, "torch"):
        return _from_torch(leaf, name)
    if hasattr(leaf, "collect"):
        raise ValueError(f"{name} is a {type(leaf).__name__}; expected its values: x.collect().")
    if hasattr(leaf, "columns") and hasattr(leaf, "dtypes"):
        return _from_frame(leaf, name)
    if comes_from(leaf, "PIL") and leaf.mode not in IMAGE_MODES:
        raise ValueError(
            f"{name} is an image of mode {leaf.mode!r}; expected intensities, one of "
            f"{IMAGE_MODES}: image.convert('RGB')."
        )
    return _convert_dtype(_to_numpy(leaf, name), type(leaf).__name__, name)


def _to_numpy(leaf: Any, name: str) -> np.ndarray:
    """Returns a NumPy array of any dtype."""
    rows = not hasattr(leaf, "__array__") and not hasattr(leaf, "__array_interface__")
    if rows and hasattr(leaf, "__getitem__") and not isinstance(leaf, str | bytes | dict):
        return _stack(list(leaf), name)
    try:
        array = np.asarray(leaf)
    except (TypeError, ValueError, RuntimeError) as error:
        kind = type(leaf).__name__
        raise ValueError(f"{name} is a {kind}; expected a NumPy array: {error}") from error
    return _stack(array.tolist(), name) if array.dtype == object and array.ndim else array


def _stack(rows: list, name: str) -> np.ndarray:
    """Stacks rows of one shape into an array."""
    if all(row is None or isinstance(row, SCALARS) for row in rows):
        return np.asarray(rows)
    arrays = [as_array(row, f"{name}[{i}]") for i, row in enumerate(rows)]
    shapes = sorted({array.shape for array in arrays})
    if len(shapes) > 1:
        shown = ", ".join(str(list(shape)) for shape in shapes[:3])
        more = ", ..." if len(shapes) > 3 else ""
        fix = "resize or crop them"
        if len({shape[1:] for shape in shapes}) == 1:
            fix = "x, lengths = data.pad(x) pads them"
        if len({len(shape) for shape in shapes}) > 1:
            fix = "several inputs are a tuple, not a list: x = (tokens, lengths)"
        raise ValueError(f"{name} has rows of shapes {shown}{more}; expected one shape: {fix}.")
    return np.stack(arrays)


def _convert_dtype(array: np.ndarray, kind: str, name: str) -> np.ndarray:
    """Converts an array to a dtype that JAX has; raises unless it is numeric."""
    dtype, fix = array.dtype, None
    if dtype.kind in "UST" or (dtype.kind == "O" and any(isinstance(v, str) for v in array.flat)):
        kind = f"strings, such as {str(array.flat[0])!r}" if array.size else "strings"
        fix = "one column for each kind (data.one_hot), or for text data.Vocabulary and data.pad"
        if name.endswith("y"):
            fix = "number the classes by classes, y = np.unique(y, return_inverse=True)"
    elif dtype.kind in "mM":
        kind, fix = f"times, {dtype}", "(t - t.min()) / np.timedelta64(1, 's')"
    elif dtype.names is not None:
        kind = f"records of {', '.join(dtype.names)}"
        fix = "np.lib.recfunctions.structured_to_unstructured(x)"
    elif dtype.kind == "O":
        other = next(value for value in array.flat if not isinstance(value, SCALARS))
        kind = f"{other!r}" if array.ndim else f"a {kind}"
        fix = "fill in missing values or drop their rows" if array.ndim else None
    elif dtype.kind != "b" and not jnp.issubdtype(dtype, np.number):
        kind = str(dtype)
    elif dtype.char in "gG":  # extended precision, which JAX does not have
        return array.astype(dtype.char.replace("g", "d").replace("G", "D"))
    else:
        return array if dtype.isnative else array.astype(dtype.newbyteorder("="))
    raise ValueError(
        f"{name} has {kind}; expected an array of numbers" + (f": {fix}." if fix else ".")
    )


def _from_torch(tensor: Any, name: str) -> np.ndarray:
    if not hasattr(tensor, "detach"):
        raise ValueError(f"{name} is a {type(tensor).__name__}; expected an array of numbers.")
    if tensor.device.type != "cpu":
        raise ValueError(
            f"{name} is a tensor on {tensor.device}; expected one on the CPU; pass x.cpu()."
        )
    tensor = tensor.detach()
    try:
        if str(tensor.dtype) == "torch.bfloat16":  # NumPy has it only with ml_dtypes
            return tensor.float().numpy().astype(jnp.bfloat16)
        return tensor.numpy()
    except (TypeError, RuntimeError) as error:
        raise ValueError(
            f"{name} is a tensor of {tensor.dtype}, {tensor.layout}, which NumPy does not support "
            f"({error}); expected a dense tensor: x.to_dense().float()."
        ) from error


def _from_frame(frame: Any, name: str) -> np.ndarray:
    """Converts a data frame to (N, columns), in the common dtype of its columns."""
    columns = (
        frame.items()
        if hasattr(frame, "items")
        else zip(frame.columns, frame.get_columns(), strict=True)
    )
    arrays = [as_array(column, f"{name}[{key!r}]") for key, column in columns]
    return np.stack(arrays, 1) if arrays else np.zeros((len(frame), 0))


def check_range(leaf: Any, name: str) -> None:
    """Raises if a value is out of range of the dtype that JAX converts it to."""
    target = jax.dtypes.canonicalize_dtype(leaf.dtype)
    if target == leaf.dtype or not leaf.size or jnp.issubdtype(target, np.complexfloating):
        return
    if jnp.issubdtype(target, np.floating):
        leaf = leaf[np.isfinite(leaf)]  # infinity and NaN are kept
    low, high = (leaf.min(), leaf.max()) if leaf.size else (0, 0)
    limits = jnp.finfo(target) if jnp.issubdtype(target, np.floating) else jnp.iinfo(target)
    if low < limits.min or high > limits.max:
        raise ValueError(
            f"{name} is {leaf.dtype} with values from {low} to {high}, beyond the range of "
            f"{target}; expected smaller numbers. Scale or renumber them, or enable "
            "jax_enable_x64."
        )
