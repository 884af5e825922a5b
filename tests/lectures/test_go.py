"""Go as classification: f(board) = the next move, one of 19 x 19 classes. Lecture row U03.

The move to learn captures a lone white stone: black plays on its last liberty.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxdl import losses, nn, serial
from tests.nn.filled import filled

SIZE = 19
NEIGHBOURS = np.array([(-1, 0), (1, 0), (0, -1), (0, 1)])
NETWORK = serial(nn.conv(8, 5), jax.nn.relu, nn.conv(1, 1), nn.flatten())


def positions(seed, n):
    """Returns boards (N, 19, 19), 1 black and -1 white, and where black captures (N, 19, 19).

    Each board has at least one white stone with one liberty, among stones at random.
    """
    rng = np.random.default_rng(seed)
    boards = rng.choice([0, 1, -1], (n, SIZE, SIZE), p=[0.9, 0.05, 0.05])
    for board in boards:
        i, j = rng.integers(0, SIZE, 2)
        around = [tuple(p) for p in NEIGHBOURS + (i, j) if (0 <= p).all() and (p < SIZE).all()]
        board[i, j] = -1
        for point in around:
            board[point] = 1
        board[around[rng.integers(len(around))]] = 0
    return boards, np.stack([captures(board) for board in boards])


def captures(board):
    """Returns which points are the last liberty of a white stone without white neighbours."""
    marked = np.zeros_like(board, bool)
    for i, j in np.argwhere(board == -1):
        around = [tuple(p) for p in NEIGHBOURS + (i, j) if (0 <= p).all() and (p < SIZE).all()]
        empty = [point for point in around if board[point] == 0]
        if len(empty) == 1 and sum(board[point] == 1 for point in around) == len(around) - 1:
            marked[empty[0]] = True
    return marked


def planes(boards):
    """Returns network inputs (N, 19, 19, 3): black stones, white stones, ones on the board."""
    return np.stack([boards == 1, boards == -1, boards < 2], -1).astype(np.float32)


@jax.jit
def scores(params, x):
    """Returns the scores (N, 361) of all moves; -inf on occupied points."""
    y, _ = NETWORK.apply(params, {}, x)
    occupied = x[..., :2].any(-1).reshape(len(x), -1)
    return jnp.where(occupied, -jnp.inf, y)


def by_hand():
    """Returns weights whose score of a move is the number of lone white stones that it captures.

    One unit for each neighbour of the move: 1 if it is white, less 1 for each of its own other
    neighbours that is on the board and not black.
    """
    kernel = np.zeros((5, 5, 3, 8), np.float32)
    for unit, step in enumerate(NEIGHBOURS):
        kernel[(*(step + 2), 1, unit)] = 1
        for other in NEIGHBOURS:
            if (step + other).any():
                kernel[(*(step + other + 2), 0, unit)] = 1
                kernel[(*(step + other + 2), 2, unit)] = -1
    head = {"kernel": np.ones((1, 1, 8, 1), np.float32), "bias": np.zeros(1, np.float32)}
    return {"conv_0": {"kernel": kernel, "bias": np.zeros(8, np.float32)}, "conv_1": head}


@pytest.mark.row("U03")
def test_a_convolutional_network_by_hand_finds_every_capture():
    boards, marked = positions(0, 128)
    logits = np.asarray(scores(by_hand(), planes(boards))).reshape(boards.shape)
    np.testing.assert_array_equal(logits >= 1, marked)
    np.testing.assert_array_equal(np.isneginf(logits), boards != 0)
    chances = np.asarray(jax.nn.softmax(logits.reshape(128, -1)))
    np.testing.assert_allclose(chances.sum(1), 1, rtol=1e-5)
    assert not chances[boards.reshape(128, -1) != 0].any()


@pytest.mark.row("U03")
def test_a_network_learns_the_move_and_moves_with_the_board():
    """From random weights, by cross-entropy over the 361 moves; guessing is right in 1 of 300."""
    boards, marked = positions(1, 256)
    optimizer = optax.adam(0.02)

    def update(carry, batch):
        params, moments = carry
        loss = lambda p, x, y: jnp.mean(losses.cross_entropy(scores(p, x), y))
        with jax.numpy_dtype_promotion("standard"):
            change, moments = optimizer.update(jax.grad(loss)(params, *batch), moments)
        return (optax.apply_updates(params, change), moments), None

    @jax.jit
    def train(params, batches):
        epoch = lambda carry, _: jax.lax.scan(update, carry, batches)
        return jax.lax.scan(epoch, (params, optimizer.init(params)), length=12)[0][0]

    x, y = planes(boards), marked.reshape(256, -1).argmax(1)
    batches = x.reshape(8, 32, SIZE, SIZE, 3), y.reshape(8, 32)
    params = train(filled(NETWORK, x[:1], scale=0.2)[0], batches)

    boards, marked = positions(2, 128)
    moves = np.asarray(scores(params, planes(boards))).argmax(1)
    assert np.take_along_axis(marked.reshape(128, -1), moves[:, None], 1).mean() > 0.6
    # Away from the edges a board moved by (2, 3) has its scores moved by (2, 3).
    boards[:, [0, 1, -2, -1]] = boards[:, :, [0, 1, 2, -3, -2, -1]] = 0
    moved = np.roll(boards, (2, 3), (1, 2))
    before, after = (
        np.asarray(scores(params, planes(b))).reshape(b.shape) for b in (boards, moved)
    )
    inside = (slice(None), slice(4, -2), slice(5, -2))
    np.testing.assert_allclose(np.roll(before, (2, 3), (1, 2))[inside], after[inside], atol=1e-5)
