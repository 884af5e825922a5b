"""`capture` returns the intermediate values of a model; `intervene` replaces them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from jaxdl.core import Module, Tree, check_model, suggest

__all__ = ["capture", "intervene"]


def capture(
    model: Module,
    params: Tree,
    state: Tree,
    *inputs: Any,
    paths: Collection[str] | None = None,
    **options,
) -> tuple[Any, dict[str, Any]]:
    """Runs a model and returns its output and intermediate values.

    Args:
      model, params, state, *inputs: as for `model.apply`.
      paths: the paths to return, e.g. `{"conv_0", "block_1/relu_0"}`; None for all.
      **options: `train` and `key`, as for `model.apply`.

    Returns:
      `(output, {path: value})`, in the order of computation.

    Raises:
      ValueError: the model has no such path.
    """
    check_model("capture", model)
    values: dict[str, Any] = {}

    def tap(path, value):
        values[path] = value
        return value

    output, _ = model.apply(params, state, *inputs, tap=tap, **options)
    if paths is None:
        return output, values
    paths = {paths} if isinstance(paths, str) else paths
    _check_paths(paths, values)
    return output, {path: values[path] for path in paths}


def intervene(
    model: Module, params: Tree, state: Tree, *inputs: Any, edits: Mapping[str, Any], **options
) -> Any:
    """Runs a model with some intermediate values replaced: ablation, patching, steering.

    Args:
      model, params, state, *inputs: as for `model.apply`.
      edits: for each path a function `value -> value`, or the new value.
      **options: `train` and `key`, as for `model.apply`.

    Returns:
      The output.

    Raises:
      ValueError: the model has no such path.
    """
    check_model("intervene", model)
    paths: dict[str, None] = {}

    def tap(path, value):
        paths[path] = None
        if path not in edits:
            return value
        edit = edits[path]
        return edit(value) if callable(edit) else edit

    output, _ = model.apply(params, state, *inputs, tap=tap, **options)
    _check_paths(edits, paths)
    return output


def _check_paths(paths: Collection[str], known: Collection[str]) -> None:
    for path in paths:
        if path not in known:
            raise ValueError(f"no path {path!r} in the model; {suggest(path, known, 'paths')}")
