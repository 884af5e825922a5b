"""A layer as the relevance rules see it: a product with constants, its scale and its bias."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxdl.jaxpr.graph import Operation, Value, read
from jaxdl.jaxpr.primitives import readers

LAYOUT_CHANGES = (
    "broadcast_in_dim",
    "convert_element_type",
    "expand_dims",
    "reshape",
    "squeeze",
    "transpose",
)
"""What may stand between a product and its bias, as `jax.vmap` and mixed precision put it there."""


@dataclasses.dataclass(frozen=True, eq=False)
class Product:
    """A product with constants, and what of scale and bias follows it: y = c * (x . w) + d.

    Batch norm with stored statistics after a convolution is a part of it and folds into the
    weights, so that positive weights are those that a network without the batch norm would have.
    """

    operation: Operation
    slot: int
    """Which operand, 0 or 1, depends on the input."""
    after: tuple[tuple[Operation, int], ...]
    """The operations of scale and bias, and which operand of each is the product's; and `LAYOUT_CHANGES`."""
    first: bool
    """Whether no other product comes before it."""

    @property
    def kind(self) -> str:
        return "dense" if self.operation.name == "dot_general" else "conv"

    @property
    def path(self) -> str:
        return self.operation.scope

    @property
    def x(self) -> Value:
        return self.operation.inputs[self.slot]  # pyright: ignore[reportReturnType]

    @property
    def y(self) -> Value:
        return (self.after[-1][0] if self.after else self.operation).outputs[0]

    def apply(self, x: jax.Array, w: jax.Array) -> jax.Array:
        """x . w"""
        return self.operation.call_widened(*((x, w) if self.slot == 0 else (w, x)))[0]

    def back(self, s: jax.Array, x: jax.Array, w: jax.Array) -> jax.Array:
        """w^T s, like x."""
        return jax.linear_transpose(lambda x: self.apply(x, w), x)(s)[0]

    def moved(self, y: jax.Array, count: int | None = None) -> jax.Array:
        """y in the layout after `count` of the operations, all by default."""
        for operation, _ in self.after[:count]:
            if operation.name in LAYOUT_CHANGES:
                (y,) = operation.call_widened(y)
        return y

    def unmoved(self, y: Any, count: int | None = None) -> Any:
        """y, which broadcasts to the layout after `count` operations, in that of the product."""
        if not any(operation.name in LAYOUT_CHANGES for operation, _ in self.after[:count]):
            return y
        y = jnp.asarray(y)
        like = jax.ShapeDtypeStruct(self.operation.equation.outvars[0].aval.shape, y.dtype)
        move = lambda y: self.moved(y, count)  # noqa: E731
        shape = jax.eval_shape(move, like).shape
        return jax.linear_transpose(move, like)(jnp.broadcast_to(y, shape))[0]

    def weights(self, env: dict[Value, Any]) -> tuple[jax.Array, jax.Array | float]:
        """c * w, and d as what is added to the product."""
        w = read(env, self.operation.inputs[1 - self.slot])
        scale: Any = None
        shift: Any = 0.0
        for i, (operation, mine) in enumerate(self.after):
            if operation.name in LAYOUT_CHANGES:
                continue
            if operation.name == "neg":
                scale, shift = -1 if scale is None else -scale, -shift
                continue
            other = self.unmoved(read(env, operation.inputs[1 - mine]), i)
            if operation.name in ("add", "add_any"):
                shift = shift + other
            elif operation.name == "sub" and mine == 0:
                shift = shift - other
            elif operation.name == "sub":
                scale, shift = -1 if scale is None else -scale, other - shift
            else:
                by = 1 / other if operation.name == "div" else other
                scale, shift = by if scale is None else scale * by, shift * by
        return w if scale is None else w * self._like_weights(scale, w), shift

    def _like_weights(self, scale: Any, w: jax.Array) -> jax.Array:
        scale = jnp.asarray(scale, w.dtype)
        if scale.ndim == 0:
            return scale
        axes = feature_axes(self.operation, self.slot)
        for axis in range(scale.ndim):
            if axis not in axes.values():
                scale = jax.lax.slice_in_dim(scale, 0, 1, axis=axis)
        shape = [1] * w.ndim
        for own, out in axes.items():
            shape[own] = scale.shape[out]
        order = [out for _, out in sorted(axes.items())]
        rest = [axis for axis in range(scale.ndim) if axis not in order]
        return scale.transpose(rest + order).reshape(shape)


def feature_axes(operation: Operation, slot: int) -> dict[int, int]:
    """Axes of the weights, and the axes of the output that they become."""
    if operation.name == "conv_general_dilated":
        numbers = readers().convolution(operation.equation).dimension_numbers
        return {numbers.rhs_spec[0]: numbers.out_spec[1]}
    (contract, batch) = readers().dot_general(operation.equation)
    own = 1 - slot
    shapes = [variable.aval.shape for variable in operation.equation.invars]
    free = [
        [a for a in range(len(shape)) if a not in contract[i] and a not in batch[i]]
        for i, shape in enumerate(shapes)
    ]
    start = len(batch[0]) + (len(free[0]) if own == 1 else 0)
    axes = {axis: i for i, axis in enumerate(batch[own])}
    return axes | {axis: start + i for i, axis in enumerate(free[own])}
