import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdl
from jaxdl import nn
from tests.nn import numpy_cells as cells
from tests.nn.filled import filled, normal

X = np.asarray(normal(0, 2, 5, 3))
CARRY = (np.full((2, 4), 0.3, np.float32), np.full((2, 4), -0.8, np.float32))
LSTM = nn.lstm(4)
to_numpy = functools.partial(jax.tree.map, np.asarray)


def built(cell):
    return to_numpy(jaxdl.init(cell, jax.random.key(1), X)[0])


def pre_activations(params):
    return X[:, 0] @ params["kernel"] + CARRY[0] @ params["recurrent_kernel"] + params["bias"]


@pytest.mark.row("J09", "J10", "J12", "J13")
@pytest.mark.parametrize(
    "make, count",
    [
        (nn.lstm, 128),
        (nn.coupled_lstm, 96),
        (nn.peephole_lstm, 140),
        (lambda h: nn.peephole_lstm(h, peepholes="full"), 176),
        (lambda h: nn.peephole_lstm(h, gates="f"), 132),
    ],
)
def test_parameters_of_three_inputs_and_four_units(make, count):
    """Four times the 32 of an Elman network, one set per gate and for the candidate."""
    assert jaxdl.tree.count(filled(make(4), X)[0]) == count


def test_forget_bias_and_orthogonal_gates():
    params = built(nn.lstm(4, forget_bias=2.0))
    chex.assert_trees_all_equal(params["bias"], np.repeat(np.float32([0, 2, 0, 0]), 4))
    for gate in np.split(params["recurrent_kernel"], 4, axis=1):
        chex.assert_trees_all_close(gate @ gate.T, np.eye(4, dtype=np.float32), atol=1e-5)
    quick = {"kernel_init": "ones", "recurrent_init": "ones"}
    warm = built(
        nn.lstm(
            4, forget_bias=2.0, bias_init=lambda key, shape, dtype: jnp.ones(shape, dtype), **quick
        )
    )
    chex.assert_trees_all_equal(warm["bias"], 1 + params["bias"])
    coupled = built(nn.coupled_lstm(4, **quick))
    chex.assert_trees_all_equal(coupled["bias"], np.repeat(np.float32([1, 0, 0]), 4))


@pytest.mark.row("J12")
@pytest.mark.parametrize("peepholes", ["diagonal", "full"])
def test_zero_peepholes_are_an_lstm(peepholes):
    quick = {"kernel_init": "ones", "recurrent_init": "ones"}
    cell = nn.peephole_lstm(4, peepholes=peepholes, **quick)
    zeros = {name: value for name, value in built(cell).items() if "peephole" in name}
    assert len(zeros) == 3 and not any(map(np.any, zeros.values()))
    params, _ = filled(LSTM, X)
    chex.assert_trees_all_close(
        cell.apply(params | zeros, {}, X)[0], LSTM.apply(params, {}, X)[0], atol=1e-6
    )


@pytest.mark.row("J11", "J12")
@pytest.mark.parametrize("gate", "ifo")
def test_each_peephole_alone(gate):
    """Diagonal weights equal a full matrix with zeros off the diagonal."""
    diagonal = nn.peephole_lstm(4, gates=gate, peephole_init="normal")
    params, _ = filled(diagonal, X)
    name = f"peephole_{gate}"
    assert [key for key in params if "peephole" in key] == [name]
    full = params | {name: np.diag(np.asarray(params[name]))}
    step = nn.peephole_lstm_step
    chex.assert_trees_all_close(step(params, CARRY, X[:, 0]), step(full, CARRY, X[:, 0]))
    off = {key: value for key, value in params.items() if key != name}
    assert not np.allclose(step(params, CARRY, X[:, 0])[1], step(off, CARRY, X[:, 0])[1])


@pytest.mark.row("J11", "J12")
@pytest.mark.parametrize("peepholes", ["diagonal", "full"])
def test_input_and_forget_gates_read_the_old_cell_and_the_output_gate_the_new_one(peepholes):
    params = to_numpy(filled(nn.peephole_lstm(4, peepholes=peepholes), X)[0])
    result = nn.peephole_lstm_step(params, CARRY, X[:, 0])
    chex.assert_trees_all_close(result, cells.peephole(params, CARRY, X[:, 0]), atol=1e-6)


@pytest.mark.row("J13")
@pytest.mark.parametrize("forget_bias", [1e4, -1e4])
def test_a_coupled_gate_that_forgets_nothing_writes_nothing(forget_bias):
    cell = nn.coupled_lstm(
        4, forget_bias=forget_bias, kernel_init="lecun_normal", recurrent_init="lecun_normal"
    )
    params = built(cell)
    (_, c), _ = nn.coupled_lstm_step(params, CARRY, X[:, 0])
    if forget_bias > 0:
        chex.assert_trees_all_equal(c, CARRY[1])
    else:
        chex.assert_trees_all_close(c, np.tanh(pre_activations(params)[:, 4:8]), atol=1e-6)


@pytest.mark.row("J08")
def test_the_lecture_notes_equation_with_other_activations():
    """c' = g(z) f(z_i) + c f(z_f), y = h(c') f(z_o), with g and h the identity."""
    cell = nn.lstm(4, activation=lambda a: a)
    params = to_numpy(filled(cell, X)[0])
    zi, zf, zg, zo = np.split(pre_activations(params), 4, axis=1)
    c = zg * cells.sigmoid(zi) + CARRY[1] * cells.sigmoid(zf)
    expected = ((c * cells.sigmoid(zo), c), c * cells.sigmoid(zo))
    chex.assert_trees_all_close(cell.step(params, CARRY, X[:, 0]), expected, atol=1e-6)
    chex.assert_trees_all_close(
        nn.lstm_step(params, CARRY, X[:, 0], activation=lambda a: a), expected, atol=1e-6
    )
    assert cell.fused is None  # the fused implementation has tanh built in


@pytest.mark.parametrize("lengths", [None, (3, 5), (0, 4)])
@pytest.mark.parametrize("reverse", [False, True])
def test_cudnn_gets_equivalent_arguments(monkeypatch, lengths, reverse):
    """Without a GPU, JAX's reference implementation replaces the call of cuDNN."""
    from jax.experimental import rnn

    def reference(x, h, c, weights, lengths, *sizes):
        parts = rnn.unpack_lstm_weights(weights, *sizes[:3], sizes[4])
        return rnn.lstm_ref(x, h, c, *parts, lengths, *sizes)

    monkeypatch.setattr(rnn, "lstm", reference)
    lengths = None if lengths is None else np.array(lengths, np.int32)
    params, _ = filled(LSTM, X)
    options = {"lengths": lengths, "reverse": reverse, "carry": CARRY}
    by_cudnn = nn.unroll(LSTM, params, X, implementation="cudnn", **options)
    chex.assert_trees_all_close(
        by_cudnn, nn.unroll(LSTM, params, X, implementation="scan", **options), atol=1e-5
    )


@pytest.mark.parametrize("bad", [{"peepholes": "none"}, {"gates": "gi"}])
def test_bad_peepholes(bad):
    with pytest.raises(ValueError, match="expected 'diagonal' or 'full', and gates of"):
        nn.peephole_lstm(3, **bad)
