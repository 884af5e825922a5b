"""The convolution of a program in the form that is fast on a CPU."""

from __future__ import annotations

from typing import Any

import jax

from jaxdl.jaxpr.primitives import readers
from jaxdl.nn.conv_cpu import Pairs, convolution_on_cpu, is_fast_on_cpu, is_fastest, numbers


def convolve(
    equation: Any, x: jax.Array, kernel: jax.Array, pads: Pairs | None = None
) -> jax.Array | None:
    """Computes the convolution of an equation by `convolution_on_cpu` if it applies, else None.

    Args:
      equation: of `lax.conv_general_dilated`.
      x, kernel: its operands, in its dtypes or wider ones.
      pads: zeros before and after, for each spatial axis; None for those of the equation.
    """
    p = readers().convolution(equation)
    pads = tuple(p.padding) if pads is None else pads
    applies = (
        is_fastest()
        and p.dimension_numbers == numbers(len(p.strides))
        and all(i == 1 for i in (*p.lhs_dilation, *p.rhs_dilation))
        and min((n for pair in pads for n in pair), default=0) >= 0
        and p.batch_groups == 1
        and p.preferred_element_type in (None, equation.invars[0].aval.dtype)
        and is_fast_on_cpu(x, kernel, pads, p.strides, p.feature_groups)
    )
    return convolution_on_cpu(x, kernel, pads, tuple(p.strides)) if applies else None
