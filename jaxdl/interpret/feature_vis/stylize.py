"""Neural style transfer: the content of one image in the style of another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdl._check import require_number
from jaxdl.interpret.feature_vis import objective
from jaxdl.interpret.feature_vis.parametrization import pixels
from jaxdl.interpret.feature_vis.visualize import Visualization, visualize

__all__ = ["style_transfer"]


def style_transfer(
    f: Callable[[jax.Array], Any],
    content: jax.Array | np.ndarray,
    style: jax.Array | np.ndarray,
    *,
    content_layer: str,
    style_layers: str | Sequence[str],
    key: jax.Array,
    style_weight: float = 100.0,
    smoothness: float = 0.0,
    bounds: tuple[float, float] | None = None,
    steps: int = 256,
    optimizer: optax.GradientTransformation | None = None,
    frames: Sequence[int] = (),
) -> Visualization:
    """Returns an image with the content of one image and the style of another.

    Gatys, Ecker and Bethge 2015 (arXiv 1508.06576), eq. 7: minimizes the squared distance of a
    layer from its value for the content, plus `style_weight` times the squared distances of the
    Gram matrices of layers from those of the style. The ascent starts at the content.

    Args:
      f: any function from a batch (1, H, W, C) to an output, in inference mode.
      content: (H, W, C), floating-point, in the units of f.
      style: (H', W', C), of any size that f takes.
      content_layer: path of a layer, as for `interpret.intermediate`, of the middle of the network.
      style_layers: one path or several, from the first layers on.
      key: PRNG key.
      style_weight: weight of the style, above 0.
      smoothness: weight of the total variation per pixel, 0 or more.
      bounds: (low, high), to which pixels are clipped after every step.
      steps, optimizer, frames: as for `visualize`.

    Returns:
      A `Visualization`. Its score is minus the total loss.

    Raises:
      ValueError: as `visualize`; a weight is out of range.
    """
    name, content = "style_transfer", jnp.asarray(content)
    weight = require_number(name, "a number above 0", lambda v: v > 0, style_weight=style_weight)
    smooth = require_number(name, "a number of 0 or more", lambda v: v >= 0, smoothness=smoothness)
    loss = objective.content(content_layer, content)
    loss = loss + weight * objective.style(style_layers, style)
    loss = loss + smooth / content.size * objective.total_variation()
    image = pixels(content.shape, bounds, start=content, sd=0.0)
    return visualize(
        f, image, -loss, key=key, steps=steps, optimizer=optimizer, frames=frames, revive=0
    )
