"""Our explanations of the networks of `real_networks`, each compiled as one program."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import _real_weights as weights
from benchmarks._real_methods import AT, LAYERS, STEPS, window
from jaxdl import interpret


def build(network: str) -> tuple[Callable[..., Any], Any, jax.Array, str | None]:
    """Returns a network as a function of weights and input, weights, input, and where to explain.

    MiniLM takes token ids, and the words' embeddings are explained.
    """
    if network == "lite0":
        from experiments import _pretrained

        x = jnp.asarray(weights.images(network))
        model, trees = _pretrained.lite0()
        return lambda trees, x: model.apply(*trees, x)[0], trees, x, None
    if network == "minilm":
        from experiments import _pretrained

        reference, partners = weights.reference(network), weights.partners()
        # The mask and the partners belong to the examples, so they are explained with them.
        inputs = [jnp.asarray(a) for a in (reference["ids"], reference["mask"], partners)]

        def cosine(params, ids):
            embeddings = _pretrained.minilm(params, ids, inputs[1])
            return jnp.sum(embeddings * inputs[2], -1, keepdims=True)

        return cosine, _as_arrays(_pretrained.load("minilm")), inputs[0], AT
    from benchmarks import _real_flax

    return *_real_flax.build(network), None


def _as_arrays(params: Any) -> Any:
    return jax.tree.map(jnp.asarray, dict(params))


def methods(network: str, target: Any, at: str | None) -> dict[str, Callable[..., Any]]:
    """Returns each method as a function of the network and its input."""
    options = {"target": target, "layer": at}
    size = window(network)
    layer = LAYERS.get(network, "")

    def relevance(composite):
        return lambda f, x: interpret.lrp(f, x, composite=composite, **options)

    return {
        "saliency": lambda f, x: interpret.saliency(f, x, **options),
        "integrated_gradients": lambda f, x: interpret.integrated_gradients(
            f, x, steps=STEPS, **options
        ),
        "deep_lift": lambda f, x: interpret.deep_lift(f, x, **options),
        "guided_backprop": lambda f, x: interpret.guided_backprop(f, x, target=target),
        "grad_cam": lambda f, x: interpret.grad_cam(f, x, layer=layer, target=target),
        "occlusion": lambda f, x: interpret.occlusion(f, x, size, stride=size, **options),
        "lrp epsilon": relevance("epsilon"),
        "lrp epsilon_plus": relevance("epsilon_plus"),
        "lrp attn_lrp": relevance("attn_lrp"),
        "lrp cp_lrp": relevance("cp_lrp"),
    }


def prepare(network: str) -> Callable[[str], Any]:
    """Returns a function that compiles a method: see `_real_process`."""
    f, params, x, layer = build(network)
    scores = np.asarray(jax.jit(f)(params, x))
    target = jnp.asarray(scores.argmax(-1))
    due = {
        "score": scores.max(-1),
        "difference": scores.max(-1) - _baseline(f, params, x, layer, target),
    }

    def start(method: str):
        explain = methods(network, target, layer)[method]
        jitted = jax.jit(lambda params, x: explain(lambda x: f(params, x), x))
        began = time.perf_counter()
        compiled = jitted.lower(params, x).compile()
        seconds = time.perf_counter() - began
        return lambda: jax.block_until_ready(compiled(params, x)), seconds, due

    return start


def _baseline(f, params, x, layer, target) -> np.ndarray:
    """Returns the scores at the baseline of zeros."""
    # A baseline of zeros for the words, while the positions' embeddings remain.
    if layer is not None:
        words = "embeddings.word_embeddings.weight"
        params = params | {words: jnp.zeros_like(params[words])}
    else:
        x = jnp.zeros_like(x)
    scores = jax.jit(f)(params, x)
    return np.asarray(jnp.take_along_axis(scores, target[:, None], 1)[:, 0])
