import optax
import pytest

from jaxdl import train
from tests.train import toy


class Fails(train.Callback):
    def on_epoch_end(self, context):
        raise RuntimeError("power cut")


def test_the_mean_of_a_resumed_epoch_counts_the_steps_before(tmp_path):
    """Five steps an epoch, saved after the fourth: the epoch's loss is the mean of all five."""
    model, optimizer = toy.mlp(), optax.sgd(0.1)

    def fit(**options):
        options |= {"loss": "cross_entropy", "optimizer": optimizer, "batch_size": 10}
        return train.fit(model, toy.data(), verbose=0, **options)

    checkpoints = train.Checkpointer(tmp_path, every=4)
    with pytest.raises(RuntimeError, match="power cut"):
        fit(checkpoint=checkpoints, callbacks=[Fails()])
    assert [path.name for path in checkpoints.paths()] == ["step_000000004"]
    _, history = fit(checkpoint=checkpoints)
    assert history["loss"] == fit()[1]["loss"]
