"""Long short-term memory and two variants, and the fused LSTM.

- `lstm`: Hochreiter and Schmidhuber 1997 (doi:10.1162/neco.1997.9.8.1735), with the forget gate of
  Gers, Schmidhuber and Cummins 2000 (doi:10.1162/089976600300015015). With the tanh activation,
  `unroll` runs the fused implementation, `_fused_lstm`, by default; with `remat`, recurrent dropout
  or another activation it scans `lstm_step`. cuDNN runs only on request.
- `coupled_lstm`: one gate for input and forgetting (Greff et al. 2017, arXiv 1503.04069). Always a
  scan.
- `peephole_lstm`: gates that read the cell state (Gers and Schmidhuber 2000,
  doi:10.1109/IJCNN.2000.861302). Always a scan.

Products of gates are elementwise. Shapes: N sequences of T steps with D features, H units.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxdl.core import Tree, named_key
from jaxdl.nn import _check
from jaxdl.nn.dense import affine
from jaxdl.nn.initializers import Initializer, initializer
from jaxdl.nn.recurrent.cell import Cell, init_gate_kernels, make_cell, previous_states
from jaxdl.nn.recurrent.cudnn import cudnn_lstm

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
    """Computes one step. With [z_i, z_f, z_g, z_o] = x W + h U + b::

        c' = sigmoid(z_f) c + sigmoid(z_i) act(z_g)        h' = sigmoid(z_o) act(c')

    Args:
      params: `kernel` W (D, 4H), `recurrent_kernel` U (H, 4H), `bias` b (4H,).
      carry: `(h, c)`, each (N, H).
      x: (N, D).
      activation: act, of the cell's input and output, elementwise.

    Returns:
      `((h', c'), h')`.
    """
    return _make_lstm_recur(activation)(params, carry, affine(x, params["kernel"], params["bias"]))


def _make_lstm_recur(activation):
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
    carry_init: str | Initializer = "zeros",
    learn_initial_carry: bool = False,
) -> Cell:
    """Makes a long short-term memory; see `lstm_step` for the equations.

    It has 4 H (D + H + 1) parameters.

    Args:
      features: H, the number of units.
      activation: of the cell's input and output. With another than tanh only the scan runs.
      forget_bias: added to the initial bias of the forget gate. With 1 the cell remembers from the
        start of training (Jozefowicz, Zaremba and Sutskever 2015).
      kernel_init, recurrent_init, bias_init: a name from `nn.INITIALIZERS`, or
        `(key, shape, dtype) -> array`. `recurrent_init` initializes each gate's (H, H) separately.
      carry_init: initializer of a learned initial carry.
      learn_initial_carry: whether h_0 and c_0 are parameters, `initial_h` and `initial_c` (H,);
        otherwise they are 0.

    Returns:
      A `Cell` from (N, T, D) to (N, T, H), with carry `(h, c)` and gates in the order i, f, g, o.

    Raises:
      ValueError: `features` is not a positive integer; an initializer's name is unknown; at init,
        the input is not floating-point of shape (N, T, D).
    """
    tanh = activation is jnp.tanh  # built into the fused implementation and cuDNN
    # The gate order of torch and cuDNN, so that their weights need no reordering.
    make_params = _make_gate_params(
        "lstm", features, "ifgo", forget_bias, kernel_init, recurrent_init, bias_init
    )
    return make_cell(
        "lstm",
        {"h": features, "c": features},
        make_params,
        _make_lstm_recur(activation),
        fused=_fused_lstm if tanh else None,
        cudnn=cudnn_lstm if tanh else None,
        carry_init=carry_init,
        learn_initial_carry=learn_initial_carry,
        features=features,
    )


def _make_gate_params(kind, features, gates, forget_bias, kernel_init, recurrent_init, bias_init):
    _check.positive(kind, features=features)
    make_kernel, make_bias = initializer(kernel_init), initializer(bias_init)
    make_recurrent = initializer(recurrent_init)

    def make_params(key, width, dtype):
        key_of = functools.partial(named_key, key)
        columns = len(gates) * features
        square = (features, features)
        forget = np.repeat([forget_bias * (gate == "f") for gate in gates], features)
        return {
            "kernel": make_kernel(key_of("kernel"), (width, columns), dtype),
            "recurrent_kernel": init_gate_kernels(
                make_recurrent, key_of("recurrent_kernel"), square, len(gates), dtype
            ),
            "bias": make_bias(key_of("bias"), (columns,), dtype) + forget.astype(dtype),
        }

    return make_params


def _fused_lstm(params, carry, z, mask, *, reverse, unroll):
    """Runs all steps: `(params, (h, c), x W (T, N, 4H), mask) -> ((h, c), hs (T, N, H))`.

    Autodiff of a scanned step is slow on a CPU for two reasons: it adds up the gradient of the
    recurrent kernel U at every step, an (H, 4H) array each time, and it computes the slopes of the
    four gates, each from a slice, inside the loop. Here

    - one tanh over all four gates replaces three sigmoids and a tanh:
      sigmoid(a) = (1 + tanh(a/2)) / 2;
    - the bias is added inside the loop, where it is free; before it, it is a pass over (T, N, 4H);
    - the tangent is a separate linear scan. With a_t = z_t + b + h_{t-1} U::

          da_t = dz_t + db + h_{t-1} dU + dh_{t-1} U   u_t = K_t da_t
          dc_t = f_t dc_{t-1} + u_i + u_f + u_g        dh_t = q_t dc_t + u_o

      The slopes K = [g i(1-i), c_{t-1} f(1-f), i(1-g^2), tanh(c) o(1-o)], q = o (1 - tanh(c)^2) and
      h_{t-1} dU are computed for all steps at once, before the loop.

    Reverse mode transposes this scan: the gradient of U becomes one product of all h_{t-1} with all
    da_t after the loop. The rule is a `custom_jvp`, because a `custom_vjp` would rule out forward
    mode and with it second derivatives by forward over reverse.
    """
    kernel, bias = params["recurrent_kernel"], params["bias"]
    return _fused_steps(kernel, bias, carry, z, mask, reverse, unroll)


def _fused_forward(kernel, bias, carry, z, mask, reverse, unroll):
    """Returns the final carry, and h, c and the gates' values (T, N, 4H) of every step."""
    width = kernel.shape[0]
    # sigmoid(a) = tanh(a / 2) / 2 + 1 / 2 for the gates i, f and o; g = tanh(a).
    scale = np.repeat(np.array([0.5, 0.5, 1.0, 0.5]), width).astype(z.dtype)
    shift = (1 - scale).astype(z.dtype)
    # Scaled once, outside of the loop. z is scaled inside, because before it that is another pass
    # over (T, N, 4H).
    kernel = kernel * scale
    bias = bias * scale

    def step(carry, inputs):
        (h, c), (z, mask) = carry, inputs
        gates = jnp.tanh(z * scale + (h @ kernel + bias)) * scale + shift
        i, f, g, o = jnp.split(gates, 4, axis=-1)
        new_c = f * c + i * g
        new_h = o * jnp.tanh(new_c)
        if mask is not None:
            new_h, new_c = jnp.where(mask, new_h, h), jnp.where(mask, new_c, c)
        return (new_h, new_c), (new_h, new_c, gates)

    return lax.scan(step, carry, (z, mask), reverse=reverse, unroll=unroll)


@functools.partial(jax.custom_jvp, nondiff_argnums=(5, 6))
def _fused_steps(kernel, bias, carry, z, mask, reverse, unroll):
    carry, (hs, _, _) = _fused_forward(kernel, bias, carry, z, mask, reverse, unroll)
    return carry, hs


@_fused_steps.defjvp
def _(reverse, unroll, primals, tangents):
    kernel, bias, (h, c), z, mask = primals
    dkernel, dbias, dcarry, dz, _ = tangents
    final, (hs, cs, gates) = _fused_forward(kernel, bias, (h, c), z, mask, reverse, unroll)
    i, f, g, o = jnp.split(gates, 4, axis=-1)
    # All that is nonlinear is computed here. The scan below is linear in the tangents, so that JAX
    # can transpose it without saving anything inside the loop.
    tanh_c = jnp.tanh(cs)
    slopes = [
        g * i * (1 - i),
        previous_states(c, cs, reverse) * f * (1 - f),
        i * (1 - g * g),
        tanh_c * o * (1 - o),
    ]
    slopes, q, padded = jnp.concatenate(slopes, axis=-1), o * (1 - tanh_c * tanh_c), None
    if mask is not None:  # a padded step passes dh and dc on unchanged
        slopes, q, f = jnp.where(mask, slopes, 0), jnp.where(mask, q, 0), jnp.where(mask, f, 1)
        padded = 1 - mask.astype(q.dtype)

    def step(dcarry, inputs):
        (dh, dc), (da, slopes, q, f, padded) = dcarry, inputs
        ui, uf, ug, uo = jnp.split((da + dh @ kernel) * slopes, 4, axis=-1)
        dc = f * dc + (ui + uf + ug)
        new = q * dc + uo
        dh = new if padded is None else new + dh * padded
        return (dh, dc), dh

    da = dz + dbias + affine(previous_states(h, hs, reverse), dkernel)
    inputs = (da, slopes, q, f, padded)
    return (final, hs), lax.scan(step, dcarry, inputs, reverse=reverse, unroll=unroll)


def coupled_lstm_step(params: Tree, carry: Carry, x: jax.Array) -> tuple[Carry, jax.Array]:
    """Computes one step with the input gate 1 - f. With [z_f, z_g, z_o] = x W + h U + b::

        c' = sigmoid(z_f) c + (1 - sigmoid(z_f)) tanh(z_g)        h' = sigmoid(z_o) tanh(c')

    Args:
      params: `kernel` W (D, 3H), `recurrent_kernel` U (H, 3H), `bias` b (3H,).
      carry: `(h, c)`, each (N, H).
      x: (N, D).

    Returns:
      `((h', c'), h')`.
    """
    return _recur_coupled(params, carry, affine(x, params["kernel"], params["bias"]))


def _recur_coupled(params, carry, z, drop=lambda h: h):
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
    carry_init: str | Initializer = "zeros",
    learn_initial_carry: bool = False,
) -> Cell:
    """Makes an LSTM whose input gate is 1 minus its forget gate; see `coupled_lstm_step`.

    It has 3 H (D + H + 1) parameters. Arguments and errors are those of `lstm`.

    Returns:
      A `Cell` from (N, T, D) to (N, T, H), with carry `(h, c)` and gates in the order f, g, o.
    """
    make_params = _make_gate_params(
        "coupled_lstm", features, "fgo", forget_bias, kernel_init, recurrent_init, bias_init
    )
    return make_cell(
        "coupled_lstm",
        {"h": features, "c": features},
        make_params,
        _recur_coupled,
        carry_init=carry_init,
        learn_initial_carry=learn_initial_carry,
        features=features,
    )


def peephole_lstm_step(params: Tree, carry: Carry, x: jax.Array) -> tuple[Carry, jax.Array]:
    """Computes one step with peepholes. With [z_i, z_f, z_g, z_o] = x W + h U + b::

        i = sigmoid(z_i + c P_i)    f = sigmoid(z_f + c P_f)    c' = f c + i tanh(z_g)
        o = sigmoid(z_o + c' P_o)   h' = o tanh(c')

    The output gate reads the new cell state. P is diagonal in Gers and Schmidhuber 2000, one weight
    per unit; some texts write a full matrix.

    Args:
      params: those of `lstm_step`, and any of `peephole_i`, `peephole_f`, `peephole_o`, each (H,)
        for a diagonal P or (H, H). A gate without one does not read the cell state.
      carry: `(h, c)`, each (N, H).
      x: (N, D).

    Returns:
      `((h', c'), h')`.
    """
    return _recur_peephole(params, carry, affine(x, params["kernel"], params["bias"]))


def _recur_peephole(params, carry, z, drop=lambda h: h):
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
    carry_init: str | Initializer = "zeros",
    learn_initial_carry: bool = False,
) -> Cell:
    """Makes an LSTM whose gates also read the cell state; see `peephole_lstm_step`.

    It has the parameters of `lstm`, and H (diagonal) or H^2 (full) for each gate with peepholes.

    Args:
      features: H, the number of units.
      peepholes: "diagonal", as in Gers and Schmidhuber 2000, or "full".
      gates: the gates with peepholes, of "i", "f" and "o".
      peephole_init: as `kernel_init`, for shape (H,) or (H, H).
      forget_bias, kernel_init, recurrent_init, bias_init: as for `lstm`.
      carry_init, learn_initial_carry: as for `lstm`.

    Returns:
      A `Cell` from (N, T, D) to (N, T, H), with carry `(h, c)`.

    Raises:
      ValueError: as `lstm`; `peepholes` or a gate is unknown.
    """
    if peepholes not in ("diagonal", "full") or not set(gates) <= {"i", "f", "o"}:
        raise ValueError(
            f"peephole_lstm: got peepholes={peepholes!r} and gates={gates!r}, expected 'diagonal' "
            "or 'full', and gates of 'i', 'f' and 'o'."
        )
    make_lstm_params = _make_gate_params(
        "peephole_lstm", features, "ifgo", forget_bias, kernel_init, recurrent_init, bias_init
    )
    make_peephole = initializer(peephole_init)
    shape = (features,) if peepholes == "diagonal" else (features, features)

    def make_params(key, width, dtype):
        names = [f"peephole_{gate}" for gate in gates]
        return make_lstm_params(key, width, dtype) | {
            name: make_peephole(named_key(key, name), shape, dtype) for name in names
        }

    return make_cell(
        "peephole_lstm",
        {"h": features, "c": features},
        make_params,
        _recur_peephole,
        carry_init=carry_init,
        learn_initial_carry=learn_initial_carry,
        features=features,
        peepholes=peepholes,
        gates=tuple(gates),
    )
