"""Receptive fields: the part of the input that a unit depends on, read from the program.

For one spatial axis of the input, each element of a value has an interval of input positions, the
smallest that contains all positions it depends on. Every operation maps intervals of its operands
to intervals of its result: a convolution takes the union over its window, an addition the union of
both operands. Padding continues the image, so that intervals may reach beyond its edges and all
units of a layer have fields of one size, as papers count them.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.core import Module, check_model
from jaxdl.jaxpr.graph import JaxprGraph, trace_graph
from jaxdl.jaxpr.receptive_field.extent import Extent
from jaxdl.jaxpr.receptive_field.rules import propagate
from jaxdl.tap import capture

__all__ = ["ReceptiveField", "receptive_field"]


class ReceptiveField(NamedTuple):
    """The receptive field of a unit, with one number for each spatial axis of the input.

    Attributes:
      size: pixels, including those beyond the edges of the image.
      stride: the distance between the fields of neighbouring units; 0 if all units have one field,
        or fields without a common distance, such as all steps up to the unit's own.
      offset: the centre of the field of the first unit. That of unit i is offset + stride i.
    """

    size: tuple[int, ...]
    stride: tuple[float, ...]
    offset: tuple[float, ...]


def receptive_field(model: Module, x: Any, *, layer: str | None = None) -> ReceptiveField:
    """Returns size, stride and offset of the input region that one output unit depends on.

    The region is the smallest box; a dilated convolution leaves gaps in it. Units that depend on
    all positions, such as those after a global pooling, have the size of the image and stride 0. So
    do those of a product with a matrix over positions, such as attention, whatever its values are.
    Where the fields of neighbouring units differ, as after a transposed convolution, the result is
    for the unit in the middle. Units of all channels count together.

    Araujo et al. 2019, "Computing receptive fields of convolutional neural networks",
    doi:10.23915/distill.00021.

    Args:
      model: any `Module`; nothing is computed and no parameters are created.
      x: its input (N, *space, C), as an array or a `jax.ShapeDtypeStruct`.
      layer: the path of a layer, as for `capture`; None for the output.

    Returns:
      A `ReceptiveField`.

    Raises:
      ValueError: x has no spatial axis; the model has no such layer; the layer returns several
        arrays or does not depend on x; an operation moves values in a way that is not known, such
        as indexing by computed indices.
    """
    check_model("receptive_field", model)
    if len(x.shape) < 3:
        raise ValueError(
            f"receptive_field: x has shape {tuple(x.shape)}; expected (N, *space, C), with at "
            "least one spatial axis."
        )
    params, state = jax.eval_shape(model.init, jax.random.key(0), x)
    state = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), state)

    def output(x, params):
        if layer is None:
            return model.apply(params, state, x)[0]
        return capture(model, params, state, x, paths={layer})[1][layer]

    return find_field(output, x, params, name=layer or "the model")


def find_field(f: Callable[..., Any], x: Any, *others: Any, name: str = "f") -> ReceptiveField:
    """Returns the receptive field of the units of `f(x, *others)` in x.

    Args:
      f: a function that returns one array.
      x: its input (N, *space, C), as an array or a `jax.ShapeDtypeStruct`.
      *others: trees of arrays that the field does not count.
      name: the name of the output, for messages.

    Raises:
      ValueError: as `receptive_field`.
    """
    graph, _ = trace_graph(f, x, *others)
    if len(graph.outputs) != 1:
        raise ValueError(
            f"receptive_field: {name} returns {len(graph.outputs)} arrays; expected one. Pass the "
            "path of a layer as layer=."
        )
    axes = [_along(graph, tuple(x.shape), axis) for axis in range(1, len(x.shape) - 1)]
    return ReceptiveField(*zip(*axes, strict=True))


def _along(graph: JaxprGraph, shape: tuple[int, ...], axis: int) -> tuple[int, float, float]:
    """Returns size, stride and offset of the output's field along one axis of the input."""
    n = shape[axis]
    places = np.arange(n, dtype=float).reshape([n if i == axis else 1 for i in range(len(shape))])
    # Exact fractions: a transposed convolution divides the step by its stride.
    source = Extent(places, places, tuple(Fraction(int(i == axis)) for i in range(len(shape))))
    (extent,) = propagate(graph, [source] + [None] * (len(graph.inputs) - 1))
    if extent is None or not np.isfinite(extent.low).any():
        raise ValueError("receptive_field: the layer does not depend on x. Pass another layer=.")
    low, high, stride, middle, moving = extent.low, extent.high, Fraction(0), 0, False
    # The last axis has the channels, which count together.
    for i in range(low.ndim - 1 if low.ndim > 2 else low.ndim):
        if extent.step[i] or low.shape[i] > 1:
            moving, stride, middle = True, extent.step[i], low.shape[i] // 2
            low, high = (np.take(end, [middle], i) for end in (low, high))
    if not moving:
        return n, 0, (n - 1) / 2
    first, last = float(low.min()), float(high.max())
    step = int(stride) if stride.denominator == 1 else float(stride)
    return int(last - first) + 1, step, (first + last) / 2 - step * middle
