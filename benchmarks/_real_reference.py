"""AttnLRP and CP-LRP as modified forward passes: x times their gradient is the relevance.

Written from the papers, without `jaxdl`, as a reference for `lrp` in `real_networks` and its tests.
AttnLRP is Achtibat et al. 2024 (arXiv 2402.05602), CP-LRP is Ali et al. 2022 (arXiv 2202.07304).
Both take 1 / sqrt(variance) of layer norm, and an activation's ratio of output to input, for
constants. CP-LRP takes attention's weights for constants too; AttnLRP halves the gradients of both
factors of a product. Its rule of softmax, x (R - p sum(R)), is x times softmax's own gradient.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.lax import stop_gradient

from benchmarks import _real_weights as weights

How = Literal["gradient", "attn_lrp", "cp_lrp"]
Params = Mapping[str, Any]


def layer_norm(x, params: Params, eps: float, how: How):
    """Normalizes over the last axis."""
    centred = x - x.mean(-1, keepdims=True)
    scale = jax.lax.rsqrt(jnp.square(centred).mean(-1, keepdims=True) + eps)
    return centred * _constant(scale, how) * params["scale"] + params["bias"]


def gelu(x, approximate: bool, how: How):
    """GELU, whose ratio of output to input is known without a division."""
    if approximate:
        ratio = (1 + jnp.tanh(np.sqrt(2 / np.pi).astype(np.float32) * (x + 0.044715 * x**3))) / 2
    else:
        ratio = jax.scipy.stats.norm.cdf(x)
    return x * _constant(ratio, how)


def attention(x, mask, params: Params, how: How):
    """Multi-head attention; kernels are (width, heads, features), as in Flax."""
    halve = _halve_gradient if how == "attn_lrp" else lambda x: x
    query, key, value = (
        halve(jnp.einsum("ntc,chd->nhtd", x, params[name]["kernel"]) + bias[:, None])
        for name in ("query", "key", "value")
        for bias in (params[name]["bias"],)
    )
    scores = jnp.einsum("nhtd,nhsd->nhts", query, key) / np.float32(np.sqrt(query.shape[-1]))
    # A large number, because -inf times a gradient of zero would be NaN.
    probabilities = jax.nn.softmax(scores if mask is None else jnp.where(mask, scores, -1e9))
    if how == "cp_lrp":
        probabilities = stop_gradient(probabilities)
    mixed = jnp.einsum("nhts,nhsd->nthd", halve(probabilities), value)
    return jnp.einsum("nthd,hdc->ntc", mixed, params["out"]["kernel"]) + params["out"]["bias"]


def transformer(x, params: Params, mask, depth: int, eps: float, approximate: bool, last, how: How):
    """Runs blocks with layer norm first, or with `last` after the residual sums."""
    for i in range(depth):
        block = params[f"block_{i}"]

        def dense(x, name, block=block):
            return x @ block[name]["kernel"] + block[name]["bias"]

        def norm(x, name, block=block):
            return layer_norm(x, block[name], eps, how)

        y = attention(x if last else norm(x, "norm_1"), mask, block["attention"], how)
        x = norm(x + y, "norm_1") if last else x + y
        y = gelu(dense(x if last else norm(x, "norm_2"), "fc_1"), approximate, how)
        x = norm(x + dense(y, "fc_2"), "norm_2") if last else x + dense(y, "fc_2")
    return x


def vit(params: Params, x, how: How):
    """ViT-B/16 from images to logits."""
    n, side = len(x), 16
    x = x.reshape(n, 224 // side, side, 224 // side, side, 3).swapaxes(2, 3)
    kernel = params["patches"]["kernel"].reshape(-1, 768)
    x = x.reshape(n, -1, side * side * 3) @ kernel + params["patches"]["bias"]
    token = jnp.broadcast_to(params["token"], (n, 1, 768))
    x = jnp.concatenate([token, x], 1) + params["positions"]
    x = transformer(x, params, None, 12, 1e-6, False, False, how)
    x = layer_norm(x, params["norm"], 1e-6, how)[:, 0]
    return x @ params["head"]["kernel"] + params["head"]["bias"]


def gpt2(params: Params, x, how: How):
    """GPT-2 from word embeddings to the next token's logits."""
    mask = np.tri(x.shape[1], dtype=bool)
    x = transformer(x + params["positions"], params, mask, 12, 1e-5, True, False, how)
    return layer_norm(x[:, -1], params["norm"], 1e-5, how) @ params["embed"]["embedding"].T


def minilm(params: Params, x, how: How):
    """MiniLM from word embeddings to the cosine with each sentence's partner, (N, 1)."""
    mask = params["mask"]
    x = layer_norm(x + params["constants"], params["norm"], 1e-12, how)
    x = transformer(x, params, mask[:, None, None] > 0, 6, 1e-12, False, True, how)
    pooled = (x * mask[..., None]).sum(1) / mask.sum(1, keepdims=True)
    length = jax.lax.rsqrt(jnp.square(pooled).sum(-1, keepdims=True))
    return (pooled * _constant(length, how) * params["partners"]).sum(-1, keepdims=True)


NETWORKS = {"vit": vit, "gpt2": gpt2, "minilm": minilm}


def build(network: str) -> tuple[Any, Any, jax.Array]:
    """Returns a network as a function of weights, input and `how`, its weights, and its input."""
    if network != "minilm":
        from benchmarks import _real_flax

        _, variables, x = _real_flax.build(network)
        return NETWORKS[network], variables["params"], x
    return minilm, minilm_params(), jnp.asarray(weights.embeddings(network))


def minilm_params() -> dict[str, Any]:
    """Returns MiniLM's weights, mask and partners for the eight sentences."""
    params: dict[str, Any] = {}
    for path, value in weights.minilm().items():
        *modules, name = path.split("/")
        if len(modules) == 3:  # attention's layers, in heads
            shape = (12, -1) if name == "bias" else (384, 12, -1)
            shape = (
                {"kernel": (12, -1, 384), "bias": (384,)}[name] if modules[-1] == "out" else shape
            )
            value = value.reshape(shape)
        place = functools.reduce(lambda tree, key: tree.setdefault(key, {}), modules, params)
        place[name] = jnp.asarray(value)
    reference = weights.reference("minilm")
    params["mask"] = jnp.asarray(reference["mask"], jnp.float32)
    params["partners"] = jnp.asarray(weights.partners())
    return params | {"constants": jnp.asarray(weights.minilm_constants(reference["mask"].shape[1]))}


def relevance(f, params, x, target, how: How) -> tuple[jax.Array, jax.Array]:
    """Returns x times the gradient of the modified network, and the scores (N,)."""

    def score(x):
        scores = jnp.take_along_axis(f(params, x, how), target[:, None], 1)[:, 0]
        return scores.sum(), scores

    gradient, scores = jax.grad(score, has_aux=True)(x)
    return x * gradient, scores


def _halve_gradient(x):
    """Returns x, with half of its gradient."""
    return x / 2 + stop_gradient(x / 2)


def _constant(x, how: How):
    return x if how == "gradient" else stop_gradient(x)


def prepare(network: str):
    """Returns a function that compiles a method: see `_real_process`."""
    f, params, x = build(network)
    scores = np.asarray(jax.jit(f, static_argnums=2)(params, x, "gradient"))
    target, due = jnp.asarray(scores.argmax(-1)), {"score": scores.max(-1)}

    def start(method: str):
        how: Any = method.removeprefix("lrp ")
        jitted = jax.jit(lambda params, x: relevance(f, params, x, target, how)[0])
        began = time.perf_counter()
        compiled = jitted.lower(params, x).compile()
        seconds = time.perf_counter() - began
        return lambda: jax.block_until_ready(compiled(params, x)), seconds, due

    return start


def lite0_z_plus(params: Params, images: jax.Array) -> jax.Array:
    """EfficientNet-Lite0 whose gradient times x is relevance by the z+ and epsilon rules.

    A convolution and its batch norm, y = w . x + b, become z * constant(y / z), where z has the
    terms of positive sign alone, without b (Montavon et al. 2017, eq. 9). The last layer keeps its
    bias: the epsilon rule.

    Args:
      params: the weights' file.
      images: (N, 224, 224, 3).

    Returns:
      (N, 1000), the logits of the network itself.
    """
    constant = stop_gradient

    def unit(x, conv, norm, stride=1):
        scale = params[f"{norm}.weight"] / jnp.sqrt(params[f"{norm}.running_var"] + 1e-3)
        kernel = params[f"{conv}.weight"] * scale[:, None, None, None]
        groups = x.shape[-1] if kernel.shape[1] == 1 else 1

        def convolve(x, kernel):
            layout = ("NHWC", "OIHW", "NHWC")
            return jax.lax.conv_general_dilated(
                *(x, kernel, (stride, stride), "SAME"),
                dimension_numbers=layout,
                feature_group_count=groups,
            )

        y = convolve(x, kernel) + params[f"{norm}.bias"] - params[f"{norm}.running_mean"] * scale
        z = convolve(jnp.maximum(x, 0), jnp.maximum(kernel, 0))
        z += convolve(jnp.minimum(x, 0), jnp.minimum(kernel, 0))
        # Units without a positive term keep their value, but pass no relevance on.
        return constant(y) + constant(jnp.where(z > 0, y / jnp.where(z > 0, z, 1), 0)) * (
            z - constant(z)
        )

    def relu6(x):
        ratio = jnp.where(x > 0, jnp.clip(x, 0, 6) / jnp.where(x > 0, x, 1), 0)
        return x * constant(ratio)

    x = relu6(unit(images, "_conv_stem", "_bn0", 2))
    for i, stride in enumerate((1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1)):
        name, y = f"_blocks.{i}", x
        if i:
            y = relu6(unit(y, f"{name}._expand_conv", f"{name}._bn0"))
        y = relu6(unit(y, f"{name}._depthwise_conv", f"{name}._bn1", stride))
        y = unit(y, f"{name}._project_conv", f"{name}._bn2")
        x = x + y if x.shape == y.shape else y
    x = relu6(unit(x, "_conv_head", "_bn1"))
    return x.mean((1, 2)) @ params["_fc.weight"].T + params["_fc.bias"]
