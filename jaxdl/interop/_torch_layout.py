"""Layout of a network's arrays in jaxdl and in PyTorch: names, axes and order of features."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxdl import tree
from jaxdl.core import Module, Tree
from jaxdl.jaxpr.graph import JaxprGraph, Operation, trace_graph

LEAVES = {
    "params": {"kernel": "weight", "scale": "weight", "embedding": "weight", "bias": "bias"},
    "state": {"mean": "running_mean", "var": "running_var"},
}
"""PyTorch's name of each array of a layer; its order is PyTorch's, too."""
KINDS = ("conv", "conv_transpose", "dense", "embedding")
KINDS += tuple(f"{kind}_norm" for kind in ("batch", "layer", "group", "instance"))


class Leaf(NamedTuple):
    """One array: its names and its layout in both libraries.

    Attributes:
      name: PyTorch's name, "layer1.0.conv1.weight".
      path: "params/layer1_0/conv1/kernel".
      shape, dtype: in jaxdl.
      axes: the axes of jaxdl's array in PyTorch's order.
      flip: whether the window is mirrored.
      grid: (*space, C) of the flattened feature map that the array's features are, or None.
      ones: the number of axes of length 1 that PyTorch appends.
    """

    name: str
    path: str
    shape: tuple[int, ...]
    dtype: Any
    axes: tuple[int, ...]
    flip: bool
    grid: tuple[int, ...] | None
    ones: int

    @property
    def torch_shape(self) -> tuple[int, ...]:
        return (*(self.shape[axis] for axis in self.axes), *[1] * self.ones)

    def from_torch(self, array: np.ndarray) -> np.ndarray:
        array = array.reshape(array.shape[: array.ndim - self.ones])
        if self.grid:
            *space, channels = self.grid
            split = array.reshape(*array.shape[:-1], channels, *space)
            array = np.moveaxis(split, array.ndim - 1, -1).reshape(array.shape)
        return self._mirror(array.transpose(np.argsort(self.axes)))

    def to_torch(self, array: np.ndarray) -> np.ndarray:
        array = self._mirror(array).transpose(self.axes)
        if self.grid:
            split = array.reshape(*array.shape[:-1], *self.grid)
            array = np.moveaxis(split, -1, array.ndim - 1).reshape(array.shape)
        return np.array(array.reshape(self.torch_shape))

    def _mirror(self, array: np.ndarray) -> np.ndarray:
        return np.flip(array, tuple(range(array.ndim - 2))) if self.flip else array


class Layer(NamedTuple):
    """A layer with parameters or state, and its arrays as `(params or state, name, shape)`."""

    module: Module
    arrays: list[tuple[str, str, jax.ShapeDtypeStruct]]


def layers_with_arrays(caller: str, model: Module, shapes: tuple[Tree, Tree]) -> dict[str, Layer]:
    """Returns the layers by path, in the order in which the model defines them.

    Raises:
      ValueError: an array belongs to a layer without counterpart.
    """
    layers: dict[str, Layer] = {}

    def walk(module, path, params, state):
        if module.kind in KINDS:
            parts = (("params", params), ("state", state))
            arrays = [(top, k, part[k]) for top, part in parts for k in LEAVES[top] if k in part]
            layers["/".join(path)] = Layer(module, arrays)
        for name, child in module.children.items():
            walk(child, (*path, name), params.get(name, {}), state.get(name, {}))

    walk(model, (), *shapes)
    known = {f"{top}/{path}/{k}" for path, layer in layers.items() for top, k, _ in layer.arrays}
    rest = [
        path for path in tree.flatten(dict(zip(LEAVES, shapes, strict=True))) if path not in known
    ]
    if rest:
        raise ValueError(
            f"{caller}: no counterpart in PyTorch for {', '.join(rest)}; expected the layers "
            f"{', '.join(KINDS)} in composites. Convert other layers separately."
        )
    return {path: layer for path, layer in layers.items() if layer.arrays}


def leaves_of(
    path: str, layer: Layer, module: str, is_1x1: bool, grid: tuple[int, ...] | None
) -> Iterator[Leaf]:
    """Yields the arrays of a layer, which PyTorch calls `module`."""
    for top, name, spec in layer.arrays:
        axes, flip = tuple(range(len(spec.shape))), False
        if name == "kernel":
            *window, c, f = axes
            transposed = layer.module.kind == "conv_transpose"
            axes = (c, f, *window) if transposed else (f, c, *window)
            # PyTorch's transposed convolution is the adjoint of its convolution, flip=True here.
            flip = bool(window) and layer.module.config["flip"] != transposed
        ones = 2 if is_1x1 and name == "kernel" else 0
        own = grid if name != "bias" or layer.module.kind != "dense" else None
        yield Leaf(
            f"{module}.{LEAVES[top][name]}",
            f"{top}/{path}/{name}",
            *(spec.shape, spec.dtype, axes, flip, own, ones),
        )


def flattened_grids(
    model: Module, shapes: tuple[Tree, Tree], inputs: tuple[Any, ...], layers: Mapping[str, Layer]
) -> dict[str, tuple[int, ...]]:
    """Returns (*space, C) of each layer whose input is a flattened feature map, by path."""
    dense = {path for path, layer in layers.items() if layer.module.kind == "dense"}
    graph, _ = trace_graph(lambda p, s, x: model.apply(p, s, *x)[0], *shapes, inputs)
    producers = {value: op for op in graph.operations for value in op.outputs}
    grids: dict[str, tuple[int, ...]] = {}
    for operation in graph.operations:
        if operation.name == "dot_general" and operation.scope in dense:
            passed, grid = _trace_flattening(graph, producers, operation)
            if grid:
                grids |= {path: grid for path in (operation.scope, *passed) if path in layers}
    return grids


def _trace_flattening(
    graph: JaxprGraph, producers: Mapping[Any, Operation], product: Operation
) -> tuple[list[str], tuple[int, ...]]:
    """Returns the scopes between a flattening and a dense layer, and the map that it flattens."""
    scopes: list[str] = []
    value = product.inputs[0]
    while isinstance(value, int) and value in producers:
        operation = producers[value]
        shape = graph.shapes[value].shape
        inputs = [atom for atom in operation.inputs if isinstance(atom, int)]
        if operation.name == "reshape" and inputs:
            before = graph.shapes[inputs[0]].shape
            merges = len(shape) == 2 and len(before) > 2 and before[0] == shape[0]
            above = producers.get(inputs[0])
            # A model that moves the channels to the front by itself has PyTorch's order.
            if not merges or (above is not None and above.name == "transpose"):
                return scopes, ()
            return scopes, before[1:]
        same = [atom for atom in inputs if graph.shapes[atom].shape == shape]
        # Elementwise operations, such as dropout, an activation or a normalization, keep the order.
        if not same or operation.name == "dot_general":
            return scopes, ()
        scopes.append(operation.scope)
        value = same[0]
    return scopes, ()
