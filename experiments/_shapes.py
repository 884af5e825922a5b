"""Networks of many widths and depths in one program: masks switch units and layers off.

All runs share the shapes of the widest and deepest network. The masks are model state, which
training leaves alone: a masked unit outputs 0, so that neither its own weights nor the weights
that read it have a gradient; a masked layer returns its input. Each run therefore computes what
a network of its own shape computes, at the cost of the largest one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxdl
from jaxdl import nn, train


def masked_layer() -> jaxdl.Module:
    """Builds a layer that masks the units of a new value, or returns the old value instead.

    Its state is `units` (D,), 1 for units in use, and `used` (), 1 where the layer is in use.
    """

    def init(key, new, old):
        return {}, {"units": jnp.ones(new.shape[-1]), "used": jnp.ones(())}

    def apply(params, state, new, old, **_):
        return jnp.where(state["used"] > 0, new * state["units"], old), state

    return jaxdl.Module(init, apply, "masked_layer")


def network(width: int, layers: int, classes: int = 10) -> jaxdl.Module:
    """Builds a ReLU classifier of at most `layers` hidden layers of at most `width` units."""
    children = {f"dense_{i}": nn.dense(width, kernel_init="he_normal") for i in range(layers)}
    children |= {f"mask_{i}": masked_layer() for i in range(layers)}
    children |= {"last": nn.dense(classes, kernel_init="he_normal")}

    def forward(call, x):
        x = x.reshape(len(x), -1)
        for i in range(layers):
            new = jax.nn.relu(call(f"dense_{i}", x))
            x = call(f"mask_{i}", new, x if i else new)
        return call("last", x)

    return jaxdl.compose("masked_network", children, forward, width=width, layers=layers)


def init_shapes(
    model: jaxdl.Module, shapes: Sequence[tuple[int, int]], seeds: Sequence[int], x: Any
) -> train.TrainState:
    """Initializes a run for each shape and seed, shape by shape, for plain SGD.

    Args:
      model: a `network`.
      shapes: (width, layers) of each network.
      seeds: of the initial values.
      x: a batch of inputs.

    Returns:
      States with a leading axis over the runs. Kernels that read w units of a width of W are
      scaled by sqrt(W / w), to He's deviation at w inputs.
    """
    width, depth = model.config["width"], model.config["layers"]
    runs = [(shape, seed) for shape in shapes for seed in seeds]
    units = np.array([[np.arange(width) < w] * depth for (w, _), _ in runs], np.float32)
    used = np.array([np.arange(depth) < layers for (_, layers), _ in runs], np.float32)
    scale = np.array([(width / w) ** 0.5 for (w, _), _ in runs], np.float32)

    @jax.jit
    def begin(key, units, used, scale):
        state = train.init_state(model, optax.sgd(0.1), key, x)
        params = {
            name: layer if name == "dense_0" else layer | {"kernel": layer["kernel"] * scale}
            for name, layer in state.params.items()
        }
        masks = {f"mask_{i}": {"units": units[i], "used": used[i]} for i in range(depth)}
        return state.replace(params=params, model_state=masks)

    keys = jax.vmap(jax.random.key)(jnp.array([seed for _, seed in runs]))
    return jax.vmap(begin)(keys, units, used, scale)


def slice_shape(
    params: Any, run: int, width: int, layers: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns the kernels and biases of a run as those of a network of its own shape."""
    names = [f"dense_{i}" for i in range(layers)] + ["last"]
    parts = []
    for i, name in enumerate(names):
        kernel, bias = (np.asarray(params[name][part][run]) for part in ("kernel", "bias"))
        rows = slice(None) if i == 0 else slice(width)
        columns = slice(None) if name == "last" else slice(width)
        parts.append((kernel[rows, columns], bias[columns]))
    return parts
