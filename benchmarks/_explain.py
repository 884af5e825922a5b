"""Our explanations of a convolutional network, each compiled as one program."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

import jaxdl
from benchmarks import _inputs, _peak_memory
from jaxdl import interpret, nn
from jaxdl.interpret import evaluate


def _network(size: str) -> jaxdl.Module:
    features = _inputs.CONVNETS[size][2]
    layers = [layer for n in features for layer in (nn.conv(n, 3), jax.nn.relu, nn.max_pool(2))]
    return jaxdl.serial(*layers, nn.flatten(), nn.dense(10))


def _build(size: str, n: int = 16):
    """Returns the network as a function of weights and images, the weights, and n images."""
    x = jnp.asarray(_inputs.normal_images(size, n))
    model = _network(size)
    _, state = jaxdl.init(model, jax.random.key(0), x)
    params = jax.tree.map(jnp.asarray, _inputs.convnet_weights(size))
    return (lambda params, x: model.apply(params, state, x)[0]), params, x


def _methods(size: str, target: jax.Array) -> dict[str, Callable[..., Any]]:
    """Each method as a function of the network and the images."""
    key, depth = jax.random.key(0), _inputs.CONVNETS[size][1]
    smooth = interpret.average_over_noise(interpret.saliency, sigma=0.1, samples=50)

    def occlusion(window, stride):
        size, steps = (window, window, depth), (stride, stride, depth)
        return lambda f, x: interpret.occlusion(
            f, x, size, stride=steps, target=target, batch_size=16
        )

    def shapley(features):
        mask = _inputs.bands(size, features)
        return lambda f, x: interpret.shapley_values(f, x, target=target, mask=mask, batch_size=16)

    return {
        "saliency": lambda f, x: interpret.saliency(f, x, target=target),
        "saliency's forward pass": lambda f, x: f(x),
        "integrated gradients, 50": lambda f, x: interpret.integrated_gradients(
            f, x, target=target, steps=50, batch_size=5
        ),
        "SmoothGrad, 50": lambda f, x: smooth(f, x, target=target, key=key, batch_size=5),
        "occlusion, 4x4 by 2": occlusion(4, 2),
        "occlusion, 32x32 by 16": occlusion(32, 16),
        "exact Shapley, 6 features": shapley(6),
        "Shapley, 10 features": shapley(10),
        "LRP, epsilon plus": lambda f, x: interpret.lrp(
            f, x, target=target, composite="epsilon_plus"
        ),
    }


def explain(method: str, size: str):
    """Returns a call that explains 16 images."""
    apply, params, x = _build(size)
    call = _methods(size, jnp.arange(len(x)) % 10)[method]
    compiled = jax.jit(lambda params, x: call(lambda x: apply(params, x), x))
    return lambda: jax.block_until_ready(compiled(params, x))


def peak_megabytes(method: str, size: str) -> float:
    """Returns the peak memory of the first call, compilation included."""
    return _peak_memory.peak_megabytes(explain(method, size))


def random_networks(how: str, models: int):
    """Returns a call that compares an explanation with those of random networks.

    All in one program ("together"), one after the other ("loop"), or so with the explanation
    compiled ("compiled loop").
    """
    apply, params, x = _build("28x28", 4)
    # Any class: the time does not depend on it, and the network is not trained.
    target, model, key = jnp.arange(len(x)) % 10, _network("28x28"), jax.random.key(1)

    def explain(params):
        return interpret.saliency(lambda x: apply(params, x), x, target=target)

    def redraw(key):
        return model.init(key, x)[0]

    def together():
        jax.clear_caches()
        checked = evaluate.random_parameters(explain, params, redraw, key=key, models=models)
        return jax.block_until_ready(checked)

    def loop():
        jax.clear_caches()
        wrap = jax.jit if how == "compiled loop" else lambda f: f
        trained, one, draw = explain(params), wrap(explain), wrap(redraw)
        for k in jax.random.split(key, models):
            jax.block_until_ready(evaluate.agreement(one(draw(k)), trained))

    return together if how == "together" else loop
