"""Recurrent cells: the equations of one time step, and the loop that applies them.

A cell computes h_t = f(h_{t-1}, x_t). The part that needs only the input, `project`, is one
product for all steps; the rest, `recur`, runs once per step. `unroll` runs a cell along a sequence
in one of three ways that compute the same:

- "scan" is `lax.scan` of the step. `jax.grad` through it is backpropagation
  through time (Werbos 1990, doi:10.1109/5.58337). The tests compare the others with it.
- "fused" is `Cell.fused`: the same loop with a hand-written derivative, next to the equations of
  each cell (`rnn.py`, `lstm.py`, `gru.py`).
- "cudnn" is `Cell.cudnn`: NVIDIA's library (`cudnn.py`).

Shapes: N sequences of T steps with D features, H units.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxdl import _cache
from jaxdl.core import Module, Tree, named_key, suggest
from jaxdl.nn import _check
from jaxdl.nn.dense import affine
from jaxdl.nn.initializers import Initializer, initializer

__all__ = ["Cell", "unroll"]

Carry = Any
"""The state that a cell passes from step to step: h (N, H), or a tuple of such arrays."""

IMPLEMENTATIONS = ("auto", "scan", "fused", "cudnn")


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Cell(Module):
    """A recurrent layer, (N, T, D) -> (N, T, H), that can also run one step at a time.

    `apply(params, state, x, lengths=None, carry=None)` runs the cell over whole sequences, as
    `rnn(cell)` does with its default arguments.

    Attributes:
      carry_sizes: the width of each part of the carry by name, e.g. `{"h": H, "c": H}`. With one
        part the carry is an array (N, H), with several a tuple of arrays. Recurrent products read
        the first part.
      project: `(params, x) -> z`, over any leading axes.
      recur: `(params, carry, z, drop) -> (carry, y)`, one step. `drop` applies recurrent dropout to
        the values that recurrent products read.
      fused: `(params, carry, x W, mask, *, reverse, unroll) -> (carry, y)`, all steps with time as
        the first axis and a faster derivative; or None.
      cudnn: `(params, carry, x, lengths, *, reverse) -> (carry, y)`, all steps by NVIDIA's library;
        or None.
    """

    carry_sizes: Mapping[str, int]
    project: Callable[[Tree, jax.Array], jax.Array]
    recur: Callable[..., tuple[Carry, jax.Array]]
    fused: Callable[..., tuple[Carry, jax.Array]] | None = None
    cudnn: Callable[..., tuple[Carry, jax.Array]] | None = None

    def step(self, params: Tree, carry: Carry, x: jax.Array) -> tuple[Carry, jax.Array]:
        """Runs one step: `(carry, x (N, D)) -> (carry, y (N, H))`."""
        with explain_param_errors(self, params, x):
            return self.recur(params, carry, self.project(params, x), lambda h: h)

    def initial_carry(self, params: Tree, x: jax.Array) -> Carry:
        """Returns the carry before the first step, learned or zeros, for a batch x (N, ...)."""
        parts = []
        for name, size in self.carry_sizes.items():
            row = params.get(f"initial_{name}", jnp.zeros(size, x.dtype))
            parts.append(jnp.broadcast_to(row, (x.shape[0], size)))
        return parts[0] if len(parts) == 1 else tuple(parts)


def make_cell(
    kind: str,
    carry_sizes: Mapping[str, int],
    make_params: Callable[[jax.Array, int, Any], Tree],
    recur: Callable[..., tuple[Carry, jax.Array]],
    *,
    carry_init: str | Initializer = "zeros",
    learn_initial_carry: bool = False,
    fused: Callable[..., tuple[Carry, jax.Array]] | None = None,
    cudnn: Callable[..., tuple[Carry, jax.Array]] | None = None,
    **config: Any,
) -> Cell:
    """Makes a `Cell` from the equations of one step. All cells of jaxdl are made by it.

    Args:
      kind: the name of the cell's factory.
      carry_sizes: name and width of each part of the carry.
      make_params: `(key, D, dtype) -> params`, with `kernel` (D, F) and optionally `bias` (F,).
        `recur` receives z = x kernel + bias.
      recur: `(params, carry, z, drop) -> (carry, y)`.
      carry_init: initializer of a learned initial carry, the parameters `initial_h` (H,), ...
      learn_initial_carry: whether the initial carry is learned; otherwise it is zero.
      fused, cudnn: see `Cell`.
      **config: hyperparameters, shown in the cell's `repr`.

    Returns:
      The `Cell`.
    """
    make_initial = initializer(carry_init)

    def init(key, x, *rest):
        check_sequences(kind, x)
        params = make_params(key, x.shape[-1], x.dtype)
        if learn_initial_carry:
            for name, size in carry_sizes.items():
                # A key by name: learning the initial carry does not change the other parameters.
                part_key = named_key(key, f"initial_{name}")
                params[f"initial_{name}"] = make_initial(part_key, (1, size), x.dtype)[0]
        return params, {}

    def project(params, x):
        return affine(x, params["kernel"], params.get("bias"))

    def apply(params, state, x, lengths=None, carry=None, **_):
        return unroll(cell, params, x, lengths=lengths, carry=carry)[1], state

    cell = Cell(
        init=init,
        apply=apply,
        kind=kind,
        config=config,
        takes_lengths=True,
        carry_sizes=carry_sizes,
        project=project,
        recur=recur,
        fused=fused,
        cudnn=cudnn,
    )
    return cell


def init_gate_kernels(
    make: Initializer, key: Any, shape: tuple[int, int], gates: int, dtype: Any
) -> jax.Array:
    """Returns (rows, gates * columns), with each gate's matrix initialized separately.

    An orthogonal initializer applied to the whole array would not make each gate orthogonal.
    """
    blocks = jax.vmap(lambda k: make(k, shape, dtype))(jax.random.split(key, gates))
    return jnp.moveaxis(blocks, 0, 1).reshape(shape[0], gates * shape[1])


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
    implementation: str = "auto",
    recurrent_dropout_mask: jax.Array | None = None,
) -> tuple[Carry, jax.Array]:
    """Runs a cell along sequences: carry_t, y_t = step(carry_{t-1}, x_t).

    With `lengths`, the steps of row n from lengths[n] on are padding: they leave the carry
    unchanged and their outputs are 0. Values in the padding, even NaN, affect neither outputs nor
    gradients.

    Args:
      cell: a `Cell`.
      params: its parameters.
      x: (N, T, D).
      lengths: (N,) integers in 0 .. T, or None if no row is padded.
      carry: the carry before the first step. By default `cell.initial_carry`: learned, or zeros.
      reverse: run from the last step to the first. y_t keeps index t.
      unroll: steps per iteration of the compiled loop.
      remat: store the carry only every `remat` steps, and recompute the steps in between in the
        backward pass; 0 stores every step. Only with "scan".
      implementation: all compute the same.

        - "scan": `lax.scan` of the cell's step.
        - "fused" (`lstm`, `gru` and `elman`): the same loop with a hand-written derivative, which
          computes the slopes of the gates for all steps at once and the gradient of the recurrent
          kernel as one product after the loop. Forward mode, `vmap` and higher derivatives work.
        - "cudnn" (`lstm`): NVIDIA's library, in float32 and without forward mode.
        - "auto": "fused" where the cell has it and no argument needs "scan".
      recurrent_dropout_mask: (N, H), multiplied at every step by the values that recurrent products
        read: the mask of variational dropout, already scaled. Only with "scan".

    Returns:
      `(carry, y)`: the carry after each row's last step, and y (N, T, H).

    Raises:
      ValueError: x is not floating-point of shape (N, T, D); `lengths` are not integers of shape
        (N,); the carry has the wrong shapes or dtype; the implementation is unknown or not
        available.
    """
    check_sequences(cell.kind, x)
    batch = x.shape[0]
    if lengths is not None and (
        jnp.shape(lengths) != (batch,) or not jnp.issubdtype(jnp.result_type(lengths), jnp.integer)
    ):
        raise ValueError(
            f"{cell.kind}: lengths are {jnp.result_type(lengths)}{list(jnp.shape(lengths))}, "
            f"expected int32[{batch}]. Pass the number of steps before the padding for each row."
        )
    implementation = choose_implementation(cell, implementation, remat, recurrent_dropout_mask)
    run = _compile(cell, implementation, reverse, unroll, remat)
    with explain_param_errors(cell, params, x):
        carry = _check_carry(cell, cell.initial_carry(params, x) if carry is None else carry, x)
        return run(params, x, lengths, carry, recurrent_dropout_mask)


@contextlib.contextmanager
def explain_param_errors(cell: Cell, params: Tree, x: jax.Array) -> Iterator[None]:
    """Replaces an error of the block if the parameters have the wrong shapes for x."""
    try:
        yield
    except (KeyError, TypeError, ValueError) as error:
        # Compared only after an error, so that eager steps do not pay for it.
        x_spec = jax.ShapeDtypeStruct((1, 1, x.shape[-1]), x.dtype)
        expected, _ = jax.eval_shape(cell.init, jax.random.key(0), x_spec)
        shapes = [{name: leaf.shape for name, leaf in tree.items()} for tree in (params, expected)]
        if shapes[0] == shapes[1] or shapes[0].get("kernel", (0,))[0] != x.shape[-1]:
            raise  # the error of `affine` names the expected width of x
        raise ValueError(
            f"{cell.kind}: got parameters of shapes {shapes[0]}, expected {shapes[1]} for x of "
            f"{x.shape[-1]} features. Create them with jaxdl.init(cell, key, x)."
        ) from error


# Compiled even when the caller is not: eager calls in a loop would trace the scan each time.
@_cache.per_model
def _compile(cell, implementation, reverse, unroll, remat):
    """Returns the compiled loop over the steps."""
    run = functools.partial(_run_steps, cell, implementation, reverse, unroll, remat)
    return jax.jit(run, inline=True)


def _run_steps(
    cell, implementation, reverse, unroll, remat, params, x, lengths, carry, dropout_mask
):
    """Runs the chosen implementation and sets the outputs of padded steps to 0."""
    mask = None
    if lengths is not None:
        mask = (jnp.arange(x.shape[1]) < lengths[:, None])[..., None]
        x = jnp.where(mask, x, 0)  # a NaN in the padding would reach the kernel's gradient
    if implementation == "cudnn":
        carry, y = cell.cudnn(params, carry, x, lengths, reverse=reverse)
    else:
        x = jnp.swapaxes(x, 0, 1)
        if implementation == "fused":
            # Without the bias, which is added inside the loop: here it is a pass over (T, N, F).
            run, z = cell.fused, affine(x, params["kernel"])
        else:
            run = functools.partial(_scan_steps, cell, remat=remat, dropout_mask=dropout_mask)
            z = cell.project(params, x)
        mask_by_time = None if mask is None else jnp.swapaxes(mask, 0, 1)
        carry, y = run(params, carry, z, mask_by_time, reverse=reverse, unroll=unroll)
        y = jnp.swapaxes(y, 0, 1)
    return carry, y if mask is None else jnp.where(mask, y, 0)


def choose_implementation(
    cell: Cell, implementation: str, remat: int, recurrent_dropout_mask: jax.Array | None
) -> str:
    """Returns the implementation that runs, for "auto" too; raises if it is not available."""
    if implementation not in IMPLEMENTATIONS:
        hint = suggest(str(implementation), IMPLEMENTATIONS, "implementations")
        raise ValueError(f"{cell.kind}: implementation={implementation!r} is unknown; {hint}")
    needs_scan = remat or recurrent_dropout_mask is not None
    # "auto" does not choose cuDNN on a GPU, because it has no forward mode and only float32.
    if implementation == "auto":
        return "scan" if needs_scan or cell.fused is None else "fused"
    if implementation == "scan":
        return implementation
    if needs_scan:
        raise ValueError(
            f"{cell.kind}: implementation={implementation!r} supports neither remat nor "
            "recurrent_dropout_mask. Use implementation='scan'."
        )
    if getattr(cell, implementation) is None:
        raise ValueError(
            f"{cell.kind}: implementation={implementation!r} is not available for this cell. "
            "Use implementation='scan'."
        )
    return implementation


def _scan_steps(cell, params, carry, z, mask, *, reverse, unroll, remat, dropout_mask):
    """Scans the cell's step; keeps the carry where the mask is false."""

    def drop(h):
        return h if dropout_mask is None else h * dropout_mask

    def step(carry, inputs):
        z, mask = inputs
        new, y = cell.recur(params, carry, z, drop)
        if mask is not None:
            new = jax.tree.map(lambda new, old: jnp.where(mask, new, old), new, carry)
        return new, y

    scan = functools.partial(lax.scan, step, reverse=reverse, unroll=unroll)
    if not remat:
        return scan(carry, (z, mask))
    # An outer scan over segments of `remat` steps, and a shorter segment for the remainder.
    segment, whole = jax.checkpoint(scan), z.shape[0] - z.shape[0] % remat
    segments = jax.tree.map(lambda a: a[:whole].reshape(-1, remat, *a.shape[1:]), (z, mask))
    rest = jax.tree.map(lambda a: a[whole:], (z, mask))
    if reverse:
        carry, last = segment(carry, rest)
        carry, first = lax.scan(segment, carry, segments, reverse=True)
    else:
        carry, first = lax.scan(segment, carry, segments)
        carry, last = segment(carry, rest)
    return carry, jnp.concatenate([first.reshape(whole, *first.shape[2:]), last])


def previous_states(first: jax.Array, states: jax.Array, reverse: bool) -> jax.Array:
    """Returns the state before each step: (T, N, H) shifted by one, starting with first (N, H)."""
    if reverse:
        return jnp.concatenate([states[1:], first[None]])
    return jnp.concatenate([first[None], states[:-1]])


def check_sequences(kind: str, x: jax.Array) -> None:
    """Raises ValueError unless x is floating-point of shape (N, T, D)."""
    _check.floating(kind, x)
    if x.ndim != 3:
        raise ValueError(
            f"{kind}: x has shape {x.shape}, expected a batch of sequences (N, T, D). Pass x[None] "
            "for one sequence, or call cell.step for one step (N, D)."
        )


def _check_carry(cell: Cell, carry: Carry, x: jax.Array) -> Carry:
    expected = [(x.shape[0], size) for size in cell.carry_sizes.values()]
    parts = jax.tree.leaves(carry)
    if [part.shape for part in parts] != expected or any(part.dtype != x.dtype for part in parts):
        raise ValueError(
            f"{cell.kind}: the carry is {[f'{part.dtype}{list(part.shape)}' for part in parts]}, "
            f"expected {', '.join(cell.carry_sizes)} of shapes {expected} and dtype {x.dtype}. "
            "Start with cell.initial_carry(params, x)."
        )
    return carry
