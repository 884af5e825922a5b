"""Recurrent layers against Flax and torch: the same weights, the same numbers and gradients."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen

from jaxdl import nn
from jaxdl.interop.recurrent import (
    recurrent_from_flax,
    recurrent_from_torch,
    recurrent_to_flax,
)
from tests.nn.filled import filled
from tests.parity.flax_parity import draw

X = draw(3, 5, 3)
LENGTHS = np.array([5, 2, 4])
CELLS = {
    "elman": (nn.elman, linen.SimpleCell),
    "lstm": (nn.lstm, linen.OptimizedLSTMCell),
    "gru": (nn.gru, linen.GRUCell),
}


@pytest.mark.parametrize("name", CELLS)
def test_flax(name):
    make, theirs = CELLS[name]
    cell, layer = make(4), linen.RNN(theirs(4), return_carry=True)
    params, _ = filled(cell, X)
    tree = {"cell": recurrent_to_flax(params)}
    chex.assert_trees_all_equal(recurrent_from_flax(tree["cell"]), params)

    def ours(params):
        carry, y = nn.unroll(cell, params, X, lengths=LENGTHS)
        h, c = carry if name == "lstm" else (carry, carry)
        return jnp.sum(jnp.sin(y)), (h, c, y)

    def flax(params):
        tree = {"cell": recurrent_to_flax(params)}
        carry, y = layer.apply({"params": tree}, X, seq_lengths=LENGTHS)
        c, h = carry if name == "lstm" else (carry, carry)
        y = jnp.where((jnp.arange(5) < LENGTHS[:, None])[..., None], y, 0)  # Flax leaves what came
        return jnp.sum(jnp.sin(y)), (h, c, y)

    results = [jax.jit(jax.value_and_grad(f, has_aux=True))(params) for f in (ours, flax)]
    chex.assert_trees_all_close(*results, atol=1e-5, rtol=1e-5)


def torch_layer(name, **options):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    kind = {"elman": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[name]
    return torch, kind(3, 4, batch_first=True, **options)


@pytest.mark.row("J01", "J09")
@pytest.mark.parametrize("name", CELLS)
def test_torch_values_and_gradients(name):
    torch, layer = torch_layer(name)
    x = torch.tensor(np.asarray(X), requires_grad=True)
    y, carry = layer(x)
    y.sin().sum().backward()
    params = recurrent_from_torch(layer.state_dict())
    cell = CELLS[name][0](4)
    ours, outputs = nn.unroll(cell, params, X)
    chex.assert_trees_all_close(outputs, y.detach().numpy(), atol=1e-6)
    theirs = carry if isinstance(carry, tuple) else (carry,)
    chex.assert_trees_all_close(
        tuple(jax.tree.leaves(ours)), tuple(part[0].detach().numpy() for part in theirs), atol=1e-6
    )
    f = lambda p, x: jnp.sum(jnp.sin(nn.unroll(cell, p, x)[1]))
    grads, of_x = jax.jit(jax.grad(f, (0, 1)))(params, X)
    chex.assert_trees_all_close(of_x, x.grad.numpy(), atol=1e-5)
    expected = {n: p.grad for n, p in layer.named_parameters()}
    chex.assert_trees_all_close(grads["kernel"].T, expected["weight_ih_l0"].numpy(), atol=1e-5)
    chex.assert_trees_all_close(
        grads["recurrent_kernel"].T, expected["weight_hh_l0"].numpy(), atol=1e-5
    )
    chex.assert_trees_all_close(grads["bias"], expected["bias_ih_l0"].numpy(), atol=1e-5)


@pytest.mark.row("J15")
def test_torch_stacked():
    _, layer = torch_layer("lstm", num_layers=2)
    state = layer.state_dict()
    params = {f"lstm_{i}": recurrent_from_torch(state, layer=i) for i in range(2)}
    y, _ = nn.stacked_rnn(nn.lstm(4), nn.lstm(4)).apply(params, {}, X)
    torch = pytest.importorskip("torch")
    chex.assert_trees_all_close(
        y, layer(torch.tensor(np.asarray(X)))[0].detach().numpy(), atol=1e-6
    )


@pytest.mark.row("J07")
@pytest.mark.parametrize("name", CELLS)
def test_torch_bidirectional_over_padded_rows(name):
    torch, layer = torch_layer(name, bidirectional=True)
    lengths = torch.tensor(np.asarray(LENGTHS))
    packed = torch.nn.utils.rnn.pack_padded_sequence(
        torch.tensor(np.asarray(X)), lengths, batch_first=True, enforce_sorted=False
    )
    y, _ = torch.nn.utils.rnn.pad_packed_sequence(layer(packed)[0], batch_first=True)
    state = layer.state_dict()
    params = {
        "forward": recurrent_from_torch(state),
        "backward": recurrent_from_torch(state, reverse=True),
    }
    ours, _ = nn.bidirectional(CELLS[name][0](4)).apply(params, {}, X, LENGTHS)
    chex.assert_trees_all_close(ours, y.detach().numpy(), atol=1e-6)


def golden(k, n):
    """The golden numbers' closed form: a hash of tensor number k and position i, in [0, 1)."""
    i = np.arange(1, n + 1, dtype=np.float64)
    s = np.abs(np.sin(12.9898 * i + 78.233 * (k + 1))) * 43758.5453
    return s - np.floor(s)


@pytest.mark.row("J01", "J09")
@pytest.mark.parametrize(
    "name, last, total",
    [
        ("elman", [0.999563549496, 0.986809454891, 0.558441423572, 0.953016630044], 17.3072713161),
        ("lstm", [0.982255160796, 0.170952424764, 0.762674990298, 0.7720747913], 13.4840499467),
        ("gru", [0.453919323531, 0.738251514266, 0.359230564913, 0.659532504757], 6.77849569686),
    ],
)
def test_golden_cells(name, last, total):
    """torch's float64 outputs for weights and an input in closed form; torch may be absent."""
    gates = {"elman": 1, "lstm": 4, "gru": 3}[name] * 4
    shapes = {"weight_ih_l0": (gates, 3), "weight_hh_l0": (gates, 4)}
    shapes |= {"bias_ih_l0": (gates,), "bias_hh_l0": (gates,)}
    state = {}
    for k, (tensor, shape) in enumerate(shapes.items()):
        u = golden(k, int(np.prod(shape)))
        if len(shape) == 2:
            u = (u - 0.5) * np.sqrt(12) * np.sqrt(2 / shape[1])
        else:
            u = 1 + 0.1 * (2 * u - 1)
        state[tensor] = u.reshape(shape)
    with jax.enable_x64(True):
        x = jnp.asarray(2 * golden(-1, 15) - 1).reshape(1, 5, 3)
        cell = CELLS[name][0](4)
        params = recurrent_from_torch(state)
        y = np.asarray(jax.jit(lambda p, x: nn.unroll(cell, p, x)[1])(params, x))
    np.testing.assert_allclose(y[0, -1], last, atol=1e-10)
    np.testing.assert_allclose(y.sum(), total, rtol=1e-10)


def test_what_is_no_recurrent_layer_is_refused():
    with pytest.raises(ValueError, match="no 'weight_ih_l0' among"):
        recurrent_from_torch({"weight": np.ones((2, 2))})
    bad = {"weight_ih_l0": np.ones((6, 3)), "weight_hh_l0": np.ones((6, 4))}
    with pytest.raises(ValueError, match="expected .G H, D."):
        recurrent_from_torch(bad)
    with pytest.raises(ValueError, match="expected those of SimpleCell"):
        recurrent_from_flax({"Dense_0": {}})
    with pytest.raises(ValueError, match="expected the parameters of nn.elman"):
        recurrent_to_flax({"kernel": jnp.ones((2, 2))})
