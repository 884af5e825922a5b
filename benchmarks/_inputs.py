"""Random inputs and weights, by NumPy alone: every process draws the same ones for its library."""

from __future__ import annotations

import numpy as np

CONVNETS = {"28x28": (28, 1, (16, 32)), "224x224": (224, 3, (16, 32, 64))}
"""Side and channels of the images, and features of the 3x3 convolutions."""


def rows(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns x of shape (n, 784) and n labels, as of MNIST."""
    rng = np.random.default_rng(0)
    return rng.random((n, 784), np.float32), rng.integers(0, 10, n, np.int32)


def images(n: int, size: int, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns x of shape (n, size, size, channels) and n labels."""
    rng = np.random.default_rng(0)
    return rng.random((n, size, size, channels), np.float32), rng.integers(0, 10, n, np.int32)


def normal_images(size: str, n: int = 16) -> np.ndarray:
    """Returns n images with normally distributed pixels for the convnet of this size."""
    side, channels, _ = CONVNETS[size]
    return np.random.default_rng(0).standard_normal((n, side, side, channels), np.float32)


def convnet_weights(size: str) -> dict[str, dict[str, np.ndarray]]:
    """Returns He-initialized weights: 3x3 convolutions, each pooled by 2, and a dense layer."""
    side, depth, features = CONVNETS[size]
    rng = np.random.default_rng(1)

    def layer(*shape: int) -> dict[str, np.ndarray]:
        scale = np.float32(np.sqrt(2 / np.prod(shape[:-1])))
        kernel = scale * rng.standard_normal(shape, np.float32)
        return {"kernel": kernel, "bias": np.zeros(shape[-1], np.float32)}

    weights = {}
    for i, n in enumerate(features):
        weights[f"conv_{i}"] = layer(3, 3, depth, n)
        depth, side = n, side // 2
    return weights | {"dense_0": layer(side * side * depth, 10)}


def bands(size: str, n: int) -> np.ndarray:
    """Returns a mask of shape (H, W, 1) with n horizontal bands, the features of Shapley values."""
    side = CONVNETS[size][0]
    return np.broadcast_to((np.arange(side) * n // side)[:, None, None], (side, side, 1)).copy()


def characters(rows: int, steps: int, symbols: int) -> tuple[np.ndarray, np.ndarray]:
    """Symbols and those after them, (rows, steps) int32."""
    text = np.random.default_rng(0).integers(0, symbols, (rows, steps + 1), np.int32)
    return text[:, :-1], text[:, 1:]


def vision(name: str, n: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns n images (n, side, side, 3) and labels: of the pixels for a U-Net, else of images."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, side, side, 3), np.float32)
    shape, classes = ((n, side, side), 2) if name == "unet" else ((n,), 1000)
    return x, rng.integers(0, classes, shape, np.int32)
