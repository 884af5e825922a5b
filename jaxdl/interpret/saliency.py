"""Explanations by the gradient of a score with respect to the input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxdl.interpret import _compile, _input, _layer, _target

__all__ = ["input_x_gradient", "saliency"]


@_compile.once
@_target.each_by_derivative
def saliency(
    f: Callable[[Any], Any],
    x: Any,
    *,
    target: _target.Target = None,
    absolute: bool = True,
    layer: str | None = None,
    batch_size: int | None = None,
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
      x: (N, ...) floating-point inputs, or a tree of such arrays. Integers and truth values in a
        tree (token ids, lengths, masks) are passed to f unchanged and not explained: the result has
        None for them.
      target: which score. None where f gives one per example, (N,) or (N, 1); an int, or ints
        (N,), for scores (N, K); "argmax", the class each example is given; or a function from the
        output, of any kind, to (N,). A class out of range raises, and gives NaN where it is known
        only when the program runs. Ints (K, N) give K explanations, (K, N, ...).
      absolute: the size of the derivative; False keeps its sign.
      layer: explain by the value at a named place of f instead of its input: a path of jaxdl or Flax,
        or a `jax.named_scope`. All arguments then speak of that value. A tuple, list or dict of
        places gives one of explanations, each place by itself.
      batch_size: examples explained side by side; None for as many as `memory_budget` allows.

    Returns:
      Arrays like x, in units of score per unit of input; none below 0 when `absolute`. With `layer`,
      like the value there.

    Raises:
      ValueError: x has no floating-point array or no batch axis; f gives no row of scores for each
        example; the target does not fit them; no place is called `layer`.

    Example:
      >>> f = lambda x: model.apply(params, state, x)[0]
      >>> interpret.saliency(f, images, target="argmax")                     # (N, H, W, C)
      >>> interpret.saliency(f, images, target=[[3] * 16, [8] * 16])     # two classes of 16 images
      >>> interpret.saliency(f, images, target=3, layer="conv_1")            # like that layer's output
    """
    name = "saliency"

    def explained(x, target):
        g, value = _layer.located(name, f, x, layer)
        gradient = jax.grad(lambda x: jnp.sum(_target.score(name, g(x), target)))(value)
        return jax.tree.map(jnp.abs, gradient) if absolute else gradient

    return _input.by_examples(name, explained, x, target, batch_size)


@_compile.once
@_target.each_by_derivative
def input_x_gradient(
    f: Callable[[Any], Any],
    x: Any,
    *,
    target: _target.Target = None,
    layer: str | None = None,
    batch_size: int | None = None,
) -> Any:
    """x_n d y_k / d x_n: the first-order share of each input in the score.

    Shrikumar et al. 2016 (arXiv 1605.01713), sec. 3. Of a linear function without bias the
    attributions of an example add up to the score; of a bias-free ReLU network too, where it equals
    layer-wise relevance propagation by the basic rule.

    Args:
      f, x, target, layer, batch_size: as for `saliency`.

    Returns:
      Arrays like x, or like the value at `layer`, in units of the score.

    Raises:
      ValueError: as `saliency`.
    """
    name = "input_x_gradient"

    def explained(x, target):
        g, value = _layer.located(name, f, x, layer)
        slope = saliency(g, value, target=target, absolute=False)
        return jax.tree.map(jnp.multiply, value, slope)

    return _input.by_examples(name, explained, x, target, batch_size)
