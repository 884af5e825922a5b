"""Caches of compiled programs that do not keep models alive.

`jax.jit` with a model as static argument, or an `lru_cache` keyed by one, holds the model, its
programs and whatever its functions close over until the process ends. Here they end with the model,
and models that trace to the same program share its compiled form.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
from jax.core import Tracer

from jaxdl.jaxpr import equations, evaluation, fingerprint, tracing

Make = TypeVar("Make", bound=Callable[..., Any])

PER_MODEL = 8
"""Results that `per_model` keeps for each function: those used last."""


def concrete(*trees: Any) -> bool:
    """Returns whether no value in the trees is traced."""
    return not any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(trees))


def per_model(make: Make) -> Make:
    """Keeps what `make(model, *hashable)` returns, for as long as the model lives.

    The results are stored in the model, not in a table keyed by it: they refer to the model, and
    the garbage collector ends such a cycle, but no table whose values refer to their keys.
    """

    @functools.wraps(make)
    def call(model, *rest):
        if call not in model.programs:
            bound = functools.partial(make, model)
            model.programs[call] = functools.lru_cache(PER_MODEL)(bound)
        return model.programs[call](*rest)

    return call  # pyright: ignore[reportReturnType]


class Compiled:
    """`jax.jit(f)` that shares its compiled form with every f that traces to the same program.

    Arrays that f closes over are arguments of what is compiled, so f and they are released with
    this object. Traced arguments go to `jax.jit(f)` itself, so derivatives are those of f.
    """

    def __init__(self, f: Callable[..., Any], donate_argnums: Sequence[int] = ()):
        self._jit = jax.jit(f, donate_argnums=donate_argnums)
        self._donate = tuple(donate_argnums)
        self._programs: dict[Any, Callable[..., Any]] = {}

    def __call__(self, *args: Any) -> Any:
        return self.select(*args)(*args)

    def select(self, *args: Any) -> Callable[..., Any]:
        """Returns what is compiled for arguments of these shapes and dtypes."""
        # Under debug_nans JAX runs the function itself again to name the place of a NaN.
        if not concrete(args) or jax.debug_nans.value:
            return self._jit
        traced = self._jit.trace(*args)
        program = traced.jaxpr  # the same object as long as JAX has no reason to trace again
        if program not in self._programs:
            constants = evaluation.collect_constants(program)
            # What is shared outlives this model, and its arrays must not.
            if not concrete(constants) or evaluation.has_fixed_constants(program):
                return self._jit
            tree = jax.tree.structure(traced.out_info)
            name = getattr(self._jit, "__name__", "run")
            run = TRAINING(SharedProgram(name, program, tree, constants, args, self._donate))
            self._programs[program] = functools.partial(run, constants)
        return self._programs[program]


class SharedProgram:
    """A traced program, equal to all that compute the same; the key of a cache of compiled ones.

    Args:
      name: what logs and profiles call it; it is no part of the key.
      program: a traced program of the leaves of `args`.
      outputs: the tree of its outputs.
      constants: `evaluation.collect_constants(program)`.
      args: arguments that it was traced for.
      donate_argnums: which of `args` are donated.
    """

    def __init__(
        self,
        name: str,
        program: equations.ClosedJaxpr,
        outputs: Any,
        constants: list[Any],
        args: tuple[Any, ...],
        donate_argnums: tuple[int, ...] = (),
    ):
        trees = jax.tree.structure(args), outputs, donate_argnums
        self.fingerprint = fingerprint.fingerprint(program), trees
        self.hash = hash(self.fingerprint)
        self.compile = lambda: _compile(name, program, outputs, constants, args, donate_argnums)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SharedProgram) and self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return self.hash


def _compile(name, program, outputs, constants, args, donate_argnums):
    evaluate = lambda values, x: evaluation.evaluate(program, iter(values), *x)  # noqa: E731
    bare, _ = tracing.make_jaxpr(evaluate, constants, jax.tree.leaves(args))

    def run(*args):
        leaves = evaluation.evaluate(bare, iter(()), *jax.tree.leaves(args))
        return jax.tree.unflatten(outputs, leaves)

    run.__name__ = name
    return jax.jit(run, donate_argnums=tuple(1 + i for i in donate_argnums))


def _compiled(program: SharedProgram) -> Callable[..., Any]:
    """Returns `run(constants, *args)`."""
    run = program.compile()
    del program.compile  # with the arrays of this call, which must not live as long as the key
    return run


TRAINING = functools.lru_cache(12)(_compiled)
"""Programs of `Compiled`. A fit with an evaluation and predictions needs seven, of 1 to 5 MB."""
EXPLANATIONS = functools.lru_cache(64)(_compiled)
"""Programs of eager explanations: of many methods, each for a few shapes."""
