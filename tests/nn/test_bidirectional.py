import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl import nn
from tests.nn.filled import filled

X = jax.random.normal(jax.random.key(0), (3, 5, 2))
LENGTHS = jnp.array([5, 2, 0])


@pytest.mark.row("J06")
def test_the_lectures_output_equation():
    """y_t = W h_t(forwards) + W' h_t(backwards) + b."""
    cell = nn.elman(4)
    model = nn.bidirectional(cell, merge="project", features=3)
    params, state = filled(model, X)
    y, _ = model.apply(params, state, X)
    ahead = nn.recurrence(cell, params["forward"], X)[1]
    back = nn.recurrence(cell, params["backward"], X[:, ::-1])[1][:, ::-1]
    w = params["output"]["kernel"]
    expected = ahead @ w[:4] + back @ w[4:] + params["output"]["bias"]
    chex.assert_trees_all_close(y, expected, atol=1e-6)


@pytest.mark.row("J06", "J07")
@pytest.mark.parametrize("cell", [nn.elman(4), nn.lstm(4)], ids=["elman", "lstm"])
def test_turning_the_input_swaps_the_directions(cell):
    model = nn.bidirectional(cell)
    params, state = filled(model, X)
    y, _ = model.apply(params, state, X)
    swapped = {"forward": params["backward"], "backward": params["forward"]}
    turned, _ = model.apply(swapped, state, X[:, ::-1])
    both = jnp.concatenate([turned[..., 4:], turned[..., :4]], axis=-1)[:, ::-1]
    chex.assert_trees_all_close(y, both, atol=1e-6)
    total, _ = nn.bidirectional(cell, merge="sum").apply(params, state, X)
    chex.assert_trees_all_close(total, y[..., :4] + y[..., 4:])


@pytest.mark.row("J06")
def test_every_output_depends_on_every_input():
    model = nn.bidirectional(nn.gru(4))
    params, state = filled(model, X[:1])
    slopes = jax.jacobian(lambda x: model.apply(params, state, x)[0].sum(-1)[0])(X[:1])
    assert np.all(np.any(np.abs(slopes[:, 0]) > 0, axis=-1))
    one_way = jax.jacobian(lambda x: nn.gru(4).apply(params["forward"], {}, x)[0].sum(-1)[0])
    assert not np.any(np.triu(np.abs(one_way(X[:1])[:, 0]).sum(-1), 1))


def test_last_is_where_each_direction_ends():
    model = nn.bidirectional(nn.lstm(4), returns="last")
    params, state = filled(model, X, LENGTHS)
    y, _ = model.apply(params, state, X, LENGTHS)
    for n, length in enumerate(LENGTHS.tolist()):
        row, _ = nn.bidirectional(nn.lstm(4)).apply(params, state, X[n : n + 1, :length])
        ends = [row[0, -1, :4], row[0, 0, 4:]] if length else [jnp.zeros(8)]
        chex.assert_trees_all_close(y[n], jnp.concatenate(ends), atol=1e-6)


@pytest.mark.row("J05")
def test_deep_layers_read_the_one_below_and_padding_changes_nothing():
    model = nn.deep_recurrent(nn.lstm(4), nn.lstm(4), nn.bidirectional(nn.gru(3)), residual=True)
    params, state = filled(model, X, LENGTHS)
    assert sorted(params) == ["bidirectional_0", "lstm_0", "lstm_1"]
    y, _ = model.apply(params, state, X, LENGTHS)
    below, _ = nn.lstm(4).apply(params["lstm_0"], {}, X, LENGTHS)
    middle = below + nn.lstm(4).apply(params["lstm_1"], {}, below, LENGTHS)[0]
    top = nn.bidirectional(nn.gru(3)).apply(params["bidirectional_0"], {}, middle, LENGTHS)[0]
    chex.assert_trees_all_close(y, top, atol=1e-6)  # 6 features on 4: no shortcut
    alone, _ = model.apply(params, state, X[1:2, :2])
    chex.assert_trees_all_close(y[1:2, :2], alone, atol=1e-6)


@pytest.mark.parametrize("variational", [False, True])
def test_dropout_between_layers_is_shared_over_time_if_variational(variational):
    identity = lambda: nn.elman(40, activation=lambda a: a, use_bias=False)
    model = nn.deep_recurrent(identity(), identity(), dropout=0.5, variational=variational)
    x = jnp.ones((1, 6, 40))
    once = {"kernel": jnp.eye(40), "recurrent_kernel": jnp.zeros((40, 40))}
    params = {"elman_0": once, "elman_1": once}
    y, _ = model.apply(params, {}, x, train=True, key=jax.random.key(0))
    assert set(np.unique(y)) == {0.0, 2.0}
    assert np.all(y == y[:, :1]) == variational
    chex.assert_trees_all_equal(model.apply(params, {}, x)[0], x)


def test_bad_arguments():
    with pytest.raises(ValueError, match="merge='mean'"):
        nn.bidirectional(nn.gru(3), merge="mean")
    with pytest.raises(ValueError, match="features=None.*'project' with the number"):
        nn.bidirectional(nn.gru(3), merge="project")
    with pytest.raises(ValueError, match="no layers"):
        nn.deep_recurrent()
