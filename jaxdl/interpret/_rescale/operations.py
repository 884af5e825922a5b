"""DeepLIFT's rule of each operation, by primitive.

`RULES` maps the name of a primitive to a function from a `Site` to a `Step`, or None if the rule
does not apply to the active operands.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from jaxdl.interpret._rescale import slopes
from jaxdl.interpret._rescale.rewrites import REWRITES
from jaxdl.interpret.lrp import backward
from jaxdl.interpret.lrp.backward import Step, pullback
from jaxdl.interpret.lrp.layers import OperationSite, Structure
from jaxdl.jaxpr.graph import JaxprGraph, Operation, Value, read
from jaxdl.jaxpr.primitives.kinds import (
    ADDITIONS,
    BILINEAR,
    DATA_MOVEMENT,
    ELEMENTWISE,
    LINEAR,
    LINEAR_OPERANDS,
    MAXIMA,
    MINIMA,
    SORTS,
)


class Site(OperationSite):
    """An operation, and steps from its inputs in both runs."""

    def step(self, back: Callable[..., Any], operands: Sequence[int] | None = None) -> Step:
        """Returns the step of `back(inputs, multipliers)`, where inputs has both runs."""
        operation = self.operation

        def run(envs, multipliers):
            inputs = [[read(env, atom) for atom in operation.inputs] for env in envs]
            return back(inputs, multipliers)

        operands = self.operands if operands is None else operands
        return Step([operation.inputs[i] for i in operands], operation.outputs, run)


def plan(graph: JaxprGraph, inputs: set[Value], known: dict[Value, Any]) -> list[Step]:
    """Returns the steps of a graph that propagate multipliers."""
    active = _find_active(graph, inputs)
    structure = Structure(graph, active, known, stopped=False, layers=False)
    steps: list[Step] = []
    for operation in graph.operations:
        if not active.isdisjoint(operation.outputs):
            steps.append(_make_step(Site(operation, structure)))
            if operation.name in SORTS:  # positions in the input have no multiplier
                steps.append(_refuse(operation, operation.outputs[1:], "returns positions"))
    return steps


def _find_active(graph: JaxprGraph, active: Iterable[Value]) -> set[Value]:
    return backward.find_active(graph, active, stopped=False, discrete=True)


def _make_step(site: Site) -> Step:
    operation, structure, out = site.operation, site.structure, site.operation.outputs[0]
    if operation in structure.softmax:
        parts = structure.softmax[operation]
        return Step([parts.logits], [out], functools.partial(slopes.softmax, parts, out))
    if operation in structure.logsumexp:
        parts = structure.logsumexp[operation]
        return Step([parts.exponent], [out], functools.partial(slopes.logsumexp, parts, out))
    source = structure.elementwise_input.get(out, out)
    if source != out:
        return slopes.elementwise_step(structure.elementwise_path(source, out), source, out)
    chooses = any(site.live[i] for i in backward.index_operands(operation))
    if chooses and operation.name != "select_n":
        return _refuse(operation, operation.outputs, "chooses by a value that depends on x")
    rule = RULES.get(operation.name)
    step = rule(site) if rule else None
    return step or _refuse(operation, operation.outputs)


def _refuse(operation: Operation, outputs: Sequence[Value], reason: str | None = None) -> Step:
    """Returns a step that raises, if the output contributes to the score at all."""

    def raise_error(envs, multipliers):
        if reason is None:
            problem = f"no rule for the operation {operation.name!r}, at {operation.line}"
        else:
            problem = f"{operation.name!r}, at {operation.line}, {reason}"
        raise ValueError(
            f"deep_lift: {problem}; expected operations with an exact rule. Replace it, or use "
            "integrated_gradients."
        )

    return Step([], outputs, raise_error)


def _identity(site: Site) -> Step:
    """`stop_gradient` is the identity here, because multipliers compare values."""
    return site.step(lambda inputs, m: m)


def _linear(site: Site) -> Step:
    """The multiplier of a linear operation is its derivative, the same in both runs."""
    return site.step(lambda inputs, m: pullback(site.operation, site.operands, inputs[0], m))


def _partly_linear(operands: slice) -> Callable[[Site], Step | None]:
    def rule(site: Site) -> Step | None:
        allowed = range(len(site.operation.inputs))[operands]
        return _linear(site) if set(site.operands) <= set(allowed) else None

    return rule


def _bilinear(site: Site) -> Step:
    """a b - a' b' is the mean of b times the difference of a, plus the reverse."""
    operation, operands, live = site.operation, site.operands, site.live
    if len(operands) == 1:
        return _linear(site)

    def back(inputs, m):
        indices = backward.index_operands(operation)
        runs = [
            [v if k in indices else backward.to_float(v) for k, v in enumerate(run)]
            for run in inputs
        ]
        middle = [(a + b) / 2 if on else a for a, b, on in zip(*runs, live, strict=True)]
        return pullback(operation, operands, middle, m)

    return site.step(back)


def _multiply(site: Site) -> Step:
    scales = [site.structure.is_normalizer(atom) for atom in site.operation.inputs]
    if len(site.operands) == 1 or not any(scales):
        return _bilinear(site)
    return _pair(site, [0, 1] if scales[1] else [1, 0])


def _divide(site: Site) -> Step | None:
    return _linear(site) if site.operands == [0] else _elementwise(site)


def _pair(site: Site, operands: list[int]) -> Step:
    return site.step(
        lambda inputs, m: slopes.pair(site.operation, operands, inputs, m[0]), operands
    )


def _elementwise(site: Site) -> Step | None:
    if len(site.operands) == 1:
        source = site.operation.inputs[site.operands[0]]
        out = site.operation.outputs[0]
        return slopes.elementwise_step([site.operation], source, out)  # pyright: ignore
    return _pair(site, site.operands) if len(site.operands) == 2 else None


def _select(site: Site) -> Step:
    if not site.live[0]:
        return _linear(site)
    return site.step(lambda inputs, m: slopes.select(site.operation, site.operands, inputs, m[0]))


def _maximum(site: Site) -> Step:
    if len(site.operands) != 2:
        return _extremum(site)
    is_maximum = site.operation.name == "max"
    return site.step(lambda inputs, m: slopes.maximum(inputs, m[0], is_maximum))


def _extremum(site: Site) -> Step:
    return site.step(lambda inputs, m: slopes.extremum(site.operation, site.operands, inputs, m[0]))


def _rewrite(site: Site) -> Step | None:
    operation = site.operation
    if operation.name == "sort" and len(operation.inputs) > 1:  # other operands move along
        return None
    return backward.rewrite_step(
        operation, site.operands, REWRITES[operation.name](operation), plan
    )


def _clamp(site: Site) -> Step | None:
    return _elementwise(site) or _rewrite(site)


def _scan(site: Site) -> Step:
    structure = site.structure
    active, known = structure.active, structure.known
    return backward.scan_step(site.operation, active, known, plan, _find_active)


def _cond(site: Site) -> Step:
    return backward.cond_step(site.operation, site.structure.active, plan)


# Later entries replace earlier ones: the general rule of elementwise functions comes first.
RULES: dict[str, Callable[[Site], Step | None]] = {
    **dict.fromkeys(ELEMENTWISE, _elementwise),
    **dict.fromkeys(LINEAR | ADDITIONS | DATA_MOVEMENT | {"neg"}, _linear),
    **{name: _partly_linear(operands) for name, operands in LINEAR_OPERANDS.items()},
    "scatter-mul": _partly_linear(slice(0, 1)),
    **dict.fromkeys(BILINEAR, _bilinear),
    "mul": _multiply,
    "div": _divide,
    **dict.fromkeys(MAXIMA | MINIMA, _extremum),
    **dict.fromkeys(("max", "min"), _maximum),
    **dict.fromkeys(REWRITES, _rewrite),
    "clamp": _clamp,
    "select_n": _select,
    "stop_gradient": _identity,
    "scan": _scan,
    "cond": _cond,
}
