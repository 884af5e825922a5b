"""How deep a network is: the layers with weights on the longest way through it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
from jax.extend import core as jex

from jaxdl.core import Module, check_model
from jaxdl.jaxpr import reading

__all__ = ["depth"]

PRODUCTS = ("dot_general", "conv_general_dilated")


class Found(NamedTuple):
    """Of a value in the program: whether the inputs are in it, and how many layers they passed."""

    of_inputs: bool = False
    layers: int = 0


def depth(model: Module, *inputs: Any) -> int:
    """The largest number of layers between the inputs and the output. Lecture row T08.

    A layer is a product or convolution of what comes from the inputs with what comes from the
    parameters alone; of two ways through the network the longer counts, so that a projection beside
    a residual block adds nothing. In a recurrent network the steps in time count, each by itself.

    Args:
      model: any `Module`.
      *inputs: what `model.apply` takes: arrays or `jax.ShapeDtypeStruct`s.

    Returns:
      The depth, as the papers count it: 8 for AlexNet, 152 for ResNet-152.

    Raises:
      ValueError: the model holds a `while` loop, whose length is not known.
    """
    check_model("depth", model)
    params, state = jax.eval_shape(model.init, jax.random.key(0), *inputs)

    def output(params, inputs):
        return model.apply(params, state, *inputs)[0]

    state = jax.tree.map(lambda a: jax.numpy.zeros(a.shape, a.dtype), state)
    program = reading.written(output, params, inputs)[0].jaxpr
    parameters = len(jax.tree.leaves(params))
    begins = [Found(i >= parameters) for i in range(len(program.invars))]
    return max((found.layers for found in _passed(program, begins)), default=0)


def _passed(program: jex.Jaxpr, begins: Sequence[Found]) -> list[Found]:
    """What is found of a program's outputs, from what is known of its inputs."""
    known = dict(zip(program.invars, begins, strict=True))

    def at(variable: Any) -> Found:
        # What is closed over, and numbers written out, come from no input.
        return Found() if isinstance(variable, reading.Literal) else known.get(variable, Found())

    for equation in program.eqns:
        given = [at(variable) for variable in equation.invars]
        known |= zip(equation.outvars, _after(equation, given), strict=True)
    return [at(variable) for variable in program.outvars]


def _after(equation: Any, given: list[Found]) -> Sequence[Found]:
    """What is found of an equation's outputs."""
    name = equation.primitive.name
    if name == "while":
        raise ValueError(
            "depth: the model holds a while loop; expected loops of a known length: lax.scan."
        )
    if name == "scan":
        return _scanned(equation, given)
    if name == "cond":
        branches = reading.primitives().branches(equation)
        passed = [_passed(branch.jaxpr, given[1:]) for branch in branches]
        return [_deepest(outputs) for outputs in zip(*passed, strict=True)]
    if (inner := reading.primitives().called(equation)) is not None:
        return _passed(inner.jaxpr, given)
    deepest = _deepest(given)
    if name in PRODUCTS and given[0].of_inputs != given[1].of_inputs:
        deepest = Found(True, deepest.layers + 1)
    return [deepest] * len(equation.outvars)


def _scanned(equation: Any, given: list[Found]) -> list[Found]:
    """Round by round, since what is carried has passed the layers of every round before."""
    loop = reading.primitives().scan(equation)
    fixed, carried = loop.num_consts, loop.num_carry
    carry, rows = given[fixed : fixed + carried], given[fixed + carried :]
    outputs: list[list[Found]] = []
    for _ in range(loop.length):
        made = _passed(loop.body.jaxpr, [*given[:fixed], *carry, *rows])
        carry = made[:carried]
        outputs.append(made[carried:])
    return [*carry, *(_deepest(steps) for steps in zip(*outputs, strict=True))]


def _deepest(values: Sequence[Found]) -> Found:
    of_inputs = any(value.of_inputs for value in values)
    layers = max((value.layers for value in values if value.of_inputs), default=0)
    return Found(of_inputs, layers)
