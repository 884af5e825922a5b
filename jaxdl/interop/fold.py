"""Folding of batch normalization into the layer before it, for inference.

    s (W x + b - m) / sqrt(v + eps) + t = W' x + b'
    W' = s W / sqrt(v + eps),  b' = s (b - m) / sqrt(v + eps) + t

Here m and v are the running statistics, s and t the scale and the bias. Jacob et al. 2018,
arXiv 1712.05877, section 3.2.
"""

from __future__ import annotations

import dataclasses
import re
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jaxdl import nn, tree
from jaxdl.core import Module, Tree, as_module, check_model
from jaxdl.interop.torch import example_inputs
from jaxdl.jaxpr.graph import JaxprGraph, trace_graph

__all__ = ["fold_batch_norm"]

LAYERS = {"conv": nn.conv, "conv_transpose": nn.conv_transpose, "dense": nn.dense}


def fold_batch_norm(
    model: Module, params: Tree, state: Tree, *, inputs: Any = None
) -> tuple[Module, Tree, Tree]:
    """Folds each batch normalization into the convolution or dense layer before it.

    A normalization is folded if its input is the output of the layer, and nothing else uses this
    output or shares the parameters of either. The dataflow is read from the program, so this
    covers composites of any form. Other normalizations, such as those before a convolution in a
    DenseNet, are not changed.

    The new model is for inference: with `train=True` the folded normalizations use the running
    statistics, too. Layers keep their names; a folded normalization returns its input.

    Args:
      model: a composite of layers of `jaxdl.nn`.
      params, state: its parameters and running statistics after training.
      inputs: the model's input, or a tuple of several, as arrays or `jax.ShapeDtypeStruct`s; None
        for images of (1, 224, 224, 3).

    Returns:
      `(model, params, state)`, whose output is equal up to rounding.

    Raises:
      ValueError: the parameters are not those of the model, or it rejects the inputs.
    """
    check_model("fold_batch_norm", model)
    arrays = tree.flatten({"params": params, "state": state})
    inputs = example_inputs(inputs, arrays.values())
    graph, _ = trace_graph(lambda p, s, x: model.apply(p, s, *x)[0], params, state, inputs)
    layers = _layers(model)
    replaced: dict[str, Module] = {}
    for before, norm in _pairs(graph, layers).items():
        kernel = np.asarray(arrays[f"params/{before}/kernel"])
        # In double precision: the product is rounded once, to the dtype of the kernel.
        mean, var, scale, shift, bias = (
            np.asarray(arrays.pop(path, default), np.float64)
            for path, default in (
                (f"state/{norm}/mean", 0),
                (f"state/{norm}/var", 1),
                (f"params/{norm}/scale", 1),
                (f"params/{norm}/bias", 0),
                (f"params/{before}/bias", 0),
            )
        )
        factor = scale / np.sqrt(var + layers[norm].config["eps"])
        folded = {"kernel": kernel * factor, "bias": (bias - mean) * factor + shift}
        for name, value in folded.items():
            arrays[f"params/{before}/{name}"] = jax.numpy.asarray(value.astype(kernel.dtype))
        layer = layers[before]
        replaced[before] = LAYERS[layer.kind](**{**layer.config, "use_bias": True})
        replaced[norm] = as_module(_identity)
    trees = tree.unflatten(arrays)
    return _replace(model, replaced), trees.get("params", {}), trees.get("state", {})


def _identity(x: jax.Array) -> jax.Array:
    return x


def _layers(model: Module, path: tuple[str, ...] = ()) -> dict[str, Module]:
    """Returns the layers by path that `_replace` can replace."""
    layers = {"/".join(path): model}
    if model.rebuild is not None:
        for name, child in model.children.items():
            layers |= _layers(child, (*path, name))
    return layers


def _pairs(graph: JaxprGraph, layers: Mapping[str, Module]) -> dict[str, str]:
    """Returns the normalization of each layer whose output is the input of this one only."""
    scopes: dict[int, str] = {}
    users: dict[int, set[str]] = defaultdict(set)
    owners = {path for path, layer in layers.items() if layer.kind in (*LAYERS, "batch_norm")}
    called: dict[str, set[str]] = defaultdict(set)
    for operation in graph.operations:
        scope = _owner(operation.scope, owners)
        called[re.sub(r"#\d+", "", scope)].add(scope)
        scopes |= dict.fromkeys(operation.outputs, scope)
        for atom in operation.inputs:
            if isinstance(atom, int):
                users[atom].add(scope)
    for atom in graph.outputs:
        if isinstance(atom, int):
            users[atom].add("output of the model")
    pairs: dict[str, str] = {}
    for path in owners:
        outside = [
            others
            for value, scope in scopes.items()
            if scope == path and (others := users[value] - {path})
        ]
        if layers[path].kind in LAYERS and len(outside) == len(outside[0] if outside else ()) == 1:
            (norm,) = outside[0]
            # Repeated calls have scopes with #n; a shared kernel could not fold several norms.
            once = called[path] == {path} and called[norm] == {norm}
            if once and norm in owners and layers[norm].kind == "batch_norm":
                pairs[path] = norm
    return pairs


def _owner(scope: str, owners: set[str]) -> str:
    """Returns the layer that a scope is inside of, or the scope."""
    parts = scope.split("/")
    ends = ("/".join(parts[:n]) for n in range(1, len(parts) + 1))
    return next((end for end in ends if re.sub(r"#\d+", "", end) in owners), scope)


def _replace(model: Module, layers: Mapping[str, Module]) -> Module:
    """Returns the model with other layers at some paths."""
    if "" in layers:
        return layers[""]
    inner: dict[str, dict[str, Module]] = defaultdict(dict)
    for path, layer in layers.items():
        name, _, rest = path.partition("/")
        inner[name][rest] = layer
    if not inner or model.rebuild is None:
        return model
    children = {
        name: _replace(child, inner.get(name, {})) for name, child in model.children.items()
    }
    new = model.rebuild(children)
    return dataclasses.replace(new, takes_lengths=model.takes_lengths)
