"""Long short-term memory: a cell c that is added to, and gates that say when.

Hochreiter and Schmidhuber 1997 (doi:10.1162/neco.1997.9.8.1735), with the forget gate of Gers,
Schmidhuber and Cummins 2000 (doi:10.1162/089976600300015015); peepholes of Gers and Schmidhuber
2000 (doi:10.1109/IJCNN.2000.861302); coupled gates of Greff et al. 2017 (arXiv 1503.04069). Lecture
rows J08-J13, J16. Products of gates are element by element (the deck calls them dot products).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.core import Tree, named_key
from jaxdl.nn import _check
from jaxdl.nn.dense import affine
from jaxdl.nn.initializers import Initializer, initializer
from jaxdl.nn.recurrent.cell import Cell, gate_kernels, make_cell
from jaxdl.nn.recurrent.cudnn import cudnn_lstm
from jaxdl.nn.recurrent.lstm_fused import fused_lstm

__all__ = [
    "coupled_lstm",
    "coupled_lstm_step",
    "lstm",
    "lstm_step",
    "peephole_lstm",
    "peephole_lstm_step",
]

Activation = Callable[[jax.Array], jax.Array]
Carry = tuple[jax.Array, jax.Array]


def lstm_step(
    params: Tree, carry: Carry, x: jax.Array, *, activation: Activation = jnp.tanh
) -> tuple[Carry, jax.Array]:
    """One step; with [z_i, z_f, z_g, z_o] = x W + h U + b::

        c' = sigmoid(z_f) c + sigmoid(z_i) act(z_g)        h' = sigmoid(z_o) act(c')

    Lecture rows J08 (the notes' g and h are `activation`), J09, J10.

    Args:
      params: `kernel` W (D, 4H), `recurrent_kernel` U (H, 4H), `bias` b (4H,).
      carry: `(h, c)`, each (N, H).
      x: (N, D).
      activation: of the input and of the output, elementwise.

    Returns:
      `((h', c'), h')`.
    """
    return _lstm(activation)(params, carry, affine(x, params["kernel"], params["bias"]))


def _lstm(activation):
    def recur(params, carry, z, drop=lambda h: h):
        h, c = carry
        i, f, g, o = jnp.split(z + drop(h) @ params["recurrent_kernel"], 4, axis=-1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * activation(g)
        h = jax.nn.sigmoid(o) * activation(c)
        return (h, c), h

    return recur


def lstm(
    features: int,
    *,
    activation: Activation = jnp.tanh,
    forget_bias: float = 1.0,
    kernel_init: str | Initializer = "lecun_normal",
    recurrent_init: str | Initializer = "orthogonal",
    bias_init: str | Initializer = "zeros",
    initial: str | Initializer = "zeros",
    learn_initial: bool = False,
) -> Cell:
    """Long short-term memory; see `lstm_step` for the equations.

    4 H (D + H + 1) parameters. Lecture row J09: (D, H) = (3, 4) has 128.

    Args:
      features: H, the number of units.
      activation: of the input and of the output; with another than tanh there is no fused form.
      forget_bias: added to the forget gate's initial bias; at 1 the memory lasts from the start
        (Jozefowicz, Zaremba and Sutskever 2015).
      kernel_init, recurrent_init, bias_init: a name from `nn.INITIALIZERS`, or
        `(key, shape, dtype) -> array`; the recurrent one draws each gate's (H, H) by itself.
      initial: initial values of a learned carry.
      learn_initial: whether h_0 and c_0 are parameters, `initial_h` and `initial_c` (H,), or 0.

    Returns:
      A `Cell` from (N, T, D) to (N, T, H), with carry `(h, c)` and gates in the order i, f, g, o.

    Raises:
      ValueError: `features` is no positive integer; an initializer's name is unknown; at init, the
        input is not (N, T, D) floating-point.
    """
    tanh = activation is jnp.tanh
    return make_cell(
        "lstm",
        {"h": features, "c": features},
        _params("lstm", features, "ifgo", forget_bias, kernel_init, recurrent_init, bias_init),
        _lstm(activation),
        fused=fused_lstm if tanh else None,
        cudnn=cudnn_lstm if tanh else None,
        initial=initial,
        learn_initial=learn_initial,
        features=features,
    )


def _params(kind, features, gates, forget_bias, kernel_init, recurrent_init, bias_init):
    _check.positive(kind, features=features)
    make_kernel, make_bias = initializer(kernel_init), initializer(bias_init)
    make_recurrent = initializer(recurrent_init)

    def make(key, width, dtype):
        own = functools.partial(named_key, key)
        columns = len(gates) * features
        square = (features, features)
        forget = np.repeat([forget_bias * (gate == "f") for gate in gates], features)
        return {
            "kernel": make_kernel(own("kernel"), (width, columns), dtype),
            "recurrent_kernel": gate_kernels(
                make_recurrent, own("recurrent_kernel"), square, len(gates), dtype
            ),
            "bias": make_bias(own("bias"), (columns,), dtype) + forget.astype(dtype),
        }

    return make


def coupled_lstm_step(params: Tree, carry: Carry, x: jax.Array) -> tuple[Carry, jax.Array]:
    """One step with the input gate 1 - f; with [z_f, z_g, z_o] = x W + h U + b::

        c' = sigmoid(z_f) c + (1 - sigmoid(z_f)) tanh(z_g)        h' = sigmoid(z_o) tanh(c')

    Lecture row J13.

    Args:
      params: `kernel` W (D, 3H), `recurrent_kernel` U (H, 3H), `bias` b (3H,).
      carry: `(h, c)`, each (N, H).
      x: (N, D).

    Returns:
      `((h', c'), h')`.
    """
    return _coupled(params, carry, affine(x, params["kernel"], params["bias"]))


def _coupled(params, carry, z, drop=lambda h: h):
    h, c = carry
    f, g, o = jnp.split(z + drop(h) @ params["recurrent_kernel"], 3, axis=-1)
    f = jax.nn.sigmoid(f)
    c = f * c + (1 - f) * jnp.tanh(g)
    h = jax.nn.sigmoid(o) * jnp.tanh(c)
    return (h, c), h


def coupled_lstm(
    features: int,
    *,
    forget_bias: float = 1.0,
    kernel_init: str | Initializer = "lecun_normal",
    recurrent_init: str | Initializer = "orthogonal",
    bias_init: str | Initializer = "zeros",
    initial: str | Initializer = "zeros",
    learn_initial: bool = False,
) -> Cell:
    """The LSTM that writes only where it forgets; see `coupled_lstm_step`.

    3 H (D + H + 1) parameters. Lecture row J13: (D, H) = (3, 4) has 96.

    Args and raises as `lstm`.

    Returns:
      A `Cell` from (N, T, D) to (N, T, H), with carry `(h, c)` and gates in the order f, g, o.
    """
    return make_cell(
        "coupled_lstm",
        {"h": features, "c": features},
        _params(
            "coupled_lstm", features, "fgo", forget_bias, kernel_init, recurrent_init, bias_init
        ),
        _coupled,
        initial=initial,
        learn_initial=learn_initial,
        features=features,
    )


def peephole_lstm_step(params: Tree, carry: Carry, x: jax.Array) -> tuple[Carry, jax.Array]:
    """One step of an LSTM whose gates see the cell; with [z_i, z_f, z_g, z_o] = x W + h U + b::

        i = sigmoid(z_i + c P_i)    f = sigmoid(z_f + c P_f)    c' = f c + i tanh(z_g)
        o = sigmoid(z_o + c' P_o)   h' = o tanh(c')

    Gers and Schmidhuber 2000 have a weight for each cell (P diagonal); the deck writes the whole
    matrix. The output gate sees the new cell. Lecture rows J11, J12.

    Args:
      params: those of `lstm_step`, and any of `peephole_i`, `peephole_f`, `peephole_o`, each (H,)
        for a diagonal P or (H, H); a gate without one sees no cell.
      carry: `(h, c)`, each (N, H).
      x: (N, D).

    Returns:
      `((h', c'), h')`.
    """
    return _peephole(params, carry, affine(x, params["kernel"], params["bias"]))


def _peephole(params, carry, z, drop=lambda h: h):
    h, c = carry
    i, f, g, o = jnp.split(z + drop(h) @ params["recurrent_kernel"], 4, axis=-1)

    def gate(name, z, c):
        weights = params.get(f"peephole_{name}")
        if weights is not None:
            z = z + (c * weights if weights.ndim == 1 else c @ weights)
        return jax.nn.sigmoid(z)

    new = gate("f", f, c) * c + gate("i", i, c) * jnp.tanh(g)
    h = gate("o", o, new) * jnp.tanh(new)
    return (h, new), h


def peephole_lstm(
    features: int,
    *,
    peepholes: Literal["diagonal", "full"] = "diagonal",
    gates: Collection[str] = ("i", "f", "o"),
    forget_bias: float = 1.0,
    kernel_init: str | Initializer = "lecun_normal",
    recurrent_init: str | Initializer = "orthogonal",
    bias_init: str | Initializer = "zeros",
    peephole_init: str | Initializer = "zeros",
    initial: str | Initializer = "zeros",
    learn_initial: bool = False,
) -> Cell:
    """The LSTM with peepholes; see `peephole_lstm_step`.

    `lstm`'s parameters and H (diagonal) or H^2 (full) for each gate that sees the cell. Lecture row
    J12: (D, H) = (3, 4) has 140 with diagonal peepholes, 176 with full ones.

    Args:
      features: H, the number of units.
      peepholes: "diagonal" as in the paper, or "full" as the deck writes it.
      gates: which gates see the cell, of "i", "f" and "o".
      peephole_init: as `kernel_init`, for shape (H,) or (H, H).
      forget_bias, kernel_init, recurrent_init, bias_init: as for `lstm`.
      initial, learn_initial: as for `lstm`.

    Returns:
      A `Cell` from (N, T, D) to (N, T, H), with carry `(h, c)`.

    Raises:
      ValueError: as `lstm`; `peepholes` is another word, or a gate another letter.
    """
    if peepholes not in ("diagonal", "full") or not set(gates) <= {"i", "f", "o"}:
        raise ValueError(
            f"peephole_lstm: peepholes={peepholes!r}, gates={gates!r}; expected 'diagonal' or "
            "'full', and gates of 'i', 'f' and 'o'."
        )
    make = _params(
        "peephole_lstm", features, "ifgo", forget_bias, kernel_init, recurrent_init, bias_init
    )
    make_peephole = initializer(peephole_init)
    shape = (features,) if peepholes == "diagonal" else (features, features)

    def make_params(key, width, dtype):
        names = [f"peephole_{gate}" for gate in gates]
        return make(key, width, dtype) | {
            name: make_peephole(named_key(key, name), shape, dtype) for name in names
        }

    return make_cell(
        "peephole_lstm",
        {"h": features, "c": features},
        make_params,
        _peephole,
        initial=initial,
        learn_initial=learn_initial,
        features=features,
        peepholes=peepholes,
        gates=tuple(gates),
    )
