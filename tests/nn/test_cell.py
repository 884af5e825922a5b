import itertools

import numpy as np

import jaxdl
from jaxdl import nn


def test_each_gate_has_its_own_recurrent_matrix(key):
    cell = nn.gru(3, recurrent_init="normal")
    params, _ = jaxdl.init(cell, key, np.ones((1, 2, 2), np.float32))
    gates = np.split(np.asarray(params["recurrent_kernel"]), 3, axis=1)
    for first, second in itertools.combinations(gates, 2):
        assert not np.any(first == second)
