"""What a program's operations amount to: weighted sums, elementwise functions, softmax, gates.

JAX records `gelu` as eight multiplications and a `tanh`, a dense layer as a product and an
addition, batch norm as four operations with constants. Rules of relevance speak of layers and
activations; here these are found again, from the flow of the data alone.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.interpret.lrp.products import LAYOUT_CHANGES, Product, feature_axes
from jaxdl.jaxpr.graph import Atom, Constant, JaxprGraph, Operation, Value
from jaxdl.jaxpr.intervals import Bounds
from jaxdl.jaxpr.primitives import readers
from jaxdl.jaxpr.primitives.kinds import ELEMENTWISE

ADDITIONS = ("add", "add_any", "sub")
KEEPING = ("abs", "broadcast_in_dim", "convert_element_type", "reshape")
"""What lies between a positive sum and its use."""


class Exponentials(NamedTuple):
    """A sum of exponentials: total = sum of terms, and each term a constant times exp(exponent)."""

    logits: Value
    """The exponent, before the greatest of all was taken off."""
    exponent: Value
    terms: Value
    total: Value
    axes: tuple[int, ...]


class Structure:
    """The analysis of one program, given which inputs matter.

    Attributes:
      program: the program.
      active: values that depend on these inputs, of floating point.
      depends: `active`, and the integers and truth values made of them.
      products: those with constants, by the operation of the product.
      inside: operations that are a part of a product, its bias for example.
      root: of which value each is an elementwise function, possibly of itself.
      softmax: operations that give a softmax, and of what.
      logsumexp: operations that give the logarithm of a sum of exponentials, unless `layers`.
      biases: operations that add a constant which takes a share of the relevance.
    """

    def __init__(
        self,
        graph: JaxprGraph,
        active: set[Value],
        known: dict[Value, Any] | None = None,
        fresh: set[Value] | None = None,
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
        self.inside: dict[Operation, Product] = {}
        self.biases: set[Operation] = set()
        self.root: dict[Value, Value] = {v: v for v in self.depends}
        self.softmax: dict[Operation, Exponentials] = {}
        self.logsumexp: dict[Operation, Exponentials] = {}
        self.bounds = Bounds(graph, self.maker, self.depends, self.softmax, self.known)
        # The values that no product has made: what it makes of these is the first layer.
        self.fresh = set(graph.inputs) & active if fresh is None else fresh
        for operation in graph.operations:
            self._read(operation)
        if layers:
            self._separate_biases()

    def live(self, operation: Operation) -> list[bool]:
        """Which operands depend on the input."""
        return [isinstance(atom, Value) and atom in self.active for atom in operation.inputs]

    def _read(self, operation: Operation) -> None:
        live = self.live(operation)
        if operation in self.inside:
            return
        linear = operation.name in ("dot_general", "conv_general_dilated")
        if (
            self.layers
            and linear
            and sum(live) == 1
            and (operation.name == "dot_general" or live[0])
            and not self.is_complex(operation)
        ):
            self._product(operation, live.index(True))
            return
        name = operation.name
        depending = [a for a in operation.inputs if isinstance(a, Value) and a in self.depends]
        if not depending or not self.depends.issuperset(operation.outputs):
            return
        loops = ("scan", "cond")
        if not linear and name not in loops and all(value in self.fresh for value in depending):
            self.fresh |= set(operation.outputs)
        self._exponentials(operation)
        out = operation.outputs[0]
        special = operation in self.softmax or operation in self.logsumexp
        # By a mask that does not depend on x, a case is taken whole, and passes nothing elsewhere.
        special |= name == "select_n" and operation.inputs[0] not in self.depends
        if name in ELEMENTWISE and not special and not self.is_complex(operation):
            shapes = self.graph.shapes
            roots = {self.root[value] for value in depending}
            same = all(shapes[v].shape == shapes[out].shape for v in (*depending, *roots))
            if len(roots) == 1 and same:
                self.root[out] = roots.pop()

    def path(self, root: Value, out: Value) -> list[Operation]:
        """The elementwise operations from a value to one made of it."""
        path: list[Operation] = []
        needed = {out}
        for operation in reversed(self.graph.operations):
            if not needed.isdisjoint(operation.outputs) and operation.outputs[0] != root:
                path.append(operation)
                needed |= {
                    a for a in operation.inputs if isinstance(a, Value) and a in self.depends
                }
        return path[::-1]

    def is_complex(self, operation: Operation) -> bool:
        """Whether an operation takes or gives complex numbers."""
        variables = (*operation.equation.invars, *operation.equation.outvars)
        return any(jnp.issubdtype(v.aval.dtype, jnp.complexfloating) for v in variables)

    def _separate_biases(self) -> None:
        """Takes sums at the beginning or the end of an elementwise function out of it.

        An elementwise function of one value passes all relevance, but a constant that is added to
        its input (batch norm before a ReLU, position embeddings) or to its result is a term of a
        sum and takes its share. Without that, the relevance of an output near the constant goes to
        an input near 0, and the next division by that input makes it arbitrarily large. A constant
        within the function, such as the 3 of x * relu6(x + 3) / 6, is a part of it.
        """
        functions: dict[Value, list[Operation]] = {}
        for operation in self.graph.operations:
            for out in operation.outputs[:1]:
                if self.root.get(out, out) != out:
                    functions.setdefault(self.root[out], []).append(operation)
        for function in functions.values():
            for i, operation in enumerate(function):
                if operation.name not in ADDITIONS:
                    continue
                (out,) = operation.outputs
                *before, _ = self.path(self.root[out], out)
                after = self._function_of(out, function[i + 1 :])
                if (
                    after is not None
                    and (all(map(self._is_affine, after)) or all(map(self._is_affine, before)))
                    and not self._vanishes([*before, operation, *after])
                ):
                    self.root |= {op.outputs[0]: out for op in after} | {out: out}
                    if sum(self.live(operation)) == 1:
                        self.biases.add(operation)

    def _function_of(self, value: Value, operations: list[Operation]) -> list[Operation] | None:
        """Returns those of the operations that depend on a value, if they use no other value."""
        values, after = {value}, []
        for operation in operations:
            inputs = {a for a in operation.inputs if isinstance(a, Value) and a in self.depends}
            if inputs <= values:
                values |= set(operation.outputs)
                after.append(operation)
            elif inputs & values:
                return None
        return after

    def _vanishes(self, function: list[Operation]) -> bool:
        """Whether a function of which all constants are known is 0 at 0 and not around it.

        Such a function, exp(x) - 1 or log(x + 1), is an activation without a bias.
        """
        start, results = self.root[function[-1].outputs[0]], {op.outputs[0] for op in function}
        others = {a for op in function for a in op.inputs} - results - {start}
        constants = {atom: self.bounds.constant(atom) for atom in others}
        if any(value is None or value.size != 1 for value in constants.values()):
            return False

        def evaluate(value: float) -> float:
            env: dict[Any, Any] = constants | {start: np.asarray(value)}
            for operation in function:
                kinds = [variable.aval.dtype for variable in operation.equation.invars]
                inputs = zip((env[a] for a in operation.inputs), kinds, strict=True)
                (env[operation.outputs[0]],) = operation(
                    *(jnp.asarray(np.reshape(value, ()), kind) for value, kind in inputs)
                )
            return float(env[function[-1].outputs[0]])

        with jax.ensure_compile_time_eval():
            return evaluate(0.0) == 0 != evaluate(1e-3)

    def affine_before(self, value: Value) -> tuple[Value, list[Operation]]:
        """Returns a value and the affine operations by constants that lead from it to `value`."""
        operations = []
        while (maker := self.maker.get(value)) is not None and self._is_affine(maker):
            operations.append(maker)
            (value,) = (a for a in maker.inputs if isinstance(a, Value) and a in self.depends)
        return value, operations[::-1]

    def _is_affine(self, operation: Operation) -> bool:
        """Whether an elementwise operation is affine in its one operand that is no constant."""
        live = self.live(operation)
        if sum(live) != 1 or operation in self.inside:
            return False
        return operation.name in (*ADDITIONS, "mul", "neg", "convert_element_type", "copy") or (
            operation.name == "div" and live[0]
        )

    def _product(self, operation: Operation, slot: int) -> None:
        first = operation.inputs[slot] in self.fresh
        axes = set(feature_axes(operation, slot).values())
        after: list[tuple[Operation, int]] = []
        value = operation.outputs[0]
        shapes = self.graph.shapes
        while (step := self._single_user(value)) is not None:
            mine = step.inputs.index(value)
            if step.name in LAYOUT_CHANGES:
                follow = self._axes_after(step)
                if follow is None:
                    break
                axes = {i for i, axis in enumerate(follow) if axis in axes}
                after.append((step, mine))
                value = step.outputs[0]
                continue
            if step.name not in (*ADDITIONS, "mul", "div", "neg"):
                break
            if step.name != "neg":
                other = step.inputs[1 - mine]
                if isinstance(other, Value) and other in self.depends:
                    break
                if step.name in ("mul", "div"):
                    if step.name == "div" and mine == 1:
                        break
                    if not self._varies(other) <= axes:
                        break
            if shapes[step.outputs[0]].shape != shapes[value].shape:
                break
            after.append((step, mine))
            value = step.outputs[0]
        shifted = any(step.name in ADDITIONS for step, _ in after)
        while after and after[-1][0].name in (
            LAYOUT_CHANGES if shifted else (*LAYOUT_CHANGES, "mul", "div", "neg")
        ):
            after.pop()  # a scale without a bias is no part of a layer: a mean, a temperature
        product = Product(operation, slot, tuple(after), first)
        self.products[operation] = product
        self.inside |= {step: product for step, _ in after}

    def _axes_after(self, move: Operation) -> list[int | None] | None:
        """Of each axis of the output of one of `LAYOUT_CHANGES` that of the input, or None for a new one.

        None if it joins or divides axes, repeats values, or rounds to integers.
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

    def _varies(self, atom: Atom) -> set[int]:
        """The axes along which a constant's values differ, as far as its making tells."""
        if isinstance(atom, Constant):
            return {a for a, size in enumerate(np.shape(atom.value)) if size > 1}
        shape = self.graph.shapes[atom].shape
        every = {axis for axis, size in enumerate(shape) if size > 1}
        operation = self.maker.get(atom)
        if operation is None or not every:
            return every
        if operation.name == "broadcast_in_dim":
            source = operation.inputs[0]
            along = readers().axes(operation.equation)
            if isinstance(source, Constant):
                return set()
            inner = self._varies(source)
            return {along[axis] for axis in inner}
        if operation.name == "transpose":
            inner = self._varies(operation.inputs[0])
            return {i for i, axis in enumerate(readers().axes(operation.equation)) if axis in inner}
        if operation.name in (*ELEMENTWISE, "stop_gradient"):
            return set().union(*(self._varies(a) for a in operation.inputs)) & every
        return every

    def _exponentials(self, operation: Operation) -> None:
        """Finds softmax, exp(z) / sum(exp(z)), and logarithms of sum(exp(z)).

        z may be x less its maximum, and single terms may be masked or weighted by constants. The
        quotient may be a product with the reciprocal or exp(z - log(sum(exp(z)))).
        """
        name, inputs = operation.name, operation.inputs
        if name in ("div", "log"):
            pairs = [(inputs[0], self._made_by(inputs[-1], KEEPING))]
        elif name == "mul":
            pairs = [(a, self._reciprocal(b)) for a, b in (inputs, inputs[::-1])]
        elif name == "exp":
            pairs = [(operation.outputs[0], self._logarithm(inputs[0]))]
        else:
            return
        for numerator, total in pairs:
            if total is None or total.name != "reduce_sum":
                continue
            (terms,), axes = total.inputs, readers().axes(total.equation)
            exponent = self._exponent(terms)
            if exponent is None or not isinstance(terms, Value):
                continue
            logits = self._unshifted(exponent, axes)
            parts = Exponentials(logits, exponent, terms, total.outputs[0], axes)
            shapes = self.graph.shapes
            if name == "log":
                if (
                    not self.layers
                    and shapes[operation.outputs[0]].size == shapes[parts.total].size
                ):
                    self.logsumexp[operation] = parts
            elif name == "exp":
                start = self.maker[inputs[0]].inputs[0]  # pyright: ignore[reportArgumentType]
                if isinstance(start, Value) and self._unshifted(start, axes) == logits:
                    self.softmax[operation] = parts
            elif self._is_same(self._exponent(numerator), exponent):
                other = inputs[1 - inputs.index(numerator)]
                if self._varies(other).isdisjoint(axes):
                    self.softmax[operation] = parts

    def _reciprocal(self, atom: Atom) -> Operation | None:
        """The operation that gives d where a value is c / d."""
        inverse = self._made_by(atom, KEEPING)
        if inverse is None or inverse.name != "div" or inverse.inputs[0] in self.depends:
            return None
        return self._made_by(inverse.inputs[1], KEEPING)

    def _logarithm(self, atom: Atom) -> Operation | None:
        """The operation that gives s where a value is z - log(s), or z - (log(s) + m)."""
        difference = self.maker.get(atom) if isinstance(atom, Value) else None
        if difference is None or difference.name != "sub":
            return None
        log = self._made_by(difference.inputs[1], KEEPING)
        if log is not None and log.name == "add":
            logs = [self._made_by(a, KEEPING) for a in log.inputs]
            log = next((part for part in logs if part is not None and part.name == "log"), None)
        return self._made_by(log.inputs[0], KEEPING) if log and log.name == "log" else None

    def _exponent(self, atom: Atom) -> Value | None:
        """z where a value is exp(z), masked or times constants."""
        while isinstance(atom, Value) and (operation := self.maker.get(atom)) is not None:
            depending = [a for a in operation.inputs if isinstance(a, Value) and a in self.depends]
            shapes = {self.graph.shapes[a].shape for a in (*depending, *operation.outputs)}
            if len(depending) != 1 or len(shapes) != 1:
                return None
            if operation.name == "exp":
                return depending[0]
            if operation.name not in ("convert_element_type", "mul", "select_n"):
                return None
            if operation.name == "select_n":  # another case than 0 would be a term of its own
                others = [
                    self.bounds.constant(a) for a in operation.inputs[1:] if a != depending[0]
                ]
                if not all(value is not None and not np.any(value) for value in others):
                    return None
            atom = depending[0]
        return None

    def _is_same(self, one: Atom | None, other: Atom | None) -> bool:
        """Whether two values are one, or were computed twice in the same way."""
        pairs, seen = [(one, other)], set()
        while pairs:
            pair = one, other = pairs.pop()
            if one == other or pair in seen:
                continue
            seen.add(pair)
            if isinstance(one, Constant) and isinstance(other, Constant):
                if np.array_equal(one.value, other.value):
                    continue
                return False
            a, b = (self.maker.get(value) for value in pair)  # pyright: ignore[reportArgumentType]
            if a is None or b is None or (a.name, a.equation.params) != (b.name, b.equation.params):
                return False
            if a.outputs.index(one) != b.outputs.index(other):  # pyright: ignore
                return False
            pairs += zip(a.inputs, b.inputs, strict=True)
        return True

    def _unshifted(self, exponent: Value, axes: tuple[int, ...]) -> Value:
        """x where a value is x less what is the same along the axes of a softmax, its maximum."""
        operation = self.maker.get(exponent)
        if operation is None or operation.name != "sub":
            return exponent
        x, shift = operation.inputs
        if not isinstance(x, Value) or x not in self.depends:
            return exponent
        same = self.graph.shapes[x].shape == self.graph.shapes[exponent].shape
        return x if same and self._varies(shift).isdisjoint(axes) else exponent

    def _made_by(self, atom: Atom, through: tuple[str, ...]) -> Operation | None:
        operation = self.maker.get(atom) if isinstance(atom, Value) else None
        while operation is not None and operation.name in through:
            made = [a for a in operation.inputs if isinstance(a, Value)]
            made.sort(key=lambda a: a not in self.depends)
            operation = self.maker.get(made[0]) if made else None
        return operation

    def is_normalizer(self, atom: Atom) -> bool:
        """Whether a value only scales others: a reciprocal or 1 / sqrt(...), as of a layer norm."""
        operation = self._made_by(atom, ("broadcast_in_dim", *KEEPING, "expand_dims", "transpose"))
        if operation is None:
            return False
        live = self.live(operation)
        if operation.name == "mul":
            pairs = zip(operation.inputs, live, strict=True)
            return all(self.is_normalizer(a) for a, on in pairs if on)
        if operation.name == "pow" and not live[1]:
            power = self.bounds.constant(operation.inputs[1])
            return power is not None and bool(np.all(power < 0))
        return operation.name == "rsqrt" or (operation.name == "div" and not live[0])

    def is_gate(self, atom: Atom) -> bool:
        """Whether a value scales others and carries no signal: from 0 to 1, or 1 / sqrt(...)."""
        if not isinstance(atom, Value):
            return False
        if self.is_normalizer(atom):
            return True
        low, high = self.bounds.of(atom)
        return bool(np.all(low >= 0) and np.all(high <= 1 + 1e-6))
