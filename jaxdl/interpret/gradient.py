"""Explanations by the gradient of a score with respect to the input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxdl.interpret import _target

__all__ = ["saliency"]


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
    for leaf in jax.tree.leaves(x):
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating) or jnp.ndim(leaf) == 0:
            raise ValueError(
                f"saliency: x holds {jnp.result_type(leaf)}{list(jnp.shape(leaf))}; expected "
                "floating-point arrays with a batch axis: cast pixels with x.astype(jnp.float32); "
                "explain token ids through their embeddings."
            )
    gradient = jax.grad(lambda x: jnp.sum(_target.score("saliency", f(x), target)))(x)
    return jax.tree.map(jnp.abs, gradient) if absolute else gradient
