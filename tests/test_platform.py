"""Branches of `lax.platform_dependent` in traced programs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxdl.jaxpr import evaluation
from jaxdl.jaxpr.platform import select_platform


def dependent(x):
    return lax.platform_dependent(x, cpu=jnp.sin, cuda=jnp.tan, default=jnp.cos)


CASES = {
    "alone": lambda g: g,
    "mapped": lambda g: jax.vmap(g),
    "in a loop": lambda g: lambda x: lax.scan(lambda x, _: (g(x), None), x, length=3)[0],
    "in a call": lambda g: jax.jit(lambda x: g(x) + 1),
    "differentiated": lambda g: lambda x: jax.vjp(g, x)[1](x)[0],
}


@pytest.mark.parametrize("platform", ["cpu", "gpu", None])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_branch_of_a_platform(case, platform):
    """The program computes the same as one that has only that branch."""
    x = np.float32([0.1, 0.7])
    program = select_platform(jax.make_jaxpr(case(dependent))(x), platform)
    assert not {"cond", "platform_index"}.intersection(str(program).replace("[", " ").split())
    branch = {"cpu": jnp.sin, "gpu": jnp.tan, None: jnp.cos}[platform]
    expected = case(branch)(x)
    np.testing.assert_allclose(evaluation.jaxpr_as_fun(program)(x)[0], expected, rtol=1e-6)


def test_other_programs_are_unchanged():
    program = jax.make_jaxpr(lambda x: lax.cond(x > 0, jnp.sin, jnp.cos, x))(1.0)
    assert select_platform(program, "cpu") is program
    without = jax.make_jaxpr(lambda x: lax.platform_dependent(x, cpu=jnp.sin, cuda=jnp.cos))(1.0)
    assert select_platform(without, None) is without
