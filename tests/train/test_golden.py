"""Checkpoints of every format that there was are still read, and gone on from."""

import pathlib
import shutil

import chex
import optax

from jaxdl import train
from tests.train import toy

MODEL, OPTIMIZER = toy.noisy(), optax.sgd(0.1, momentum=0.9)
FORMAT_1 = pathlib.Path(__file__).parent / "golden" / "format_1"


def run(directory, epochs):
    return train.fit(
        MODEL,
        toy.data(),
        loss="cross_entropy",
        optimizer=OPTIMIZER,
        batch_size=10,
        epochs=epochs,
        callbacks=[train.EarlyStopping("loss", patience=2)],
        checkpoint=train.Checkpointer(directory, keep=1),
        verbose=0,
    )


def test_format_1(tmp_path):
    shutil.copytree(FORMAT_1, tmp_path / "old")
    state, history = run(tmp_path / "old", epochs=4)
    assert len(history["loss"]) == 4 and int(state.step) == 20
    expected, whole = run(tmp_path / "new", epochs=4)
    # Another machine rounds otherwise.
    chex.assert_trees_all_close(toy.plain(state.params), toy.plain(expected.params), atol=1e-4)
    assert abs(history["loss"][0] - whole["loss"][0]) < 1e-4
