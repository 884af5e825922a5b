"""Structure of a graph: layers, elementwise functions, softmax, biases and gates.

JAX records `gelu` as eight multiplications and a `tanh`, a dense layer as a product and an
addition, batch norm as four operations with constants. Relevance rules are defined for layers and
activations; `Structure` recovers these from the dataflow alone.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.interpret.lrp import softmax
from jaxdl.interpret.lrp.products import Product, feature_axes
from jaxdl.jaxpr.graph import Atom, Constant, JaxprGraph, Operation, Value
from jaxdl.jaxpr.intervals import Bounds
from jaxdl.jaxpr.primitives import readers
from jaxdl.jaxpr.primitives.kinds import ADDITIONS, ELEMENTWISE, LAYOUT_CHANGES, LOOPS, MATMULS

SCALES = ("mul", "div", "neg")


class Structure:
    """The analysis of one graph for some active inputs.

    Args:
      graph: the graph.
      active: the values of real or complex numbers that depend on the active inputs.
      known: the known values of other inputs.
      before_first_layer: the inputs that no weighted layer has computed; None for all active ones.
      stopped: whether `jax.lax.stop_gradient` ends the dependence on the inputs.
      layers: whether to look for weighted layers and biases; if not, for log-sum-exps.

    Attributes:
      depends: `active`, and the integers and booleans that are computed from them.
      maker: the operation that computes each value.
      products: the weighted layers, by the operation of the product.
      absorbed: the operations that belong to a layer, such as its bias, and the layer.
      elementwise_input: for each elementwise function, the value that it is applied to; for other
        values the value itself.
      softmax: the operations that compute a softmax, and the sum of exponentials.
      logsumexp: the operations that compute the logarithm of a sum of exponentials.
      biases: the operations that add a constant which takes a share of the relevance.
      before_first_layer: the values that do not depend on any weighted layer.
    """

    def __init__(
        self,
        graph: JaxprGraph,
        active: set[Value],
        known: dict[Value, Any] | None = None,
        before_first_layer: set[Value] | None = None,
        stopped: bool = True,
        layers: bool = True,
    ):
        self.graph, self.active, self.layers = graph, active, layers
        self.known = graph.constants | (known or {})
        self.depends = graph.dependents((v for v in graph.inputs if v in active), stopped)
        self.maker = {value: op for op in graph.operations for value in op.outputs}
        self.users: dict[Value, list[Operation]] = {}
        for operation in graph.operations:
            for value in {a for a in operation.inputs if isinstance(a, Value)}:
                self.users.setdefault(value, []).append(operation)
        self.products: dict[Operation, Product] = {}
        self.absorbed: dict[Operation, Product] = {}
        self.biases: set[Operation] = set()
        self.elementwise_input: dict[Value, Value] = {v: v for v in self.depends}
        self.softmax: dict[Operation, softmax.Exponentials] = {}
        self.logsumexp: dict[Operation, softmax.Exponentials] = {}
        self.bounds = Bounds(graph, self.maker, self.depends, self.softmax, self.known)
        self.before_first_layer = (
            set(graph.inputs) & active if before_first_layer is None else before_first_layer
        )
        for operation in graph.operations:
            self._analyze(operation)
        if layers:
            self._separate_biases()

    def live_operands(self, operation: Operation) -> list[bool]:
        """Returns for each operand whether it is active."""
        return [isinstance(atom, Value) and atom in self.active for atom in operation.inputs]

    def dependent_operands(self, operation: Operation) -> list[Value]:
        """Returns the operands that depend on the input, also integers and booleans."""
        return [a for a in operation.inputs if isinstance(a, Value) and a in self.depends]

    def is_complex(self, operation: Operation) -> bool:
        """Returns whether an operation has complex inputs or outputs."""
        variables = (*operation.equation.invars, *operation.equation.outvars)
        return any(jnp.issubdtype(v.aval.dtype, jnp.complexfloating) for v in variables)

    def _analyze(self, operation: Operation) -> None:
        live, name = self.live_operands(operation), operation.name
        if operation in self.absorbed:
            return
        if (
            self.layers
            and name in MATMULS
            and sum(live) == 1
            and (name == "dot_general" or live[0])  # not a convolution with x as its kernel
            and not self.is_complex(operation)
        ):
            self._add_product(operation, live.index(True))
            return
        depending = self.dependent_operands(operation)
        if not depending or not self.depends.issuperset(operation.outputs):
            return
        if name not in MATMULS and name not in LOOPS and self.before_first_layer >= set(depending):
            self.before_first_layer |= set(operation.outputs)
        self._add_softmax(operation)
        out = operation.outputs[0]
        special = operation in self.softmax or operation in self.logsumexp
        # A mask that does not depend on x moves values: each case has relevance only where it is
        # chosen.
        special |= name == "select_n" and operation.inputs[0] not in self.depends
        if name in ELEMENTWISE and not special and not self.is_complex(operation):
            shapes = self.graph.shapes
            sources = {self.elementwise_input[value] for value in depending}
            same = all(shapes[v].shape == shapes[out].shape for v in (*depending, *sources))
            if len(sources) == 1 and same:
                self.elementwise_input[out] = sources.pop()

    def _add_softmax(self, operation: Operation) -> None:
        parts = softmax.match(self, operation)
        if parts is None:
            return
        if operation.name != "log":
            self.softmax[operation] = parts
        elif not self.layers:
            shapes = self.graph.shapes
            if shapes[operation.outputs[0]].size == shapes[parts.total].size:
                self.logsumexp[operation] = parts

    def elementwise_path(self, source: Value, out: Value) -> list[Operation]:
        """Returns the operations that compute a value from its elementwise input."""
        path: list[Operation] = []
        needed = {out}
        for operation in reversed(self.graph.operations):
            if not needed.isdisjoint(operation.outputs) and operation.outputs[0] != source:
                path.append(operation)
                needed |= set(self.dependent_operands(operation))
        return path[::-1]

    def _separate_biases(self) -> None:
        """Splits elementwise functions at constants added to their input or result.

        An elementwise function of one value passes all relevance, but a constant that is added to
        its input (batch norm before a ReLU, position embeddings) or to its result is a term of a
        sum and takes its share. Without this, an input near 0 would receive the relevance of an
        output near the constant, and the next division by that input would make it arbitrarily
        large. A constant within the function, such as the 3 of x * relu6(x + 3) / 6, stays part of
        it.
        """
        functions: dict[Value, list[Operation]] = {}
        for operation in self.graph.operations:
            for out in operation.outputs[:1]:
                source = self.elementwise_input.get(out, out)
                if source != out:
                    functions.setdefault(source, []).append(operation)
        for function in functions.values():
            for i, operation in enumerate(function):
                if operation.name not in ADDITIONS:
                    continue
                (out,) = operation.outputs
                *before, _ = self.elementwise_path(self.elementwise_input[out], out)
                after = self._function_of(out, function[i + 1 :])
                if (
                    after is not None
                    and (all(map(self._is_affine, after)) or all(map(self._is_affine, before)))
                    and not self._vanishes([*before, operation, *after])
                ):
                    self.elementwise_input |= {op.outputs[0]: out for op in after} | {out: out}
                    if sum(self.live_operands(operation)) == 1:
                        self.biases.add(operation)

    def _function_of(self, value: Value, operations: list[Operation]) -> list[Operation] | None:
        """Returns the operations that depend on a value, or None if others do too."""
        values, result = {value}, []
        for operation in operations:
            inputs = set(self.dependent_operands(operation))
            if inputs <= values:
                values |= set(operation.outputs)
                result.append(operation)
            elif inputs & values:
                return None
        return result

    def _vanishes(self, function: list[Operation]) -> bool:
        """Returns whether a function with known constants is 0 at 0, and not around it.

        Such a function, exp(x) - 1 or log(x + 1), is an activation without a bias.
        """
        source = self.elementwise_input[function[-1].outputs[0]]
        results = {op.outputs[0] for op in function}
        others = {a for op in function for a in op.inputs} - results - {source}
        constants = {atom: self.bounds.constant(atom) for atom in others}
        if any(value is None or value.size != 1 for value in constants.values()):
            return False

        def evaluate(value: float) -> float:
            env: dict[Any, Any] = constants | {source: np.asarray(value)}
            for operation in function:
                kinds = [variable.aval.dtype for variable in operation.equation.invars]
                inputs = zip((env[a] for a in operation.inputs), kinds, strict=True)
                (env[operation.outputs[0]],) = operation(
                    *(jnp.asarray(np.reshape(value, ()), kind) for value, kind in inputs)
                )
            return float(env[function[-1].outputs[0]])

        with jax.ensure_compile_time_eval():
            return evaluate(0.0) == 0 != evaluate(1e-3)

    def affine_chain(self, value: Value) -> tuple[Value, list[Operation]]:
        """Returns the start and operations of the affine chain that ends at a value."""
        operations = []
        while (maker := self.maker.get(value)) is not None and self._is_affine(maker):
            operations.append(maker)
            (value,) = self.dependent_operands(maker)
        return value, operations[::-1]

    def _is_affine(self, operation: Operation) -> bool:
        """Returns whether an elementwise operation is affine in its only active operand."""
        live = self.live_operands(operation)
        if sum(live) != 1 or operation in self.absorbed:
            return False
        return operation.name in (*ADDITIONS, "mul", "neg", "convert_element_type", "copy") or (
            operation.name == "div" and live[0]
        )

    def _add_product(self, operation: Operation, data_operand: int) -> None:
        """Adds a weighted layer: a product, and the scale and bias that follow it."""
        first = operation.inputs[data_operand] in self.before_first_layer
        axes = set(feature_axes(operation, data_operand).values())
        epilogue: list[tuple[Operation, int]] = []
        value = operation.outputs[0]
        # A sum that is used twice keeps its own relevance, so the layer ends there.
        while (step := self._single_user(value)) is not None:
            if step.name in LAYOUT_CHANGES:
                sources = self._source_axes(step)
                if sources is None:
                    break
                axes = {i for i, axis in enumerate(sources) if axis in axes}
            elif not self._is_epilogue(step, value, axes):
                break
            epilogue.append((step, step.inputs.index(value)))
            value = step.outputs[0]
        # A scale without a bias, such as a mean or a temperature, does not belong to the layer.
        has_bias = any(step.name in ADDITIONS for step, _ in epilogue)
        unused = LAYOUT_CHANGES if has_bias else LAYOUT_CHANGES.union(SCALES)
        while epilogue and epilogue[-1][0].name in unused:
            epilogue.pop()
        product = Product(operation, data_operand, tuple(epilogue), first)
        self.products[operation] = product
        self.absorbed |= {step: product for step, _ in epilogue}

    def _is_epilogue(self, step: Operation, value: Value, axes: set[int]) -> bool:
        """Returns whether an operation adds constants or scales features along `axes`."""
        if step.name not in ADDITIONS and step.name not in SCALES:
            return False
        if step.name != "neg":
            operand = step.inputs.index(value)
            other = step.inputs[1 - operand]
            if isinstance(other, Value) and other in self.depends:
                return False
            if step.name == "div" and operand == 1:
                return False
            if step.name in SCALES and not self.varying_axes(other) <= axes:
                return False
        shapes = self.graph.shapes
        return shapes[step.outputs[0]].shape == shapes[value].shape

    def _source_axes(self, move: Operation) -> list[int | None] | None:
        """Returns the input axis of each output axis of a layout change.

        A new axis has None. The whole result is None if the operation joins or splits axes, repeats
        values, or rounds to integers: then the bias cannot be moved to the layout of the product.
        """
        if not self.graph.is_inexact(move.outputs[0]) or self.is_complex(move):
            return None
        if move.name == "transpose":
            return list(readers().axes(move.equation))
        (source,), (result,) = move.equation.invars, move.equation.outvars
        before, shape = source.aval.shape, result.aval.shape
        some = [axis for axis, size in enumerate(before) if size > 1]
        if [before[axis] for axis in some] != [size for size in shape if size > 1]:
            return None
        return [some.pop(0) if size > 1 else None for size in shape]

    def _single_user(self, value: Value) -> Operation | None:
        users = self.users.get(value, [])
        if len(users) != 1 or value in self.graph.outputs:
            return None
        return users[0] if users[0].inputs.count(value) == 1 else None

    def varying_axes(self, atom: Atom) -> set[int]:
        """Returns the axes along which the elements of a constant may differ."""
        if isinstance(atom, Constant):
            return {a for a, size in enumerate(np.shape(atom.value)) if size > 1}
        shape = self.graph.shapes[atom].shape
        every = {axis for axis, size in enumerate(shape) if size > 1}
        operation = self.maker.get(atom)
        if operation is None or not every:
            return every
        if operation.name == "broadcast_in_dim":
            source = operation.inputs[0]
            output_axes = readers().axes(operation.equation)
            if isinstance(source, Constant):
                return set()
            return {output_axes[axis] for axis in self.varying_axes(source)}
        if operation.name == "transpose":
            inner = self.varying_axes(operation.inputs[0])
            axes = readers().axes(operation.equation)
            return {i for i, axis in enumerate(axes) if axis in inner}
        if operation.name in (*ELEMENTWISE, "stop_gradient"):
            return set().union(*(self.varying_axes(a) for a in operation.inputs)) & every
        return every

    def producer(self, atom: Atom, through: tuple[str, ...]) -> Operation | None:
        """Returns the operation behind a value, skipping operations of some names."""
        operation = self.maker.get(atom) if isinstance(atom, Value) else None
        while operation is not None and operation.name in through:
            values = [a for a in operation.inputs if isinstance(a, Value)]
            values.sort(key=lambda a: a not in self.depends)
            operation = self.maker.get(values[0]) if values else None
        return operation

    def is_normalizer(self, atom: Atom) -> bool:
        """Returns whether a value is a reciprocal or 1 / sqrt(...), as in a layer norm."""
        operation = self.producer(atom, (*softmax.SHAPE_CHANGES, "expand_dims", "transpose"))
        if operation is None:
            return False
        live = self.live_operands(operation)
        if operation.name == "mul":
            pairs = zip(operation.inputs, live, strict=True)
            return all(self.is_normalizer(a) for a, on in pairs if on)
        if operation.name == "pow" and not live[1]:
            power = self.bounds.constant(operation.inputs[1])
            return power is not None and bool(np.all(power < 0))
        return operation.name == "rsqrt" or (operation.name == "div" and not live[0])

    def is_gate(self, atom: Atom) -> bool:
        """Returns whether a value is in [0, 1] for any input, or a normalizer."""
        if not isinstance(atom, Value):
            return False
        if self.is_normalizer(atom):
            return True
        low, high = self.bounds.of(atom)
        # Bounds computed in float32 may exceed 1 by rounding.
        return bool(np.all(low >= 0) and np.all(high <= 1 + 1e-6))


@dataclasses.dataclass(frozen=True)
class OperationSite:
    """An operation and the analysis of its graph."""

    operation: Operation
    structure: Structure

    @property
    def live(self) -> list[bool]:
        """For each operand, whether it is active."""
        return self.structure.live_operands(self.operation)

    @property
    def operands(self) -> list[int]:
        """The indices of the active operands."""
        return [i for i, on in enumerate(self.live) if on]
