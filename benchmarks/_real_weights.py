"""Weights and inputs of the networks of `real_networks`, by NumPy: both sides draw the same ones.

A random weight depends on its path and shape alone. Biases, scales and running statistics are
random too: with zeros and ones, faults in their treatment stay hidden.
"""

from __future__ import annotations

import json
import os
import pathlib
import zlib
from collections.abc import Callable

import numpy as np

PRETRAINED = ("lite0", "minilm")
FOLDERS = {"lite0": "efficientnet_lite0", "minilm": "minilm"}
TOKENS = 32
"""Length of GPT-2's input."""
WORDS = 50257
"""Size of GPT-2's vocabulary."""


def draw(path: str, shape: tuple[int, ...]) -> np.ndarray:
    """Draws the weight at a path such as "block_3/conv/kernel", in Flax's layout."""
    rng = np.random.default_rng(zlib.crc32(path.encode()))
    normal = rng.standard_normal(shape, np.float32)
    *_, layer, name = f"/{path}".split("/")
    if name == "kernel":
        # Attention's kernels are (width, heads, features), and (heads, features, width) of "out".
        attention = len(shape) == 3 and layer != "out"
        fan_in = shape[0] if attention else np.prod(shape[:-1])
        gain = {"query": 3, "last": 0.5}.get(layer, 1.0)  # confident attention, small residuals
        value = gain * normal * np.sqrt((2 if len(shape) == 4 else 1) / fan_in)
    elif name == "scale":
        value = 1 + 0.2 * normal
    elif name == "var":
        value = np.exp(0.4 * normal)
    else:  # biases, running means, embeddings
        value = 0.2 * normal
    return value.astype(np.float32)


def folder(network: str) -> pathlib.Path:
    """Returns the folder of a pretrained network.

    Raises:
      FileNotFoundError: JAXDL_DATA is not set, or has no such network.
    """
    path = pathlib.Path(os.environ.get("JAXDL_DATA", "")) / "pretrained" / FOLDERS[network]
    if "JAXDL_DATA" not in os.environ or not path.is_dir():
        raise FileNotFoundError(f"{network}: no weights in {path}; set JAXDL_DATA")
    return path


def minilm() -> dict[str, np.ndarray]:
    """Returns MiniLM's weights after the embedding, by paths in the layout of `draw`."""
    weights, arrays = load_pretrained("minilm"), {}
    names = {"attention.self.query": "attention/query", "attention.self.key": "attention/key"}
    names |= {"attention.self.value": "attention/value", "attention.output.dense": "attention/out"}
    names |= {"attention.output.LayerNorm": "norm_1", "intermediate.dense": "fc_1"}
    names |= {"output.dense": "fc_2", "output.LayerNorm": "norm_2"}
    modules = {"embeddings.LayerNorm": "norm"}
    for i in range(6):
        modules |= {f"encoder.layer.{i}.{a}": f"block_{i}/{b}" for a, b in names.items()}
    for module, path in modules.items():
        kind = "scale" if "norm" in path else "kernel"
        arrays[f"{path}/{kind}"] = weights[f"{module}.weight"].T
        arrays[f"{path}/bias"] = weights[f"{module}.bias"]
    return arrays


def minilm_constants(length: int) -> np.ndarray:
    """Returns what MiniLM adds to word embeddings: positions and the first segment, (T, 384)."""
    params = load_pretrained("minilm")
    positions = params["embeddings.position_embeddings.weight"][:length]
    return positions + params["embeddings.token_type_embeddings.weight"][0]


def source(network: str) -> Callable[[str, tuple[int, ...]], np.ndarray]:
    """Returns the weight of a network by path and shape."""
    if network != "minilm":
        return draw
    weights = minilm()
    return lambda path, shape: weights[path].reshape(shape)


def load_pretrained(network: str) -> dict[str, np.ndarray]:
    """Reads the weights of a pretrained network, with torch's names and layouts, in float32."""
    from safetensors.numpy import load_file

    weights = load_file(folder(network) / "model.safetensors")
    return {name: value.astype(np.float32) for name, value in weights.items()}


def reference(network: str) -> dict[str, np.ndarray]:
    """Reads the inputs and outputs that were published with a pretrained network's weights."""
    with np.load(folder(network) / "reference.npz") as file:
        return dict(file)


def sentences() -> list[str]:
    """Reads MiniLM's sentences, which come in pairs of similar meaning."""
    return json.loads((folder("minilm") / "sentences.json").read_text("utf-8"))


def images(network: str) -> np.ndarray:
    """Returns images (N, H, W, 3): two photographs for Lite0, random numbers for the others."""
    if network == "lite0":
        return ((reference(network)["images"][1:3] - 127.0) / 128).astype(np.float32)
    side = 128 if network == "unet" else 224
    return np.random.default_rng(0).standard_normal((1, side, side, 3), np.float32)


def embeddings(network: str) -> np.ndarray:
    """Returns the word embeddings (N, T, C) of a language model's input."""
    if network == "minilm":
        table = load_pretrained("minilm")["embeddings.word_embeddings.weight"]
        return table[reference("minilm")["ids"]]
    ids = np.random.default_rng(0).integers(0, WORDS, (1, TOKENS))
    return draw("embed/embedding", (WORDS, 768))[ids]


def partners() -> np.ndarray:
    """Returns the embedding of each sentence's partner, (8, 384): MiniLM's score is along it."""
    embeddings = reference("minilm")["embeddings"].astype(np.float32)
    return embeddings.reshape(-1, 2, embeddings.shape[-1])[:, ::-1].reshape(embeddings.shape)
