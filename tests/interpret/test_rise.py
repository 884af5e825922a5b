import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl import interpret
from tests.interpret.networks import array, double, new_key, run


def test_of_a_constant_score_the_map_is_the_score():
    """E[mask] / keep = 1; with every cell kept it would not matter."""
    f = lambda x: jnp.full(len(x), 3.0)
    x = jnp.ones((1, 8, 8, 1))
    options = {"samples": 512, "cells": 4, "keep": 0.25, "batch_size": None}
    actual = jax.jit(lambda x: interpret.rise(f, x, key=new_key(), **options))(x)
    assert float(actual.mean()) == pytest.approx(3, rel=0.05)
    np.testing.assert_allclose(actual, 3, rtol=0.3)


def test_rise_finds_the_pixel_that_decides():
    with double():
        f = lambda x: x[:, 5, 2, 0] * 3.0
        x = np.ones((2, 8, 8, 1))
        actual = run(interpret.rise, f, x, key=new_key(), samples=400, cells=4)
        assert actual.shape == (2, 8, 8)
        assert [divmod(int(i), 8) for i in np.argmax(actual.reshape(2, -1), 1)] == [(5, 2)] * 2
        cut = run(interpret.rise, f, x, key=new_key(), samples=400, cells=4, batch_size=None)
        np.testing.assert_allclose(actual, cut, atol=1e-10)


def test_rise_of_one_mask_by_hand():
    """With every cell kept the mask is 1: the map is the score over keep."""
    with double():
        f = lambda x: x.sum((1, 2, 3))
        x = array(0, 2, 6, 6, 1)
        actual = interpret.rise(f, x, key=new_key(), samples=3, cells=2, keep=1 - 1e-12)
        np.testing.assert_allclose(
            actual, np.broadcast_to(f(x)[:, None, None], (2, 6, 6)), rtol=1e-6
        )
