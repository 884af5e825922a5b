"""Training with short floating-point numbers. Micikevicius et al. 2018 (arXiv 1710.03740).

The parameters stay in float32, the master weights; each step computes the network and its gradient
in a copy of fewer bits. bfloat16 has float32's range. float16 has not: gradients below 6e-8 vanish,
so the loss is multiplied by a scale S before the gradient and the gradient divided by it after,
and S follows what it finds (sec. 3.2): halved when a gradient overflows, in a step that is then
left out, and doubled after 2,000 steps without.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxdl import tree

DTYPES = {"float32": None, "bfloat16": jnp.bfloat16, "float16": jnp.float16}
"""`precision` and the dtype that a step computes in; None leaves everything as it is."""
GROWTH = 2000
"""Steps without an overflow after which the scale is doubled."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LossScale:
    """The scale of the loss, in a `TrainState` of float16.

    Attributes:
      value: () float32, S.
      steps: () int32, steps since S last changed.
    """

    value: jax.Array
    steps: jax.Array

    def adjust(self, finite: jax.Array) -> LossScale:
        """The scale after a step whose gradient was finite, or was not."""
        grown = self.steps + 1 >= GROWTH
        # Above 2^127 float32 itself ends; 1 is no scale at all.
        up = jnp.where(grown, jnp.minimum(self.value * 2, 2.0**126), self.value)
        value = jnp.where(finite, up, jnp.maximum(self.value / 2, 1.0))
        steps = jnp.where(finite & ~grown, self.steps + 1, 0)
        return LossScale(value, steps)


def first_scale(precision: str) -> LossScale | None:
    """The scale before the first step: 2^15 for float16, none for the others."""
    if precision != "float16":
        return None
    return LossScale(jnp.float32(2.0**15), jnp.int32(0))


def cast_down(value: Any, precision: str) -> Any:
    """A tree with its floating-point arrays in the precision's dtype."""
    dtype = DTYPES[precision]
    return value if dtype is None else tree.cast(value, dtype)


def cast_back(value: Any, precision: str) -> Any:
    """A tree with its floating-point arrays in float32, where they had been lowered."""
    return value if DTYPES[precision] is None else tree.cast(value, jnp.float32)
