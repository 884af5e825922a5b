"""Objectives as values: what they read, and how they are combined."""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxdl.interpret import _target
from jaxdl.interpret.feature_vis.network import Values

Index = int | Sequence[int] | np.ndarray | jax.Array
"""A number of a channel, or T of them."""
Network = Callable[[jax.Array, Sequence[str]], Values]
"""From images (N, *shape) and layers to the values of the layers."""


class Batch(NamedTuple):
    """The images of one step and what the network computes for their transformed crops.

    Attributes:
      images: (B, *shape), the decoded images before they are transformed.
      values: for each layer (crops * B, ...).
      count: B.
    """

    images: jax.Array
    values: Values
    count: int


class Context(NamedTuple):
    """Shapes, to check an objective before it is compiled.

    Attributes:
      caller: the public function's name, for messages.
      f: the network.
      x: the shape of its input, (crops * B, ...).
      values: the shape of each layer.
      references: the function from images and layers to the shapes of the layers.
      count: B.
    """

    caller: str
    f: Callable[[Any], Any]
    x: jax.ShapeDtypeStruct
    values: Values
    references: Network
    count: int


@dataclasses.dataclass(frozen=True, eq=False)
class Objective:
    """A score of images that can be added, subtracted and multiplied, and divided by numbers.

    Attributes:
      score: from a batch and the prepared `args` to scores (crops, B), or (1, B).
      layers: paths, or `OUTPUT`.
      args: arrays that the score depends on.
      grid: for each of `args`, whether its first axis is the axis of T images.
      verify: raises a ValueError if the network does not fit.
      prepare: from the network and `args` to the arguments of `score`, once before the ascent.
    """

    score: Callable[[Batch, tuple[Any, ...]], jax.Array]
    layers: tuple[str, ...] = ()
    args: tuple[Any, ...] = ()
    grid: tuple[bool, ...] = ()
    verify: Callable[[Context], None] = lambda context: None
    prepare: Callable[[Network, tuple[Any, ...]], tuple[Any, ...]] = lambda network, args: args

    # An array multiplied by an objective is one objective, not an array of them.
    __array_ufunc__ = None

    def __post_init__(self):
        sizes = self._sizes()
        if len(sizes) > 1 or 0 in sizes:
            raise ValueError(
                f"an objective has arrays for {sorted(sizes)} images; expected one number of "
                "targets, directions and weights, 1 or more."
            )

    @property
    def targets(self) -> int | None:
        """T, or None for one image."""
        return next(iter(self._sizes()), None)

    def _sizes(self) -> set[int]:
        return {len(arg) for arg, mapped in zip(self.args, self.grid, strict=True) if mapped}

    def __add__(self, other: Any) -> Objective:
        return _combine(operator.add, self, other)

    def __radd__(self, other: Any) -> Objective:
        return _combine(operator.add, other, self)

    def __sub__(self, other: Any) -> Objective:
        return _combine(operator.sub, self, other)

    def __rsub__(self, other: Any) -> Objective:
        return _combine(operator.sub, other, self)

    def __mul__(self, other: Any) -> Objective:
        return _combine(operator.mul, self, other)

    def __rmul__(self, other: Any) -> Objective:
        return _combine(operator.mul, other, self)

    def __truediv__(self, other: Any) -> Objective:
        return _combine(operator.truediv, self, other)

    def __neg__(self) -> Objective:
        return _combine(operator.mul, self, -1)


def layer_objective(
    layer: str,
    compute: Callable[..., jax.Array],
    args: tuple[Any, ...] = (),
    grid: tuple[bool, ...] = (),
    verify: Callable[[Context], None] = lambda context: None,
) -> Objective:
    """Returns the objective `compute(activation, *args)`, (N,), of a layer."""

    def score(batch, args):
        values = batch.values[layer]
        scores = compute(values, *args)
        if scores.shape != values.shape[:1]:
            raise ValueError(
                f"objective: the score of layer {layer!r} has shape {scores.shape}; expected "
                f"{values.shape[:1]}, one number for each image."
            )
        return scores.reshape(-1, batch.count)

    return Objective(score, (layer,), args, grid, verify)


def image_objective(compute: Callable[[jax.Array], jax.Array]) -> Objective:
    """Returns the objective `compute(images)`, (B,), of the images before they are transformed."""
    return Objective(lambda batch, args: compute(batch.images)[None])


def reference_objective(
    caller: str,
    layers: tuple[str, ...],
    image: Any,
    summarize: Callable[[Sequence[jax.Array]], tuple[jax.Array, ...]],
    distance: Callable[..., Any],
    same_shape: bool = False,
) -> Objective:
    """Returns the objective of a distance from the layers of another image.

    Args:
      caller: the public function's name, for messages.
      layers: paths.
      image: (*shape).
      summarize: from the layers' values to the arguments of `distance`.
      distance: from the layers' values and those of the image to (N,).
      same_shape: whether the layers must have the shape of those of the image.

    Raises:
      ValueError: the image is not floating-point, or there are no layers.
    """
    image = jnp.asarray(image)
    if not layers or not jnp.issubdtype(image.dtype, jnp.floating):
        raise ValueError(
            f"{caller}: {len(layers)} layers and an image of {image.dtype}{list(image.shape)}; "
            "expected at least one layer and a floating-point image, (*shape), in the units of f."
        )

    def verify(context: Context):
        if image.ndim != len(context.x.shape) - 1:
            raise ValueError(
                f"{caller}: the image has shape {image.shape} for inputs of {context.x.shape[1:]}; "
                "expected one image without a batch axis."
            )
        references = context.references(image[None], layers)
        for layer in layers if same_shape else ():
            shape, own = references[layer].shape[1:], context.values[layer].shape[1:]
            if shape != own:
                raise ValueError(
                    f"{caller}: layer {layer!r} has shape {shape} for the image, and {own} for the "
                    "transformed images; expected one shape. Pass an image of the size that the "
                    "network gets."
                )

    def prepare(network, args):
        values = network(args[0][None], layers)
        return summarize([values[layer] for layer in layers])

    def score(batch, references):
        activations = [batch.values[layer] for layer in layers]
        return distance(activations, references).reshape(-1, batch.count)

    return Objective(score, layers, (image,), (False,), verify, prepare)


def as_indices(caller: str, index: Index) -> Any:
    """Returns an index or T indices as an integer array.

    Raises:
      ValueError: they are not integers, or have several axes.
    """
    indices = _target.as_array(index)
    if indices.ndim > 1 or not jnp.issubdtype(indices.dtype, jnp.integer):
        raise ValueError(f"{caller}: index is {index!r}; expected an int, or T ints for T images.")
    return indices


def require_channels(context: Context, caller: str, layer: str, indices: Any) -> tuple[int, ...]:
    """Returns the shape of a layer.

    Raises:
      ValueError: the layer has no channel axis, or an index that is not traced is out of range.
    """
    shape = context.values[layer].shape
    if len(shape) < 2:
        raise ValueError(
            f"{caller}: layer {layer!r} has shape {shape}; expected (N, *space, K) with a channel "
            "axis."
        )
    if indices is not None and not isinstance(indices, Tracer):
        for i in np.ravel(indices):
            if not 0 <= i < shape[-1]:
                raise ValueError(
                    f"{caller}: index is {i} for layer {layer!r} of {shape}; expected a channel of "
                    f"0 to {shape[-1] - 1}."
                )
    return shape


def _combine(operation: Callable[[Any, Any], Any], left: Any, right: Any) -> Objective:
    left, right = _as_objective(left), _as_objective(right)
    count, layers = len(left.args), dict.fromkeys((*left.layers, *right.layers))

    def score(batch, args):
        return operation(left.score(batch, args[0]), right.score(batch, args[1]))

    def verify(context):
        left.verify(context)
        right.verify(context)

    def prepare(network, args):
        return left.prepare(network, args[:count]), right.prepare(network, args[count:])

    args, grid = (*left.args, *right.args), (*left.grid, *right.grid)
    return Objective(score, tuple(layers), args, grid, verify, prepare)


def _as_objective(value: Any) -> Objective:
    if isinstance(value, Objective):
        return value
    number = jnp.asarray(value, float)
    if number.ndim > 1:
        raise ValueError(
            f"an objective is combined with an array of shape {number.shape}; expected a number, "
            "or T numbers for T images."
        )
    return Objective(
        lambda batch, args: args[0].astype(batch.images.dtype).reshape(1, 1),
        args=(number,),
        grid=(number.ndim == 1,),
    )
