import numpy as np
import pytest

from jaxdl.zoo.classic.rbm import RBM, initialize_network, rbm
from tests.nn.filled import normal


@pytest.mark.row("D19")
def test_a_layer_takes_a_machines_weights_and_hidden_biases():
    machine = RBM(normal(0, 4, 3), normal(1, 4), normal(2, 3))
    params = {
        "dense_0": {"kernel": normal(3, 4, 3), "bias": normal(4, 3)},
        "dense_1": {"kernel": normal(5, 3, 2), "bias": normal(6, 2)},
    }
    found = initialize_network(params, [machine])
    np.testing.assert_array_equal(found["dense_0"]["kernel"], machine.weights)
    np.testing.assert_array_equal(found["dense_0"]["bias"], machine.hidden)
    assert found["dense_1"] is params["dense_1"]


@pytest.mark.row("A11")
def test_visible_biases_begin_at_the_log_odds_of_their_units(key):
    """Hinton 2010, sec. 8.1, with shares of 0 and 1 moved by a hundredth."""
    v = np.float32([[0, 1, 1, 0], [0, 1, 0, 0], [0, 1, 1, 0], [0, 1, 0, 1]])
    found = rbm(key, v, 2, epochs=1, batch_size=4, rate=0.0)
    share = np.array([0.01, 0.99, 0.5, 0.25])
    np.testing.assert_allclose(found.visible, np.log(share / (1 - share)), atol=1e-4)
