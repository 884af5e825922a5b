"""Flax's side of `vision`: Linen modules as a user would write them."""

from __future__ import annotations

import functools
import time
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from benchmarks import _inputs
from benchmarks._gpu_flax import ResNet
from benchmarks._gpu_works import DEPTHS

STAGES = (
    # expansion, window, stride, channels, layers
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)


def _norm(train: bool) -> Any:
    return nn.BatchNorm(use_running_average=not train, momentum=0.9)


class EfficientNetB0(nn.Module):
    """Tan and Le 2019, table 1, without stochastic depth."""

    train: bool

    def unit(self, x, features: int, size: int = 1, stride: int = 1, groups: int = 1):
        pad = [(size // 2, size // 2)] * 2
        conv = nn.Conv(
            features,
            (size, size),
            (stride, stride),
            padding=pad,
            feature_group_count=groups,
            use_bias=False,
        )
        return _norm(self.train)(conv(x))

    @nn.compact
    def __call__(self, x):
        x = nn.silu(self.unit(x, 32, 3, 2))
        for expansion, size, stride, features, layers in STAGES:
            for i in range(layers):
                y, channels = x, x.shape[-1]
                wide = channels * expansion
                if expansion > 1:
                    y = nn.silu(self.unit(y, wide))
                y = nn.silu(self.unit(y, wide, size, 1 if i else stride, wide))
                gate = nn.silu(nn.Conv(channels // 4, (1, 1))(y.mean((1, 2), keepdims=True)))
                y = self.unit(y * nn.sigmoid(nn.Conv(wide, (1, 1))(gate)), features)
                x = x + y if x.shape == y.shape else y
        x = nn.silu(self.unit(x, 1280)).mean((1, 2))
        return nn.Dense(1000)(nn.Dropout(0.2, deterministic=not self.train)(x))


class UNet(nn.Module):
    """The network of `jaxdl.zoo.segmentation.padded_unet`."""

    train: bool

    def block(self, x, features: int):
        for _ in range(2):
            x = nn.Conv(features, (3, 3), use_bias=False)(x)
            x = nn.relu(_norm(self.train)(x))
        return x

    @nn.compact
    def __call__(self, x):
        skips = []
        for i in range(5):
            x = self.block(nn.max_pool(x, (2, 2), (2, 2)) if i else x, 64 * 2**i)
            skips.append(x)
        x = skips.pop()
        while skips:
            skip = skips.pop()
            x = nn.ConvTranspose(skip.shape[-1], (2, 2), (2, 2))(x)
            x = self.block(jnp.concatenate([skip, x], -1), skip.shape[-1])
        return nn.Conv(2, (1, 1))(x)


def _model(name: str, train: bool) -> Any:
    if name.startswith("resnet"):
        return ResNet(*DEPTHS[f"ResNet-{name[6:]}"], train=train)
    return {"unet": UNet, "efficientnet_b0": EfficientNetB0}[name](train=train)


def _setup(name: str, batch: int, side: int, train: bool) -> Any:
    x, y = map(jnp.asarray, _inputs.vision(name, batch, side))
    model = _model(name, train)
    keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    return model, jax.jit(model.init)(keys, x), x, y


def forward(name, batch, side):
    """Returns a call that computes the logits."""
    model, variables, x, _ = _setup(name, batch, side, train=False)
    predict = jax.jit(model.apply)
    return lambda: jax.block_until_ready(predict(variables, x))


def _training(name: str, batch: int, side: int) -> Any:
    model, variables, x, y = _setup(name, batch, side, train=True)
    params, stats = variables["params"], variables["batch_stats"]
    optimizer = optax.sgd(0.01, momentum=0.9)

    @functools.partial(jax.jit, donate_argnums=0)
    def one(state, x, y):
        params, stats, opt_state, key, i = state

        def loss(params):
            variables, rngs = (
                {"params": params, "batch_stats": stats},
                {"dropout": jax.random.fold_in(key, i)},
            )
            logits, new = model.apply(variables, x, mutable=["batch_stats"], rngs=rngs)
            costs = optax.softmax_cross_entropy_with_integer_labels(logits, y)
            return costs.mean(), new["batch_stats"]

        (value, stats), gradient = jax.value_and_grad(loss, has_aux=True)(params)
        updates, opt_state = optimizer.update(gradient, opt_state, params)
        return (optax.apply_updates(params, updates), stats, opt_state, key, i + 1), value

    state = (params, stats, optimizer.init(params), jax.random.key(2), jnp.int32(0))
    return one, state, x, y


def step(name, batch, side):
    """Returns a call of one step of training."""
    one, state, x, y = _training(name, batch, side)
    held = {"state": state}

    def run():
        held["state"], value = one(held["state"], x, y)
        return jax.block_until_ready(value)

    return run


def compile_step(name, batch, side, cache):
    """Returns the seconds of tracing and compiling a step; `cache` is not used."""
    del cache
    one, state, x, y = _training(name, batch, side)
    start = time.perf_counter()
    one.lower(state, x, y).compile()
    return time.perf_counter() - start
