"""Weights and inputs by a formula, so that two libraries can be given the same.

Arrays are numbered in the order of a PyTorch `state_dict`, which is that of the children here.
"""

import itertools
import math

import jax
import numpy as np


def uniform(number, count):
    """Returns numbers in [0, 1)."""
    wave = np.abs(np.sin(12.9898 * np.arange(1.0, count + 1) + 78.233 * (number + 1))) * 43758.5453
    return wave - np.floor(wave)


def image(size):
    """Returns (1, size, size, 3) numbers in [-1, 1)."""
    values = 2 * uniform(-1, 3 * size * size) - 1
    return values.reshape(1, 3, size, size).transpose(0, 2, 3, 1)


def weights(model, x):
    """Returns `(params, state)` of the shapes of a model."""
    numbers = itertools.count()

    def draw(shape):
        return uniform(next(numbers), math.prod(shape)).reshape(shape)

    def kernel(shape, turn):
        stored = [shape[axis] for axis in np.argsort(turn)]  # the shape in PyTorch
        scale = math.sqrt(24 / math.prod(stored[1:]))
        return ((draw(stored) - 0.5) * scale).transpose(turn)

    def fill(module, params, state):
        if module.children:
            parts = {
                name: fill(child, params[name], state.get(name, {}))
                for name, child in module.children.items()
                if name in params
            }
            return tuple({name: part[i] for name, part in parts.items()} for i in (0, 1))
        values = {}
        if "kernel" in params:
            turn = (2, 3, 0, 1) if module.kind == "conv_transpose" else (2, 3, 1, 0)
            values["kernel"] = kernel(params["kernel"].shape, turn)
        if "scale" in params:
            values["scale"] = 1 + 0.1 * (2 * draw(params["scale"].shape) - 1)
        if "bias" in params:
            values["bias"] = 0.1 * (2 * draw(params["bias"].shape) - 1)
        offsets = {"mean": 0, "var": 1}
        return values, {
            name: offsets[name] + 0.1 * (2 * draw(state[name].shape) - 1)
            for name in offsets
            if name in state
        }

    shapes = jax.eval_shape(model.init, jax.random.key(0), x)
    return fill(model, *shapes)


def channels_first(y):
    """Returns logits (1, H, W, K) as PyTorch lists them: one class after another."""
    return np.asarray(y)[0].transpose(2, 0, 1).reshape(-1)
