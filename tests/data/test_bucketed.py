import chex
import jax
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

import jaxdl
from jaxdl import data, nn, train
from jaxdl.train.batches import StreamSource

LENGTHS = np.arange(60) % 20 + 1
ROWS = np.arange(60)
SGD = optax.sgd(0.1)
X = np.repeat(ROWS[:, None], 20, axis=1)


def make_stream(lengths=LENGTHS, size=4, bounds=(10, 20), seed=1):
    return data.bucket_by_length(
        (X[: len(lengths)], ROWS[: len(lengths)]), lengths, size, bounds=bounds, seed=seed
    )


@given(st.lists(st.integers(0, 20), min_size=1, max_size=40), st.integers(1, 8), st.integers(0, 3))
def test_every_row_once_in_few_shapes_and_from_any_batch_on(lengths, size, epoch):
    lengths = np.array(lengths)
    stream = make_stream(lengths, size, [5, 10, 20])
    batches = list(stream.open(epoch, 0))
    assert len(batches) == stream.steps and stream.batch_size == size
    seen = np.concatenate([own for _, own in batches])
    assert sorted(seen) == list(range(len(lengths)))
    for (x, n), own in batches:
        assert len(own) <= size and x.shape[1] in (5, 10, 20)
        assert (x == own[:, None]).all()
        assert (n == lengths[own]).all() and n.max() <= x.shape[1]
        assert (n > {5: -1, 10: 5, 20: 10}[x.shape[1]]).all()
    for first in (0, stream.steps // 2, stream.steps):
        chex.assert_trees_all_equal(batches[first:], list(stream.open(epoch, first)))


def test_every_epoch_and_every_seed_has_other_groups_of_rows():
    def groups(epoch, seed=1):
        return {frozenset(own.tolist()) for _, own in make_stream(seed=seed).open(epoch, 0)}

    assert groups(0) == groups(0)
    assert len(groups(0) & groups(1)) < 3 and len(groups(1) & groups(2)) < 3
    assert len(groups(0) & groups(0, seed=2)) < 3


def test_batches_of_all_lengths_come_mixed():
    widths = [x.shape[1] for (x, _), _ in make_stream().open(0, 0)]
    assert widths.count(10) == widths.count(20) == 8 and widths != sorted(widths)


def test_what_has_the_steps_of_x_is_cut_like_it():
    """Targets and weights for each step, and a second input for each row, which is kept."""
    steps, row = np.ones((60, 20, 3)), np.ones((60, 5))
    stream = data.bucket_by_length(((X, row), steps, X * 0.5), LENGTHS, 4, bounds=[10, 20], seed=0)
    for (x, r, n), y, weight in stream.open(0, 0):
        width = 10 if n.max() <= 10 else 20
        assert x.shape == weight.shape == (len(n), width) and y.shape == (len(n), width, 3)
        assert r.shape == (len(n), 5)


def reader():
    children = {
        "embed": nn.embedding(60, 4),
        "read": nn.rnn(nn.gru(4), returns="last"),
        "scores": nn.dense(60),
    }
    return jaxdl.compose(
        "reader",
        children,
        lambda call, ids, n: call("scores", call("read", call("embed", ids), n)),
    )


@pytest.fixture(scope="module")
def trained():
    """`fit` of a model on the buckets; each call opens the stream again."""
    model, traces = reader(), []

    def loss(output, y):
        traces.append(output.shape)
        return jaxdl.losses.cross_entropy(output, y)

    def fit(**more):
        stream = make_stream(LENGTHS[:22], 8, [5, 20])
        options = {
            "metrics": [],
            "loss": loss,
            "optimizer": SGD,
            "execution": train.Execution(check=False),
        }
        options |= {"verbose": 0} | more
        return train.fit(model, stream, **options)

    return fit, traces, model, loss


def test_buckets_train_with_one_compilation_each_and_resume_anywhere(trained, tmp_path):
    fit, traces, model, loss = trained
    whole, history = fit(epochs=2)
    size = make_stream(LENGTHS[:22], 8, [5, 20]).steps
    assert size == 3 and int(whole.step) == 6  # 7 rows up to 5 steps, 15 up to 20: 1 + 2 batches
    assert set(traces) - {(5, 60)} == {(8, 60)}  # 5 rows: the check for broadcast losses
    compiled = len(traces)
    for steps in (1, 5, 6):
        parts, _ = fit(epochs=train.Steps(steps), checkpoint=tmp_path)
    chex.assert_trees_all_equal(parts.params, whole.params)
    assert len(traces) == compiled  # nothing was traced again
    assert np.isfinite(history["loss"]).all()


def test_a_bucketed_evaluation_is_that_of_whole_rows(trained):
    fit, _, model, loss = trained
    state, _ = fit(epochs=train.Steps(1))
    whole = ((X[:22], LENGTHS[:22]), ROWS[:22])
    expected = train.evaluate(model, state, whole, loss=loss, metrics=[])
    stream = make_stream(LENGTHS[:22], 8, [5, 20])
    assert train.evaluate(model, state, stream, loss=loss, metrics=[]) == pytest.approx(expected)


def test_bad_input():
    for bounds in ([], [5, 5], [3]):
        with pytest.raises(ValueError, match="expected ascending lengths"):
            make_stream(np.array([4]), bounds=bounds)
    for x in (np.ones((2, 9)), np.ones((1, 8)), np.ones(1)):
        with pytest.raises(ValueError, match="expected 1 rows, one per length, and x of at"):
            data.bucket_by_length((x, np.ones(1)), np.array([4]), 1, bounds=[9], seed=0)
    with pytest.raises(ValueError, match="batch_size is 0"):
        make_stream(size=0)
    with pytest.raises(ValueError, match="data is ndarray; expected .x, y."):
        data.bucket_by_length(X, LENGTHS, 4, bounds=[20], seed=0)
    with pytest.raises(ValueError, match="lengths are float64.60.; expected one integer"):
        make_stream(LENGTHS * 1.0)
    with pytest.raises(ValueError, match="lengths from -4 to 5; expected none below 0"):
        make_stream(np.array([-4, 5]))
    with pytest.raises(ValueError, match="bounds is 9; expected ascending integers"):
        make_stream(bounds=9)
    lists = data.bucket_by_length(([[1, 2], [3, 0]], [0, 1]), [2, 1], 2, bounds=[2], seed=0)
    assert {a.shape[0] for a in jax.tree.leaves(next(lists.open(0, 0)))} == {2}
    batches = list(make_stream().open(0, 0))
    for other, message in [
        (
            ((batches[0][0][0] * 1.0, batches[0][0][1]), batches[0][1]),
            "float64.* and the first was",
        ),
        ((batches[0][0][0], batches[0][1]), "expected the same arrays in every batch"),
    ]:
        with pytest.raises(ValueError, match="batch 1 of the stream is .*" + message):
            stream = data.from_iterable([batches[0], other])
            StreamSource(stream).get(0, 1)
