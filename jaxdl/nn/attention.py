"""Attention: a mean of values, weighted by the scores of their keys against a query.

Shapes: N examples, Q queries, K keys, F and G features, A units of additive attention.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from jaxdl._precision import widen
from jaxdl.core import Module, named_key
from jaxdl.nn import _check
from jaxdl.nn.dense import affine
from jaxdl.nn.initializers import Initializer, initializer

__all__ = ["additive_attention", "additive_scores", "attend", "dot_attention", "dot_scores"]


def dot_scores(queries: jax.Array, keys: jax.Array, *, scale: float | None = None) -> jax.Array:
    """Computes scaled dot-product scores, s_qk = scale q . k.

    Luong et al. 2015 (arXiv 1508.04025), eq. 8; the scale is that of Vaswani et al. 2017.

    Args:
      queries: (..., Q, F).
      keys: (..., K, F).
      scale: a factor; None for 1/sqrt(F) (arXiv 1706.03762, eq. 1).

    Returns:
      (..., Q, K), in float32 at least, because products of float16 overflow.

    Raises:
      ValueError: queries and keys have different numbers of features.
    """
    if queries.shape[-1] != keys.shape[-1]:
        raise ValueError(
            f"dot_scores: queries {queries.shape} and keys {keys.shape}; expected one width F. "
            "Project one of them with nn.dense, or use nn.additive_attention."
        )
    factor = keys.shape[-1] ** -0.5 if scale is None else scale
    # `preferred_element_type` accumulates in float32 without casting the operands.
    wide = widen(keys).dtype
    return factor * jnp.einsum("...qf,...kf->...qk", queries, keys, preferred_element_type=wide)


def additive_scores(
    queries: jax.Array, keys: jax.Array, weights: jax.Array, bias: jax.Array
) -> jax.Array:
    """Computes additive scores, s_qk = v . tanh(q + k + b), of projected queries and keys.

    Bahdanau et al. 2015 (arXiv 1409.0473), A.1.2.

    Args:
      queries: (..., Q, A), already multiplied by W_a.
      keys: (..., K, A), already multiplied by U_a.
      weights: (A,), v.
      bias: (A,), b.

    Returns:
      (..., Q, K), in float32 at least.
    """
    hidden = jnp.tanh(queries[..., :, None, :] + keys[..., None, :, :] + bias)
    # Summed in float32: the softmax amplifies the rounding of large scores.
    return jnp.matmul(hidden, weights, preferred_element_type=widen(weights).dtype)


def attend(
    scores: jax.Array, values: jax.Array, *, mask: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
    """Averages values with softmax weights: c_q = sum_k a_qk v_k, a = softmax(s).

    Args:
      scores: (..., Q, K).
      values: (..., K, F).
      mask: bools that broadcast to (..., Q, K); False excludes a key. If all keys of a query are
        excluded, its weights, context and gradients are 0. Excluded values must be finite.

    Returns:
      `(context (..., Q, F), weights (..., Q, K))`, in the values' dtype; the softmax is computed in
      float32 at least.
    """
    wide = widen(scores)
    if mask is None:
        weights = jax.nn.softmax(wide, axis=-1)
    else:
        any_key = jnp.any(mask, axis=-1, keepdims=True)
        # A softmax over no key is NaN, and its gradient stays NaN behind `where`. So rows without a
        # key take the softmax over all keys, which is then replaced by 0.
        weights = jax.nn.softmax(wide, axis=-1, where=mask | ~any_key)
        weights = jnp.where(any_key, weights, 0)
    weights = weights.astype(values.dtype)
    return jnp.einsum("...qk,...kf->...qf", weights, values), weights


def _mask_padding(
    kind: str, queries: jax.Array, keys: jax.Array, lengths: jax.Array | None
) -> tuple[jax.Array, jax.Array | None]:
    """Returns the keys with zeros in place of padding, and the mask of real keys."""
    counts = None if lengths is None else lengths.shape
    fit = queries.ndim == keys.ndim == 3 and len(queries) == len(keys)
    if not fit or counts not in (None, (len(keys),)):
        raise ValueError(
            f"{kind}: queries {queries.shape}, keys {keys.shape}, lengths {counts}; expected "
            "(N, Q, F), (N, K, G) and (N,) or None, of one N."
        )
    if lengths is None:
        return keys, None
    real = jnp.arange(keys.shape[1], dtype=lengths.dtype) < lengths[:, None]
    # The keys are values too: a weight of 0 times NaN in the padding would be NaN.
    return jnp.where(real[..., None], keys, 0), real[:, None]


def dot_attention(*, scale: float | None = None) -> Module:
    """Creates dot-product attention, without parameters; queries and keys have one width F.

    Args:
      scale: see `dot_scores`.

    Returns:
      A `Module` from `(queries (N, Q, F), keys (N, K, F), lengths=None)` to `(context (N, Q, F),
      weights (N, Q, K))`. The keys are also the values; keys from position lengths[n] on are
      excluded.

    Raises:
      ValueError: the shapes of the inputs do not fit.
    """

    def apply(params, state, queries, keys, lengths=None, **_):
        keys, mask = _mask_padding("dot_attention", queries, keys, lengths)
        return attend(dot_scores(queries, keys, scale=scale), keys, mask=mask), state

    return Module(lambda key, *inputs: ({}, {}), apply, "dot_attention", {"scale": scale})


def additive_attention(features: int, *, kernel_init: str | Initializer = "lecun_normal") -> Module:
    """Creates additive attention, s_qk = v . tanh(q W + k U + b).

    Bahdanau et al. 2015 (arXiv 1409.0473), A.1.2. Parameters: `query_kernel` W (F, A), `key_kernel`
    U (G, A), `bias` b (A,), `weights` v (A,), A (F + G + 2) values in total.

    Args:
      features: A, the width to which queries and keys are projected.
      kernel_init: the initializer of W, U and v: a name from `nn.INITIALIZERS` or
        `(key, shape, dtype) -> array`.

    Returns:
      A `Module` from `(queries (N, Q, F), keys (N, K, G), lengths=None)` to `(context (N, Q, G),
      weights (N, Q, K))`. The keys are also the values; keys from position lengths[n] on are
      excluded.

    Raises:
      ValueError: `features` is not a positive integer; at init, an input is not floating-point; the
        shapes of the inputs do not fit.
    """
    _check.positive("additive_attention", features=features)
    make = initializer(kernel_init)

    def init(key, queries, keys, *rest):
        _check.floating("additive_attention", queries, min_ndim=3)
        _check.floating("additive_attention", keys, min_ndim=3)
        own, dtype = functools.partial(named_key, key), keys.dtype
        return {
            "query_kernel": make(own("query_kernel"), (queries.shape[-1], features), dtype),
            "key_kernel": make(own("key_kernel"), (keys.shape[-1], features), dtype),
            "bias": jnp.zeros(features, dtype),
            "weights": make(own("weights"), (features, 1), dtype)[:, 0],
        }, {}

    def apply(params, state, queries, keys, lengths=None, **_):
        keys, mask = _mask_padding("additive_attention", queries, keys, lengths)
        scores = additive_scores(
            affine(queries, params["query_kernel"]),
            affine(keys, params["key_kernel"]),
            params["weights"],
            params["bias"],
        )
        return attend(scores, keys, mask=mask), state

    return Module(init, apply, "additive_attention", {"features": features})
