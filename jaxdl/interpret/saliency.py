"""Explanations by the gradient of a score with respect to the input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxdl.interpret._explanation import explain_batches, explanation_by_gradient
from jaxdl.interpret._target import Target

__all__ = ["input_x_gradient", "saliency"]


@explanation_by_gradient
def saliency(
    f: Callable[[Any], Any],
    x: Any,
    *,
    target: Target = None,
    absolute: bool = True,
    layer: str | None = None,
    batch_size: int | None = None,
) -> Any:
    """Computes |d y_k / d x_n|, the derivative of the score y_k by each input x_n.

    Simonyan, Vedaldi and Zisserman 2014 (arXiv 1312.6034), section 3. To explain the probability of
    the predicted class, let f end in a softmax and pass `target="argmax"`. The explanation of a
    logit does not depend on the scores of other classes.

    Args:
      f: any function from a batch to its scores in which each row depends on its own example only
        (batch norm in evaluation mode): `train.predictor(model, state)`, a Flax model's `apply`
        with its variables, or another one. It can be used under `jax.jit`, and under `jax.vmap`
        over targets.
      x: (N, ...) floating-point inputs, or a tree of such arrays. Integers and truth values in a
        tree (token ids, lengths, masks) are passed to f unchanged and not explained: the result has
        None for them.
      target: the explained score. None if f returns one per example, (N,) or (N, 1); an int, or
        ints (N,), for scores (N, K); "argmax", the predicted class of each example; or a function
        from the output, of any type, to (N,). A class out of range raises an error, or gives NaN if
        it is traced. Ints (K, N) give K explanations, (K, N, ...).
      absolute: whether to return absolute values; False keeps the sign.
      layer: explain the value of a layer of f instead of its input: a path in jaxdl or Flax, or a
        `jax.named_scope`. All other arguments then refer to that value. A tuple, list or dict of
        layers returns one like it, with the explanation at each layer.
      batch_size: examples explained side by side; None for the largest number within
        `memory_budget`.

    Returns:
      Arrays like x, or like the value of the layer, in units of score per unit of input.

    Raises:
      ValueError: x has no floating-point array or no batch axis; f returns no row of scores for
        each example; the target does not fit the scores; there is no such layer.

    Example:
      >>> f = lambda x: model.apply(params, state, x)[0]
      >>> interpret.saliency(f, images, target="argmax")              # (N, H, W, C)
      >>> interpret.saliency(f, images, target=[[3] * 16, [8] * 16])  # two classes of 16 images
      >>> interpret.saliency(f, images, target=3, layer="conv_1")     # like that layer's output
    """

    def explain(f, score, x):
        gradient = jax.grad(lambda x: jnp.sum(score(f(x))))(x)
        return jax.tree.map(jnp.abs, gradient) if absolute else gradient

    return explain_batches("saliency", explain, f, x, target, layer, batch_size)


@explanation_by_gradient
def input_x_gradient(
    f: Callable[[Any], Any],
    x: Any,
    *,
    target: Target = None,
    layer: str | None = None,
    batch_size: int | None = None,
) -> Any:
    """Computes x_n d y_k / d x_n, the first-order contribution of each input.

    Shrikumar et al. 2016 (arXiv 1605.01713), sec. 3. For a linear function without bias, the
    attributions of an example sum to the score. So they do for a ReLU network without biases, where
    they equal layer-wise relevance propagation with the basic rule.

    Args:
      f, x, target, layer, batch_size: as for `saliency`.

    Returns:
      Arrays like x, or like the value of the layer, in units of the score.

    Raises:
      ValueError: as `saliency`.
    """

    def explain(f, score, x):
        gradient = jax.grad(lambda x: jnp.sum(score(f(x))))(x)
        return jax.tree.map(jnp.multiply, x, gradient)

    return explain_batches("input_x_gradient", explain, f, x, target, layer, batch_size)
