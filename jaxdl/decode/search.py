"""Autoregressive decoding: greedy, sampling and beam search.

A model is `step(carry, tokens) -> (carry, logits)`: tokens (N,) int32, logits (N, V), and a carry
of arrays (N, ...), such as a recurrent state. The loop is one compiled program that ends as soon as
every row has produced the stop symbol.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxdl._precision import widen

__all__ = ["Decoded", "beam", "greedy", "sample"]

Step = Callable[[Any, jax.Array], tuple[Any, jax.Array]]


class Decoded(NamedTuple):
    """Decoded sequences.

    Attributes:
      tokens: (..., L) int32, padded with the stop symbol.
      lengths: (...) int32, number of symbols before the stop symbol.
      scores: (...) log probability of the sequence, including the stop symbol.
    """

    tokens: jax.Array
    lengths: jax.Array
    scores: jax.Array


def greedy(step: Step, carry: Any, start: jax.Array, *, length: int, stop: int = -1) -> Decoded:
    """Decodes the most probable symbol at each step.

    Args:
      step: `(carry, tokens (N,)) -> (carry, logits (N, V))`.
      carry: a tree of arrays (N, ...) before the first step.
      start: (N,) int32, the input tokens of the first step.
      length: L, the largest number of symbols.
      stop: the symbol that ends a sequence; -1 for none.

    Returns:
      `Decoded` with tokens (N, L).

    Raises:
      ValueError: `length` is below 1, `start` is not (N,) integers, or `stop` is not a symbol.
    """
    return _decode(step, carry, start, length, stop, lambda logits, t: jnp.argmax(logits, -1))


def sample(
    step: Step,
    carry: Any,
    start: jax.Array,
    key: jax.Array,
    *,
    length: int,
    stop: int = -1,
    temperature: float = 1.0,
    top_k: int | None = None,
) -> Decoded:
    """Samples each symbol from p_k ~ exp(logit_k / temperature).

    Args:
      step: as for `greedy`.
      carry: as for `greedy`.
      start: as for `greedy`.
      key: a PRNG key.
      length: as for `greedy`.
      stop: as for `greedy`.
      temperature: above 0; low temperatures favour probable symbols, and approach `greedy`.
      top_k: sample from the k most probable symbols only.

    Returns:
      `Decoded` with tokens (N, L); the scores are those at temperature 1.

    Raises:
      ValueError: `temperature` is not above 0, or `top_k` is below 1; or see `greedy`.
    """
    if not temperature > 0 or (top_k is not None and top_k < 1):
        raise ValueError(
            f"sample: temperature is {temperature!r} and top_k {top_k!r}; expected a temperature "
            "above 0, and None or at least 1."
        )

    def choose(logits, t):
        if top_k is not None:
            # By value and not by index: symbols that tie with the k-th stay possible.
            least = lax.top_k(logits, min(top_k, logits.shape[-1]))[0][:, -1:]
            logits = jnp.where(logits < least, -jnp.inf, logits)
        return jax.random.categorical(jax.random.fold_in(key, t), logits / temperature)

    return _decode(step, carry, start, length, stop, choose)


def _check_start(
    step: Step, carry: Any, start: jax.Array, length: int, stop: int
) -> tuple[jax.Array, jax.Array]:
    """Returns the first tokens and scores of 0, both (N,), in the dtype of the sums."""
    start = jnp.asarray(start)
    if length < 1 or start.ndim != 1 or not jnp.issubdtype(start.dtype, jnp.integer):
        raise ValueError(
            f"decode: length is {length} and start {start.dtype}{list(start.shape)}; expected a "
            "length of at least 1 and one integer per row, (N,)."
        )
    start = start.astype(jnp.int32)
    logits = jax.eval_shape(lambda carry, start: widen(step(carry, start)[1]), carry, start)
    if logits.ndim != 2 or not -1 <= stop < logits.shape[1]:
        raise ValueError(
            f"decode: step returns logits {logits.shape}, and stop is {stop}; expected (N, V) "
            "and a symbol in 0 .. V - 1, or -1 for none."
        )
    return start, jnp.zeros(start.shape, logits.dtype)


def _decode(step, carry, start, length, stop, choose) -> Decoded:
    start, zeros = _check_start(step, carry, start, length, stop)
    n = start.shape[0]

    def has_open_rows(state):
        t, _, _, _, done, _ = state
        return (t < length) & ~jnp.all(done)

    def advance(state):
        t, carry, last, tokens, done, scores = state
        carry, logits = step(carry, last)
        logits = widen(logits)
        token = jnp.where(done, stop, choose(logits, t)).astype(jnp.int32)
        gain = jnp.take_along_axis(jax.nn.log_softmax(logits), token[:, None], axis=-1)[:, 0]
        scores = jnp.where(done, scores, scores + gain)
        return t + 1, carry, token, tokens.at[:, t].set(token), done | (token == stop), scores

    # A while loop instead of a scan, because it ends when all rows are done.
    blank = jnp.full((n, length), stop, jnp.int32)
    state = (0, carry, start, blank, jnp.zeros(n, bool), zeros)
    _, _, _, tokens, _, scores = lax.while_loop(has_open_rows, advance, state)
    return Decoded(tokens, _lengths(tokens, stop), scores)


def _lengths(tokens: jax.Array, stop: int) -> jax.Array:
    return jnp.sum(jnp.cumprod(tokens != stop, axis=-1), axis=-1, dtype=jnp.int32)


def beam(
    step: Step,
    carry: Any,
    start: jax.Array,
    *,
    width: int,
    length: int,
    stop: int = -1,
    alpha: float = 0.0,
) -> Decoded:
    """Decodes by beam search, which keeps the `width` most probable prefixes of each row.

    Exact if `width` is the number of all sequences. Longer sequences have lower probabilities; so
    the result is ordered by score / n^alpha, with n symbols including the stop symbol.

    Args:
      step: as for `greedy`.
      carry: as for `greedy`.
      start: as for `greedy`.
      width: W, the number of prefixes.
      length: as for `greedy`.
      stop: as for `greedy`.
      alpha: 0 orders by probability, 1 by the mean log probability of a symbol.

    Returns:
      `Decoded` with tokens (N, W, L), lengths and scores (N, W), the best first. If there are fewer
      than W sequences, the others have the score -inf.

    Raises:
      ValueError: `width` is below 1; or see `greedy`.
    """
    if width < 1:
        raise ValueError(f"beam: width is {width}; expected at least 1.")
    start, zeros = _check_start(step, carry, start, length, stop)
    n = start.shape[0]
    rows = jnp.arange(n, dtype=jnp.int32)[:, None]

    def has_open_rows(state):
        t, _, _, _, done, _ = state
        return (t < length) & ~jnp.all(done)

    def advance(state):
        t, carry, last, tokens, done, scores = state
        carry, logits = step(carry, last.reshape(-1))
        gains = jax.nn.log_softmax(widen(logits)).reshape(n, width, -1)
        size = gains.shape[-1]
        # A finished sequence has one continuation, with log probability 0.
        only = jnp.where(jnp.arange(size) == max(stop, 0), 0.0, -jnp.inf)
        total = scores[..., None] + jnp.where(done[..., None], only, gains)
        scores, flat = lax.top_k(total.reshape(n, -1), width)
        # One top-k over all continuations of all prefixes: a prefix may have several, or none.
        parent, token = flat // size, (flat % size).astype(jnp.int32)
        origin = (rows * width + parent).reshape(-1)
        carry = jax.tree.map(lambda leaf, origin=origin: leaf[origin], carry)
        tokens = tokens[rows, parent].at[:, :, t].set(token)
        done = done[rows, parent] | (token == stop)
        return t + 1, carry, token, tokens, done, scores

    several = jax.tree.map(lambda leaf: jnp.repeat(leaf, width, axis=0), carry)
    last = jnp.repeat(start[:, None], width, axis=1)
    tokens = jnp.full((n, width, length), stop, jnp.int32)
    # All prefixes are equal at first: only one may be extended, or the beam would have duplicates.
    scores = jnp.where(jnp.arange(width) == 0, zeros[:, None], -jnp.inf)
    state = (0, several, last, tokens, jnp.zeros((n, width), bool), scores)
    _, _, _, tokens, _, scores = lax.while_loop(has_open_rows, advance, state)
    lengths = _lengths(tokens, stop)
    # The stop symbol counts, unless the sequence was cut at `length`.
    symbols = jnp.minimum(lengths + 1, length).astype(scores.dtype)
    order = jnp.argsort(-scores / symbols**alpha, axis=1)
    return Decoded(tokens[rows, order], lengths[rows, order], scores[rows, order])
