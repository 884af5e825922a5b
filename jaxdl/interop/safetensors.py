"""Weights in safetensors files.

The format (github.com/huggingface/safetensors) is a header of names, dtypes and shapes, then plain
bytes. It contains arrays only, so reading an untrusted file runs no code. Names are the paths of
the tree, `params/dense_0/kernel` and `state/batch_norm_0/mean`; they are never file names.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import tempfile
from collections.abc import Iterator, Mapping
from typing import IO, Any

import jax
import numpy as np

from jaxdl import tree
from jaxdl._optional import extra
from jaxdl.core import Tree

__all__ = ["load_weights", "save_weights"]

MAX_HEADER = 100_000_000
"""Largest header that the format allows, in bytes."""
MAX_DEPTH = 64
"""Longest path that is read, because functions over trees are recursive."""


def save_weights(path: str | os.PathLike, params: Tree, state: Tree | None = None) -> None:
    """Writes parameters and state to a file, atomically.

    Args:
      path: the file; an existing one is replaced.
      params: the parameters, nested dicts of arrays in any numeric dtype.
      state: the state of the model.

    Raises:
      ValueError: `params` or `state` is not a dict, a name contains "/", or a leaf is not an array
        of numbers, such as a PRNG key.
    """
    with extra("checkpoint", "save_weights"):
        from safetensors import numpy as safetensors

    if hasattr(params, "model_state"):
        raise ValueError(
            "save_weights: params is a TrainState; expected its parameters and state: "
            "save_weights(path, state.params, state.model_state). fit(checkpoint=) saves a whole "
            "run."
        )
    for name, part in (("params", params), ("state", {} if state is None else state)):
        if not isinstance(part, Mapping):
            raise ValueError(
                f"save_weights: {name} is a {type(part).__name__}; expected a nested dict of "
                "arrays, as jaxdl.init returns it."
            )
    paths = {}
    for top, part in (("params", params), ("state", state or {})):
        for keys, leaf in jax.tree_util.tree_leaves_with_path(part):
            names = [str(getattr(key, "key", key)) for key in keys]
            if any("/" in name or not name for name in names):
                raise ValueError(f"save_weights: name {names} is empty or contains '/'; rename it.")
            paths["/".join([top, *names])] = _to_numpy(leaf, "/".join(names))
    with open_atomic(pathlib.Path(path)) as file:
        file.write(safetensors.save(paths))


@contextlib.contextmanager
def open_atomic(target: pathlib.Path) -> Iterator[IO[bytes]]:
    """Yields a temporary file that replaces the target once it is on the disk."""
    # In the same folder, because a rename across file systems is not atomic.
    handle, temporary = tempfile.mkstemp(dir=target.parent, suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        os.unlink(temporary)
        raise


def _to_numpy(leaf: Any, name: str) -> np.ndarray:
    if not hasattr(leaf, "dtype"):
        raise ValueError(
            f"save_weights: {name} is a {type(leaf).__name__}; expected an array: np.asarray(x)."
        )
    if jax.numpy.issubdtype(leaf.dtype, jax.dtypes.extended):
        raise ValueError(
            f"save_weights: {name} is {leaf.dtype}; expected numbers: store jax.random.key_data."
        )
    # safetensors writes the memory of an array in its order, so a transposed view must be copied.
    # np.ascontiguousarray would turn a scalar into an array of one axis.
    return np.asarray(leaf, order="C")


def load_weights(
    path: str | os.PathLike, *, like: tuple[Tree, Tree] | None = None
) -> tuple[Tree, Tree]:
    """Reads parameters and state that `save_weights` wrote.

    Args:
      path: the file.
      like: `(params, state)` of the expected structure, as arrays or shapes:
        `jax.eval_shape(model.init, key, x)`.

    Returns:
      `(params, state)`, nested dicts of arrays.

    Raises:
      ValueError: `like` is not a pair; the file is damaged or not a safetensors file; or its arrays
        are not those of `like`; the message lists all differences.
      FileNotFoundError: there is no such file.
    """
    with extra("checkpoint", "load_weights"):
        from safetensors import SafetensorError, safe_open

    if hasattr(like, "model_state"):
        raise ValueError(
            "load_weights: like is a TrainState; expected like=(state.params, state.model_state)."
        )
    pair = isinstance(like, tuple | list) and len(like) == 2
    if like is not None and not (pair and all(isinstance(part, Mapping) for part in like)):
        raise ValueError(
            f"load_weights: like is a {type(like).__name__}; expected a pair of dicts: "
            "like=(params, state), with {} for a model without state."
        )
    names = _read_names(pathlib.Path(path))
    try:
        with safe_open(path, framework="numpy") as file:
            paths = {name: _array(name, file.get_tensor(name)) for name in names}
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"load_weights: {str(path)!r} cannot be read: {error}.") from error
    if like is not None:
        _compare(str(path), paths, tree.flatten({"params": like[0], "state": like[1]}))
    loaded = tree.unflatten(paths)
    return loaded.get("params", {}), loaded.get("state", {})


def _array(name: str, values: np.ndarray) -> jax.Array:
    dtype = jax.dtypes.canonicalize_dtype(values.dtype)
    if dtype != values.dtype:
        raise ValueError(
            f"{name} is {values.dtype}, which JAX would round to {dtype}; call "
            "jax.config.update('jax_enable_x64', True) before reading such weights"
        )
    return jax.numpy.asarray(values)


def _read_names(path: pathlib.Path) -> list[str]:
    """Returns the names in a file, after checks that the safetensors reader does not make."""

    def to_dict(pairs):
        names = [name for name, _ in pairs]
        if len(set(names)) < len(names):
            raise ValueError("a name appears twice")
        return dict(pairs)

    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(MAX_HEADER, size - 8):
            raise ValueError(
                f"load_weights: {str(path)!r} has {size} bytes and claims a header of {length}; "
                "expected a complete safetensors file."
            )
        try:
            header = json.loads(file.read(length), object_pairs_hook=to_dict)
            if not isinstance(header, dict):
                raise ValueError("the header is not a dict")
        except (ValueError, RecursionError) as error:
            raise ValueError(f"load_weights: {str(path)!r} is damaged: {error}.") from error
    names = [name for name in header if name != "__metadata__"]
    for name in names:
        top, *rest = name.split("/")
        if top not in ("params", "state") or not all(rest) or not 1 <= len(rest) <= MAX_DEPTH:
            raise ValueError(
                f"load_weights: {str(path)!r} has the name {name[:80]!r}; expected names like "
                "'params/dense_0/kernel', which save_weights writes."
            )
    return names


def _compare(path: str, got: dict[str, Any], expected: dict[str, Any]) -> None:
    wrong = [f"missing {name}" for name in expected if name not in got]
    wrong += [f"unexpected {name}" for name in got if name not in expected]
    for name in got.keys() & expected.keys():
        a, b = got[name], expected[name]
        if a.shape != b.shape or a.dtype != b.dtype:
            wrong.append(f"{name} is {a.dtype}{list(a.shape)}, expected {b.dtype}{list(b.shape)}")
    if wrong:
        raise ValueError(f"load_weights: {path!r} is of another model: {'; '.join(sorted(wrong))}.")
