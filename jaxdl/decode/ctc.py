"""Decoding for connectionist temporal classification (CTC): greedy and beam search.

Graves et al. 2006 (doi:10.1145/1143844.1143891). A path has a symbol or the blank for each frame;
its sequence results from merging repeats, then dropping blanks, so that a blank between two equal
symbols keeps both. The loss is `losses.ctc`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

import jax
import jax.numpy as jnp
from jax import lax

from jaxdl._precision import widen
from jaxdl.decode.search import Decoded

__all__ = ["collapse", "ctc_beam", "ctc_greedy"]

T = TypeVar("T")


def collapse(path: Iterable[T], blank: T) -> list[T]:
    """Returns the sequence of a path: merges repeats, then drops blanks.

    Args:
      path: symbols of any type, one for each frame.
      blank: the blank symbol.

    Returns:
      The remaining symbols.
    """
    sequence, last = [], blank
    for symbol in path:
        if symbol != last and symbol != blank:
            sequence.append(symbol)
        last = symbol
    return sequence


def ctc_greedy(logits: jax.Array, lengths: jax.Array | None = None, *, blank: int = 0) -> Decoded:
    """Decodes the most probable path, which may not give the most probable sequence.

    Args:
      logits: (N, T, K) logits of the symbols, including the blank.
      lengths: (N,) frames before the padding, or None.
      blank: index of the blank.

    Returns:
      `Decoded`: tokens (N, T), padded with the blank; the scores are those of the path.

    Raises:
      ValueError: logits are not floating-point (N, T, K), lengths not (N,), or `blank` is not in
        0 .. K - 1.
    """
    logp, real = _prepare_frames(logits, lengths, blank)
    path = jnp.where(real, jnp.argmax(logp, -1), blank)
    before = jnp.pad(path[:, :-1], ((0, 0), (1, 0)), constant_values=blank)
    kept = (path != blank) & (path != before)
    # A stable sort moves the kept symbols to the front, in order, with static shapes.
    order = jnp.argsort(~kept, axis=1, stable=True)
    tokens = jnp.take_along_axis(jnp.where(kept, path, blank), order, axis=1)
    scores = jnp.sum(jnp.max(logp, -1), axis=1, where=real)
    return Decoded(tokens.astype(jnp.int32), jnp.sum(kept, axis=1, dtype=jnp.int32), scores)


def ctc_beam(
    logits: jax.Array, lengths: jax.Array | None = None, *, width: int = 16, blank: int = 0
) -> Decoded:
    """Decodes by prefix beam search, which sums the probabilities of all paths of a sequence.

    Graves and Jaitly 2014 (ICML), alg. 1, without a language model. Exact if no prefix is dropped.

    Args:
      logits: as for `ctc_greedy`.
      lengths: as for `ctc_greedy`.
      width: W, the number of prefixes kept at every frame.
      blank: as for `ctc_greedy`.

    Returns:
      `Decoded`: tokens (N, W, T), padded with the blank, lengths and scores (N, W), the best first.
      If there are fewer than W sequences, the others have the score -inf.

    Raises:
      ValueError: `width` is below 1; or see `ctc_greedy`.
    """
    if width < 1:
        raise ValueError(f"ctc_beam: width is {width}; expected at least 1.")
    logp, real = _prepare_frames(logits, lengths, blank)
    return jax.vmap(lambda logp, real: _beam(logp, real, width, blank))(logp, real)


def _beam(logp, real, width, blank):
    """Decodes one row: logp (T, K), real (T,)."""
    steps, symbols = logp.shape

    # Probabilities of paths that end in a blank and in a symbol are summed separately: only after a
    # blank does a repeated symbol extend the prefix.
    def step(state, frame):
        logp, real = frame
        tokens, lengths, in_blank, in_symbol = state
        some = lengths > 0
        last = jnp.take_along_axis(tokens, jnp.maximum(lengths - 1, 0)[:, None], axis=1)[:, 0]
        either = jnp.logaddexp(in_blank, in_symbol)
        repeats = some[:, None] & (jnp.arange(symbols) == last[:, None])
        longer = jnp.where(repeats, in_blank[:, None], either[:, None]) + logp
        longer = longer.at[:, blank].set(-jnp.inf)
        # An extended prefix that is in the beam already is added to its entry there.
        same = (tokens[:, None] == tokens[None]) | (jnp.arange(steps) >= lengths[:, None, None])
        parent = jnp.all(same, -1) & (lengths[None] == lengths[:, None] + 1)
        parent &= (either > -jnp.inf)[None]  # unused entries of the beam
        entering = jnp.where(parent, longer[:, last], -jnp.inf)
        stay_symbol = jnp.where(some, in_symbol + logp[last], -jnp.inf)
        stay_symbol = jnp.logaddexp(stay_symbol, jax.nn.logsumexp(entering, axis=0))
        stay_blank = either + logp[blank]
        merged = jnp.any(parent[:, :, None] & (last[None, :, None] == jnp.arange(symbols)), axis=1)
        longer = jnp.where(merged, -jnp.inf, longer)

        new_blank = jnp.concatenate([stay_blank, jnp.full(longer.size, -jnp.inf)])
        new_symbol = jnp.concatenate([stay_symbol, longer.ravel()])
        # The first `width` candidates are the prefixes themselves, the others their extensions.
        _, best = lax.top_k(jnp.logaddexp(new_blank, new_symbol), width)
        grown = best >= width
        origin = jnp.where(grown, (best - width) // symbols, best)
        symbol = ((best - width) % symbols).astype(jnp.int32)
        tokens_, lengths_ = tokens[origin], lengths[origin]
        here = (jnp.arange(steps) == lengths_[:, None]) & grown[:, None]
        tokens_ = jnp.where(here, symbol[:, None], tokens_)
        new = (tokens_, lengths_ + grown.astype(jnp.int32), new_blank[best], new_symbol[best])
        return jax.tree.map(lambda new, old: jnp.where(real, new, old), new, state), None

    nothing = jnp.full(width, -jnp.inf, logp.dtype)
    tokens = jnp.full((width, steps), blank, jnp.int32)
    start = (tokens, jnp.zeros(width, jnp.int32), nothing.at[0].set(0), nothing)
    (tokens, lengths, in_blank, in_symbol), _ = lax.scan(step, start, (logp, real))
    return Decoded(tokens, lengths, jnp.logaddexp(in_blank, in_symbol))


def _prepare_frames(logits, lengths, blank):
    floating = jnp.issubdtype(logits.dtype, jnp.floating)
    if logits.ndim != 3 or not floating or not 0 <= blank < logits.shape[-1]:
        raise ValueError(
            f"ctc: logits are {logits.dtype}{list(logits.shape)} and the blank is {blank}; "
            "expected floating-point (N, T, K) and a blank in 0 .. K - 1."
        )
    steps = logits.shape[1]
    lengths = jnp.full(logits.shape[0], steps) if lengths is None else lengths
    if lengths.shape != logits.shape[:1]:
        raise ValueError(f"ctc: lengths are {lengths.shape}; expected {logits.shape[:1]}.")
    return jax.nn.log_softmax(widen(logits)), jnp.arange(steps) < lengths[:, None]
