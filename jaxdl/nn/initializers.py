"""Initializers by name, from `jax.nn.initializers`, and data-dependent initialization (LSUV)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.nn import initializers

from jaxdl._precision import widen
from jaxdl.combine import serial
from jaxdl.core import Module, Tree, suggest
from jaxdl.tap import capture

__all__ = ["INITIALIZERS", "initializer", "lsuv"]

Initializer = Callable[..., Any]
"""`(key, shape, dtype) -> array`, as in `jax.nn.initializers`."""


def _orthogonal(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
    """Draws an orthogonal matrix."""
    # LAPACK has no QR factorization in half precision.
    wide = dtype if jnp.finfo(dtype).bits >= 32 else jnp.float32
    return initializers.orthogonal()(key, shape, wide).astype(dtype)


def _bilinear(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
    """Returns the kernel (*window, C, C) of a transposed convolution that interpolates linearly.

    Along an axis of window k it is 1 - |m - c| / f with c = (k - 1) / 2 and f = ceil(k / 2); each
    channel is interpolated alone. At stride f with padding "SAME", windows of 2 f (f even) and
    2 f - 1 (f odd) upsample by f. Long et al. 2015, arXiv 1411.4038, section 3.3.
    """
    *window, channels, features = shape
    if channels != features or not window:
        raise ValueError(
            f"bilinear: kernel {list(shape)}; expected (*window, C, C), since each channel is "
            f"interpolated alone. Pass features={channels} to conv_transpose."
        )
    kernel = np.eye(channels)
    for size in reversed(window):
        line = 1 - np.abs(np.arange(size) - (size - 1) / 2) / ((size + 1) // 2)
        kernel = np.multiply.outer(line, kernel)
    return jnp.asarray(kernel, dtype)


INITIALIZERS: dict[str, Initializer] = {
    "bilinear": _bilinear,
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
    """Returns the initializer of a name; a function `(key, shape, dtype) -> array` is unchanged.

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
    """Scales kernels until the output of every layer has variance 1: W <- W / sqrt(Var(y)).

    Layer-sequential unit variance, Mishkin and Matas 2016 (arXiv 1511.06422), alg. 1. Layers are
    scaled in the order of computation. The model runs a few times for each layer; the function
    cannot be called under `jax.jit`.

    Args:
      model: any `Module`. Its layers are the modules, at any depth, that have a `kernel`. A layer
        that is used again is scaled at its first use.
      params, state: the trees of `jaxdl.init`.
      *inputs: a batch of data, the inputs of `model.apply`.
      key: a PRNG key, to begin from orthonormal kernels as in the paper; None to begin from
        `params`.
      tol: the largest accepted distance of a variance from 1.
      max_iterations: the most scalings of a kernel; without biases one is enough.

    Returns:
      The parameters, with scaled kernels.

    Raises:
      ValueError: no module has a kernel; the output of a layer is constant, infinite or NaN, or its
        variance does not converge to 1.
    """
    whole, tree, states = serial(model=model), {"model": params}, {"model": state}
    paths = [path for path in capture(whole, tree, states, *inputs)[1] if "#" not in path]
    layers = [path for path in paths if _has_kernel(whole, tree, path.split("/"))]
    if not layers:
        raise ValueError(f"lsuv: no module in {model.kind} has a kernel; expected at least one.")
    for number, path in enumerate(layers):
        name, steps = path.removeprefix("model/"), path.split("/")
        if key is not None:
            own = jax.random.fold_in(key, number)
            tree = _change(
                whole, tree, steps, lambda k, own=own: _orthogonal(own, k.shape, k.dtype)
            )
        # One more than the scalings, to measure the result of the last one.
        for _ in range(max_iterations + 1):
            output = capture(whole, tree, states, *inputs, paths={path})[1][path]
            variance = float(jnp.var(widen(output)))
            if not (variance > 0 and math.isfinite(variance)):
                raise ValueError(
                    f"lsuv: the output of {name!r} has variance {variance}; expected finite values "
                    "that vary. Check the inputs, and the parameters of the layers before it."
                )
            if abs(variance - 1) <= tol:
                break
            tree = _change(whole, tree, steps, lambda k, v=variance: k / math.sqrt(v))
        else:
            raise ValueError(
                f"lsuv: the output of {name!r} has variance {variance:.3g} after {max_iterations} "
                f"scalings; expected 1 within {tol}. Reduce a large bias, or increase tol if it is "
                "too small for the dtype."
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
    """Replaces the kernel at a tap's path by `change(kernel)`."""
    if not steps:
        return params | {"kernel": change(params["kernel"])}
    step, *rest = steps
    if model.kind == "scan_layers":  # its leaves have a leading axis of copies
        copy = jax.tree.map(lambda leaf: leaf[int(step)], params)
        new = _change(model.children["block"], copy, rest, change)
        return jax.tree.map(lambda leaf, one: leaf.at[int(step)].set(one), params, new)
    return params | {step: _change(model.children[step], params[step], rest, change)}
