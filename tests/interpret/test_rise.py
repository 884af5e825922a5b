import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl import interpret
from tests.interpret.networks import new_key


def test_of_a_constant_score_the_map_is_the_score():
    """E[mask] / keep = 1; with every cell kept it would not matter."""
    f = lambda x: jnp.full(len(x), 3.0)
    x = jnp.ones((1, 8, 8, 1))
    options = {"samples": 512, "cells": 4, "keep": 0.25, "batch_size": None}
    found = jax.jit(lambda x: interpret.rise(f, x, key=new_key(), **options))(x)
    assert float(found.mean()) == pytest.approx(3, rel=0.05)
    np.testing.assert_allclose(found, 3, rtol=0.3)
