"""Simple recurrent networks, by the source of their feedback, and the fused Elman network.

- `elman`: each unit reads the previous values of its layer (Elman 1990,
  doi:10.1207/s15516709cog1402_1). It has the fused implementation at the end of this file, which
  `unroll` runs by default; with `remat` or recurrent dropout it scans `elman_step`.
- `lateral`: as `elman`, without the unit's own previous value. Always a scan.
- `jordan`: each unit reads the previous output (Jordan 1986). Always a scan.

Shapes: N sequences of T steps with D features, H units, O outputs.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from jaxdl.core import Tree, named_key
from jaxdl.nn import _check
from jaxdl.nn.dense import affine
from jaxdl.nn.initializers import Initializer, initializer
from jaxdl.nn.recurrent.cell import Cell, make_cell, previous_states

__all__ = ["elman", "elman_step", "jordan", "jordan_step", "lateral", "lateral_step"]

Activation = Callable[[jax.Array], jax.Array]


def elman_step(
    params: Tree, h: jax.Array, x: jax.Array, *, activation: Activation = jnp.tanh
) -> tuple[jax.Array, jax.Array]:
    """Computes one step, h' = f(x W + h U + b); h' is also the output. Elman 1990.

    Args:
      params: `kernel` W (D, H), `recurrent_kernel` U (H, H) and optionally `bias` b (H,).
      h: (N, H), the carry.
      x: (N, D).
      activation: f, elementwise.

    Returns:
      `(h', h')`.
    """
    return _make_elman_recur(activation)(params, h, affine(x, params["kernel"], params.get("bias")))


def _make_elman_recur(activation):
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
    carry_init: str | Initializer = "zeros",
    learn_initial_carry: bool = False,
) -> Cell:
    """Makes the simple recurrent network: h_t = f(x_t W + h_{t-1} U + b), y_t = h_t.

    It has H (D + H + 1) parameters. Add a `dense` layer for outputs y_t = g(h_t V + c).

    Args:
      features: H, the number of units.
      activation: f, elementwise.
      use_bias: whether to add b.
      kernel_init, recurrent_init, bias_init: a name from `nn.INITIALIZERS`, or
        `(key, shape, dtype) -> array`.
      carry_init: initializer of a learned h_0.
      learn_initial_carry: whether h_0 is a parameter, `initial_h` (H,); otherwise it is 0.

    Returns:
      A `Cell` from (N, T, D) to (N, T, H).

    Raises:
      ValueError: `features` is not a positive integer; an initializer's name is unknown; at init,
        the input is not floating-point of shape (N, T, D).
    """
    _check.positive("elman", features=features)
    make_kernel, make_bias = initializer(kernel_init), initializer(bias_init)
    make_recurrent = initializer(recurrent_init)

    def make_params(key, width, dtype):
        key_of = functools.partial(named_key, key)
        params = {
            "kernel": make_kernel(key_of("kernel"), (width, features), dtype),
            "recurrent_kernel": make_recurrent(key_of("recurrent_kernel"), (features,) * 2, dtype),
        }
        if use_bias:
            params["bias"] = make_bias(key_of("bias"), (features,), dtype)
        return params

    return make_cell(
        "elman",
        {"h": features},
        make_params,
        _make_elman_recur(activation),
        fused=_make_fused_elman(activation),
        carry_init=carry_init,
        learn_initial_carry=learn_initial_carry,
        features=features,
        activation=activation,
    )


def lateral_step(
    params: Tree, h: jax.Array, x: jax.Array, *, activation: Activation = jnp.tanh
) -> tuple[jax.Array, jax.Array]:
    """Computes one step with feedback from the other units, h' = f(x W + h (U - diag U) + b).

    Args and returns as for `elman_step`; the diagonal of U is ignored.
    """
    z = affine(x, params["kernel"], params.get("bias"))
    return _make_lateral_recur(activation)(params, h, z)


def _make_lateral_recur(activation):
    elman_recur = _make_elman_recur(activation)

    def recur(params, h, z, drop=lambda h: h):
        # Masked in every step, so that an optimizer cannot give the diagonal an effect.
        kernel = params["recurrent_kernel"]
        off_diagonal = kernel * (1 - jnp.eye(len(kernel), dtype=kernel.dtype))
        return elman_recur({"recurrent_kernel": off_diagonal}, h, z, drop)

    return recur


def lateral(features: int, *, activation: Activation = jnp.tanh, use_bias: bool = True) -> Cell:
    """Makes a network whose units read the previous values of the other units, not their own.

    It has the parameters of `elman`; the H on the diagonal of `recurrent_kernel` have no effect.

    Args:
      features: H, the number of units.
      activation: f, elementwise.
      use_bias: whether to add b.

    Returns:
      A `Cell` from (N, T, D) to (N, T, H).

    Raises:
      ValueError: as `elman`.
    """
    _check.positive("lateral", features=features)
    init_elman = elman(features, use_bias=use_bias).init
    return make_cell(
        "lateral",
        {"h": features},
        lambda key, width, dtype: init_elman(key, jnp.zeros((1, 1, width), dtype))[0],
        _make_lateral_recur(activation),
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
    """Computes one step with output feedback, h = f(x W + y U + b), y' = g(h V + c). Jordan 1986.

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
    return _make_jordan_recur(activation, output_activation)(params, y, z)


def _make_jordan_recur(activation, output_activation):
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
    """Makes a network with output feedback: h_t = f(x_t W + y_{t-1} U + b), y_t = g(h_t V + c).

    It has H (D + O + 1) + O (H + 1) parameters. Jordan 1986.

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
        key_of = functools.partial(named_key, key)
        recurrent_key, shape = key_of("recurrent_kernel"), (outputs, features)
        return {
            "kernel": make_kernel(key_of("kernel"), (width, features), dtype),
            "recurrent_kernel": make_recurrent(recurrent_key, shape, dtype),
            "bias": jnp.zeros(features, dtype),
            "output_kernel": make_kernel(key_of("output_kernel"), (features, outputs), dtype),
            "output_bias": jnp.zeros(outputs, dtype),
        }

    return make_cell(
        "jordan",
        {"y": outputs},
        make_params,
        _make_jordan_recur(activation, output_activation),
        features=features,
        outputs=outputs,
        activation=activation,
        output_activation=output_activation,
    )


def _make_fused_elman(activation: Activation) -> Callable:
    """Returns `(params, h, x W (T, N, H), mask, *, reverse, unroll) -> (h, hs (T, N, H))`.

    The derivative is a separate scan, for the reasons given in `lstm._fused_lstm`. The slopes
    f'(a_t) are computed for all steps at once, and dU enters as one product over all steps, which
    reverse mode transposes to one product.
    """

    def forward(kernel, bias, h, z, mask, reverse, unroll):
        def step(h, inputs):
            z, mask = inputs
            a = z + (h @ kernel + bias)
            h = activation(a) if mask is None else jnp.where(mask, activation(a), h)
            # a is saved, because the slope of a general activation cannot be computed from h.
            return h, (h, a)

        return lax.scan(step, h, (z, mask), reverse=reverse, unroll=unroll)

    @functools.partial(jax.custom_jvp, nondiff_argnums=(5, 6))
    def run(kernel, bias, h, z, mask, reverse, unroll):
        h, (hs, _) = forward(kernel, bias, h, z, mask, reverse, unroll)
        return h, hs

    @run.defjvp
    def _(reverse, unroll, primals, tangents):
        kernel, bias, h, z, mask = primals
        dkernel, dbias, dh, dz, _ = tangents
        final, (hs, a) = forward(kernel, bias, h, z, mask, reverse, unroll)
        # One JVP with ones gives f'(a) of any elementwise f.
        slope = jax.jvp(activation, (a,), (jnp.ones_like(a),))[1]
        padded = None
        if mask is not None:  # a padded step passes dh on unchanged
            slope = jnp.where(mask, slope, 0)
            padded = 1 - mask.astype(slope.dtype)

        def step(dh, inputs):
            da, slope, padded = inputs
            new = (da + dh @ kernel) * slope
            dh = new if padded is None else new + dh * padded
            return dh, dh

        da = dz + dbias + affine(previous_states(h, hs, reverse), dkernel)
        return (final, hs), lax.scan(step, dh, (da, slope, padded), reverse=reverse, unroll=unroll)

    def run_steps(params, h, z, mask, *, reverse, unroll):
        kernel = params["recurrent_kernel"]
        bias = params.get("bias", jnp.zeros(kernel.shape[0], z.dtype))
        return run(kernel, bias, h, z, mask, reverse, unroll)

    return run_steps
