"""Quantization to int8: weights by channel, and products of integers.

Jacob et al. 2018, arXiv 1712.05877, with symmetric ranges (zero point 0):

    q = round(w / s),  s = max |w| / 127,   |w - s q| <= s / 2

Weights have one scale for each output channel, activations one for each product, from the largest
value in a calibration batch. A product of int8 arrays is summed in int32 and multiplied by both
scales:  x w = s_x s_w (q_x q_w).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxdl._precision import widen
from jaxdl.compress.prune import Where, is_weight
from jaxdl.core import Module, Tree, check_model
from jaxdl.jaxpr.graph import Operation, read, trace_graph
from jaxdl.jaxpr.primitives import readers
from jaxdl.tree import flatten, unflatten

__all__ = [
    "QuantizedArray",
    "calibrate",
    "dequantize",
    "integer_model",
    "nbytes",
    "quantize",
    "weight_only_model",
]


class QuantizedArray(NamedTuple):
    """An array s q.

    Attributes:
      values: q, int8 in -127 .. 127.
      scale: s, floating-point; it broadcasts to q.
    """

    values: jax.Array
    scale: jax.Array


def quantize(params: Tree, *, where: Where = is_weight) -> Tree:
    """Converts weights to int8 with one scale for each output channel, their last axis.

    Args:
      params: the parameters of a model.
      where: which parameters to convert; by default arrays of two axes or more.

    Returns:
      The tree with a `QuantizedArray` for each such array; the others are unchanged. The error of
      a weight is at most half its scale. A channel with a NaN has the scale NaN.

    Raises:
      ValueError: a parameter to convert is not floating-point, or no parameter is selected.
    """
    leaves = {path: jnp.asarray(leaf) for path, leaf in flatten(params).items()}
    chosen = [path for path, leaf in leaves.items() if where(path, leaf)]
    wrong = [path for path in chosen if not jnp.issubdtype(leaves[path].dtype, jnp.floating)]
    if wrong or not chosen:
        selected = f"{wrong[0]}, {leaves[wrong[0]].dtype}" if wrong else "no parameter"
        raise ValueError(
            f"quantize: where selects {selected}; expected floating-point parameters, at least one."
        )

    def convert(w):
        w = widen(w)
        largest = jnp.max(jnp.abs(w), tuple(range(w.ndim - 1)), keepdims=True)
        return _to_int8(w, _scale(largest))

    return unflatten({p: convert(leaf) if p in chosen else leaf for p, leaf in leaves.items()})


def dequantize(quantized: Any) -> Any:
    """Converts the `QuantizedArray`s of a tree to floating-point arrays, s q."""
    return jax.tree.map(
        lambda leaf: leaf.scale * leaf.values.astype(leaf.scale.dtype) if _is_array(leaf) else leaf,
        quantized,
        is_leaf=_is_array,
    )


def nbytes(tree: Any) -> int:
    """Counts the bytes of a tree of arrays, such as `params` or the result of `quantize`."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in map(jnp.asarray, jax.tree.leaves(tree)))


def weight_only_model(model: Module) -> Module:
    """Returns a model of quantized parameters that computes in floating point.

    Weights are converted where they are used, so memory has the int8 values.

    Args:
      model: any `Module`.

    Returns:
      A `Module` whose `init` quantizes new parameters and whose `apply` takes the result of
      `quantize`.
    """
    check_model("weight_only_model", model)

    def init(key, *inputs):
        params, state = model.init(key, *inputs)
        return quantize(params), state

    def apply(params, state, *inputs, **options):
        return model.apply(dequantize(params), state, *inputs, **options)

    return Module(init, apply, "weight_only_model", {"model": model.kind}, model.children)


def calibrate(model: Module, params: Tree, state: Tree, *inputs: Any) -> jax.Array:
    """Returns the scales of the inputs of matrix products and convolutions.

    Args:
      model, state: the model and its state.
      params: its parameters, as `quantize` returns them.
      *inputs: a batch of representative inputs.

    Returns:
      (products,) scales, max |x| / 127, in the order of computation. The scales of several batches
      are combined by `jnp.maximum`.

    Raises:
      ValueError: the model multiplies none of the quantized weights, outside of loops.
    """
    check_model("calibrate", model)

    def run(params, state, inputs):
        scales = []

        def product(operation, x, weight):
            scales.append(_scale(widen(jnp.max(jnp.abs(x)))))
            return operation(x, dequantize(weight).astype(x.dtype))[0]

        _run(model, params, state, inputs, product)
        return scales

    scales = jax.jit(run)(params, state, inputs)
    if not scales:
        raise ValueError(
            f"calibrate: {model.kind} multiplies none of the quantized weights outside of loops; "
            "expected params from quantize, with kernels of dense or conv. Use weight_only_model."
        )
    return jnp.stack(scales)


def integer_model(model: Module, input_scales: jax.Array) -> Module:
    """Returns a model that multiplies int8 inputs by int8 weights, with sums in int32.

    This concerns every matrix product and convolution of an input with a quantized weight. Biases,
    activations and normalizations are computed in floating point, as are products inside of loops.
    Inputs beyond the calibrated range saturate; a NaN in a batch makes its outputs NaN.

    Args:
      model: any `Module`, for evaluation only.
      input_scales: the result of `calibrate`.

    Returns:
      A `Module` as `weight_only_model`; `apply` raises a `ValueError` with `train=True`, or if the
      model has another number of products than `input_scales`.
    """
    check_model("integer_model", model)
    init = weight_only_model(model).init

    def apply(params, state, *inputs, train=False, key=None, tap=None):
        if train or tap is not None:
            raise ValueError(
                "integer_model: called with train=True or a tap; expected evaluation only. Train "
                "or inspect the floating-point model."
            )
        count = 0

        def product(operation, x, weight):
            nonlocal count
            count += 1
            # A wrong number of scales raises below; indices beyond them are clipped.
            scale = input_scales[count - 1].astype(widen(x).dtype)
            # int8 has no NaN: an input with one would become finite.
            scale = jnp.where(jnp.isnan(x).any(), jnp.nan, scale)
            total = _integer_product(operation, _to_int8(widen(x), scale).values, weight.values)
            # The features are the last axis of kernel and output.
            scales = scale * weight.scale.reshape(-1).astype(scale.dtype)
            return (total.astype(scales.dtype) * scales).astype(x.dtype)

        output = _run(model, params, state, inputs, product)
        if count != len(input_scales):
            raise ValueError(
                f"integer_model: {len(input_scales)} scales for {count} products; expected the "
                "result of calibrate for this model and these parameters."
            )
        return output, state

    return Module(init, apply, "integer_model", {"model": model.kind}, model.children)


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, QuantizedArray)


def _scale(largest: jax.Array) -> jax.Array:
    """Returns s for the largest magnitudes; a NaN stays NaN, and with it the product s q."""
    return jnp.where(largest == 0, 127, largest) / 127  # zeros have any scale


def _to_int8(x: jax.Array, scale: jax.Array) -> QuantizedArray:
    # Without -128, so that -w is rounded to -q.
    return QuantizedArray(jnp.clip(jnp.round(x / scale), -127, 127).astype(jnp.int8), scale)


Product = Callable[[Operation, jax.Array, QuantizedArray], jax.Array]


def _run(
    model: Module, params: Tree, state: Tree, inputs: tuple[Any, ...], product: Product
) -> Any:
    """Runs a model, with `product` for products of an input and a quantized weight."""
    leaves = jax.tree.leaves(params, is_leaf=_is_array)
    shapes = jax.eval_shape(dequantize, params)
    graph, tree = trace_graph(
        lambda params, state, *inputs: model.apply(params, state, *inputs)[0],
        shapes,
        state,
        *inputs,
    )
    weights = dict(zip(graph.inputs, leaves, strict=False))
    weights = {value: leaf for value, leaf in weights.items() if _is_array(leaf)}
    floats = [*jax.tree.leaves(dequantize(params)), *jax.tree.leaves((state, inputs))]
    known = dict(graph.constants) | dict(zip(graph.inputs, graph.cast(floats), strict=True))
    for operation in graph.operations:
        values = [read(known, atom) for atom in operation.inputs]
        weight = weights.get(operation.inputs[1]) if len(operation.inputs) == 2 else None  # pyright: ignore
        # A product of two weights has no calibrated input.
        if weight is not None and operation.inputs[0] not in weights and _fits(operation):
            outputs = [product(operation, values[0], weight)]
        else:
            outputs = operation(*values)
        known |= zip(operation.outputs, outputs, strict=True)
    return jax.tree.unflatten(tree, [read(known, atom) for atom in graph.outputs])


def _fits(operation: Operation) -> bool:
    """Returns whether the last axes of weight and output are the features of a product."""
    equation = operation.equation
    rank, last = (len(v.aval.shape) - 1 for v in (equation.invars[1], equation.outvars[0]))
    if operation.name == "dot_general":
        dot = readers().dot_general(equation)
        return rank not in dot.contracting[1] and not dot.batch[1]
    if operation.name == "conv_general_dilated":
        numbers = readers().convolution(equation).dimension_numbers
        return numbers.rhs_spec[0] == rank and numbers.out_spec[1] == last
    return False


def _integer_product(operation: Operation, x: jax.Array, weight: jax.Array) -> jax.Array:
    equation = operation.equation
    if operation.name == "dot_general":
        dot = readers().dot_general(equation)
        # int32 has room for 2^17 products of 127 * 127, int8 for none.
        return jax.lax.dot_general(
            x, weight, (dot.contracting, dot.batch), preferred_element_type=jnp.int32
        )
    conv = readers().convolution(equation)
    return jax.lax.conv_general_dilated(
        x,
        weight,
        conv.strides,
        conv.padding,
        conv.lhs_dilation,
        conv.rhs_dilation,
        conv.dimension_numbers,
        conv.feature_groups,
        conv.batch_groups,
        preferred_element_type=jnp.int32,
    )
