"""Running any cell: lengths, direction, carry, streams, and every form against the plain scan."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl import nn
from tests.nn import numpy_cells as cells
from tests.nn.filled import filled

CELLS = {
    "elman": lambda: nn.elman(3),
    "elman relu": lambda: nn.elman(3, activation=jax.nn.relu),
    "lateral": lambda: nn.lateral(3),
    "jordan": lambda: nn.jordan(4, 3),
    "lstm": lambda: nn.lstm(3),
    "lstm learned start": lambda: nn.lstm(3, initial="normal", learn_initial=True),
    "coupled_lstm": lambda: nn.coupled_lstm(3),
    "peephole_lstm": lambda: nn.peephole_lstm(3, peephole_init="normal"),
    "gru": lambda: nn.gru(3),
    "gru before": lambda: nn.gru(3, reset="before", use_bias=True),
}
FUSED = ["elman", "elman relu", "lstm", "lstm learned start", "gru"]
each_cell = pytest.mark.parametrize("name", CELLS)
both_ways = pytest.mark.parametrize("reverse", [False, True], ids=["forwards", "reversed"])
X = jax.random.normal(jax.random.key(7), (4, 6, 2))
LENGTHS = jnp.array([6, 0, 3, 1])


def built(name, x=X):
    cell = CELLS[name]()
    return cell, filled(cell, x)[0]


def loss(cell, **options):
    """Of parameters, input and the carry before: every output and the final carry count."""

    def f(params, x, carry):
        tree = nn.recurrence(cell, params, x, carry=carry, **options)
        return sum(jnp.sum(jnp.sin(leaf + 0.3)) for leaf in jax.tree.leaves(tree))

    return f


def gradients(cell, **options):
    """Value and gradients by everything, compiled at once: much quicker than step by step."""
    return jax.jit(jax.value_and_grad(loss(cell, **options), (0, 1, 2)))


def a_carry(cell, params, x=X):
    noise = lambda a: a + 0.4 * jax.random.normal(jax.random.key(3), a.shape)
    return jax.tree.map(noise, cell.start(params, x))


REFERENCES = {
    "elman": (cells.elman, 1),
    "lateral": (cells.lateral, 1),
    "jordan": (cells.jordan, 1),
    "lstm": (cells.lstm, 2),
    "coupled_lstm": (cells.coupled, 2),
    "peephole_lstm": (cells.peephole, 2),
    "gru": (cells.gru_after, 1),
}


@pytest.mark.parametrize("name", REFERENCES)
def test_numpy_reference(name):
    cell, params = built(name)
    step, parts = REFERENCES[name]
    expected = cells.over_time(step, cells.zeros(parts=parts))(
        jax.tree.map(np.asarray, params), {}, np.asarray(X)
    )
    chex.assert_trees_all_close(cell.apply(params, {}, X)[0], expected.astype("f"), atol=1e-5)


@pytest.mark.row("J03", "J04")
@each_cell
def test_the_layer_is_its_step_repeated(name):
    """Unrolled copies of one network, as the lectures draw it, and a stream with its parameters."""
    cell, params = built(name)
    final, outputs = nn.recurrence(cell, params, X)
    carry, step = cell.start(params, X), jax.jit(cell.step)
    for t in range(X.shape[1]):
        carry, y = step(params, carry, X[:, t])
        chex.assert_trees_all_close(y, outputs[:, t], atol=1e-6)
    chex.assert_trees_all_close(carry, final, atol=1e-6)


@pytest.mark.parametrize("name", FUSED)
@pytest.mark.parametrize(
    "options",
    [{}, {"reverse": True}, {"lengths": LENGTHS}, {"lengths": LENGTHS, "reverse": True}],
    ids=lambda options: " ".join(options) or "full",
)
def test_the_fused_form_has_the_plain_scans_values_and_derivatives(name, options):
    cell, params = built(name)
    args = (params, X, a_carry(cell, params))
    both = [gradients(cell, form=form, **options)(*args) for form in ("plain", "fused")]
    chex.assert_trees_all_close(*both, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["elman", "lstm", "gru"])
def test_forward_mode_and_second_derivatives_of_the_fused_form(name):
    x = X[:2, :3]
    cell, params = built(name, x)
    carry = a_carry(cell, params, x)
    results = []
    for form in ("plain", "fused"):
        f = loss(cell, form=form, lengths=jnp.array([3, 2]))
        slope = lambda p, x, f=f: jax.jvp(f, (p, x, carry), jax.tree.map(jnp.cos, (p, x, carry)))
        g = jax.grad(lambda p, x, f=f: jnp.sum(jnp.sin(jax.grad(f)(p, x, carry)["kernel"])))
        h = lambda p, x, f=f: jax.jacfwd(jax.grad(lambda x: f(p, x, carry)))(x)
        run = lambda p, x, slope=slope, g=g, h=h: (slope(p, x), g(p, x), h(p, x))
        results.append(jax.jit(run)(params, x))
    chex.assert_trees_all_close(*results, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    "name, reverse",
    [(name, False) for name in CELLS] + [(name, True) for name in ("lstm", "gru", "gru before")],
)
def test_padding_changes_nothing_gradients_included(name, reverse):
    """NaN in the padding, against the rows cut to their length and run by themselves."""
    cell, params = built(name)
    lengths = jnp.array([3, 0, 3, 3])
    pad = jnp.arange(X.shape[1])[:, None] >= lengths[:, None, None]
    carry = a_carry(cell, params)
    padded = gradients(cell, lengths=lengths, reverse=reverse)
    value, grads = padded(params, jnp.where(pad, jnp.nan, X), carry)
    keep = jnp.array([0, 2, 3])
    rows = lambda tree: jax.tree.map(lambda a: a[keep], tree)
    cut, own = gradients(cell, reverse=reverse)(params, X[keep, :3], rows(carry))
    outputs = (4 * 6 - 3 * 3) * 3 * jnp.sin(0.3)  # the padding's outputs are 0
    carried = sum(jnp.sum(jnp.sin(c[1] + 0.3)) for c in jax.tree.leaves(carry))
    chex.assert_trees_all_close(value, cut + outputs + carried, rtol=1e-5)
    chex.assert_trees_all_close(rows(grads[2]), own[2], atol=1e-5)
    chex.assert_trees_all_close(grads[1][keep, :3], own[1], atol=1e-5)
    assert not np.any(grads[1][1]) and not np.any(grads[1][:, 3:])
    if "learned" not in name:
        chex.assert_trees_all_close(grads[0], own[0], atol=1e-5)


@pytest.mark.parametrize("name", ["elman", "lstm", "gru", "gru before"])
def test_rows_without_steps_keep_the_carry_and_stay_finite(name):
    cell, params = built(name)
    x, carry = jnp.full_like(X, jnp.inf), a_carry(cell, params)
    none = jnp.zeros(4, jnp.int32)
    chex.assert_tree_all_finite(gradients(cell, lengths=none)(params, x, carry))
    after, y = nn.recurrence(cell, params, x, lengths=none, carry=carry)
    chex.assert_trees_all_equal(after, carry)
    assert not np.any(y)
    after, y = nn.recurrence(cell, params, X[:, :0], carry=carry)
    chex.assert_trees_all_equal(after, carry)
    assert y.shape == (4, 0, 3)


@pytest.mark.parametrize("name", ["lstm", "gru before"])
@both_ways
@pytest.mark.parametrize("cut", [0, 4, 6])
def test_a_sequence_in_two_parts_is_the_whole(name, cut, reverse):
    cell, params = built(name)
    parts = [X[:, cut:], X[:, :cut]] if reverse else [X[:, :cut], X[:, cut:]]
    carry, outputs = None, []
    for part in parts:
        carry, y = nn.recurrence(cell, params, part, carry=carry, reverse=reverse)
        outputs.append(y)
    whole = nn.recurrence(cell, params, X, reverse=reverse)
    joined = jnp.concatenate(outputs[::-1] if reverse else outputs, axis=1)
    chex.assert_trees_all_close((carry, joined), whole, atol=1e-6)


@pytest.mark.parametrize("name", ["lstm", "jordan"])
@both_ways
def test_unroll_and_remat_leave_value_and_gradient(name, reverse):
    cell, params = built(name)
    args = (params, X, a_carry(cell, params))
    same = {"lengths": LENGTHS, "reverse": reverse}
    plain = gradients(cell, form="plain", **same)(*args)
    for options in ({"remat": 1}, {"remat": 4}, {"remat": 9}, {"unroll": 4}):
        chex.assert_trees_all_close(gradients(cell, **same, **options)(*args), plain, atol=1e-5)


def test_remat_keeps_less():
    cell, params = built("lstm")
    x = jnp.ones((2, 256, 2))
    sizes = {}
    for remat in (0, 16):
        f = lambda p, remat=remat: jnp.sum(
            nn.recurrence(cell, p, x, form="plain", remat=remat)[1][:, -1]
        )
        analysis = jax.jit(jax.grad(f)).lower(params).compile().memory_analysis()
        sizes[remat] = analysis.temp_size_in_bytes
    assert sizes[16] < 0.7 * sizes[0]


def test_vmap_over_networks_and_over_carries():
    cell, _ = built("gru")
    trees = [filled(cell, X, seed=seed)[0] for seed in range(3)]
    stacked = jax.tree.map(lambda *a: jnp.stack(a), *trees)
    f = lambda p: jax.grad(lambda x: jnp.sum(jnp.sin(cell.apply(p, {}, x)[0])))(X)
    chex.assert_trees_all_close(
        jax.vmap(f)(stacked), jnp.stack([f(tree) for tree in trees]), atol=1e-6
    )


class TestRecurrent:
    def test_returns_all_last_or_the_carry(self):
        cell, params = built("lstm")
        carry, outputs = nn.recurrence(cell, params, X, lengths=LENGTHS)
        run = lambda **options: nn.recurrent(cell, **options).apply(params, {}, X, LENGTHS)[0]
        chex.assert_trees_all_close(run(), outputs)
        chex.assert_trees_all_close(run(returns="carry"), (outputs, carry))
        last = np.stack([outputs[n, max(length - 1, 0)] for n, length in enumerate(LENGTHS)])
        chex.assert_trees_all_close(run(returns="last"), last)
        assert not np.any(run(returns="last")[1])  # the row without steps
        backwards = run(returns="last", reverse=True)
        _, reverse = nn.recurrence(cell, params, X, lengths=LENGTHS, reverse=True)
        chex.assert_trees_all_close(backwards, reverse[:, 0])
        whole = nn.recurrent(cell, returns="last").apply(params, {}, X)[0]
        chex.assert_trees_all_close(whole, cell.apply(params, {}, X)[0][:, -1])

    @pytest.mark.parametrize("name", ["lstm", "gru"])
    def test_stateful_goes_on_where_the_last_call_ended_and_cuts_its_gradient(self, name):
        """Truncated BPTT: the values are the whole sequence's, the gradient only the call's."""
        cell, params = built(name)
        layer = nn.recurrent(cell, stateful=True)
        _, state = filled(layer, X[:, :3])
        first, state = layer.apply(params, state, X[:, :3])
        second, _ = layer.apply(params, state, X[:, 3:])
        whole, _ = cell.apply(params, {}, X)
        chex.assert_trees_all_close(jnp.concatenate([first, second], 1), whole, atol=1e-6)

        def truncated(params):
            _, state = layer.apply(params, filled(layer, X)[1], X[:, :3])
            return jnp.sum(layer.apply(params, state, X[:, 3:])[0])

        held = jax.lax.stop_gradient(nn.recurrence(cell, params, X[:, :3])[0])
        by_hand = lambda params: jnp.sum(nn.recurrence(cell, params, X[:, 3:], carry=held)[1])
        chex.assert_trees_all_close(jax.grad(truncated)(params), jax.grad(by_hand)(params))

    def test_recurrent_dropout_draws_one_mask_for_all_steps(self):
        """h_t = x_t + m h_{t-1}, all from 1: a dropped unit forgets, a kept one counts doubly."""
        cell = nn.elman(50, activation=lambda a: a, use_bias=False)
        params = {"kernel": jnp.ones((1, 50)), "recurrent_kernel": jnp.eye(50)}
        layer = nn.recurrent(cell, recurrent_dropout=0.5)
        x = jnp.ones((2, 4, 1))
        y, _ = layer.apply(params, {}, x, train=True, key=jax.random.key(3))
        sums = np.unique(y[:, -1])
        chex.assert_trees_all_close(sums, np.array([1.0, 1 + 2 + 4 + 8]))
        assert not np.array_equal(y[0], y[1])
        chex.assert_trees_all_close(layer.apply(params, {}, x)[0], cell.apply(params, {}, x)[0])

    def test_bad_arguments(self):
        cell = nn.lstm(3)
        with pytest.raises(ValueError, match="expected a Cell"):
            nn.recurrent(nn.dense(3))
        with pytest.raises(ValueError, match="returns is 'first'"):
            nn.recurrent(cell, returns="first")
        with pytest.raises(ValueError, match="recurrent_dropout is 1.0"):
            nn.recurrent(cell, recurrent_dropout=1.0)
        with pytest.raises(ValueError, match="did you mean 'fused'"):
            nn.recurrent(cell, form="fusd")
        with pytest.raises(ValueError, match="remat and keep need the plain form"):
            nn.recurrent(cell, form="fused", remat=2)
        with pytest.raises(ValueError, match="this cell has none"):
            nn.recurrent(nn.coupled_lstm(3), form="fused")


def test_bad_sequences():
    cell, params = built("lstm")
    with pytest.raises(ValueError, match=r"lengths are float32\[4\]; expected one integer a row"):
        nn.recurrence(cell, params, X, lengths=jnp.ones(4))
    with pytest.raises(ValueError, match=r"lengths are int32\[3\]"):
        nn.recurrence(cell, params, X, lengths=jnp.ones(3, jnp.int32))
    with pytest.raises(ValueError, match=r"the carry is \['float32\[2, 3\]'.*expected h, c"):
        nn.recurrence(cell, params, X, carry=(jnp.ones((2, 3)), jnp.ones((2, 3))))
    with pytest.raises(ValueError, match="the carry is.*bfloat16"):
        nn.recurrence(cell, params, X, carry=(jnp.ones((4, 3), jnp.bfloat16),) * 2)
    with pytest.raises(ValueError, match="the kernel float32"):
        nn.recurrence(cell, params, X[..., :1])
    with pytest.raises(ValueError, match="float32 and at least one step"):
        nn.recurrence(cell, params, X[:, :0], form="cudnn")
