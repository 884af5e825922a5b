"""Initial values by name, from `jax.nn.initializers`, and by data (LSUV)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.nn import initializers

from jaxdl._precision import widen
from jaxdl.combine import serial
from jaxdl.core import Module, Tree, suggest
from jaxdl.tap import capture

__all__ = ["INITIALIZERS", "initializer", "lsuv"]

Initializer = Callable[..., Any]
"""`(key, shape, dtype) -> array`, as in `jax.nn.initializers`."""


def _orthogonal(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
    """Drawn in float32 at least, since LAPACK factorizes no halves, then rounded."""
    wide = dtype if jnp.finfo(dtype).bits >= 32 else jnp.float32
    return initializers.orthogonal()(key, shape, wide).astype(dtype)


INITIALIZERS: dict[str, Initializer] = {
    "zeros": initializers.zeros,
    "ones": initializers.ones,
    "normal": initializers.normal(),
    "truncated_normal": initializers.truncated_normal(),
    "uniform": initializers.uniform(),
    "glorot_normal": initializers.glorot_normal(),
    "glorot_uniform": initializers.glorot_uniform(),
    "he_normal": initializers.he_normal(),
    "he_uniform": initializers.he_uniform(),
    "lecun_normal": initializers.lecun_normal(),
    "lecun_uniform": initializers.lecun_uniform(),
    "orthogonal": _orthogonal,
}
"""Initializers by name."""


def initializer(spec: str | Initializer) -> Initializer:
    """An initializer by its name, or one `(key, shape, dtype) -> array` as it is.

    Raises:
      ValueError: the name is unknown, or `spec` is neither a name nor a function.
    """
    if callable(spec):
        return spec
    if not isinstance(spec, str) or spec not in INITIALIZERS:
        raise ValueError(
            f"no initializer {spec!r}; {suggest(str(spec), INITIALIZERS, 'initializers')}"
        )
    return INITIALIZERS[spec]


def lsuv(
    model: Module,
    params: Tree,
    state: Tree,
    *inputs: Any,
    key: jax.Array | None = None,
    tol: float = 0.1,
    max_iterations: int = 10,
) -> Tree:
    """Kernels scaled until the variance of every layer's output is 1: W <- W / sqrt(Var(y)).

    Layer-sequential unit variance, Mishkin and Matas 2016 (arXiv 1511.06422), alg. 1; lecture row
    D17. One layer after another in the order of computation, each upon the ones before it. It runs
    the model on real data a few times for each layer, and is not to be compiled.

    Args:
      model: any `Module`; its layers are the parts, at any depth, that hold a `kernel`. A layer
        that is used again is scaled at its first use.
      params, state: what `jaxdl.init` made.
      *inputs: a batch of data, as for `model.apply`.
      key: a PRNG key, to begin from orthonormal kernels as the paper does; None to keep `params`.
      tol: how far from 1 a variance may be.
      max_iterations: how often a kernel is scaled at most; without biases once is enough.

    Returns:
      The parameters, with other kernels.

    Raises:
      ValueError: no part holds a kernel; a layer's output is constant, infinite or NaN, or does not
        come to variance 1.
    """
    whole, tree, states = serial(model=model), {"model": params}, {"model": state}
    paths = [path for path in capture(whole, tree, states, *inputs)[1] if "#" not in path]
    layers = [path for path in paths if _has_kernel(whole, tree, path.split("/"))]
    if not layers:
        raise ValueError(f"lsuv: no part of {model.kind} holds a kernel; expected a layer's.")
    for number, path in enumerate(layers):
        name, steps = path.removeprefix("model/"), path.split("/")
        if key is not None:
            own = jax.random.fold_in(key, number)
            tree = _change(
                whole, tree, steps, lambda k, own=own: _orthogonal(own, k.shape, k.dtype)
            )
        for _ in range(max_iterations + 1):
            output = capture(whole, tree, states, *inputs, at={path})[1][path]
            variance = float(jnp.var(widen(output)))
            if not (variance > 0 and math.isfinite(variance)):
                raise ValueError(
                    f"lsuv: the output of {name!r} has variance {variance}; expected finite "
                    "values that vary: check the inputs and the parameters before that layer."
                )
            if abs(variance - 1) <= tol:
                break
            tree = _change(whole, tree, steps, lambda k, v=variance: k / math.sqrt(v))
        else:
            raise ValueError(
                f"lsuv: the output of {name!r} is at variance {variance:.3g} after "
                f"{max_iterations} scalings; expected 1 within {tol}: a large bias may be in the "
                "way, or tol be too small for the dtype."
            )
    return tree["model"]


def _has_kernel(model: Module, params: Tree, steps: list[str]) -> bool:
    for step in steps:
        if model.kind == "scan_layers":
            model = model.children["block"]
        elif step in model.children and step in params:
            model, params = model.children[step], params[step]
        else:
            return False
    return not model.children and "kernel" in params


def _change(model: Module, params: Tree, steps: list[str], change: Callable) -> Tree:
    """The parameters with `change(kernel)` in place of the kernel at a tap's path."""
    if not steps:
        return params | {"kernel": change(params["kernel"])}
    step, *rest = steps
    if model.kind == "scan_layers":  # its tree has the copies' leaves in one, along a leading axis
        copy = jax.tree.map(lambda leaf: leaf[int(step)], params)
        new = _change(model.children["block"], copy, rest, change)
        return jax.tree.map(lambda leaf, one: leaf.at[int(step)].set(one), params, new)
    return params | {step: _change(model.children[step], params[step], rest, change)}
