"""Recurrent layers side by side and above one another."""

from __future__ import annotations

from typing import Any, Literal

import jax.numpy as jnp

from jaxdl.combine import number_layers
from jaxdl.core import Module, compose
from jaxdl.nn.dense import dense
from jaxdl.nn.dropout import dropout as drop
from jaxdl.nn.recurrent.cell import Cell
from jaxdl.nn.recurrent.stacked import rnn

__all__ = ["bidirectional", "stacked_rnn"]


def bidirectional(
    cell: Cell,
    backward: Cell | None = None,
    *,
    merge: Literal["concat", "sum", "project"] = "concat",
    features: int | None = None,
    returns: Literal["all", "last"] = "all",
    **options: Any,
) -> Module:
    """One cell from the first step to the last, one from the last to the first, both seen at once.

    Schuster and Paliwal 1997 (doi:10.1109/78.650093); lecture rows J06, J07::

        merge="concat"    y_t = [h_t forward, h_t backward]
        merge="sum"       y_t = h_t forward + h_t backward
        merge="project"   y_t = W [h_t forward, h_t backward] + b, the lectures' output equation

    Args:
      cell: run forwards. Its parameters are the child `forward`.
      backward: run backwards, with parameters of its own as the child `backward`; None for a cell
        such as `cell`.
      merge: how the two are joined.
      features: width of the projection, with merge="project" only.
      returns: "all" for (N, T, F); "last" for (N, F), of the step that each direction ends at.
      **options: `recurrent_dropout`, `unroll`, `remat`, `form`, for both; see `rnn`.

    Returns:
      A `Module` of `(x (N, T, D), lengths=None)`.

    Raises:
      ValueError: `merge` is another word, or `features` is given with another merge than "project"
        or lacks with it; what `rnn` raises.
    """
    if merge not in ("concat", "sum", "project") or (merge == "project") != (features is not None):
        raise ValueError(
            f"bidirectional: merge={merge!r}, features={features!r}; expected 'concat' or 'sum', "
            "or 'project' with the number of features."
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


def stacked_rnn(
    *layers: Module,
    residual: bool = False,
    dropout: float = 0.0,
    variational: bool = False,
) -> Module:
    """Recurrent layers above one another: each reads the outputs of the one below at every step.

    Pascanu et al. 2014 (arXiv 1312.6026), the stacked form; lecture rows J05, J15. Dropout stands
    between the layers, as in Zaremba, Sutskever and Vinyals 2014 (arXiv 1409.2329).

    Args:
      *layers: cells, or layers made of them by `rnn` and `bidirectional`, each of
        `(x, lengths)`; named by kind and a count, `lstm_0`, `lstm_1`.
      residual: add each layer's input to its output where the widths are equal, but for the first.
      dropout: probability of dropping a value between two layers.
      variational: draw one mask for all steps of a row (Gal and Ghahramani 2016,
        arXiv 1512.05287) instead of one for each step.

    Returns:
      A `Module` of `(x (N, T, D), lengths=None)`.

    Raises:
      ValueError: no layers; `dropout` outside [0, 1).
    """
    if not layers:
        raise ValueError("deep_recurrent: no layers; expected one at least.")
    children = number_layers(layers)
    names = list(children)
    if dropout:
        shared = (1,) if variational else ()
        children |= {
            f"dropout_{i}": drop(dropout, shared_axes=shared) for i in range(len(names) - 1)
        }

    def forward(call, x, lengths=None):
        y = call(names[0], x, lengths)
        for i, name in enumerate(names[1:]):
            below = call(f"dropout_{i}", y) if dropout else y
            above = call(name, below, lengths)
            y = above + y if residual and above.shape == y.shape else above
        return y

    return compose("stacked_rnn", children, forward, residual=residual, dropout=dropout)
