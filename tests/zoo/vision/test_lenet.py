"""LeNet-5 against the table of its paper, and its layers against NumPy."""

import jax
import numpy as np
import pytest

import jaxdl
from jaxdl import tree
from jaxdl.zoo.vision.lenet import lenet, lenet5, partial_convolution, radial_basis, squash
from tests.nn.filled import filled, normal


def test_the_parameters_of_each_layer_are_those_of_the_paper():
    x = jax.ShapeDtypeStruct((1, 32, 32, 1), np.float32)
    model = lenet5()
    params, state = jax.eval_shape(model.init, jax.random.key(0), x)
    counts = {name: tree.count(layer) for name, layer in params.items()}
    assert counts == dict(c1=156, s2=12, c3=1516, s4=32, c5=48_120, f6=10_164)
    assert sum(counts.values()) == 60_000 and tree.count(state) == 840
    assert jax.eval_shape(model.apply, params, state, x)[0].shape == (1, 10)


def test_the_modern_form_has_61706_parameters():
    x = jax.ShapeDtypeStruct((1, 28, 28, 1), np.float32)
    params, _ = jax.eval_shape(lenet().init, jax.random.key(0), x)
    assert tree.count(params) == 61_706 and jaxdl.depth(lenet(), x) == 5


def test_each_map_of_c3_reads_the_maps_of_table_1():
    """The paper's rule: six triples of neighbours, nine fours, and one of all, 60 in total."""
    layer, x = partial_convolution(), normal(0, 1, 5, 5, 6)
    params, _ = filled(layer, x)
    windows = jax.jacobian(lambda x: layer.apply(params, {}, x)[0][0, 0, 0])(x)[:, 0]
    reads = [set(np.flatnonzero(np.abs(w).sum((0, 1))).tolist()) for w in np.asarray(windows)]
    neighbours = lambda n: [{(i + j) % 6 for j in range(n)} for i in range(6)]
    pairs = [{0, 1, 3, 4}, {1, 2, 4, 5}, {0, 2, 3, 5}]
    assert reads == [*neighbours(3), *neighbours(4), *pairs, set(range(6))]


def test_logits_are_distances_to_the_codes():
    codes = np.where(np.random.default_rng(0).normal(size=(3, 84)) > 0, 1, -1)
    x = np.asarray(squash(normal(1, 2, 84)))
    layer = radial_basis(3, codes)
    logits, _ = layer.apply(*layer.init(jax.random.key(0), x), x)
    expected = [[-sum((a - c) ** 2) for c in codes] for a in x.astype(np.float64)]
    np.testing.assert_allclose(logits, expected, rtol=1e-5)
    np.testing.assert_allclose(squash(np.float32([-1, 1])), [-1, 1], atol=1e-4)
    with pytest.raises(ValueError, match=r"shape \(3, 84\); expected \(4, 84\)"):
        radial_basis(4, codes).init(jax.random.key(0), x)
