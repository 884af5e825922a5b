"""Conversion of recurrent weights between jaxdl, torch and Flax Linen.

The equations agree, the layouts differ: torch has the same gate order (i, f, g, o and r, z, n) with
transposed matrices and two biases; Flax has a kernel per gate.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from jaxdl.core import Tree

__all__ = ["recurrent_from_flax", "recurrent_from_torch", "recurrent_to_flax"]

GATES = {"lstm": "ifgo", "gru": "rzn"}
"""Flax's names of the gates in jaxdl's order. Each has a kernel `i` of x and a kernel `h` of h."""


def recurrent_from_torch(
    state_dict: Mapping[str, Any], *, layer: int = 0, reverse: bool = False
) -> Tree:
    """Converts weights of torch's `RNN`, `LSTM` or `GRU` to `nn.elman`, `nn.lstm` or `nn.gru`.

    Args:
      state_dict: arrays by torch's names, `weight_ih_l0` (gates * H, D) etc., or `weight_ih` of a
        single cell. Anything that `numpy.asarray` accepts, such as tensors on the CPU.
      layer: the number of the layer in a stack.
      reverse: take the backward direction of a bidirectional layer.

    Returns:
      The parameter tree. The shapes determine the kind of layer.

    Raises:
      ValueError: a weight is missing, or the shapes fit none of these layers.
    """
    suffix = f"_l{layer}{'_reverse' if reverse else ''}"
    if f"weight_ih{suffix}" not in state_dict and "weight_ih" in state_dict:
        suffix = ""
    names = [f"{kind}_{side}{suffix}" for kind in ("weight", "bias") for side in ("ih", "hh")]
    missing = [name for name in names[:2] if name not in state_dict]
    if missing:
        raise ValueError(
            f"recurrent_from_torch: no {missing[0]!r} among {sorted(state_dict)}. Pass the "
            "state_dict of a torch.nn.RNN, LSTM or GRU with this layer and direction."
        )
    w, u, *biases = (jnp.asarray(state_dict[n]) for n in names if n in state_dict)
    gates, remainder = divmod(u.shape[0], u.shape[1])
    if w.shape[0] != u.shape[0] or remainder or gates not in (1, 3, 4):
        raise ValueError(
            f"recurrent_from_torch: got weights of shapes {w.shape} and {u.shape}, expected "
            "(G H, D) and (G H, H) with G = 1, 3 or 4 gates."
        )
    params: Tree = {"kernel": w.T, "recurrent_kernel": u.T}
    if biases:
        input_bias, hidden_bias = biases
        # torch adds two biases, which sum to one, except in the candidate of a GRU: there the reset
        # gate multiplies the second.
        if gates == 3:
            split = 2 * u.shape[1]
            params["recurrent_bias"] = hidden_bias[split:]
            zeros = jnp.zeros_like(hidden_bias[split:])
            hidden_bias = jnp.concatenate([hidden_bias[:split], zeros])
        params["bias"] = input_bias + hidden_bias
    return params


def recurrent_from_flax(params: Mapping[str, Any]) -> Tree:
    """Converts the parameters of a Linen cell to `nn.elman`, `nn.lstm` or `nn.gru`.

    Args:
      params: the parameters of `SimpleCell`, `LSTMCell`, `OptimizedLSTMCell` or `GRUCell`.

    Returns:
      The parameter tree.

    Raises:
      ValueError: the names are not those of one of these cells.
    """
    if set(params) == {"i", "h"}:
        return {
            "kernel": params["i"]["kernel"],
            "bias": params["i"]["bias"],
            "recurrent_kernel": params["h"]["kernel"],
        }
    for kind, gates in GATES.items():
        if set(params) == {f"{side}{gate}" for side in "ih" for gate in gates}:
            tree = {
                "kernel": _pack_gates(params, "i", gates, "kernel"),
                "recurrent_kernel": _pack_gates(params, "h", gates, "kernel"),
            }
            if kind == "lstm":
                return tree | {"bias": _pack_gates(params, "h", gates, "bias")}
            bias = _pack_gates(params, "i", gates, "bias")
            return tree | {"bias": bias, "recurrent_bias": params["hn"]["bias"]}
    raise ValueError(
        f"recurrent_from_flax: got parameters {sorted(params)}, expected those of SimpleCell, "
        "LSTMCell, OptimizedLSTMCell or GRUCell."
    )


def _pack_gates(params: Mapping[str, Any], side: str, gates: str, leaf: str) -> Any:
    """Concatenates one leaf of all gates along the last axis."""
    return jnp.concatenate([params[f"{side}{gate}"][leaf] for gate in gates], axis=-1)


def recurrent_to_flax(params: Tree) -> Tree:
    """Converts parameters to those of a Linen cell, the inverse of `recurrent_from_flax`.

    Args:
      params: the parameters of `nn.elman`, `nn.lstm` or `nn.gru` with biases.

    Returns:
      A tree for `SimpleCell`, `OptimizedLSTMCell` (also `LSTMCell`) or `GRUCell`.

    Raises:
      ValueError: the parameters are not those of one of these cells.
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
            # Flax has the biases of an LSTM in its h kernels, those of a GRU in i and hn.
            tree[f"{'h' if kind == 'lstm' else 'i'}{gate}"]["bias"] = b
        if kind == "gru":
            tree["hn"]["bias"] = params["recurrent_bias"]
        return tree
    except KeyError as missing:
        raise ValueError(
            f"recurrent_to_flax: no {missing} among {sorted(params)}, expected the parameters of "
            "nn.elman, nn.lstm or nn.gru with biases."
        ) from missing
