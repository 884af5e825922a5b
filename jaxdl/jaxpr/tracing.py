"""Tracing of functions to jaxprs, as they run or with standard primitives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from jaxdl.jaxpr.equations import ClosedJaxpr
from jaxdl.jaxpr.platform import select_platform


def make_jaxpr(f: Callable[..., Any], *args: Any) -> tuple[ClosedJaxpr, Any]:
    """Returns the jaxpr of `f(*args)` as it runs here, and the shapes of its output."""
    jaxpr, shape = _trace(f, *args)
    return select_platform(jaxpr, jax.default_backend()), shape


def make_standard_jaxpr(f: Callable[..., Any], *args: Any) -> tuple[ClosedJaxpr, Any]:
    """Returns the jaxpr of `f(*args)` for analysis, and the shapes of its output.

    Every layer appears as its main operation: a convolution as `conv_general_dilated`, though on a
    CPU some are computed as sums of products.
    """
    jaxpr, shape = _trace(f, *args)
    return select_platform(jaxpr, None), shape


def _trace(f: Callable[..., Any], *args: Any) -> tuple[ClosedJaxpr, Any]:
    # JAX caches by the function's identity, but what f closes over may have changed since.
    return jax.make_jaxpr(lambda *args: f(*args), return_shape=True)(*args)
