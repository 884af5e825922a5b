"""What is the best: the smallest loss, and the greatest accuracy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl import train
from tests.train import toy


@pytest.mark.parametrize(
    "monitor, expected",
    [("eval_loss", [1, 3]), ("eval_accuracy", [1, 2, 4]), ("eval_top5", [1, 2, 4])],
)
def test_save_calls_where_the_best_so_far_is_surpassed(monitor, expected):
    kept, values = [], (0.5, 0.7, 0.4, 0.9)
    save = train.SaveCheckpoint(
        lambda state, context: kept.append(context.epoch), when="best", monitor=monitor
    )
    for epoch in range(1, 5):
        context = train.Context(toy.mlp(), None, {monitor: values[:epoch]}, epoch, 5)
        if epoch == 1:
            save.on_fit_begin(context)
        save.on_epoch_end(context)
    assert kept == expected


@pytest.mark.parametrize("monitor, expected", [("eval_loss", 3), ("eval_accuracy", 2)])
def test_the_best_checkpoint(tmp_path, monitor, expected):
    state = train.TrainState({"w": jnp.ones(2)}, {}, (), jax.random.key(0), np.int32(0))
    checkpoints = train.Checkpointer(tmp_path, monitor=monitor)
    with checkpoints.writing():
        for step, value in ((1, 0.5), (2, 0.9), (3, 0.4)):
            record = {"history": {monitor: [value]}}
            checkpoints.save(state.replace(step=np.int32(step)), record)
    assert checkpoints.best().name == f"step_{expected:09d}"
