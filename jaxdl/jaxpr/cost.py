"""Estimates of the memory that a jaxpr needs."""

from __future__ import annotations

import math
from typing import Any

from jax.extend import core

from jaxdl.jaxpr.equations import inner_jaxprs


def peak_bytes(jaxpr: core.Jaxpr) -> int:
    """Estimates the peak memory of a jaxpr's own values in bytes.

    This is the largest sum over values that are alive at one time, in the order of the equations,
    without the inputs. XLA needs less where it fuses operations.
    """
    atoms_by_step = [[*equation.outvars, *equation.invars] for equation in jaxpr.eqns]
    atoms_by_step.append(list(jaxpr.outvars))
    last_use = {id(atom): i for i, atoms in enumerate(atoms_by_step) for atom in atoms}
    live, peak = 0, 0
    sizes = dict.fromkeys(map(id, [*jaxpr.constvars, *jaxpr.invars]), 0)
    for i, equation in enumerate(jaxpr.eqns):
        sizes |= {id(variable): _size(variable) for variable in equation.outvars}
        outputs = sum(map(_size, equation.outvars))
        inner = max(map(peak_bytes, inner_jaxprs(equation.params)), default=0)
        peak = max(peak, live + max(outputs, inner))
        released = {id(atom) for atom in atoms_by_step[i] if last_use[id(atom)] == i}
        live += outputs - sum(sizes.get(atom, 0) for atom in released)
    return peak


def _size(variable: Any) -> int:
    if not hasattr(variable.aval, "shape"):  # a token
        return 0
    # XLA stores the operands of a mask rather than the mask, whose elements have one byte.
    return math.prod(variable.aval.shape) * max(variable.aval.dtype.itemsize, 4)
