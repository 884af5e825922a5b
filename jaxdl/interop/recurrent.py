"""Weights of recurrent layers from torch and Flax: what differs is packing, never the mathematics.

Gate orders agree (torch packs i, f, g, o and r, z, n; so do we), torch's matrices are transposed
and it adds two biases, Flax keeps a kernel for each gate.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from jaxdl.core import Tree

__all__ = ["recurrent_from_flax", "recurrent_from_torch", "recurrent_to_flax"]

# Flax's gates in our order: a kernel of x, and one of h, for each.
GATES = {"lstm": "ifgo", "gru": "rzn"}


def recurrent_from_torch(
    state_dict: Mapping[str, Any], *, layer: int = 0, reverse: bool = False
) -> Tree:
    """Parameters of `nn.elman`, `nn.lstm` or `nn.gru` from `torch.nn.RNN`, `LSTM` or `GRU`.

    Args:
      state_dict: arrays by torch's names, `weight_ih_l0` (gates * H, D) and so on, also those of a
        cell without `_l0`; anything that `numpy.asarray` takes, such as tensors on the CPU.
      layer: of a stack.
      reverse: the backward direction of a bidirectional layer.

    Returns:
      The parameter tree; which layer it is for shows in the shapes.

    Raises:
      ValueError: a weight is missing, or the shapes are of no such layer.
    """
    end = f"_l{layer}{'_reverse' if reverse else ''}"
    if f"weight_ih{end}" not in state_dict and "weight_ih" in state_dict:
        end = ""
    names = [f"{kind}_{side}{end}" for kind in ("weight", "bias") for side in ("ih", "hh")]
    missing = [name for name in names[:2] if name not in state_dict]
    if missing:
        raise ValueError(
            f"recurrent_from_torch: no {missing[0]!r} among {sorted(state_dict)}; expected the "
            "state_dict of a torch.nn.RNN, LSTM or GRU that has this layer and direction."
        )
    w, u, *biases = (jnp.asarray(state_dict[n]) for n in names if n in state_dict)
    gates, rest = divmod(u.shape[0], u.shape[1])
    if w.shape[0] != u.shape[0] or rest or gates not in (1, 3, 4):
        raise ValueError(
            f"recurrent_from_torch: weights of shapes {w.shape} and {u.shape}; expected (G H, D) "
            "and (G H, H) with G of 1, 3 or 4 gates."
        )
    params: Tree = {"kernel": w.T, "recurrent_kernel": u.T}
    if biases:
        of_x, of_h = biases
        if gates == 3:  # the candidate's second bias stands inside of the reset
            split = 2 * u.shape[1]
            params["recurrent_bias"] = of_h[split:]
            of_h = jnp.concatenate([of_h[:split], jnp.zeros_like(of_h[split:])])
        params["bias"] = of_x + of_h
    return params


def recurrent_from_flax(params: Mapping[str, Any]) -> Tree:
    """Parameters of `nn.elman`, `nn.lstm` or `nn.gru` from a Linen cell's.

    Args:
      params: of `SimpleCell`, `LSTMCell`, `OptimizedLSTMCell` or `GRUCell`.

    Returns:
      The parameter tree.

    Raises:
      ValueError: the names are no such cell's.
    """
    if set(params) == {"i", "h"}:
        return {
            "kernel": params["i"]["kernel"],
            "bias": params["i"]["bias"],
            "recurrent_kernel": params["h"]["kernel"],
        }
    for kind, gates in GATES.items():
        if set(params) == {f"{side}{gate}" for side in "ih" for gate in gates}:
            pack = lambda side, leaf, gates=gates: jnp.concatenate(  # noqa: E731
                [params[f"{side}{gate}"][leaf] for gate in gates], axis=-1
            )
            tree = {"kernel": pack("i", "kernel"), "recurrent_kernel": pack("h", "kernel")}
            if kind == "lstm":
                return tree | {"bias": pack("h", "bias")}
            return tree | {"bias": pack("i", "bias"), "recurrent_bias": params["hn"]["bias"]}
    raise ValueError(
        f"recurrent_from_flax: parts {sorted(params)}; expected those of SimpleCell, LSTMCell, "
        "OptimizedLSTMCell or GRUCell."
    )


def recurrent_to_flax(params: Tree) -> Tree:
    """The Linen cell's parameters from ours: the inverse of `recurrent_from_flax`.

    Args:
      params: of `nn.elman`, `nn.lstm` or `nn.gru` with biases.

    Returns:
      A tree for `SimpleCell`, `OptimizedLSTMCell` (also `LSTMCell`) or `GRUCell`.

    Raises:
      ValueError: the parameters are no such cell's.
    """
    try:
        w, u, b = (params[name] for name in ("kernel", "recurrent_kernel", "bias"))
        gates = u.shape[1] // u.shape[0]
        if gates == 1:
            return {"i": {"kernel": w, "bias": b}, "h": {"kernel": u}}
        kind = {4: "lstm", 3: "gru"}[gates]
        ws, us, bs = (jnp.split(leaf, gates, axis=-1) for leaf in (w, u, b))
        tree: Tree = {}
        for gate, w, u, b in zip(GATES[kind], ws, us, bs, strict=True):
            tree[f"i{gate}"], tree[f"h{gate}"] = {"kernel": w}, {"kernel": u}
            tree[f"{'h' if kind == 'lstm' else 'i'}{gate}"]["bias"] = b
        if kind == "gru":
            tree["hn"]["bias"] = params["recurrent_bias"]
        return tree
    except KeyError as missing:
        raise ValueError(
            f"recurrent_to_flax: no {missing} for parameters {sorted(params)}; expected those of "
            "nn.elman, nn.lstm or nn.gru, with biases."
        ) from missing
