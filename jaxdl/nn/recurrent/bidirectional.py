"""Bidirectional recurrent layers."""

from __future__ import annotations

from typing import Any, Literal

import jax.numpy as jnp

from jaxdl.core import Module, compose
from jaxdl.nn.dense import dense
from jaxdl.nn.recurrent.cell import Cell
from jaxdl.nn.recurrent.stacked import rnn

__all__ = ["bidirectional"]


def bidirectional(
    cell: Cell,
    backward: Cell | None = None,
    *,
    merge: Literal["concat", "sum", "project"] = "concat",
    features: int | None = None,
    returns: Literal["all", "last"] = "all",
    **options: Any,
) -> Module:
    """Makes a layer that runs one cell forwards and one backwards, and merges their outputs.

    Schuster and Paliwal 1997 (doi:10.1109/78.650093)::

        merge="concat"    y_t = [h_t forward, h_t backward]
        merge="sum"       y_t = h_t forward + h_t backward
        merge="project"   y_t = W [h_t forward, h_t backward] + b

    Args:
      cell: the cell that runs forwards, with the parameters `forward`.
      backward: the cell that runs backwards, with the parameters `backward`; by default `cell`
        again, with separate parameters.
      merge: "concat", "sum" or "project", as above.
      features: width of the projection; only with merge="project".
      returns: "all" for (N, T, F); "last" for (N, F), the output of each direction's last step.
      **options: `recurrent_dropout`, `unroll`, `remat` and `implementation` of both directions; see
        `rnn`.

    Returns:
      A `Module` of `(x (N, T, D), lengths=None)`.

    Raises:
      ValueError: `merge` is unknown; `features` is missing with merge="project" or passed with
        another merge; and the errors of `rnn`.
    """
    if merge not in ("concat", "sum", "project") or (merge == "project") != (features is not None):
        raise ValueError(
            f"bidirectional: got merge={merge!r} and features={features!r}, expected 'concat' or "
            "'sum' without features, or 'project' with the number of features."
        )
    children: dict[str, Any] = {
        "forward": rnn(cell, returns=returns, **options),
        "backward": rnn(backward or cell, returns=returns, reverse=True, **options),
    }
    if features is not None:
        children["output"] = dense(features)

    def forward(call, x, lengths=None):
        ahead, back = call("forward", x, lengths), call("backward", x, lengths)
        if merge == "sum":
            return ahead + back
        both = jnp.concatenate([ahead, back], axis=-1)
        return call("output", both) if merge == "project" else both

    return compose("bidirectional", children, forward, merge=merge)
