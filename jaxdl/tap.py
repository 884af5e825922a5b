"""Looking inside a model, and changing what is there, by `apply`'s `tap`."""

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
    at: Collection[str] | None = None,
    **options,
) -> tuple[Any, dict[str, Any]]:
    """Runs a model and returns the values at named places too.

    Args:
      model, params, state, *inputs: as for `model.apply`.
      at: the paths wanted, e.g. `{"conv_0", "block_1/relu_0"}`; all when None.
      **options: `train` and `key`, as for `model.apply`.

    Returns:
      `(output, {path: value})`, in the order of computation.

    Raises:
      ValueError: a wanted path is not there.
    """
    check_model("capture", model)
    at = {at} if isinstance(at, str) else at
    seen: dict[str, Any] = {}

    def tap(path, value):
        seen[path] = value
        return value

    output, _ = model.apply(params, state, *inputs, tap=tap, **options)
    return output, {path: seen[path] for path in (seen if at is None else _hit(at, seen))}


def intervene(
    model: Module, params: Tree, state: Tree, *inputs: Any, edits: Mapping[str, Any], **options
) -> Any:
    """Runs a model with named intermediate values changed: ablation, patching, steering.

    Args:
      model, params, state, *inputs: as for `model.apply`.
      edits: for each path either a function `value -> value` or the value to put there.
      **options: `train` and `key`, as for `model.apply`.

    Returns:
      The output.

    Raises:
      ValueError: a path is not there.
    """
    check_model("intervene", model)
    seen: dict[str, None] = {}

    def tap(path, value):
        seen[path] = None
        if path not in edits:
            return value
        edit = edits[path]
        return edit(value) if callable(edit) else edit

    output, _ = model.apply(params, state, *inputs, tap=tap, **options)
    _hit(edits, seen)
    return output


def _hit(wanted: Collection[str], seen: Collection[str]) -> Collection[str]:
    for path in wanted:
        if path not in seen:
            raise ValueError(f"no path {path!r} in the model; {suggest(path, seen, 'paths')}")
    return wanted
