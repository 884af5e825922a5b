"""Depth of a network: the number of layers with weights on its longest path."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
from jax.extend import core as jex

from jaxdl.core import Module, check_model
from jaxdl.jaxpr.equations import Literal
from jaxdl.jaxpr.primitives import readers
from jaxdl.jaxpr.primitives.kinds import MATMULS
from jaxdl.jaxpr.tracing import make_standard_jaxpr

__all__ = ["depth"]


class PathLength(NamedTuple):
    """The longest path from the inputs to a value.

    Attributes:
      from_inputs: whether the value depends on the inputs.
      layers: the number of layers on the path.
    """

    from_inputs: bool = False
    layers: int = 0


def depth(model: Module, *inputs: Any) -> int:
    """Counts the layers with weights on the longest path from inputs to output.

    A layer is a matrix product or convolution of a value that depends on the inputs with one that
    depends on parameters alone. The longest path counts, so a projection in parallel to a residual
    block adds nothing. Every time step of a recurrent network counts as a layer.

    Args:
      model: any `Module`.
      *inputs: the inputs of `model.apply`: arrays or `jax.ShapeDtypeStruct`s.

    Returns:
      The depth as papers count it: 8 for AlexNet, 152 for ResNet-152.

    Raises:
      ValueError: the model contains a `while` loop, whose length is not known.
    """
    check_model("depth", model)
    params, state = jax.eval_shape(model.init, jax.random.key(0), *inputs)

    def output(params, inputs):
        return model.apply(params, state, *inputs)[0]

    state = jax.tree.map(lambda a: jax.numpy.zeros(a.shape, a.dtype), state)
    jaxpr = make_standard_jaxpr(output, params, inputs)[0].jaxpr
    parameters = len(jax.tree.leaves(params))
    sources = [PathLength(i >= parameters) for i in range(len(jaxpr.invars))]
    return max((path.layers for path in _propagate(jaxpr, sources)), default=0)


def _propagate(jaxpr: jex.Jaxpr, inputs: Sequence[PathLength]) -> list[PathLength]:
    """Returns the path lengths of a jaxpr's outputs from those of its inputs."""
    lengths = dict(zip(jaxpr.invars, inputs, strict=True))

    def read(variable: Any) -> PathLength:
        # Literals and constants do not depend on the inputs.
        if isinstance(variable, Literal):
            return PathLength()
        return lengths.get(variable, PathLength())

    for equation in jaxpr.eqns:
        operands = [read(variable) for variable in equation.invars]
        lengths |= zip(equation.outvars, _apply(equation, operands), strict=True)
    return [read(variable) for variable in jaxpr.outvars]


def _apply(equation: Any, operands: list[PathLength]) -> Sequence[PathLength]:
    """Returns the path lengths of an equation's outputs."""
    name = equation.primitive.name
    if name == "while":
        raise ValueError(
            "depth: the model contains a while loop, whose length is unknown. Use lax.scan."
        )
    if name == "scan":
        return _unroll(equation, operands)
    if name == "cond":
        branches = readers().branches(equation)
        results = [_propagate(branch.jaxpr, operands[1:]) for branch in branches]
        return [_longest(outputs) for outputs in zip(*results, strict=True)]
    if (inner := readers().called_function(equation)) is not None:
        return _propagate(inner.jaxpr, operands)
    longest = _longest(operands)
    if name in MATMULS and operands[0].from_inputs != operands[1].from_inputs:
        longest = PathLength(True, longest.layers + 1)
    return [longest] * len(equation.outvars)


def _unroll(equation: Any, operands: list[PathLength]) -> list[PathLength]:
    """Propagates through a `scan` step by step: each lengthens the carry's path."""
    loop = readers().scan(equation)
    consts, carry_end = loop.num_consts, loop.num_consts + loop.num_carry
    carry, xs = operands[consts:carry_end], operands[carry_end:]
    outputs: list[list[PathLength]] = []
    # Step by step: the carry of a later step has a longer path, so one pass is too short.
    for _ in range(loop.length):
        results = _propagate(loop.body.jaxpr, [*operands[:consts], *carry, *xs])
        carry = results[: loop.num_carry]
        outputs.append(results[loop.num_carry :])
    return [*carry, *(_longest(steps) for steps in zip(*outputs, strict=True))]


def _longest(values: Sequence[PathLength]) -> PathLength:
    from_inputs = any(value.from_inputs for value in values)
    layers = max((value.layers for value in values if value.from_inputs), default=0)
    return PathLength(from_inputs, layers)
