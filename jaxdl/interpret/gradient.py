"""Explanations by the gradient of a score with respect to the input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxdl.interpret import _input, _target

__all__ = ["input_x_gradient", "saliency"]


def saliency(
    f: Callable[[Any], Any], x: Any, *, target: _target.Target = None, absolute: bool = True
) -> Any:
    """|d y_k / d x_n|: how much the score y_k answers to a small change of each input x_n.

    Simonyan, Vedaldi and Zisserman 2014 (arXiv 1312.6034), section 3; lecture row Q02. The row
    takes for y_k the probability of the predicted class: let f end in a softmax and pass
    `target="argmax"`. On the logits, no other class' score takes part.

    Args:
      f: any function from a batch to its scores, of which each row depends on its own example only
        (batch norm in evaluation mode): `train.predictor(model, state)`, a Flax model's `apply`
        with its variables, or your own. It composes with `jax.jit`, and with `jax.vmap` over
        targets.
      x: (N, ...) floating-point inputs, or a tree of such arrays.
      target: which score. None where f gives one per example, (N,) or (N, 1); an int, or ints
        (N,), for scores (N, K); "argmax", the class each example is given; or a function from the
        output to (N,). A class out of range gives NaN where it is traced.
      absolute: the size of the derivative; False keeps its sign.

    Returns:
      Arrays like x, in units of score per unit of input; none below 0 when `absolute`.

    Raises:
      ValueError: x is not floating-point; the target does not fit the output of f.

    Example:
      >>> f = lambda x: model.apply(params, state, x)[0]
      >>> interpret.saliency(f, images, target="argmax")                     # (N, H, W, C)
      >>> jax.vmap(lambda k: interpret.saliency(f, images, target=k))(jnp.arange(10))
    """
    x = _input.checked("saliency", x)
    gradient = jax.grad(lambda x: jnp.sum(_target.score("saliency", f(x), target)))(x)
    return jax.tree.map(jnp.abs, gradient) if absolute else gradient


def input_x_gradient(f: Callable[[Any], Any], x: Any, *, target: _target.Target = None) -> Any:
    """x_n d y_k / d x_n: the first-order share of each input in the score.

    Shrikumar et al. 2016 (arXiv 1605.01713), sec. 3. Of a linear function without bias the
    attributions of an example add up to the score; of a bias-free ReLU network too, where it equals
    layer-wise relevance propagation by the basic rule.

    Args:
      f, x, target: as for `saliency`.

    Returns:
      Arrays like x, in units of the score.

    Raises:
      ValueError: as `saliency`.
    """
    slope = saliency(f, x, target=target, absolute=False)
    return jax.tree.map(jnp.multiply, jax.tree.map(jnp.asarray, x), slope)
