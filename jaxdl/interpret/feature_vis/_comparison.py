"""Objectives that compare an image with another one, and Gram matrices."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl._check import require_number
from jaxdl.interpret.feature_vis._objective import Objective, reference_objective


def style(layers: str | Sequence[str], image: jax.Array | np.ndarray) -> Objective:
    """Returns the distance of Gram matrices from those of an image.

    Gatys, Ecker and Bethge 2015 (arXiv 1508.06576), eq. 4 and 5 with equal weights: the mean over
    layers of ||G - G'||^2 / (4 K^2), where G is the `gram` matrix. Positions do not matter, so the
    image may have another size.

    Args:
      layers: one path or several, as for `neuron`.
      image: (*shape), the image with the style.

    Returns:
      An `Objective` to subtract.
    """
    names = (layers,) if isinstance(layers, str) else tuple(layers)

    def distance(activations, matrices):
        total = 0.0
        for activation, matrix in zip(activations, matrices, strict=True):
            error = jnp.sum((gram(activation) - matrix) ** 2, axis=(1, 2))
            total = total + error / (4 * matrix.shape[-1] ** 2)
        return total / len(names)

    def summarize(activations):
        return tuple(map(gram, activations))

    return reference_objective("style", names, image, summarize, distance)


def content(layer: str, image: jax.Array | np.ndarray) -> Objective:
    """Returns the mean squared distance of a layer from its value for an image.

    Mahendran and Vedaldi 2015 (arXiv 1412.0035), eq. 1; Gatys et al. 2015 (arXiv 1508.06576),
    eq. 1.

    Args:
      layer: as for `neuron`.
      image: (*shape), the image with the content, of the size that the network gets.

    Returns:
      An `Objective` to subtract.
    """

    def distance(activations, references):
        error = (activations[0] - references[0]) ** 2
        return jnp.mean(error, axis=tuple(range(1, error.ndim)))

    return reference_objective("content", (layer,), image, tuple, distance, same_shape=True)


def caricature(layer: str, image: jax.Array | np.ndarray, cosine_power: float = 1.0) -> Objective:
    """Returns the similarity of a layer to its value for an image, which exaggerates its features.

    The mean over positions of (a . a') max(0.1, cos(a, a'))^p for the activations a' of the image:
    Lucid's "feature inversion with caricature", as in Carter et al. 2019
    (doi:10.23915/distill.00015).

    Args:
      layer: as for `neuron`.
      image: (*shape), of the size that the network gets.
      cosine_power: p, 0 or more.

    Returns:
      An `Objective`.

    Raises:
      ValueError: `cosine_power` is negative.
    """
    power = require_number(
        "caricature", "a number of 0 or more", lambda v: v >= 0, cosine_power=cosine_power
    )

    def similarity(activations, references):
        return mean_over_space(align(activations[0], references[0], power))

    return reference_objective("caricature", (layer,), image, tuple, similarity, same_shape=True)


def gram(activation: jax.Array) -> jax.Array:
    """Returns the Gram matrices of channels, a mean over positions.

    Args:
      activation: (N, *space, K).

    Returns:
      (N, K, K): sum over positions p of a_pk a_pl, divided by the number of positions.
    """
    rows = activation.reshape(len(activation), -1, activation.shape[-1])
    return jnp.einsum("npk,npl->nkl", rows, rows) / rows.shape[1]


def align(a: jax.Array, v: jax.Array, power: float) -> jax.Array:
    """Returns (a . v) max(0.1, cos(a, v))^power of vectors along the last axis."""
    dot = jnp.sum(a * v, axis=-1)
    if isinstance(power, float) and power == 0:
        return dot
    squares = jnp.sum(a**2, axis=-1) * jnp.sum(v**2, axis=-1)
    # The square root has no derivative at 0, where the floor of 0.1 applies.
    cosine = dot / jnp.sqrt(jnp.where(squares > 0, squares, 1))
    return dot * jnp.maximum(cosine, 0.1) ** power


def mean_over_space(values: jax.Array) -> jax.Array:
    """Returns the means (N,) of values (N, *space)."""
    return jnp.mean(values, axis=tuple(range(1, values.ndim)))
