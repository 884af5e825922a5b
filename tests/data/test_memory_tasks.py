import functools

import jax
import numpy as np
import pytest

from jaxdl import data


def draw(task, rows, length, seed=0):
    function = getattr(data.toy.memory_tasks, task)
    compiled = jax.jit(functools.partial(function, n=rows, length=length))
    return jax.device_get(compiled(jax.random.key(seed)))


@pytest.mark.row("J17")
def test_adding():
    x, y = draw("adding", 500, 20)
    assert x.shape == (500, 20, 2)
    marks = x[..., 1]
    assert (marks[:, :10].sum(1) == 1).all() and (marks[:, 10:].sum(1) == 1).all()
    np.testing.assert_allclose(y, (x[..., 0] * marks).sum(1), rtol=1e-6)
    assert np.mean((y - 1) ** 2) == pytest.approx(1 / 6, abs=0.03)


@pytest.mark.row("J17")
def test_recall_and_copying_ask_for_the_beginning():
    x, y = draw("recall", 50, 9)
    symbols = np.argmax(x, -1)
    assert (symbols[:, 0] == y).all() and (symbols[:, 1:] >= 8).all()
    x, y = draw("copying", 50, 15, seed=1)
    symbols = np.argmax(x, -1)
    assert (symbols[:, :5] == y).all() and (symbols[:, 5:] >= 8).all()
    assert (symbols == 9).sum() == 50 and (symbols[:, 9] == 9).all()


def test_too_short():
    for task, least in (("adding", 2), ("recall", 2), ("copying", 11)):
        with pytest.raises(ValueError, match=f"{task}: length is {least - 1}"):
            getattr(data.toy.memory_tasks, task)(jax.random.key(0), 2, least - 1)
