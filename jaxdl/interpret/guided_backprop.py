"""Gradients with modified ReLUs: guided backprop, deconvnet, beta smoothing."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxdl.interpret._explanation import explain_batches, explanation_by_gradient
from jaxdl.interpret._relu_slope import Slope, with_slope
from jaxdl.interpret._target import Target
from jaxdl.jaxpr import tracing

__all__ = ["beta_smooth", "deconvnet", "guided_backprop"]


@explanation_by_gradient
def guided_backprop(
    f: Callable[[Any], Any], x: Any, *, target: Target = None, batch_size: int | None = None
) -> Any:
    """Computes the gradient, where active ReLUs propagate only its positive part.

    Springenberg et al. 2015 (arXiv 1412.6806), sec. 3.4. ReLUs are detected in the jaxpr of f by
    the values that they compute: an elementwise function of one value z that equals max(z, 0) or
    clip(z, 0, c), in any form. A ReLU that is part of another function (softplus, hard swish, the
    variance of a layer norm) or of a `target` function keeps its gradient. The maps are sharp, and
    change little when the weights of the last layers are randomized (Adebayo et al. 2018, arXiv
    1810.03292).

    Args:
      f, x, target: as for `saliency`.
      batch_size: examples computed in parallel; None for the most that `memory_budget` allows.

    Returns:
      Arrays like x. Without ReLUs they are the gradient, and there is a warning.

    Raises:
      ValueError: as `saliency`.
    """
    return _backprop(
        "guided_backprop",
        f,
        x,
        target,
        batch_size,
        lambda z, g: jnp.where(z > 0, jnp.maximum(g, 0), 0),
    )


@explanation_by_gradient
def deconvnet(
    f: Callable[[Any], Any], x: Any, *, target: Target = None, batch_size: int | None = None
) -> Any:
    """Computes the gradient, where all ReLUs propagate its positive part.

    Zeiler and Fergus 2014 (arXiv 1311.2901), sec. 2.1.

    Args:
      f, x, target, batch_size: as for `guided_backprop`.

    Returns:
      Arrays like x.

    Raises:
      ValueError: as `saliency`.
    """
    return _backprop("deconvnet", f, x, target, batch_size, lambda z, g: jnp.maximum(g, 0))


@explanation_by_gradient
def beta_smooth(
    f: Callable[[Any], Any],
    x: Any,
    *,
    beta: float = 10.0,
    target: Target = None,
    batch_size: int | None = None,
) -> Any:
    """Computes the gradient, where ReLUs have the slope of softplus.

    The slope of a ReLU of z is sigmoid(beta z); the forward pass keeps the ReLU. Dombrowski et al.
    2019 (arXiv 1906.07983), sec. 4: such explanations are harder to manipulate.

    Args:
      f, x, target, batch_size: as for `guided_backprop`.
      beta: above 0; for large values the result approaches the gradient.

    Returns:
      Arrays like x.

    Raises:
      ValueError: as `saliency`; beta is not above 0.
    """
    if not beta > 0:
        raise ValueError(f"beta_smooth: beta is {beta}; expected a number above 0.")
    return _backprop(
        "beta_smooth", f, x, target, batch_size, lambda z, g: g * jax.nn.sigmoid(beta * z)
    )


def _backprop(name, f, x, target, batch_size, slope: Slope):
    def explain(f, score, x):
        leaves, tree = jax.tree.flatten(x)
        closed, shape = tracing.make_standard_jaxpr(f, x)
        run, count = with_slope(closed, [True] * len(leaves), [None] * len(leaves), slope)
        if not count:
            warnings.warn(
                f"{name}: no ReLU in f, so this is the plain gradient. A ReLU is max(z, 0) or "
                "clip(z, 0, c) of a value that depends on x. Use saliency(absolute=False), or a "
                "network with ReLUs.",
                stacklevel=2,
            )

        def total(leaves):
            output = jax.tree.unflatten(jax.tree.structure(shape), run(*leaves))
            return jnp.sum(score(output))

        return jax.tree.unflatten(tree, jax.grad(total)(leaves))

    return explain_batches(name, explain, f, x, target, None, batch_size)
