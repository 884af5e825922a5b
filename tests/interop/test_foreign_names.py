"""Names that other libraries' networks and files may have."""

import chex
import jax
import numpy as np
import pytest
from flax import linen

import jaxdl
from jaxdl.interop.flax import from_linen
from jaxdl.interop.recurrent import recurrent_from_torch


class IsTraining(linen.Module):
    @linen.compact
    def __call__(self, x, is_training):
        return linen.BatchNorm(use_running_average=not is_training)(x)


class UseRunningAverage(linen.Module):
    @linen.compact
    def __call__(self, x, use_running_average):
        return linen.BatchNorm(use_running_average=use_running_average)(x)


@pytest.mark.parametrize("net", [IsTraining(), UseRunningAverage()])
def test_the_train_mode_as_batch_norms_name_it(net):
    model, x = from_linen(net), np.float32([[1], [3]])
    params, state = jaxdl.init(model, jax.random.key(0), x)
    for train, expected in ((False, [1, 3]), (True, [-1, 1])):
        y, _ = jax.jit(model.apply, static_argnames="train")(params, state, x, train=train)
        np.testing.assert_allclose(np.ravel(y), expected, rtol=1e-4)


def test_a_single_cell_of_torch_has_names_without_a_layer():
    rng = np.random.default_rng(0)
    shapes = {"weight_ih": (6, 3), "weight_hh": (6, 2), "bias_ih": (6,), "bias_hh": (6,)}
    cell = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    layer = {f"{name}_l0": values for name, values in cell.items()}
    chex.assert_trees_all_equal(recurrent_from_torch(cell), recurrent_from_torch(layer))
