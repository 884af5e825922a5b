"""Mixed-precision training and loss scaling. Micikevicius et al. 2018 (arXiv 1710.03740).

The parameters stay in float32; each step computes the network and its gradient in a copy with fewer
bits. bfloat16 has the range of float32. In float16 gradients below 6e-8 become 0, so the loss is
multiplied by a scale S and the gradient divided by it. S adapts (sec. 3.2): it is halved when a
gradient overflows, in a step that is then skipped, and doubled after 2,000 steps without overflow.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxdl import tree

DTYPES = {"float32": None, "bfloat16": jnp.bfloat16, "float16": jnp.float16}
"""The compute dtype of each `precision`; None casts nothing."""
GROWTH = 2000
"""Steps without an overflow after which the scale is doubled."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LossScale:
    """The scale of the loss in float16, part of the `TrainState`.

    Attributes:
      value: () float32, S.
      steps: () int32, steps since S changed.
    """

    value: jax.Array
    steps: jax.Array

    def adjust(self, finite: jax.Array) -> LossScale:
        """Returns the scale after a step whose gradient was finite, or was not."""
        grown = self.steps + 1 >= GROWTH
        # 2^127 times 2 overflows float32; a scale below 1 would make gradients smaller.
        up = jnp.where(grown, jnp.minimum(self.value * 2, 2.0**126), self.value)
        value = jnp.where(finite, up, jnp.maximum(self.value / 2, 1.0))
        steps = jnp.where(finite & ~grown, self.steps + 1, 0)
        return LossScale(value, steps)


def first_scale(precision: str) -> LossScale | None:
    """Returns the initial scale: 2^15 for float16, None for the others."""
    if precision != "float16":
        return None
    return LossScale(jnp.float32(2.0**15), jnp.int32(0))


def cast_down(value: Any, precision: str) -> Any:
    """Casts the floating-point arrays of a tree to the dtype of a precision."""
    dtype = DTYPES[precision]
    return value if dtype is None else tree.cast(value, dtype)


def cast_back(value: Any, precision: str) -> Any:
    """Casts the floating-point arrays of a tree to float32 if `cast_down` had cast them."""
    return value if DTYPES[precision] is None else tree.cast(value, jnp.float32)
