"""Tracing of functions to jaxprs, as they run or with standard primitives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from jaxdl.jaxpr.equations import ClosedJaxpr

standard_primitives = jax.make_user_context(default_value=False)
"""A flag: layers trace to standard primitives instead of forms that are fast on this backend.

A context of JAX, so that the caches of `jit` keep both forms apart.
"""


def make_jaxpr(f: Callable[..., Any], *args: Any) -> tuple[ClosedJaxpr, Any]:
    """Returns the jaxpr of `f(*args)` as it runs, and the shapes of its output."""
    # JAX caches by the function's identity, but what f closes over may have changed since.
    return jax.make_jaxpr(lambda *args: f(*args), return_shape=True)(*args)


def make_standard_jaxpr(f: Callable[..., Any], *args: Any) -> tuple[ClosedJaxpr, Any]:
    """Returns the jaxpr of `f(*args)` for analysis, and the shapes of its output.

    Every layer appears as its main operation: a convolution as `conv_general_dilated`, though on a
    CPU some are computed as sums of products.
    """
    with standard_primitives(True):
        return make_jaxpr(f, *args)
