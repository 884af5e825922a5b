"""Caches of compiled programs that are released together with their model.

`jax.jit` with a model as static argument, or an `lru_cache` keyed by a model, keeps the model, its
programs and everything its functions close over alive until the process ends. The caches below
release them with the model, and models that trace to the same program share its compiled form.
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
"""The number of results that `per_model` keeps for each function, most recently used first."""


def concrete(*trees: Any) -> bool:
    """Returns whether no value in the trees is traced."""
    return not any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(trees))


def per_model(make: Make) -> Make:
    """Caches the results of `make(model, *hashable)` for the lifetime of the model."""
    # The results refer to the model. Stored in the model they form a cycle, which the garbage
    # collector frees; in a table keyed by the model, even a weak one, they would keep it alive.

    @functools.wraps(make)
    def call(model, *rest):
        if call not in model.programs:
            bound = functools.partial(make, model)
            model.programs[call] = functools.lru_cache(PER_MODEL)(bound)
        return model.programs[call](*rest)

    return call  # pyright: ignore[reportReturnType]


class Compiled:
    """Compiles f like `jax.jit`, once for all functions that trace to the same program.

    Arrays that f closes over become arguments of the compiled program, so that f and its arrays are
    released with this object. With traced arguments, `jax.jit(f)` itself is called, so that custom
    derivative rules of f apply.
    """

    def __init__(self, f: Callable[..., Any], donate_argnums: Sequence[int] = ()):
        self._jit = jax.jit(f, donate_argnums=donate_argnums)
        self._donate = tuple(donate_argnums)
        self._programs: dict[Any, Callable[..., Any]] = {}

    def __call__(self, *args: Any) -> Any:
        return self.select(*args)(*args)

    def select(self, *args: Any) -> Callable[..., Any]:
        """Returns the compiled function for arguments of these shapes and dtypes."""
        # With debug_nans JAX runs the function again, op by op, to locate a NaN.
        if not concrete(args) or jax.debug_nans.value:
            return self._jit
        traced = self._jit.trace(*args)
        program = traced.jaxpr  # the same object until JAX traces again
        if program not in self._programs:
            constants = evaluation.collect_constants(program)
            # The shared program outlives this model, so it must not contain the model's arrays.
            if not concrete(constants) or evaluation.has_fixed_constants(program):
                return self._jit
            tree = jax.tree.structure(traced.out_info)
            name = getattr(self._jit, "__name__", "run")
            run = TRAINING(SharedProgram(name, program, tree, constants, args, self._donate))
            self._programs[program] = functools.partial(run, constants)
        return self._programs[program]


class SharedProgram:
    """A traced program, used as the key of a cache; programs that compute the same are equal.

    Args:
      name: the name in logs and profiles, which is not part of the key.
      program: a traced program of the leaves of `args`.
      outputs: the tree structure of its outputs.
      constants: `evaluation.collect_constants(program)`.
      args: the arguments with which it was traced.
      donate_argnums: indices of the donated `args`.
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
    def evaluate(values, x):
        return evaluation.evaluate(program, iter(values), *x)

    bare, _ = tracing.make_jaxpr(evaluate, constants, jax.tree.leaves(args))

    def run(*args):
        leaves = evaluation.evaluate(bare, iter(()), *jax.tree.leaves(args))
        return jax.tree.unflatten(outputs, leaves)

    run.__name__ = name
    return jax.jit(run, donate_argnums=tuple(1 + i for i in donate_argnums))


def _compile_once(program: SharedProgram) -> Callable[..., Any]:
    """Returns `run(constants, *args)`."""
    run = program.compile()
    # The closure contains the arrays of this call; the key lives as long as the cache.
    del program.compile
    return run


TRAINING = functools.lru_cache(12)(_compile_once)
"""Programs of `Compiled`. A fit with an evaluation and predictions needs seven, of 1 to 5 MB."""
EXPLANATIONS = functools.lru_cache(64)(_compile_once)
"""Programs of eager explanations: many methods, a few shapes each."""
