"""A cell run along sequences, in the forms that compute the same.

The plain one is a `lax.scan` of the cell's step, so that `jax.grad` through it is backpropagation
through time (Werbos 1990, doi:10.1109/5.58337; lecture rows A23, D12, J04).
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxdl import _cache
from jaxdl.core import Tree, suggest
from jaxdl.nn import _check
from jaxdl.nn.dense import affine

if TYPE_CHECKING:
    from jaxdl.nn.recurrent.cell import Cell

__all__ = ["unroll"]

Carry = Any
"""What a cell hands on from step to step: h (N, H), or a tuple of such arrays."""

FORMS = ("auto", "plain", "fused", "cudnn")


def unroll(
    cell: Cell,
    params: Tree,
    x: jax.Array,
    *,
    lengths: jax.Array | None = None,
    carry: Carry | None = None,
    reverse: bool = False,
    unroll: int = 1,
    remat: int = 0,
    form: str = "auto",
    keep: jax.Array | None = None,
) -> tuple[Carry, jax.Array]:
    """A cell run along sequences: carry_t, y_t = step(carry_{t-1}, x_t).

    With `lengths`, the steps of row n at and after lengths[n] are padding: the carry passes them
    unchanged and their outputs are 0, so that whatever stands in the padding changes neither values
    nor gradients.

    Forms, which compute the same: "plain" scans the cell's step as it is written, and every other
    form is tested against it. "fused" (LSTM, GRU and Elman network) writes the derivative of the
    scan as a scan of its own with the slopes of the gates worked out beforehand for all steps, and
    the gradient of the recurrent weights as one product after it; all of JAX's transformations
    work, and derivatives of second order take the plain form for their inner part. "cudnn" runs an
    LSTM by NVIDIA's library, which knows no forward mode. "auto" takes the fused form where there
    is one and nothing forbids it.

    Args:
      cell: what is run.
      params: its parameters.
      x: (N, T, D).
      lengths: (N,) integers in 0 .. T, or None when no row is padded.
      carry: the carry before the first step; None for the cell's own (zeros, or as learned).
      reverse: run from the last step to the first; y_t still stands at t.
      unroll: steps in one turn of the compiled loop.
      remat: keep the carry only after each `remat` steps and compute those in between again in
        the backward pass; 0 keeps what it needs of every step. Plain form only.
      form: "auto", "plain", "fused" or "cudnn".
      keep: (N, H), by which what the recurrent products read of the carry is multiplied at every
        step: the mask of variational dropout. Plain form only.

    Returns:
      `(carry, y)`: the carry after the last step of every row, and y (N, T, H).

    Raises:
      ValueError: x is not (N, T, D) floating-point; `lengths` is not (N,) integers; the carry has
        other shapes than the cell's; the form is unknown or not to be had.
    """
    sequences(cell.kind, x)
    batch = x.shape[0]
    if lengths is not None and (
        jnp.shape(lengths) != (batch,) or not jnp.issubdtype(jnp.result_type(lengths), jnp.integer)
    ):
        raise ValueError(
            f"{cell.kind}: lengths are {jnp.result_type(lengths)}{list(jnp.shape(lengths))}; "
            f"expected one integer a row, int32[{batch}]: the number of steps before the padding."
        )
    form = chosen(cell, form, remat, keep)
    run = _runner(cell, form, reverse, unroll, remat)
    with own_params(cell, params, x):
        carry = _checked(cell, cell.start(params, x) if carry is None else carry, x)
        return run(params, x, lengths, carry, keep)


@contextlib.contextmanager
def own_params(cell: Cell, params: Tree, x: jax.Array) -> Iterator[None]:
    """Explains an error of the block if the parameters are not of the cell's shapes for x."""
    try:
        yield
    except (KeyError, TypeError, ValueError) as error:
        like = jax.ShapeDtypeStruct((1, 1, x.shape[-1]), x.dtype)
        expected, _ = jax.eval_shape(cell.init, jax.random.key(0), like)
        shapes = [{name: leaf.shape for name, leaf in tree.items()} for tree in (params, expected)]
        if shapes[0] == shapes[1] or shapes[0].get("kernel", (0,))[0] != x.shape[-1]:
            raise  # `affine` says what it expects of x
        raise ValueError(
            f"{cell.kind}: parameters of shapes {shapes[0]}; expected {shapes[1]} for x of "
            f"{x.shape[-1]} features. Make them by jaxdl.init of this cell on such an x."
        ) from error


@_cache.per_model
def _runner(cell, form, reverse, unroll, remat):
    """The recurrence, compiled once in eager use too."""
    run = functools.partial(_run, cell, form, reverse, unroll, remat)
    return jax.jit(run, inline=True)


def _run(cell, form, reverse, unroll, remat, params, x, lengths, carry, keep):
    mask = None
    if lengths is not None:
        mask = (jnp.arange(x.shape[1]) < lengths[:, None])[..., None]
        x = jnp.where(mask, x, 0)  # a NaN in the padding would reach the kernel's gradient
    if form == "cudnn":
        carry, y = cell.cudnn(params, carry, x, lengths, reverse=reverse)
    else:
        x = jnp.swapaxes(x, 0, 1)
        if form == "fused":
            run, z = cell.fused, affine(x, params["kernel"])
        else:
            run = functools.partial(_plain, cell, remat=remat, keep=keep)
            z = cell.project(params, x)
        by_time = None if mask is None else jnp.swapaxes(mask, 0, 1)
        carry, y = run(params, carry, z, by_time, reverse=reverse, unroll=unroll)
        y = jnp.swapaxes(y, 0, 1)
    return carry, y if mask is None else jnp.where(mask, y, 0)


def chosen(cell, form, remat, keep):
    if form not in FORMS:
        raise ValueError(f"{cell.kind}: no form {form!r}; {suggest(str(form), FORMS, 'forms')}")
    plain_only = remat or keep is not None
    if form == "auto":
        return "plain" if plain_only or cell.fused is None else "fused"
    if form != "plain" and (plain_only or getattr(cell, form) is None):
        why = "remat and keep need the plain form" if plain_only else "this cell has none"
        raise ValueError(f"{cell.kind}: form {form!r} is not to be had: {why}; use 'plain'.")
    return form


def _plain(cell, params, carry, z, mask, *, reverse, unroll, remat, keep):
    """`lax.scan` of the step as it stands; the carry is held where the mask is false."""

    def drop(h):
        return h if keep is None else h * keep

    def step(carry, at):
        z, mask = at
        new, y = cell.recur(params, carry, z, drop)
        if mask is not None:
            new = jax.tree.map(lambda new, old: jnp.where(mask, new, old), new, carry)
        return new, y

    scan = functools.partial(lax.scan, step, reverse=reverse, unroll=unroll)
    if not remat:
        return scan(carry, (z, mask))
    # Segments of `remat` steps are the turns of an outer scan; what is left over is a shorter one.
    segment, whole = jax.checkpoint(scan), z.shape[0] - z.shape[0] % remat
    cut = jax.tree.map(lambda a: a[:whole].reshape(-1, remat, *a.shape[1:]), (z, mask))
    rest = jax.tree.map(lambda a: a[whole:], (z, mask))
    if reverse:
        carry, last = segment(carry, rest)
        carry, first = lax.scan(segment, carry, cut, reverse=True)
    else:
        carry, first = lax.scan(segment, carry, cut)
        carry, last = segment(carry, rest)
    return carry, jnp.concatenate([first.reshape(whole, *first.shape[2:]), last])


def sequences(kind: str, x: jax.Array) -> None:
    _check.floating(kind, x)
    if x.ndim != 3:
        raise ValueError(
            f"{kind}: input has shape {x.shape}; expected (N, T, D), a batch of sequences of "
            "vectors: x[None] makes a batch of one, cell.step takes a single step (N, D)."
        )


def _checked(cell: Cell, carry: Carry, x: jax.Array) -> Carry:
    want = [(x.shape[0], size) for size in cell.carry.values()]
    parts = jax.tree.leaves(carry)
    if [part.shape for part in parts] != want or any(part.dtype != x.dtype for part in parts):
        raise ValueError(
            f"{cell.kind}: the carry is {[f'{part.dtype}{list(part.shape)}' for part in parts]}; "
            f"expected {', '.join(cell.carry)} of shapes {want} in the input's {x.dtype}: begin "
            "with cell.start(params, x)."
        )
    return carry
