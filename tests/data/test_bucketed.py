import numpy as np

from jaxdl import data


def test_every_epoch_has_other_groups_of_rows():
    lengths = np.arange(60) % 20 + 1
    rows = np.arange(60)

    def groups(epoch):
        batches = data.bucketed(rows, lengths, 4, bounds=[10, 20], seed=1, epoch=epoch)
        return {frozenset(own.tolist()) for own, _ in batches}

    assert groups(0) == groups(0)
    assert len(groups(0) & groups(1)) < 3 and len(groups(1) & groups(2)) < 3


def test_every_seed_has_other_groups_of_rows():
    def groups(seed):
        batches = data.bucketed(np.arange(60), np.full(60, 7), 4, bounds=[9], seed=seed)
        return {frozenset(own.tolist()) for own, _ in batches}

    assert len(groups(0) & groups(1)) < 3


def test_batches_of_all_lengths_come_mixed():
    rows, lengths = np.zeros((60, 20)), np.arange(60) % 20 + 1
    batches = data.bucketed(rows, lengths, 4, bounds=[10, 20], seed=1)
    widths = [batch.shape[1] for batch, _ in batches]
    assert widths.count(10) == widths.count(20) == 8 and widths != sorted(widths)
