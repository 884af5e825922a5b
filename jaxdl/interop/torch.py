"""Weights of PyTorch networks: reading state dicts and safetensors files, and writing them.

PyTorch stores a convolution's kernel as (F, C / groups, *window), a transposed convolution's as
(C, F, *window) and a dense kernel as (F, D); jaxdl as (*window, C / groups, F), (*window, C, F) and
(D, F). After a flattened feature map PyTorch numbers features in the order (C, H, W), jaxdl in the
order (H, W, C). PyTorch itself is not needed.
"""

from __future__ import annotations

import collections
import os
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl import tree
from jaxdl._optional import extra
from jaxdl.core import Module, Tree, check_model
from jaxdl.interop._torch_layout import Leaf, flattened_grids, layers_with_arrays, leaves_of
from jaxdl.interop.torch_names import FAMILIES, Table, module_names, table_of

__all__ = ["export_torch_state_dict", "load"]


def load(
    model: Module,
    path: str | os.PathLike | Mapping[str, Any],
    *,
    names: str | Table | None = None,
    inputs: Any = None,
) -> tuple[Tree, Tree]:
    """Reads the weights of a PyTorch network from a safetensors file or a state dict.

    Args:
      model: the network, of the layers of `jaxdl.nn`.
      path: the file, with names of torchvision, timm or Hugging Face; or a state dict of arrays,
        `{name: tensor.numpy() for name, tensor in network.state_dict().items()}`.
      names: the table from layers to PyTorch modules: one of `torch_names.FAMILIES` by name, or
        your own, such as `{"conv1": "stem.conv"}` or rules of regular expressions, see
        `jaxdl.interop.torch_names`. None chooses the family with the most names in the file.
      inputs: the model's input, or a tuple of several, as arrays or `jax.ShapeDtypeStruct`s; None
        for (1, 224, 224, 3) of float32. Arrays are cast to the dtype of the model's parameters on
        such inputs, so files in half precision are read as float32. `num_batches_tracked` is
        ignored.

    Returns:
      `(params, state)` of the model.

    Raises:
      ValueError: names or shapes do not fit; the message lists all of them. The file is not a
        safetensors file; no table has a name for every layer; a layer has no counterpart.
      FileNotFoundError: there is no such file.

    Example:
      >>> params, state = interop.load(resnet50(), "resnet50.safetensors")
    """
    check_model("load", model)
    arrays = dict(path) if isinstance(path, Mapping) else _read(path)
    # PyTorch uses this counter with momentum=None only, which has no counterpart here.
    arrays = {k: v for k, v in arrays.items() if not k.endswith("num_batches_tracked")}
    inputs = example_inputs(inputs)
    shapes = jax.eval_shape(model.init, jax.random.key(0), *inputs)
    family, leaves = _choose("load", model, shapes, inputs, names, arrays)
    problems, values = [], {}
    for leaf in leaves:
        array = arrays.pop(leaf.name, None)
        if array is None:
            problems.append(f"missing {leaf.name} {leaf.torch_shape} for {leaf.path} {leaf.shape}")
        elif np.shape(array) != leaf.torch_shape:
            problems.append(
                f"misshapen {leaf.name} {np.shape(array)}; expected {leaf.torch_shape} for "
                f"{leaf.path} {leaf.shape}"
            )
        elif not problems:
            values[leaf.path] = jnp.asarray(leaf.from_torch(np.asarray(array)).astype(leaf.dtype))
    problems += [f"unexpected {name} {np.shape(array)}" for name, array in arrays.items()]
    if problems:
        source = "the state dict" if isinstance(path, Mapping) else repr(str(path))
        raise ValueError(
            f"load: {source} does not fit the model by the names of {family}; expected the names "
            "and shapes below. Pass a table of names, names=, or the model of these weights.\n  "
            + "\n  ".join(problems)
        )
    loaded = tree.unflatten(values)
    return loaded.get("params", {}), loaded.get("state", {})


def export_torch_state_dict(
    model: Module,
    params: Tree,
    state: Tree,
    *,
    names: str | Table | None = None,
    inputs: Any = None,
) -> dict[str, np.ndarray]:
    """Returns the weights as PyTorch's state dict, which `load` reads back bit for bit.

    `torch.nn.Module.load_state_dict` accepts `{k: torch.from_numpy(v) for k, v in ...}`. PyTorch
    sets a missing `num_batches_tracked` to zero.

    Args:
      model: the network.
      params, state: its parameters and state.
      names: as for `load`; None for the first family whose table fits, which is torchvision's where
        there are several. Layers of other networks keep their names, "stem/conv1" as "stem.conv1".
      inputs: as for `load`; only a dense layer after a flattened feature map depends on it.

    Returns:
      `{name: array}` in the order of the model's layers, in PyTorch's layout.

    Raises:
      ValueError: `params` and `state` are not those of the model on such inputs; no table has a
        name for every layer; a layer has no counterpart in PyTorch.
    """
    check_model("export_torch_state_dict", model)
    actual = tree.flatten({"params": params, "state": state})
    inputs = example_inputs(inputs, actual.values())
    shapes = jax.eval_shape(model.init, jax.random.key(0), *inputs)
    expected = tree.flatten({"params": shapes[0], "state": shapes[1]})
    wrong = [f"unexpected {path}" for path in actual if path not in expected]
    wrong += [f"missing {path}" for path in expected if path not in actual]
    wrong += [
        f"{path} is {actual[path].shape}, expected {expected[path].shape}"
        for path in expected
        if path in actual and actual[path].shape != expected[path].shape
    ]
    if wrong:
        raise ValueError(
            "export_torch_state_dict: params and state are not those of the model on "
            f"{', '.join(str(jnp.shape(x)) for x in jax.tree.leaves(inputs))}: {'; '.join(wrong)}. "
            "Pass the input that they were created with as inputs=."
        )
    _, leaves = _choose("export_torch_state_dict", model, shapes, inputs, names, None)
    return {leaf.name: leaf.to_torch(np.asarray(actual[leaf.path])) for leaf in leaves}


def example_inputs(inputs: Any, arrays: Iterable[Any] = ()) -> tuple[Any, ...]:
    """Returns a tuple of inputs; None is an image in the dtype of the first of the arrays."""
    if inputs is None:
        floats = (a.dtype for a in arrays if jnp.issubdtype(a.dtype, jnp.floating))
        return (jax.ShapeDtypeStruct((1, 224, 224, 3), next(floats, jnp.float32)),)
    return inputs if isinstance(inputs, tuple) else (inputs,)


def _read(path: str | os.PathLike) -> dict[str, np.ndarray]:
    file = os.fspath(path)
    if file.endswith((".pth", ".pt", ".bin", ".ckpt", ".pkl")):
        raise ValueError(
            f"load: {file!r} is a pickle, which can run code when it is read; expected a "
            "safetensors file. Convert it where PyTorch is installed: "
            f"safetensors.torch.save_file(torch.load({file!r}, weights_only=True), "
            "'weights.safetensors')."
        )
    with extra("checkpoint", "load"):
        from safetensors import SafetensorError, safe_open
    try:
        with safe_open(path, framework="numpy") as tensors:
            return {name: tensors.get_tensor(name) for name in tensors.keys()}
    except SafetensorError as error:
        raise ValueError(f"load: {file!r} is not a safetensors file: {error}.") from error


def _choose(
    caller: str,
    model: Module,
    shapes: tuple[Tree, Tree],
    inputs: tuple[Any, ...],
    names: str | Table | None,
    arrays: Mapping[str, Any] | None,
) -> tuple[str, list[Leaf]]:
    """Returns the family whose names fit best, and the arrays of the model by its names."""
    layers = layers_with_arrays(caller, model, shapes)
    tables: Mapping[str, Table] = FAMILIES
    if names is not None:
        tables = (
            {names: table_of(caller, names)} if isinstance(names, str) else {"the table": names}
        )
    grids = flattened_grids(model, shapes, inputs, layers)
    best: tuple[tuple[int, bool], str, list[Leaf]] | None = None
    unnamed: list[str] = []
    for family, table in tables.items():
        modules, complete = module_names(caller, table, model, list(layers))
        if unnamed := [path for path in layers if path not in modules]:
            continue
        leaves = [
            leaf
            for path, layer in layers.items()
            for leaf in leaves_of(path, layer, *modules[path], grids.get(path))
        ]
        # Without a file, a network that only has some layers like those of a family is not of it.
        fit = len({leaf.name for leaf in leaves} & set(arrays or ())), complete
        if best is None or fit > best[0]:
            best = fit, family, leaves
    if best is None:
        raise ValueError(
            f"{caller}: names has no rule for the layers {', '.join(unnamed)}; expected one for "
            "each layer with parameters. Add them to the table."
        )
    _, family, leaves = best
    counts = collections.Counter(leaf.name for leaf in leaves)
    twice = [f"{leaf.name} for {leaf.path}" for leaf in leaves if counts[leaf.name] > 1]
    if twice:
        raise ValueError(
            f"{caller}: names gives the same PyTorch name to several arrays: {', '.join(twice)}; "
            "expected one module for each layer. Make the patterns more specific."
        )
    return family, leaves
