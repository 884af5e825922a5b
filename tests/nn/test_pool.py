import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import jaxdl
from jaxdl import data, nn
from tests.nn.filled import normal


def by_loops(x, window, stride, pad, reduce, fill):
    x = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)), constant_values=fill)
    sizes = [(n - window) // stride + 1 for n in x.shape[1:3]]
    y = np.zeros((len(x), *sizes, x.shape[-1]), np.float32)
    for i, j in np.ndindex(*sizes):
        cells = x[:, i * stride : i * stride + window, j * stride : j * stride + window]
        y[:, i, j] = reduce(cells, (1, 2))
    return y


@pytest.mark.row("F09")
@given(st.integers(2, 3), st.integers(1, 3), st.integers(0, 1))
def test_windows_overlapping_or_not_are_the_loops(window, stride, pad):
    x = normal(0, 2, 7, 6, 3)
    options = dict(stride=stride, padding=pad)
    largest = by_loops(x, window, stride, pad, np.max, -np.inf)
    mean = by_loops(x, window, stride, pad, np.mean, 0)
    chex.assert_trees_all_close(nn.functional.max_pool(x, window, **options), largest)
    chex.assert_trees_all_close(nn.functional.avg_pool(x, window, **options), mean, atol=1e-6)


def test_padding_need_not_count():
    y = nn.functional.avg_pool(jnp.ones((1, 4, 1)), 2, padding=1, count_padding=False)
    chex.assert_trees_all_close(y, jnp.ones((1, 3, 1)))
    y = nn.functional.avg_pool(jnp.ones((1, 4, 1)), 2, padding=1)
    chex.assert_trees_all_close(y[0, :, 0], jnp.array([0.5, 1.0, 0.5]))


@pytest.mark.parametrize("window, stride", [(2, 2), (3, 3), (2, 1)])
def test_the_gradient_goes_to_the_maximum_whole_even_in_a_tie(window, stride):
    slope = jax.grad(lambda x: jnp.sum(nn.functional.max_pool(x, window, stride=stride)))
    windows = ((6 - window) // stride + 1) ** 2
    x = np.asarray(normal(0, 1, 6, 6, 1))
    largest = by_loops(x, window, stride, 0, np.max, -np.inf)
    for f in (jax.jit(slope), slope) if (window, stride) == (2, 2) else (jax.jit(slope),):
        gradient = np.asarray(f(x))
        chex.assert_trees_all_close(gradient.sum(), np.float32(windows), rtol=1e-6)
        chex.assert_trees_all_close(np.vdot(gradient, x), largest.sum(), rtol=1e-5)
        tied = np.asarray(f(np.zeros_like(x)))
        chex.assert_trees_all_close(tied.sum(), np.float32(windows), rtol=1e-6)
        assert tied.min() >= 0


def test_windows_apart_and_reduce_window_agree():
    x = normal(0, 2, 7, 9, 3)
    for operation in (nn.functional.max_pool, nn.functional.avg_pool):

        def apart(x, operation=operation):
            return jnp.sum(jnp.sin(operation(x, (2, 3))))

        def padded(x, operation=operation):
            y = operation(x, (2, 3), stride=(2, 3), padding=((0, 1), (0, 0)))
            return jnp.sum(jnp.sin(y[:, :3]))

        both = jax.jit(lambda x: (jax.grad(apart)(x), jax.grad(padded)(x)))(x)
        chex.assert_trees_all_close(*both, atol=1e-6)


def test_global_pooling():
    x = normal(0, 2, 3, 4, 5)
    chex.assert_trees_all_close(
        nn.global_avg_pool().apply({}, {}, x)[0], np.asarray(x).mean((1, 2)), atol=1e-6
    )
    chex.assert_trees_all_close(nn.global_max_pool().apply({}, {}, x)[0], np.asarray(x).max((1, 2)))


@pytest.mark.row("F13")
def test_subsampling_keeps_the_object():
    """A cross, enlarged twice, is the cross again after pooling."""
    cross = np.eye(5, dtype=np.float32)
    cross = np.maximum(cross, cross[::-1])
    large = np.kron(cross, np.ones((2, 2), np.float32))[None, ..., None]
    chex.assert_trees_all_equal(nn.functional.max_pool(large, 2)[0, ..., 0], cross)
    chex.assert_trees_all_equal(nn.functional.avg_pool(large, 2)[0, ..., 0], cross)


@pytest.mark.row("F13")
def test_digits_of_a_quarter_of_the_pixels_are_known_by_their_neighbors():
    """The nearest training image has the label; a corner of as many pixels tells much less."""
    (x, y), (others, labels) = data.digits().train, data.digits().test

    def accuracy(seen, unseen):
        seen, unseen = (np.asarray(a).reshape(len(a), -1) for a in (seen, unseen))
        distances = (seen**2).sum(1) - 2 * unseen @ seen.T
        return np.mean(y[distances.argmin(1)] == labels)

    small, small_others = nn.functional.avg_pool(x, 2), nn.functional.avg_pool(others, 2)
    assert small.shape == (len(x), 4, 4, 1)
    assert accuracy(x, others) > 0.98 and accuracy(small, small_others) > 0.9
    assert accuracy(x[:, :4, :4], others[:, :4, :4]) < 0.75
    enlarged = np.repeat(np.repeat(small_others, 2, 1), 2, 2)  # beside whole training images
    assert accuracy(x, enlarged) > 0.7


@pytest.mark.row("F10")
def test_flatten_is_row_major():
    x = jnp.asarray(np.arange(24, dtype=np.float32).reshape(2, 2, 3, 2))
    y, _ = nn.flatten().apply({}, {}, x)
    chex.assert_trees_all_equal(y, np.stack(np.split(np.arange(24, dtype=np.float32), 2)))


def test_bad_arguments(key):
    x = jnp.ones((1, 4, 4, 1))
    with pytest.raises(ValueError, match=r"window\[0\] is 0"):
        nn.functional.max_pool(x, 0)
    with pytest.raises(ValueError, match="nothing but padding"):
        nn.functional.max_pool(x, 2, padding=2)
    with pytest.raises(ValueError, match="max_pool"):
        jaxdl.init(nn.max_pool(5), key, x)
    with pytest.raises(ValueError, match="global_avg_pool: input has shape"):
        jaxdl.init(nn.global_avg_pool(), key, jnp.ones((2, 3)))


def test_global_pooling_leaves_padding_out():
    x, lengths = np.asarray(normal(3, 3, 4, 2)), np.array([4, 0, 2])
    padded = np.where(np.arange(4)[:, None] < lengths[:, None, None], x, np.nan)
    for layer, reduce in ((nn.global_avg_pool(), np.mean), (nn.global_max_pool(), np.max)):
        expected = [
            reduce(row[:n], 0) if n else np.zeros(2) for row, n in zip(x, lengths, strict=True)
        ]
        y, _ = layer.apply({}, {}, jnp.asarray(padded), jnp.asarray(lengths))
        np.testing.assert_allclose(y, expected, rtol=1e-6)
        with pytest.raises(ValueError, match=r"expected \(N, T, C\) and \(N,\)"):
            layer.apply({}, {}, jnp.zeros((2, 4, 4, 1)), jnp.ones(2, jnp.int32))
