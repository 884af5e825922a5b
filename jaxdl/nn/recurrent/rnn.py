"""Simple recurrent networks, by where the feedback comes from (lecture row A22).

Feedback within a layer, from its own last values (Elman 1990, doi:10.1207/s15516709cog1402_1);
from the output (Jordan 1986); and from the other units of the layer, but not from the unit itself.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxdl.core import Tree, named_key
from jaxdl.nn import _check
from jaxdl.nn.dense import affine
from jaxdl.nn.initializers import Initializer, initializer
from jaxdl.nn.recurrent.cell import Cell, make_cell
from jaxdl.nn.recurrent.rnn_fused import fused_elman

__all__ = ["elman", "elman_step", "jordan", "jordan_step", "lateral", "lateral_step"]

Activation = Callable[[jax.Array], jax.Array]


def elman_step(
    params: Tree, h: jax.Array, x: jax.Array, *, activation: Activation = jnp.tanh
) -> tuple[jax.Array, jax.Array]:
    """h' = f(x W + h U + b), which is also the output. Elman 1990; lecture rows J01, J02.

    The deck prints s_3 = tanh(U x_t + W s_2); x_3 is meant.

    Args:
      params: `kernel` W (D, H), `recurrent_kernel` U (H, H) and, or not, `bias` b (H,).
      h: (N, H), the carry.
      x: (N, D).
      activation: f, elementwise.

    Returns:
      `(h', h')`.
    """
    return _elman(activation)(params, h, affine(x, params["kernel"], params.get("bias")))


def _elman(activation):
    def recur(params, h, z, drop=lambda h: h):
        h = activation(z + drop(h) @ params["recurrent_kernel"])
        return h, h

    return recur


def elman(
    features: int,
    *,
    activation: Activation = jnp.tanh,
    use_bias: bool = True,
    kernel_init: str | Initializer = "lecun_normal",
    recurrent_init: str | Initializer = "orthogonal",
    bias_init: str | Initializer = "zeros",
    initial: str | Initializer = "zeros",
    learn_initial: bool = False,
) -> Cell:
    """The simple recurrent network: h_t = f(x_t W + h_{t-1} U + b), y_t = h_t.

    H (D + H + 1) parameters. With a `dense` layer after it, it is y_t = g(h_t V + c) of the
    lectures. Rows A22, A23, J01-J04.

    Args:
      features: H, the number of units.
      activation: f, elementwise; tanh, as the lectures have it.
      use_bias: whether to add b.
      kernel_init, recurrent_init, bias_init: a name from `nn.INITIALIZERS`, or
        `(key, shape, dtype) -> array`.
      initial: initial values of a learned h_0.
      learn_initial: whether h_0 is a parameter, `initial_h` (H,), or 0.

    Returns:
      A `Cell` from (N, T, D) to (N, T, H).

    Raises:
      ValueError: `features` is no positive integer; an initializer's name is unknown; at init, the
        input is not (N, T, D) floating-point.
    """
    _check.positive("elman", features=features)
    make_kernel, make_bias = initializer(kernel_init), initializer(bias_init)
    make_recurrent = initializer(recurrent_init)

    def make_params(key, width, dtype):
        own = functools.partial(named_key, key)
        params = {
            "kernel": make_kernel(own("kernel"), (width, features), dtype),
            "recurrent_kernel": make_recurrent(own("recurrent_kernel"), (features,) * 2, dtype),
        }
        if use_bias:
            params["bias"] = make_bias(own("bias"), (features,), dtype)
        return params

    return make_cell(
        "elman",
        {"h": features},
        make_params,
        _elman(activation),
        fused=fused_elman(activation),
        initial=initial,
        learn_initial=learn_initial,
        features=features,
        activation=activation,
    )


def lateral_step(
    params: Tree, h: jax.Array, x: jax.Array, *, activation: Activation = jnp.tanh
) -> tuple[jax.Array, jax.Array]:
    """h' = f(x W + h (U - diag U) + b): feedback from the other units only. Lecture row A22.

    Args and returns as for `elman_step`; the diagonal of U is never read.
    """
    return _lateral(activation)(params, h, affine(x, params["kernel"], params.get("bias")))


def _lateral(activation):
    recur = _elman(activation)

    def without_diagonal(params, h, z, drop=lambda h: h):
        kernel = params["recurrent_kernel"]
        others = kernel * (1 - jnp.eye(len(kernel), dtype=kernel.dtype))
        return recur({"recurrent_kernel": others}, h, z, drop)

    return without_diagonal


def lateral(features: int, *, activation: Activation = jnp.tanh, use_bias: bool = True) -> Cell:
    """Intra-layer feedback: every unit sees the other units' last values, not its own.

    Parameters as `elman`'s, of which the H on the diagonal of `recurrent_kernel` have no effect.
    Lecture row A22.

    Args:
      features: H, the number of units.
      activation: f, elementwise.
      use_bias: whether to add b.

    Raises:
      ValueError: as `elman`.
    """
    _check.positive("lateral", features=features)
    make_params = elman(features, use_bias=use_bias).init
    return make_cell(
        "lateral",
        {"h": features},
        lambda key, width, dtype: make_params(key, jnp.zeros((1, 1, width), dtype))[0],
        _lateral(activation),
        features=features,
        activation=activation,
    )


def jordan_step(
    params: Tree,
    y: jax.Array,
    x: jax.Array,
    *,
    activation: Activation = jnp.tanh,
    output_activation: Activation = jnp.tanh,
) -> tuple[jax.Array, jax.Array]:
    """h = f(x W + y U + b), y' = g(h V + c): the output is fed back. Jordan 1986; row A22.

    Args:
      params: `kernel` W (D, H), `recurrent_kernel` U (O, H), `bias` b (H,), `output_kernel` V
        (H, O), `output_bias` c (O,).
      y: (N, O), the carry.
      x: (N, D).
      activation, output_activation: f and g, elementwise.

    Returns:
      `(y', y')`.
    """
    z = affine(x, params["kernel"], params["bias"])
    return _jordan(activation, output_activation)(params, y, z)


def _jordan(activation, output_activation):
    def recur(params, y, z, drop=lambda y: y):
        h = activation(z + drop(y) @ params["recurrent_kernel"])
        y = output_activation(affine(h, params["output_kernel"], params["output_bias"]))
        return y, y

    return recur


def jordan(
    features: int,
    outputs: int,
    *,
    activation: Activation = jnp.tanh,
    output_activation: Activation = jnp.tanh,
    kernel_init: str | Initializer = "lecun_normal",
    recurrent_init: str | Initializer = "lecun_normal",
) -> Cell:
    """Output feedback: h_t = f(x_t W + y_{t-1} U + b), y_t = g(h_t V + c).

    H (D + O + 1) + O (H + 1) parameters. Jordan 1986; lecture row A22.

    Args:
      features: H, the number of hidden units.
      outputs: O, the number of outputs.
      activation, output_activation: f and g, elementwise.
      kernel_init, recurrent_init: of W and V, and of U.

    Returns:
      A `Cell` from (N, T, D) to (N, T, O).

    Raises:
      ValueError: as `elman`.
    """
    _check.positive("jordan", features=features, outputs=outputs)
    make_kernel, make_recurrent = initializer(kernel_init), initializer(recurrent_init)

    def make_params(key, width, dtype):
        own = functools.partial(named_key, key)
        return {
            "kernel": make_kernel(own("kernel"), (width, features), dtype),
            "recurrent_kernel": make_recurrent(own("recurrent_kernel"), (outputs, features), dtype),
            "bias": jnp.zeros(features, dtype),
            "output_kernel": make_kernel(own("output_kernel"), (features, outputs), dtype),
            "output_bias": jnp.zeros(outputs, dtype),
        }

    return make_cell(
        "jordan",
        {"y": outputs},
        make_params,
        _jordan(activation, output_activation),
        features=features,
        outputs=outputs,
        activation=activation,
        output_activation=output_activation,
    )
