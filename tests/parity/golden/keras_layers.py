"""Writes keras_layers.npz: outputs and gradients of Keras's layers on the JAX backend.

`pip install keras`, then `python -m tests.parity.golden.keras_layers`. Weights and inputs are drawn
by NumPy, so that the tests draw them again and compare with Keras's numbers where it is absent.
"""

import os
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

os.environ["KERAS_BACKEND"] = "jax"  # read when Keras is imported
FILE = pathlib.Path(__file__).with_suffix(".npz")
IMAGES, ROWS, SEQUENCES = (4, 6, 5, 3), (5, 3), (2, 6, 3)
# The input and the weights of each layer, in the order of Keras's `layer.weights`.
SHAPES = {
    "dense": (ROWS, (3, 4), (4,)),
    "conv": (IMAGES, (3, 3, 3, 4), (4,)),
    "conv_valid": (IMAGES, (3, 3, 3, 4), (4,)),
    "lstm": (SEQUENCES, (3, 16), (4, 16), (16,)),
    "gru": (SEQUENCES, (3, 12), (4, 12), (2, 12)),
    "gru_before": (SEQUENCES, (3, 12), (4, 12), (12,)),
    "batch_norm": (IMAGES, (3,), (3,), (3,), (3,)),
    "batch_norm_train": (IMAGES, (3,), (3,), (3,), (3,)),
}


def draw(name: str) -> list[np.ndarray]:
    """Returns the input and the weights of a layer; variances, the last of a norm, are positive."""
    rng = np.random.default_rng(list(SHAPES).index(name))
    arrays = [rng.normal(size=shape).astype(np.float32) for shape in SHAPES[name]]
    if name.startswith("batch_norm"):
        arrays[-1] = np.abs(arrays[-1]) + np.float32(0.5)
    return arrays


def compute() -> dict[str, Any]:
    """Returns `{"dense": y, "dense/x": gradient, "dense/0": gradient of the first weight, ...}`.

    Gradients are those of sum(sin(y)); of a norm in training, new statistics are "state/2" and 3.
    """
    import keras

    layers, values = keras.layers, {}
    make = {
        "dense": lambda: layers.Dense(4),
        "conv": lambda: layers.Conv2D(4, 3, strides=2, padding="same"),
        "conv_valid": lambda: layers.Conv2D(4, 3, dilation_rate=2),
        "lstm": lambda: layers.LSTM(4, return_sequences=True),
        "gru": lambda: layers.GRU(4, return_sequences=True),
        "gru_before": lambda: layers.GRU(4, reset_after=False, return_sequences=True),
        "batch_norm": lambda: layers.BatchNormalization(),
        "batch_norm_train": lambda: layers.BatchNormalization(),
    }
    with jax.numpy_dtype_promotion("standard"):
        for name in SHAPES:
            layer, (x, *weights) = make[name](), map(jnp.asarray, draw(name))
            layer.build(x.shape)
            count = len(layer.trainable_variables)
            others = weights[count:] or [v.value for v in layer.non_trainable_variables]  # seeds
            mode = {"training": name.endswith("train")} if name.startswith("batch_norm") else {}

            def loss(trained, x, layer=layer, others=others, mode=mode):
                y, new = layer.stateless_call(trained, others, x, **mode)
                return jnp.sum(jnp.sin(y)), (y, new)

            grads, (y, new) = jax.grad(loss, (0, 1), has_aux=True)(weights[:count], x)
            values |= {name: y, f"{name}/x": grads[1]}
            values |= {f"{name}/{i}": gradient for i, gradient in enumerate(grads[0])}
            if name == "batch_norm_train":
                values |= {f"{name}/state/{i}": leaf for i, leaf in enumerate(new, count)}
    return {name: np.asarray(value) for name, value in values.items()}


if __name__ == "__main__":
    np.savez_compressed(FILE, **compute())
