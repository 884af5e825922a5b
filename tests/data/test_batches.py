import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxdl import data

X, Y = np.arange(20.0).reshape(10, 2), np.arange(10)


@pytest.mark.row("D08")
@given(st.integers(1, 10), st.integers(0, 5), st.integers(0, 5))
def test_every_row_once_an_epoch(batch_size, seed, epoch):
    parts = list(data.batches((X, Y), batch_size, seed=seed, epoch=epoch))
    assert len(parts) == -(-10 // batch_size)
    assert sorted(np.concatenate([y for _, y in parts])) == list(range(10))
    for x, y in parts:
        np.testing.assert_array_equal(x, X[y])


def test_the_order_is_a_pure_function_of_seed_and_epoch():
    order = lambda seed, epoch: data.permutation(1000, seed=seed, epoch=epoch).tolist()
    assert order(3, 4) == order(3, 4)
    assert len({tuple(order(s, e)) for s in range(3) for e in range(3)}) == 9
    assert data.permutation(8, seed=0, epoch=0).tolist() == [5, 0, 6, 1, 7, 2, 4, 3]


def test_the_order_of_the_data_and_the_last_batch():
    parts = list(data.batches((X, Y), 4, seed=None, drop_last=True))
    assert [y.tolist() for _, y in parts] == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_a_split_gives_splits():
    split = data.digits().train
    batch = next(data.batches(split, 5, seed=0))
    assert isinstance(batch, data.Split) and batch.x.shape == (5, 8, 8, 1)


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"lengths \[9, 10\]"):
        data.batches((X, Y[:9]), 2, seed=0)
    with pytest.raises(ValueError, match="batch_size is 11 for 10 rows"):
        data.batches((X, Y), 11, seed=0)
    with pytest.raises(ValueError, match="seed is -1"):
        data.permutation(3, seed=-1, epoch=0)


@pytest.mark.row("S24", "V08")
def test_one_hot_rows():
    np.testing.assert_array_equal(data.one_hot(np.arange(5), 5), np.eye(5, dtype=np.float32))
    for labels, words in (([5], r"5 .. 5; expected 0 .. 4"), ([-1], "-1"), ([0.5], "float64")):
        with pytest.raises(ValueError, match=words):
            data.one_hot(np.array(labels), 5)


def test_batches_of_device_arrays():
    x = next(data.batches(jnp.arange(6.0), 6, seed=1))
    assert isinstance(x, jax.Array) and sorted(x.tolist()) == [0, 1, 2, 3, 4, 5]
