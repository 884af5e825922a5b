import functools

import chex
import jax
import numpy as np
import pytest

from jaxdl import nn
from tests.nn import numpy_cells as cells
from tests.nn.filled import filled, normal

X = np.asarray(normal(0, 3, 5, 2))
LENGTHS = np.array([5, 2, 0], np.int32)
ELMAN, LSTM, GRU = nn.elman(4), nn.lstm(4), nn.gru(4)
NUMPY = {
    "elman": cells.over_time(cells.elman, cells.zeros()),
    "lstm": cells.over_time(cells.lstm, cells.zeros(parts=2)),
    "gru": cells.over_time(cells.gru_after, cells.zeros()),
}
to_numpy = functools.partial(jax.tree.map, np.asarray)


@pytest.mark.parametrize(
    "cell, reference",
    [
        pytest.param(ELMAN, NUMPY["elman"], marks=pytest.mark.row("J06")),
        pytest.param(LSTM, NUMPY["lstm"], marks=pytest.mark.row("J07")),
    ],
    ids=["elman", "lstm"],
)
def test_the_output_projection(cell, reference):
    """y_t = W h_t(forwards) + W' h_t(backwards) + b."""
    model = nn.bidirectional(cell, merge="project", features=3)
    params, state = to_numpy(filled(model, X))
    y, _ = model.apply(params, state, X)
    both = cells.both_ways(reference)(params, X, [X.shape[1]] * len(X))
    w = params["output"]["kernel"]
    expected = both[..., :4] @ w[:4] + both[..., 4:] @ w[4:] + params["output"]["bias"]
    chex.assert_trees_all_close(y, expected.astype("f"), atol=1e-5)


@pytest.mark.row("J06", "J07")
@pytest.mark.parametrize("cell", [ELMAN, LSTM], ids=["elman", "lstm"])
def test_reversing_the_input_swaps_the_directions(cell):
    model = nn.bidirectional(cell)
    params, state = filled(model, X)
    y = np.asarray(model.apply(params, state, X)[0])
    swapped = {"forward": params["backward"], "backward": params["forward"]}
    turned = np.asarray(model.apply(swapped, state, X[:, ::-1])[0])
    both = np.concatenate([turned[..., 4:], turned[..., :4]], axis=-1)[:, ::-1]
    chex.assert_trees_all_close(y, both, atol=1e-6)
    total, _ = nn.bidirectional(cell, merge="sum").apply(params, state, X)
    chex.assert_trees_all_close(total, y[..., :4] + y[..., 4:])


@pytest.mark.row("J06")
def test_every_output_depends_on_every_input():
    model = nn.bidirectional(GRU)
    params, state = filled(model, X[:1])
    both_ways = lambda x: model.apply(params, state, x)[0].sum(-1)[0]
    one_way = lambda x: GRU.apply(params["forward"], {}, x)[0].sum(-1)[0]
    slopes, ahead = jax.jit(lambda x: (jax.jacobian(both_ways)(x), jax.jacobian(one_way)(x)))(X[:1])
    assert np.all(np.any(np.abs(slopes[:, 0]) > 0, axis=-1))
    assert not np.any(np.triu(np.abs(ahead[:, 0]).sum(-1), 1))


def test_last_takes_the_final_step_of_each_direction():
    model = nn.bidirectional(LSTM, returns="last")
    params, state = filled(model, X, LENGTHS)
    y, _ = model.apply(params, state, X, LENGTHS)
    model_of_all = nn.bidirectional(LSTM)
    for n, length in enumerate(LENGTHS):
        row = np.asarray(model_of_all.apply(params, state, X[n : n + 1, :length])[0])
        ends = [row[0, -1, :4], row[0, 0, 4:]] if length else [np.zeros(8, np.float32)]
        chex.assert_trees_all_close(y[n], np.concatenate(ends), atol=1e-6)


@pytest.mark.row("J05", "J15")
@pytest.mark.parametrize("residual", [False, True])
def test_stacked_layers_read_the_previous_layer_and_ignore_padding(residual):
    model = nn.stacked_rnn(LSTM, nn.lstm(4), nn.bidirectional(nn.gru(3)), residual=residual)
    params, state = to_numpy(filled(model, X, LENGTHS))
    assert sorted(params) == ["bidirectional_0", "lstm_0", "lstm_1"]
    y = np.asarray(model.apply(params, state, X, LENGTHS)[0])
    below = NUMPY["lstm"](params["lstm_0"], {}, X)
    middle = NUMPY["lstm"](params["lstm_1"], {}, below) + residual * below
    # No shortcut here, because the widths are 4 and 6.
    expected = cells.both_ways(NUMPY["gru"])(params["bidirectional_0"], middle, LENGTHS)
    chex.assert_trees_all_close(y, expected.astype("f"), atol=1e-5)


@pytest.mark.parametrize("variational", [False, True])
def test_dropout_between_layers_is_shared_over_time_if_variational(variational):
    identity = lambda: nn.elman(40, activation=lambda a: a, use_bias=False)
    model = nn.stacked_rnn(identity(), identity(), dropout=0.5, variational=variational)
    x = np.ones((1, 6, 40), np.float32)
    eye = np.eye(40, dtype=np.float32)
    once = {"kernel": eye, "recurrent_kernel": 0 * eye}
    params = {"elman_0": once, "elman_1": once}
    y = np.asarray(model.apply(params, {}, x, train=True, key=jax.random.key(0))[0])
    assert set(np.unique(y)) == {0.0, 2.0}
    assert np.all(y == y[:, :1]) == variational
    chex.assert_trees_all_equal(model.apply(params, {}, x)[0], x)


def test_the_backward_direction_may_have_another_cell():
    other = nn.gru(3)
    model = nn.bidirectional(ELMAN, other)
    params, state = filled(model, X)
    y, _ = model.apply(params, state, X)
    _, back = nn.unroll(other, params["backward"], X, reverse=True)
    chex.assert_trees_all_close(y[..., 4:], back, atol=1e-6)


def test_bad_arguments():
    with pytest.raises(ValueError, match="merge='mean'"):
        nn.bidirectional(nn.gru(3), merge="mean")
    with pytest.raises(ValueError, match="features=None.*'project' with the number"):
        nn.bidirectional(nn.gru(3), merge="project")
    with pytest.raises(ValueError, match="no layers"):
        nn.stacked_rnn()
