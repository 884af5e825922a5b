"""Softmax and log-sum-exp in a graph, in the forms in which libraries write them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from jaxdl.jaxpr.graph import Atom, Constant, Operation, Value
from jaxdl.jaxpr.primitives import readers

if TYPE_CHECKING:
    from jaxdl.interpret.lrp.layers import Structure

SHAPE_CHANGES = ("abs", "broadcast_in_dim", "convert_element_type", "reshape")
"""Operations between a sum of exponentials and its use, which keep a positive value the same."""


class Exponentials(NamedTuple):
    """A sum of exponentials; each term is exp(exponent), possibly times a constant.

    Attributes:
      logits: the exponent before its maximum was subtracted.
      exponent, terms, total: values of the graph.
      axes: the axes of the sum.
    """

    logits: Value
    exponent: Value
    terms: Value
    total: Value
    axes: tuple[int, ...]


def match(structure: Structure, operation: Operation) -> Exponentials | None:
    """Returns the sum behind an operation that computes a softmax or a log-sum-exp.

    A softmax is exp(z) / sum(exp(z)), where z may be x minus its maximum, and terms may be masked
    or multiplied by constants. It can also be written as a product with the reciprocal, or as
    exp(z - log(sum(exp(z)))).
    """
    name, inputs = operation.name, operation.inputs
    if name in ("div", "log"):
        pairs = [(inputs[0], structure.producer(inputs[-1], SHAPE_CHANGES))]
    elif name == "mul":
        pairs = [(a, _denominator(structure, b)) for a, b in (inputs, inputs[::-1])]
    elif name == "exp":
        pairs = [(operation.outputs[0], _subtracted_log(structure, inputs[0]))]
    else:
        return None
    for numerator, total in pairs:
        if total is None or total.name != "reduce_sum":
            continue
        (terms,), axes = total.inputs, readers().axes(total.equation)
        exponent = _exponent(structure, terms)
        if exponent is None or not isinstance(terms, Value):
            continue
        logits = _without_shift(structure, exponent, axes)
        result = Exponentials(logits, exponent, terms, total.outputs[0], axes)
        if name == "log":
            return result
        if name == "exp":
            start = structure.maker[inputs[0]].inputs[0]  # pyright: ignore[reportArgumentType]
            if isinstance(start, Value) and _without_shift(structure, start, axes) == logits:
                return result
        elif _is_same(structure, _exponent(structure, numerator), exponent):
            other = inputs[1 - inputs.index(numerator)]
            if structure.varying_axes(other).isdisjoint(axes):
                return result
    return None


def _denominator(structure: Structure, atom: Atom) -> Operation | None:
    """Returns the operation that computes d if a value is c / d with a constant c."""
    inverse = structure.producer(atom, SHAPE_CHANGES)
    if inverse is None or inverse.name != "div" or inverse.inputs[0] in structure.depends:
        return None
    return structure.producer(inverse.inputs[1], SHAPE_CHANGES)


def _subtracted_log(structure: Structure, atom: Atom) -> Operation | None:
    """Returns the operation of s if a value is z - log(s) or z - (log(s) + m)."""
    difference = structure.maker.get(atom) if isinstance(atom, Value) else None
    if difference is None or difference.name != "sub":
        return None
    log = structure.producer(difference.inputs[1], SHAPE_CHANGES)
    if log is not None and log.name == "add":
        logs = [structure.producer(a, SHAPE_CHANGES) for a in log.inputs]
        log = next((part for part in logs if part is not None and part.name == "log"), None)
    return structure.producer(log.inputs[0], SHAPE_CHANGES) if log and log.name == "log" else None


def _exponent(structure: Structure, atom: Atom) -> Value | None:
    """Returns z if a value is exp(z), masked or multiplied by constants."""
    while isinstance(atom, Value) and (operation := structure.maker.get(atom)) is not None:
        depending = structure.dependent_operands(operation)
        shapes = {structure.graph.shapes[a].shape for a in (*depending, *operation.outputs)}
        if len(depending) != 1 or len(shapes) != 1:
            return None
        if operation.name == "exp":
            return depending[0]
        if operation.name not in ("convert_element_type", "mul", "select_n"):
            return None
        if operation.name == "select_n":  # a case other than 0 would be a term of the sum
            others = [
                structure.bounds.constant(a) for a in operation.inputs[1:] if a != depending[0]
            ]
            if not all(value is not None and not np.any(value) for value in others):
                return None
        atom = depending[0]
    return None


def _is_same(structure: Structure, one: Atom | None, other: Atom | None) -> bool:
    """Returns whether two values are identical or computed twice in the same way."""
    pairs, compared = [(one, other)], set()
    while pairs:
        pair = one, other = pairs.pop()
        if one == other or pair in compared:
            continue
        compared.add(pair)
        if isinstance(one, Constant) and isinstance(other, Constant):
            if np.array_equal(one.value, other.value):
                continue
            return False
        a, b = (structure.maker.get(value) for value in pair)  # pyright: ignore[reportArgumentType]
        if a is None or b is None or (a.name, a.equation.params) != (b.name, b.equation.params):
            return False
        if a.outputs.index(one) != b.outputs.index(other):  # pyright: ignore
            return False
        pairs += zip(a.inputs, b.inputs, strict=True)
    return True


def _without_shift(structure: Structure, exponent: Value, axes: tuple[int, ...]) -> Value:
    """Returns x if a value is x minus a constant along the axes."""
    operation = structure.maker.get(exponent)
    if operation is None or operation.name != "sub":
        return exponent
    x, shift = operation.inputs
    if not isinstance(x, Value) or x not in structure.depends:
        return exponent
    same = structure.graph.shapes[x].shape == structure.graph.shapes[exponent].shape
    return x if same and structure.varying_axes(shift).isdisjoint(axes) else exponent
