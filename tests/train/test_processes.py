"""What several processes agree on, with their messages made up; see also test_reliability.py."""

import types

import jax
import numpy as np
import pytest
from jax.experimental import multihost_utils

from jaxdl.train import sharding


def test_the_slowest_gives_the_pace_and_any_signal_counts(monkeypatch):
    every = np.array([[5, 0], [3, 2], [4, 1]], np.int32)
    monkeypatch.setattr(jax, "process_count", lambda: 3)
    monkeypatch.setattr(multihost_utils, "process_allgather", lambda own: every)
    assert sharding.reduce_over_processes(5, 0) == (3, 2)


def test_a_batch_is_a_multiple_of_the_devices():
    eight = types.SimpleNamespace(shape={"data": 8})
    for size in (8, 24):
        sharding.validate_batch_size("fit", size, eight)
    sharding.validate_batch_size("fit", 7, None)
    for size, near in ((3, 8), (12, 16), (20, 16)):
        message = f"batch size is {size}, to be split over 8 devices; .* such as {near}\\."
        with pytest.raises(ValueError, match=message):
            sharding.validate_batch_size("fit", size, eight)
