"""Recurrent layers: one cell, the same at every step, run along the sequence.

    h_t = f(h_{t-1}, x_t)

A `Cell` is a layer over whole sequences that can also be stepped. Everything in it that needs the
input alone is `project`, done for all steps as one product; the rest is `recur`, which `lax.scan`
repeats, so that `jax.grad` through it is backpropagation through time (Werbos 1990,
doi:10.1109/5.58337; lecture rows A22, A23, D12, J03, J04).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import lax

from jaxdl.core import Module, Tree, named_key, suggest
from jaxdl.nn import _check
from jaxdl.nn.dense import affine
from jaxdl.nn.dropout import drop
from jaxdl.nn.initializers import Initializer, initializer

__all__ = ["Cell", "recurrence", "recurrent"]

Carry = Any
"""What a cell hands on from step to step: h (N, H), or a tuple of such arrays."""

FORMS = ("auto", "plain", "fused", "cudnn")


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Cell(Module):
    """A recurrent layer, (N, T, D) -> (N, T, H), that can also be run one step at a time.

    `apply(params, state, x, lengths=None, carry=None)` runs it over whole sequences, as
    `recurrent(cell)` with its defaults does.

    Attributes:
      carry: the width of each part of the carry by name, e.g. `{"h": H, "c": H}`; with one part the
        carry is an array (N, H), with several it is a tuple. The first part is what recurrent
        products read.
      project: `(params, x) -> z`, over any leading axes.
      recur: `(params, carry, z, drop) -> (carry, y)`, one step; `drop` is applied to what the
        recurrent products read of the carry.
      fused: `(params, carry, x W, mask, *, reverse, unroll) -> (carry, y)`, the same over all
        steps, time first, with faster derivatives; or None.
      cudnn: `(params, carry, x, lengths, *, reverse) -> (carry, y)`, the same by NVIDIA's library;
        or None.
    """

    carry: Mapping[str, int]
    project: Callable[[Tree, jax.Array], jax.Array]
    recur: Callable[..., tuple[Carry, jax.Array]]
    fused: Callable[..., tuple[Carry, jax.Array]] | None = None
    cudnn: Callable[..., tuple[Carry, jax.Array]] | None = None

    def step(self, params: Tree, carry: Carry, x: jax.Array) -> tuple[Carry, jax.Array]:
        """One step, for streams: `(carry, x (N, D)) -> (carry, y (N, H))`."""
        return self.recur(params, carry, self.project(params, x), lambda h: h)

    def start(self, params: Tree, x: jax.Array) -> Carry:
        """The carry before the first step, for a batch like x (N, ...): zeros, or as learned."""
        parts = []
        for name, size in self.carry.items():
            row = params.get(f"initial_{name}", jnp.zeros(size, x.dtype))
            parts.append(jnp.broadcast_to(row, (x.shape[0], size)))
        return parts[0] if len(parts) == 1 else tuple(parts)


def make_cell(
    kind: str,
    carry: Mapping[str, int],
    make_params: Callable[[jax.Array, int, Any], Tree],
    recur: Callable[..., tuple[Carry, jax.Array]],
    *,
    initial: str | Initializer = "zeros",
    learn_initial: bool = False,
    fused: Callable[..., tuple[Carry, jax.Array]] | None = None,
    cudnn: Callable[..., tuple[Carry, jax.Array]] | None = None,
    **config: Any,
) -> Cell:
    """A `Cell` from one step's mathematics; every cell of this library is made by it.

    Args:
      kind: the factory's name.
      carry: name and width of each part of the carry.
      make_params: `(key, D, dtype) -> params`, with `kernel` (D, F) and perhaps `bias` (F,), whose
        affine map of x is the z that `recur` is given.
      recur: `(params, carry, z, drop) -> (carry, y)`.
      initial: initial values of the learned carry `initial_h` (H,), ...
      learn_initial: whether the carry before the first step is learned, or zeros.
      fused, cudnn: see `Cell`.
      **config: hyper-parameters, to be shown.
    """
    make_initial = initializer(initial)

    def init(key, x, *rest):
        _sequences(kind, x)
        params = make_params(key, x.shape[-1], x.dtype)
        if learn_initial:
            for name, size in carry.items():
                own = named_key(key, f"initial_{name}")
                params[f"initial_{name}"] = make_initial(own, (1, size), x.dtype)[0]
        return params, {}

    def project(params, x):
        return affine(x, params["kernel"], params.get("bias"))

    def apply(params, state, x, lengths=None, carry=None, **_):
        return recurrence(cell, params, x, lengths=lengths, carry=carry)[1], state

    cell = Cell(
        init=init,
        apply=apply,
        kind=kind,
        config=config,
        carry=carry,
        project=project,
        recur=recur,
        fused=fused,
        cudnn=cudnn,
    )
    return cell


def gate_kernels(
    make: Initializer, key: Any, shape: tuple[int, int], gates: int, dtype: Any
) -> jax.Array:
    """(rows, gates * columns): each gate's matrix drawn by itself, so that each is orthogonal."""
    blocks = jax.vmap(lambda k: make(k, shape, dtype))(jax.random.split(key, gates))
    return jnp.moveaxis(blocks, 0, 1).reshape(shape[0], gates * shape[1])


def recurrence(
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
    _sequences(cell.kind, x)
    batch = x.shape[0]
    if lengths is not None and (
        jnp.shape(lengths) != (batch,) or not jnp.issubdtype(jnp.result_type(lengths), jnp.integer)
    ):
        raise ValueError(
            f"{cell.kind}: lengths are {jnp.result_type(lengths)}{list(jnp.shape(lengths))}; "
            f"expected one integer a row, int32[{batch}]: the number of steps before the padding."
        )
    carry = _checked(cell, cell.start(params, x) if carry is None else carry, x)
    form = _chosen(cell, form, remat, keep)
    return _run(cell, form, reverse, unroll, remat, params, x, lengths, carry, keep)


@functools.partial(jax.jit, static_argnums=range(5), inline=True)  # compiled once in eager use too
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


def _chosen(cell, form, remat, keep):
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


def _sequences(kind: str, x: jax.Array) -> None:
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


def recurrent(
    cell: Cell,
    *,
    reverse: bool = False,
    returns: Literal["all", "last", "carry"] = "all",
    recurrent_dropout: float = 0.0,
    stateful: bool = False,
    unroll: int = 1,
    remat: int = 0,
    form: str = "auto",
) -> Module:
    """A cell as a layer over sequences, with other ways of running it than its own `apply`.

    The parameters are the cell's own, so that the same tree can be run forwards, backwards or step
    by step. The layer takes `(x (N, T, D), lengths=None, carry=None)`; see `recurrence`.

    Args:
      cell: any `Cell`.
      reverse: run from the last step to the first; y_t still stands at t.
      returns: "all" for y (N, T, H); "last" for the output of each row's last step (N, H), that is
        of its first when reversed, and 0 for rows of length 0; "carry" for `(y, final carry)`.
      recurrent_dropout: probability of dropping what the recurrent products read, one mask for all
        steps of a row. Gal and Ghahramani 2016 (arXiv 1512.05287), sec. 4.
      stateful: keep the final carry in the model's state and begin the next call with it, its
        gradient cut: backpropagation through time truncated to the T steps of a call. The rows of
        successive batches must continue each other.
      unroll, remat, form: see `recurrence`.

    Returns:
      A `Module` named for its cell.

    Raises:
      ValueError: `returns` is another word, `recurrent_dropout` outside [0, 1), or `form` not to
        be had; in training with recurrent dropout, no key is given; what `recurrence` raises.
    """
    if not isinstance(cell, Cell):
        raise ValueError(
            f"recurrent: got {cell!r}; expected a Cell, such as nn.lstm(features): other layers "
            "already are what they do to a sequence."
        )
    if returns not in ("all", "last", "carry"):
        raise ValueError(f"recurrent: returns is {returns!r}; expected 'all', 'last' or 'carry'.")
    if not 0 <= recurrent_dropout < 1:
        raise ValueError(
            f"recurrent: recurrent_dropout is {recurrent_dropout!r}; expected a probability of "
            "dropping, in [0, 1)."
        )
    _chosen(cell, form, remat, None)

    def init(key, x, *rest):
        params, state = cell.init(key, x, *rest)
        return params, state | (_named(cell, cell.start(params, x)) if stateful else {})

    def apply(params, state, x, lengths=None, carry=None, *, train=False, key=None, **_):
        keep = None
        if recurrent_dropout and train:
            keep = _one_mask(cell, x, recurrent_dropout, key)
        if stateful and carry is None:
            carry = tuple(state[name] for name in cell.carry)
            carry = carry[0] if len(carry) == 1 else carry
        carry, y = recurrence(
            cell,
            params,
            x,
            lengths=lengths,
            carry=carry,
            reverse=reverse,
            unroll=unroll,
            remat=remat,
            form=form if keep is None else "plain",
            keep=keep,
        )
        if stateful:
            state = state | _named(cell, lax.stop_gradient(carry))
        if returns == "last":
            y = _last(y, lengths, reverse)
        return ((y, carry) if returns == "carry" else y), state

    config = dict(cell.config) | {"reverse": reverse, "returns": returns}
    return Module(init, apply, cell.kind, config)


def _named(cell: Cell, carry: Carry) -> Tree:
    return dict(zip(cell.carry, jax.tree.leaves(carry), strict=True))


def _one_mask(cell, x, rate, key):
    if key is None:
        raise ValueError(
            f"{cell.kind}: no key with train=True; expected a PRNG key for the recurrent dropout: "
            "model.apply(params, state, x, train=True, key=key)."
        )
    width = next(iter(cell.carry.values()))
    return drop(jnp.ones((x.shape[0], width), x.dtype), key, rate) / (1 - rate)


def _last(y: jax.Array, lengths: jax.Array | None, reverse: bool) -> jax.Array:
    if reverse:
        return y[:, 0]
    if lengths is None:
        return y[:, -1]
    at = jnp.clip(lengths - 1, 0, y.shape[1] - 1)
    return jnp.take_along_axis(y, at[:, None, None], axis=1)[:, 0]
