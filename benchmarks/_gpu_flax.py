"""Flax's side of `python -m benchmarks gpu`: Linen modules, optax, one compiled step."""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen

from benchmarks import _gpu_jax as common
from benchmarks._gpu_works import CLASSES, IMAGES
from benchmarks._nnx import LeNet


def machine() -> dict[str, Any]:
    return common.machine("flax", "optax")


def kinds(library: str) -> dict[str, Callable[..., dict[str, Any]]]:
    """Returns the function that measures each kind of work."""
    del library
    return {"recurrent": recurrent, "epoch": epoch, "resnet_step": resnet_step}


def recurrent(kind: str, shape: Any, seconds: float) -> dict[str, Any]:
    """Computes the gradient of mean(y^2) with respect to a layer's parameters."""
    cell = {"lstm": linen.OptimizedLSTMCell, "gru": linen.GRUCell}[kind](shape[3])
    layer, x = linen.RNN(cell), jnp.asarray(common.images(*shape[:3])[0])
    # Shapes only: compiling the initializers would take a part of the few minutes.
    params = common.weights(jax.eval_shape(layer.init, jax.random.key(0), x))
    apply: Any = layer.apply

    def loss(params, x):
        return jnp.mean(jnp.square(apply(params, x)))

    return common.pure(jax.grad(loss), params, x, seconds=seconds)


class MLP(linen.Module):
    """784-500-500-10 with sigmoids."""

    @linen.compact
    def __call__(self, x):
        x = x.reshape(len(x), -1)
        for _ in range(2):
            x = jax.nn.sigmoid(linen.Dense(500)(x))
        return linen.Dense(10)(x)


class ResNet(linen.Module):
    """The network of `jaxdl.zoo.vision.resnet`: He et al. 2016, table 1.

    Attributes:
      block: "basic" or "bottleneck".
      depths: the number of blocks in each stage.
      dtype: what the layers compute in; parameters and statistics are float32.
      train: whether to normalize by the statistics of the batch.
    """

    block: str
    depths: tuple[int, ...]
    dtype: Any = jnp.float32
    train: bool = True

    @linen.compact
    def __call__(self, x):
        conv = functools.partial(linen.Conv, use_bias=False, dtype=self.dtype)
        norm = functools.partial(
            linen.BatchNorm, use_running_average=not self.train, momentum=0.9, dtype=self.dtype
        )

        def conv_norm(x, features, size, stride=1):
            edge = size // 2
            pad = [(edge, edge)] * 2
            return norm()(conv(features, (size, size), (stride, stride), padding=pad)(x))

        x = jax.nn.relu(conv_norm(x, 64, 7, 2))
        edges: Any = [(1, 1)] * 2
        x = linen.max_pool(x, (3, 3), (2, 2), padding=edges)
        for stage, depth in enumerate(self.depths):
            width = 64 * 2**stage
            out = width if self.block == "basic" else 4 * width
            for i in range(depth):
                stride = 2 if stage and not i else 1
                shortcut = x if x.shape[-1] == out else conv_norm(x, out, 1, stride)
                if self.block == "basic":
                    y = jax.nn.relu(conv_norm(x, width, 3, stride))
                    y = conv_norm(y, width, 3)
                else:
                    y = jax.nn.relu(conv_norm(x, width, 1))
                    y = jax.nn.relu(conv_norm(y, width, 3, stride))
                    y = conv_norm(y, out, 1)
                x = jax.nn.relu(shortcut + y)
        return linen.Dense(CLASSES, dtype=self.dtype)(x.mean((1, 2)))


def training(model: Any, x: Any, optimizer: Any):
    """Returns a pure step of training with cross entropy, and its first state."""
    variables = common.weights(jax.eval_shape(model.init, jax.random.key(0), x))
    params, batch_stats = variables["params"], variables.get("batch_stats", {})
    opt_state = common.zeros(jax.eval_shape(optimizer.init, params))

    def step(state, x, y):
        params, batch_stats, opt_state = state

        def loss(params):
            variables = {"params": params, "batch_stats": batch_stats}
            logits, new = model.apply(variables, x, mutable=["batch_stats"])
            logits = logits.astype(jnp.float32)
            costs = optax.softmax_cross_entropy_with_integer_labels(logits, y)
            return costs.mean(), new.get("batch_stats", {})

        (value, batch_stats), grads = jax.value_and_grad(loss, has_aux=True)(params)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return (optax.apply_updates(params, updates), batch_stats, opt_state), value

    return step, (params, batch_stats, opt_state)


def epoch(network: str, rows: int, batch: int, seconds: float) -> dict[str, Any]:
    """Runs a loop in Python over a compiled step, with the data on the device."""
    before = common.greatest()
    x, y = jax.device_put(common.images(rows, *IMAGES))
    model = {"mlp": MLP, "lenet": LeNet}[network]()
    step, state = training(model, x[:batch], optax.sgd(0.01))

    @functools.partial(jax.jit, donate_argnums=0)
    def one(state, x, y, order, i):
        chosen = jax.lax.dynamic_slice_in_dim(order, i * batch, batch)
        return step(state, x[chosen], y[chosen])

    rng = np.random.default_rng(0)
    order = jnp.asarray(rng.permutation(rows))
    began = time.perf_counter()
    state, loss = one(state, x, y, order, 0)
    jax.block_until_ready(loss)
    first, spent = time.perf_counter() - began, []
    for _ in range(6):
        began = time.perf_counter()
        order = jnp.asarray(rng.permutation(rows))
        for i in range(rows // batch):
            state, loss = one(state, x, y, order, i)
        jax.block_until_ready(loss)
        spent.append(time.perf_counter() - began)
    return {
        "ms": statistics.median(spent[1:]) * 1e3,
        "compile_s": first,
        "peak_mb": common.peak_mb(before),
    }


def resnet_step(
    block: str, depths: Any, batch: int, side: int, dtype: str, seconds: float
) -> dict[str, Any]:
    """Takes one step of SGD with momentum."""
    model = ResNet(block, tuple(depths), jnp.bfloat16 if dtype == "bf16" else jnp.float32)
    x, y = common.images(batch, side, side, 3, classes=CLASSES)
    step, state = training(model, x, optax.sgd(0.01, momentum=0.9))
    return common.measure_step(step, state, x, y, seconds=seconds)
