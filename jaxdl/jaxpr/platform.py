"""Selection of the branches of `jax.lax.platform_dependent` in a program.

`nn.conv` is written as one: the algorithms of `jaxdl.nn.conv_cpu` on a CPU, XLA's convolution
elsewhere. A program therefore contains both, and derivatives and `vmap` apply to both.
"""

from __future__ import annotations

from typing import Any

import jax
from jax.extend import core

from jaxdl.jaxpr.equations import ClosedJaxpr, stored_jaxprs
from jaxdl.jaxpr.primitives import readers


def select_platform(program: ClosedJaxpr, platform: str | None) -> ClosedJaxpr:
    """Replaces each platform-dependent conditional by a call of one of its branches.

    Args:
      program: a traced program.
      platform: "cpu", "gpu" or "tpu"; None for the default branch, which is not specific to a
        platform.

    Returns:
      The program without these conditionals; the same object if it has none. A conditional without
      a branch for the platform remains.
    """
    return _rewrite(program, platform)


def _rewrite(inner: Any, platform: str | None) -> Any:
    """Rewrites a jaxpr, closed or not; returns the same object if nothing changes."""
    jaxpr = inner.jaxpr if isinstance(inner, ClosedJaxpr) else inner
    equations = [_rewrite_equation(equation, platform) for equation in jaxpr.eqns]
    if all(new is old for new, old in zip(equations, jaxpr.eqns, strict=True)):
        return inner
    used = {id(v) for equation in equations for v in equation.invars}
    used |= {id(v) for v in jaxpr.outvars}
    # The index of the platform has no further use, and readers have no rule for it.
    equations = [
        equation
        for equation in equations
        if equation.primitive.name != "platform_index" or id(equation.outvars[0]) in used
    ]
    jaxpr = jaxpr.replace(eqns=equations)
    return ClosedJaxpr(jaxpr, inner.consts) if isinstance(inner, ClosedJaxpr) else jaxpr


def _rewrite_equation(equation: Any, platform: str | None) -> Any:
    branch = _branch(equation, platform)
    if branch is not None:
        return _call(equation, _rewrite(branch, platform))
    new = {id(inner): _rewrite(inner, platform) for inner in stored_jaxprs(equation.params)}
    if all(key == id(inner) for key, inner in new.items()):
        return equation
    params = jax.tree.map(
        lambda leaf: new.get(id(leaf), leaf),
        equation.params,
        is_leaf=lambda leaf: id(leaf) in new,
    )
    return equation.replace(params=params)


def _branch(equation: Any, platform: str | None) -> ClosedJaxpr | None:
    """Returns the branch for the platform, or None for any other equation."""
    if equation.primitive.name != "cond":
        return None
    # Branches may name the makers' platforms, "cuda" or "rocm", instead of "gpu".
    names = {platform, "cuda", "rocm"} if platform == "gpu" else {platform}
    for platforms, branch in zip(
        readers().branch_platforms(equation), readers().branches(equation), strict=False
    ):
        if platforms is None or names.intersection(platforms):
            return branch
    return None


def _call(equation: Any, branch: ClosedJaxpr) -> Any:
    """Returns the equation that calls the branch with the operands of a conditional."""
    operands = equation.invars[1:]
    like = [
        jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype, weak_type=v.aval.weak_type)
        for v in operands
    ]
    (call,) = jax.make_jaxpr(jax.jit(core.jaxpr_as_fun(branch)))(*like).jaxpr.eqns
    return equation.replace(
        primitive=call.primitive, params=call.params, invars=operands, effects=call.effects
    )
