"""Relevance rules of operations that are no weighted layer, by primitive.

`RULES` maps the name of a primitive to a function from a `Site` to a `Step`, or None if the rule
does not apply to the active operands. Weighted layers have the rules in `rules.py`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxdl.interpret.lrp import backward, rules
from jaxdl.interpret.lrp.backward import Step, pullback, unbroadcast
from jaxdl.interpret.lrp.layers import OperationSite
from jaxdl.interpret.lrp.softmax import Exponentials
from jaxdl.jaxpr.graph import Operation, read
from jaxdl.jaxpr.primitives import readers
from jaxdl.jaxpr.primitives.kinds import (
    ADDITIONS,
    COMPLEX_LINEAR,
    DATA_MOVEMENT,
    LINEAR,
    LINEAR_OPERANDS,
    MAX_LIKE,
)

REGISTERED: dict[str, Callable[..., Sequence[jax.Array | None]]] = {}


def register_rule(
    primitive: str,
    rule: Callable[..., Sequence[jax.Array | None]],
) -> None:
    """Registers the rule of an operation for `lrp`, for the whole process.

    Args:
      primitive: the operation's name, as in the error of `lrp`.
      rule: `rule(inputs, outputs, relevances, params)`, from lists of the operation's inputs,
        outputs and the relevances of the outputs, and its parameters, to the relevances of the
        inputs: a list of arrays, with None for an input that has none. The names of parameters are
        those of the installed JAX and can differ between versions.

    Example:
      >>> pass_on = lambda inputs, outputs, relevances, params: relevances
      >>> interpret.register_rule("erf_inv", pass_on)
    """
    REGISTERED[primitive] = rule


@dataclasses.dataclass(frozen=True)
class Site(OperationSite):
    """An operation, its active operands and the options of `lrp`.

    Attributes:
      plan: the planner of loop bodies and branches.
      gating, eps: as for `lrp`.
    """

    plan: backward.Planner
    gating: str
    eps: float

    def step(self, back: Callable[..., Any]) -> Step:
        """Returns the step of `back(inputs, outputs, relevances)`."""
        operation = self.operation

        def run(envs, relevances):
            (env,) = envs
            inputs = [read(env, atom) for atom in operation.inputs]
            outputs = [env[value] for value in operation.outputs]
            return back(inputs, outputs, relevances)

        return Step([operation.inputs[i] for i in self.operands], operation.outputs, run)


def make_step(site: Site) -> Step:
    """Returns the step of an operation that is no weighted layer."""
    operation, structure = site.operation, site.structure
    if operation.name in REGISTERED:
        return _apply_custom_rule(site)
    if operation in structure.softmax:
        parts, out = structure.softmax[operation], operation.outputs[0]
        return Step([parts.logits], [out], lambda envs, r: [_softmax(parts, envs[0], r[0])])
    if operation in structure.biases:
        return _share_affine(site)
    # An elementwise function is one operation, whatever it consists of: its output's relevance goes
    # to its input, and the operations between have none.
    source = structure.elementwise_input.get(operation.outputs[0], operation.outputs[0])
    if source != operation.outputs[0]:
        return Step([source], [operation.outputs[0]], lambda envs, r: r)
    rule = RULES.get(operation.name)
    step = rule(site) if rule else None
    return step or _refuse(operation)


def _refuse(operation: Operation) -> Step:
    """Returns a step that raises, if the output has relevance at all."""

    def raise_error(envs, relevances):
        scope = f", in {operation.scope}" if operation.scope else ""
        raise ValueError(
            f"lrp: no rule for the operation {operation.name!r}, at {operation.line}{scope}. "
            "Give it one by interpret.register_rule, or replace the operation by one with a rule."
        )

    return Step([], operation.outputs, raise_error)


def _apply_custom_rule(site: Site) -> Step:
    rule, params = REGISTERED[site.operation.name], site.operation.equation.params

    def back(inputs, outputs, relevances):
        result = rule(inputs, outputs, relevances, params)
        return [result[i] for i in site.operands]

    return site.step(back)


def _share_sum(site: Site) -> Step:
    """Gives each term of a sum its share."""
    operation, operands = site.operation, site.operands

    def back(inputs, outputs, relevances):
        s = [_per_unit(r, y, site.eps) for r, y in zip(relevances, outputs, strict=True)]
        terms = pullback(operation, operands, inputs, s)
        return [_share(inputs[i], r) for i, r in zip(operands, terms, strict=True)]

    return site.step(back)


def _share_partly_linear(site: Site) -> Step | None:
    operation = site.operation
    linear = range(len(operation.inputs))[LINEAR_OPERANDS[operation.name]]
    return _share_sum(site) if site.operands and set(site.operands) <= set(linear) else None


def _is_complex_linear(site: Site) -> bool:
    """Returns whether a complex operation is linear in one active operand."""
    return (
        site.structure.is_complex(site.operation)
        and site.operation.name in COMPLEX_LINEAR
        and site.operands in ([0], [1])
    )


def _share_complex(site: Site) -> Step | None:
    return _share_sum(site) if _is_complex_linear(site) else None


def _pass_on(site: Site) -> Step | None:
    """Gives all relevance to the first active operand, which others only scale."""
    if not site.operands:
        return None
    operation = site.operation
    value = operation.inputs[site.operands[0]]
    shape = site.structure.graph.shapes[value].shape  # pyright: ignore[reportArgumentType]
    return Step([value], operation.outputs, lambda envs, r: [unbroadcast(r[0], shape)])


def _add(site: Site) -> Step | None:
    return _share_sum(site) if len(site.operands) == 2 else _pass_on(site)


def _multiply(site: Site) -> Step | None:
    if len(site.operands) == 2:
        return site.step(_make_product_rule(site))
    return _share_complex(site) or _pass_on(site)


def _contract(site: Site) -> Step | None:
    if len(site.operands) == 2:
        return site.step(_make_product_rule(site))
    return _share_complex(site)


def _divide(site: Site) -> Step | None:
    return _share_complex(site) or _pass_on(site)


def _scatter_multiply(site: Site) -> Step | None:
    return _pass_on(site) if site.operands == [0] else None


def _move(site: Site) -> Step:
    """Gives all relevance to the elements that were moved or were the maximum."""
    operation, operands = site.operation, site.operands
    return site.step(lambda inputs, outputs, r: pullback(operation, operands, inputs, r))


def _share_equally(site: Site) -> Step:
    axes = readers().axes(site.operation.equation)

    def back(inputs, outputs, relevances):
        (x, *_), (r,) = inputs, relevances
        return [jnp.broadcast_to(jnp.expand_dims(r, axes) * r.size / x.size, x.shape)]

    return site.step(back)


def _scan(site: Site) -> Step:
    structure = site.structure
    return backward.scan_step(site.operation, structure.active, structure.known, site.plan)


def _cond(site: Site) -> Step:
    return backward.cond_step(site.operation, site.structure.active, site.plan)


def _per_unit(r, y, eps: float):
    """Returns the relevance of each unit of a value, or of both complex parts.

    JAX's transposes are those of Re(s z), so the imaginary part has the opposite sign.
    """
    if not jnp.iscomplexobj(y):
        return rules.per_unit(r, y, eps)
    return jax.lax.complex(_per_unit(r.real, y.real, eps), -_per_unit(r.imag, y.imag, eps))


def _share(x, s):
    """Returns x times the relevance of each unit, and 0 for an infinite mask."""
    if jnp.iscomplexobj(x):
        return jax.lax.complex(_share(x.real, s.real), _share(x.imag, -s.imag))
    # A mask adds -inf to a logit; -inf * 0 would be NaN.
    return jnp.where(jnp.isfinite(x), x, 0) * s


def _share_affine(site: Site) -> Step:
    """Shares y = a x + b between x and all constants of an affine chain at once.

    One by one, they would lose the relevance of an x that the first of them moves to 0.
    """
    (out,) = site.operation.outputs
    source, operations = site.structure.affine_chain(out)

    def back(envs, relevances):
        (env,) = envs

        def run(x):
            local = env | {source: x}
            for step in operations:
                values = (backward.to_float(read(local, atom)) for atom in step.inputs)
                (local[step.outputs[0]],) = step.promote_and_call(*values)
            return local[out]

        y, transpose = jax.vjp(run, env[source])
        return [_share(env[source], transpose(_per_unit(relevances[0], y, site.eps))[0])]

    return Step([source], [out], back)


def _make_product_rule(site: Site) -> Callable[..., Any]:
    """Returns the rule of a product of two active operands: `gating` of `lrp`."""
    operation, structure = site.operation, site.structure
    is_gate = structure.is_gate if site.gating == "signal_take_all" else structure.is_normalizer
    gates = [is_gate(atom) for atom in operation.inputs]
    is_square = operation.inputs[0] == operation.inputs[1]

    def back(inputs, outputs, relevances):
        if operation.name == "mul" and not structure.is_complex(operation):
            r = [unbroadcast(relevances[0], value.shape) for value in inputs]
        else:
            s = [_per_unit(relevances[0], outputs[0], site.eps)]
            r = map(_share, inputs, pullback(operation, [0, 1], inputs, s))
        # A square of a gate has no signal to give the relevance to.
        if sum(gates) == 1 and not is_square:
            return [None if gate else share for gate, share in zip(gates, r, strict=True)]
        return [share / 2 for share in r]

    return back


def _softmax(parts: Exponentials, env: backward.Env, r):
    """Computes x times the softmax gradient. Achtibat et al. 2024, prop. 3.1."""
    x = env[parts.logits]
    p = env[parts.terms] / jnp.expand_dims(env[parts.total], parts.axes)
    # NaN where all terms are masked.
    out = jnp.where(jnp.isfinite(p), p, 0) * jnp.sum(r, parts.axes, keepdims=True)
    return jnp.where(jnp.isfinite(x), x, 0) * (r - out)


RULES: dict[str, Callable[[Site], Step | None]] = {
    **dict.fromkeys(DATA_MOVEMENT | MAX_LIKE, _move),
    **dict.fromkeys(LINEAR, _share_sum),
    **dict.fromkeys(LINEAR_OPERANDS, _share_partly_linear),
    **dict.fromkeys(ADDITIONS, _add),
    **dict.fromkeys(("abs", "neg"), _share_complex),
    **dict.fromkeys(("dot_general", "conv_general_dilated"), _contract),
    "mul": _multiply,
    "div": _divide,
    "scatter-mul": _scatter_multiply,
    "reduce_prod": _share_equally,
    "scan": _scan,
    "cond": _cond,
}
