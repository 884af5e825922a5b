"""Weighted layers: products with constants and their scale and bias."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxdl.jaxpr.graph import Operation, Value, read
from jaxdl.jaxpr.primitives import readers
from jaxdl.jaxpr.primitives.kinds import LAYOUT_CHANGES


@dataclasses.dataclass(frozen=True, eq=False)
class Product:
    """A product with constants, its scale and its bias: y = c * (x . w) + d.

    Batch norm with stored statistics folds into the weights of the convolution before it, so that
    rules see the weights of an equivalent network without batch norm.

    Attributes:
      operation: the matrix product or convolution.
      data_operand: the index of the operand, 0 or 1, that depends on the input.
      epilogue: the operations of scale, bias and layout that follow, each with the index of the
        operand that comes from the product.
      first: whether no other product comes before it.
    """

    operation: Operation
    data_operand: int
    epilogue: tuple[tuple[Operation, int], ...]
    first: bool

    @property
    def kind(self) -> str:
        """The kind of layer, "dense" or "conv"."""
        return "dense" if self.operation.name == "dot_general" else "conv"

    @property
    def path(self) -> str:
        """The layer's path, such as "layer3_1/conv2"."""
        return self.operation.scope

    @property
    def x(self) -> Value:
        """The layer's input."""
        return self.operation.inputs[self.data_operand]  # pyright: ignore[reportReturnType]

    @property
    def y(self) -> Value:
        """The layer's output, after scale and bias."""
        return (self.epilogue[-1][0] if self.epilogue else self.operation).outputs[0]

    def apply(self, x: jax.Array, w: jax.Array) -> jax.Array:
        """Computes the product x . w."""
        return self.operation.promote_and_call(*((x, w) if self.data_operand == 0 else (w, x)))[0]

    def back(self, s: jax.Array, x: jax.Array, w: jax.Array) -> jax.Array:
        """Computes w^T s, an array like x."""
        if self.operation.is_grouped_convolution:
            # Its fast form on a CPU has a derivative of its own, which cannot be transposed.
            return jax.vjp(lambda x: self.apply(x, w), x)[1](s)[0]
        return jax.linear_transpose(lambda x: self.apply(x, w), x)(s)[0]

    def to_output_layout(self, y: jax.Array, count: int | None = None) -> jax.Array:
        """Applies the layout changes of the epilogue's first `count` operations, or all."""
        for operation, _ in self.epilogue[:count]:
            if operation.name in LAYOUT_CHANGES:
                (y,) = operation.promote_and_call(y)
        return y

    def to_product_layout(self, y: Any, count: int | None = None) -> Any:
        """Reverses `to_output_layout` for a y that broadcasts to the output layout."""
        if not any(operation.name in LAYOUT_CHANGES for operation, _ in self.epilogue[:count]):
            return y
        y = jnp.asarray(y)
        like = jax.ShapeDtypeStruct(self.operation.equation.outvars[0].aval.shape, y.dtype)

        def change_layout(y):
            return self.to_output_layout(y, count)

        shape = jax.eval_shape(change_layout, like).shape
        # Layout changes only move values, so the transpose is the inverse.
        return jax.linear_transpose(change_layout, like)(jnp.broadcast_to(y, shape))[0]

    def weights(self, env: dict[Value, Any]) -> tuple[jax.Array, jax.Array | float]:
        """Returns the scaled weights c * w, and the bias d in the layout of the product."""
        w = read(env, self.operation.inputs[1 - self.data_operand])
        scale: Any = None
        shift: Any = 0.0
        for i, (operation, operand) in enumerate(self.epilogue):
            if operation.name in LAYOUT_CHANGES:
                continue
            if operation.name == "neg":
                scale, shift = -1 if scale is None else -scale, -shift
                continue
            other = self.to_product_layout(read(env, operation.inputs[1 - operand]), i)
            if operation.name in ("add", "add_any"):
                shift = shift + other
            elif operation.name == "sub" and operand == 0:
                shift = shift - other
            elif operation.name == "sub":
                scale, shift = -1 if scale is None else -scale, other - shift
            else:
                factor = 1 / other if operation.name == "div" else other
                scale, shift = factor if scale is None else scale * factor, shift * factor
        return w if scale is None else w * self._like_weights(scale, w), shift

    def _like_weights(self, scale: Any, w: jax.Array) -> jax.Array:
        """Moves the axes of a scale of the output to those of the weights."""
        scale = jnp.asarray(scale, w.dtype)
        if scale.ndim == 0:
            return scale
        axes = feature_axes(self.operation, self.data_operand)
        for axis in range(scale.ndim):
            if axis not in axes.values():
                scale = jax.lax.slice_in_dim(scale, 0, 1, axis=axis)
        shape = [1] * w.ndim
        for own, out in axes.items():
            shape[own] = scale.shape[out]
        order = [out for _, out in sorted(axes.items())]
        rest = [axis for axis in range(scale.ndim) if axis not in order]
        return scale.transpose(rest + order).reshape(shape)


def feature_axes(operation: Operation, data_operand: int) -> dict[int, int]:
    """Maps axes of the weights to the axes of the output that they become."""
    if operation.name == "conv_general_dilated":
        numbers = readers().convolution(operation.equation).dimension_numbers
        return {numbers.rhs_spec[0]: numbers.out_spec[1]}
    (contract, batch) = readers().dot_general(operation.equation)
    own = 1 - data_operand
    shapes = [variable.aval.shape for variable in operation.equation.invars]
    free = [
        [a for a in range(len(shape)) if a not in contract[i] and a not in batch[i]]
        for i, shape in enumerate(shapes)
    ]
    start = len(batch[0]) + (len(free[0]) if own == 1 else 0)
    axes = {axis: i for i, axis in enumerate(batch[own])}
    return axes | {axis: start + i for i, axis in enumerate(free[own])}
