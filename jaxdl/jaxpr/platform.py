"""Selection of the branches of `jax.lax.platform_dependent` in a program.

`nn.conv` is written as one: the algorithms of `jaxdl.nn.conv_cpu` on a CPU, XLA's convolution
elsewhere. A program therefore contains both, and derivatives and `vmap` apply to both.
"""

from __future__ import annotations

from typing import Any

import jax
from jax.extend import core

from jaxdl.jaxpr.primitives import readers

ClosedJaxpr = core.ClosedJaxpr  # pyright: ignore[reportPrivateImportUsage]
KINDS = (core.Jaxpr, ClosedJaxpr)


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
    return _rewrite(program, platform) if _depends(program, platform) else program


def _rewrite(inner: Any, platform: str | None) -> Any:
    """Rewrites a jaxpr of either kind; other parameters of an equation are unchanged."""
    if not isinstance(inner, KINDS) or not _depends(inner, platform):
        return inner
    jaxpr = inner.jaxpr if isinstance(inner, ClosedJaxpr) else inner
    equations = []
    for equation in jaxpr.eqns:
        branch = _branch(equation, platform)
        if branch is not None:
            equation = _call(equation, _rewrite(branch, platform))
        else:
            params = jax.tree.map(
                lambda leaf: _rewrite(leaf, platform),
                equation.params,
                is_leaf=lambda leaf: isinstance(leaf, KINDS),
            )
            equation = equation.replace(params=params)
        equations.append(equation)
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


def _depends(inner: core.Jaxpr | ClosedJaxpr, platform: str | None) -> bool:
    jaxpr = inner.jaxpr if isinstance(inner, ClosedJaxpr) else inner
    for equation in jaxpr.eqns:
        if _branch(equation, platform) is not None:
            return True
        parts = jax.tree.leaves(equation.params, is_leaf=lambda leaf: isinstance(leaf, KINDS))
        if any(isinstance(part, KINDS) and _depends(part, platform) for part in parts):
            return True
    return False


def _branch(equation: Any, platform: str | None) -> ClosedJaxpr | None:
    """Returns the branch for the platform, or None for any other equation."""
    if equation.primitive.name != "cond":
        return None
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
