"""Layers against Keras's on the JAX backend: golden numbers, and Keras itself where installed."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl import nn
from jaxdl.core import Tree
from tests.parity.golden import keras_layers

GOLDEN = dict(np.load(keras_layers.FILE))
LAYERS = {
    "dense": nn.dense(4),
    "conv": nn.conv(4, 3, stride=2),
    "conv_valid": nn.conv(4, 3, padding="VALID", dilation=2),
    "lstm": nn.lstm(4),
    "gru": nn.gru(4),
    "gru_before": nn.gru(4, reset="before", use_bias=True),
    "batch_norm": nn.batch_norm(eps=1e-3),
    "batch_norm_train": nn.batch_norm(eps=1e-3),
}
SWAPPED = np.r_[4:8, 0:4, 8:12]  # Keras's gates are z, r, n; ours r, u, n


def from_keras(name, weights) -> tuple[Tree, Tree]:
    """Returns `(params, state)` from Keras's weights."""
    if name.startswith("batch_norm"):
        scale, bias, mean, var = weights
        return {"scale": scale, "bias": bias}, {"mean": mean, "var": var}
    if name.startswith("gru"):
        weights = [w[..., SWAPPED] for w in weights]
    if name == "gru_before":  # u = 1 - z = sigmoid of the negative sum
        weights = [w * np.repeat(np.array([1, -1, 1], np.float32), 4) for w in weights]
    if len(weights) == 2:
        return dict(zip(("kernel", "bias"), weights, strict=True)), {}
    kernel, recurrent_kernel, bias = weights
    params: Tree = {"kernel": kernel, "recurrent_kernel": recurrent_kernel}
    if name == "gru":
        of_x, of_h = bias
        params["recurrent_bias"] = of_h[8:]
        bias = jnp.concatenate([of_x[:8] + of_h[:8], of_x[8:]])
    return params | {"bias": bias}, {}


@pytest.mark.row("V07")
@pytest.mark.parametrize("name", LAYERS)
def test_values_and_gradients_are_those_of_keras(name):
    trained = 2 if name.startswith("batch_norm") else None

    def loss(weights, x, others):
        params, state = from_keras(name, [*weights, *others])
        train = {"train": True} if name.endswith("train") else {}
        y, new = LAYERS[name].apply(params, state, x, **train)
        plain = nn.unroll(LAYERS[name], params, x, implementation="scan")[1] if x.ndim == 3 else y
        return jnp.sum(jnp.sin(y)), (y, plain, new)

    x, *weights = keras_layers.draw(name)
    others = weights[len(weights[:trained]) :]
    differentiate = jax.jit(jax.grad(loss, (0, 1), has_aux=True))
    (of_weights, of_x), (y, plain, new) = differentiate(weights[:trained], x, others)
    ours = {name: y, f"{name}/x": of_x}
    ours |= {f"{name}/{i}": gradient for i, gradient in enumerate(of_weights)}
    if name == "batch_norm_train":
        ours |= {f"{name}/state/2": new["mean"], f"{name}/state/3": new["var"]}
    expected = {k: v for k, v in GOLDEN.items() if k.partition("/")[0] == name}
    chex.assert_trees_all_close(plain, expected[name], atol=2e-5, rtol=1e-4)
    chex.assert_trees_all_close(ours, expected, atol=2e-5, rtol=1e-4)


@pytest.mark.row("V07")
def test_the_golden_numbers_are_those_of_the_keras_installed():
    pytest.importorskip("keras", reason="Keras is not installed")
    chex.assert_trees_all_close(keras_layers.compute(), GOLDEN, atol=2e-5, rtol=1e-4)
