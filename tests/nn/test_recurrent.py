"""`unroll` and `rnn` with every cell: lengths, direction, carry, implementations, single steps."""

import functools
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl import nn
from tests.nn import numpy_cells as cells
from tests.nn.filled import filled, normal, normal_like

CELLS = {
    "elman": lambda: nn.elman(3),
    "elman relu": lambda: nn.elman(3, activation=jax.nn.relu),
    "lateral": lambda: nn.lateral(3),
    "jordan": lambda: nn.jordan(4, 3),
    "lstm": lambda: nn.lstm(3),
    "lstm learned carry": lambda: nn.lstm(3, carry_init="normal", learn_initial_carry=True),
    "coupled_lstm": lambda: nn.coupled_lstm(3),
    "peephole_lstm": lambda: nn.peephole_lstm(3, peephole_init="normal"),
    "gru": lambda: nn.gru(3),
    "gru before": lambda: nn.gru(3, reset="before", use_bias=True),
}
FUSED = ["elman", "elman relu", "lstm", "gru"]
each_cell = pytest.mark.parametrize("name", CELLS)
both_ways = pytest.mark.parametrize("reverse", [False, True], ids=["forwards", "reversed"])
X = np.asarray(normal(7, 4, 6, 2))
SHORT = X[[0, 2, 3], :3]
LENGTHS = np.array([6, 0, 3, 1], np.int32)


@functools.cache
def built(name):
    cell = CELLS[name]()
    return cell, filled(cell, X)[0]


def loss(cell, **options):
    """Returns a loss `(params, x, carry) -> scalar` of all outputs and the final carry."""

    def f(params, x, carry, lengths=None):
        tree = nn.unroll(cell, params, x, carry=carry, lengths=lengths, **options)
        return sum(jnp.sum(jnp.sin(leaf + 0.3)) for leaf in jax.tree.leaves(tree))

    return f


@functools.cache
def gradients(name, **options):
    """Returns the compiled loss with gradients by all arguments, shared by all tests."""
    return jax.jit(jax.value_and_grad(loss(built(name)[0], **options), (0, 1, 2)))


def a_carry(cell, rows=4):
    draw = np.random.default_rng(3).normal
    parts = tuple(np.float32(0.4 * draw(size=(rows, size))) for size in cell.carry_sizes.values())
    return parts[0] if len(parts) == 1 else parts


@pytest.mark.parametrize(
    "name, step, parts",
    [
        pytest.param("elman", cells.elman, 1, marks=pytest.mark.row("J01")),
        ("lateral", cells.lateral, 1),
        ("jordan", cells.jordan, 1),
        pytest.param("lstm", cells.lstm, 2, marks=pytest.mark.row("J09", "J10")),
        pytest.param("coupled_lstm", cells.coupled, 2, marks=pytest.mark.row("J13")),
        pytest.param("peephole_lstm", cells.peephole, 2, marks=pytest.mark.row("J11", "J12")),
        ("gru", cells.gru_after, 1),
        pytest.param("gru before", cells.gru_before, 1, marks=pytest.mark.row("J14")),
    ],
)
def test_numpy_reference(name, step, parts):
    cell, params = built(name)
    expected = cells.over_time(step, cells.zeros(parts=parts))(
        jax.tree.map(np.asarray, params), {}, X
    )
    for implementation in ("scan", "fused") if name in FUSED else ("scan",):
        _, y = nn.unroll(cell, params, X, implementation=implementation)
        chex.assert_trees_all_close(y, expected.astype("f"), atol=1e-5)


@pytest.mark.row("J03", "J04")
@each_cell
def test_the_layer_is_its_step_repeated(name):
    """A run over the sequence equals single steps with the same parameters."""
    cell, params = built(name)
    final, outputs = jax.tree.map(np.asarray, nn.unroll(cell, params, X))
    carry, step = cell.initial_carry(params, X), jax.jit(cell.step)
    for t in range(X.shape[1]):
        carry, y = step(params, carry, X[:, t])
        chex.assert_trees_all_close(y, outputs[:, t], atol=1e-6)
    chex.assert_trees_all_close(carry, final, atol=1e-6)


@pytest.mark.parametrize("name", FUSED)
@both_ways
def test_fused_equals_scan_in_values_and_gradients(name, reverse):
    cell, params = built(name)
    for x, lengths in ((SHORT, None), (X, LENGTHS)):
        args = (params, x, a_carry(cell, len(x)), lengths)
        both = [
            gradients(name, implementation=implementation, reverse=reverse)(*args)
            for implementation in ("scan", "fused")
        ]
        chex.assert_trees_all_close(*both, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", FUSED)
def test_auto_chooses_fused_unless_an_argument_needs_the_scan(name):
    cell, params = built(name)

    def program(**options):
        f = lambda params: jax.grad(loss(cell, **options))(params, X, a_carry(cell))
        return re.sub("0x[0-9a-f]+", "", str(jax.make_jaxpr(f)(params)))

    fused, scan = program(implementation="fused"), program(implementation="scan")
    assert program() == fused != scan
    mask = np.ones((4, 3), np.float32)
    masked = program(recurrent_dropout_mask=mask)
    assert masked == program(recurrent_dropout_mask=mask, implementation="scan")


@pytest.mark.parametrize("implementation", ["scan", "fused"])
def test_a_learned_initial_carry_has_the_gradient_of_the_carry(implementation):
    cell, params = built("lstm learned carry")
    initial = jax.tree.map(np.asarray, cell.initial_carry(params, X))
    chex.assert_trees_all_equal(initial[1], np.tile(np.asarray(params["initial_c"]), (4, 1)))
    options = {"implementation": implementation}
    value, (own, _, carry) = gradients("lstm learned carry", **options)(params, X, initial)
    learned = jax.jit(jax.value_and_grad(lambda p: loss(cell, **options)(p, X, None)))(params)
    sums = {f"initial_{part}": np.sum(c, 0) for part, c in zip("hc", carry, strict=True)}
    chex.assert_trees_all_close(learned, (value, own | sums), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["elman", "lstm", "gru"])
def test_fused_equals_scan_in_forward_mode_and_second_derivatives(name):
    cell, params = built(name)
    args, lengths = (params, X[:2, :3], a_carry(cell, 2)), np.array([3, 2], np.int32)
    results = []
    for implementation in ("scan", "fused"):

        def f(params, x, carry, implementation=implementation):
            return loss(cell, implementation=implementation)(params, x, carry, lengths)

        @jax.jit
        def run(args, direction, f=f):
            slopes = jax.grad(f, (0, 1))
            size = lambda *args: sum(jnp.sum(jnp.sin(a)) for a in jax.tree.leaves(slopes(*args)))
            return {
                "forward": jax.jvp(f, args, direction),
                "forward over reverse": jax.jvp(slopes, args, direction),
                "reverse over reverse": jax.grad(size, (0, 1))(*args),
            }

        results.append([run(args, normal_like(args, seed)) for seed in range(3)])
    chex.assert_trees_all_close(*results, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    "name, reverse",
    [(name, False) for name in CELLS] + [(name, True) for name in ("lstm", "gru", "gru before")],
)
def test_padding_changes_neither_values_nor_gradients(name, reverse):
    """Rows with NaN in the padding equal the rows without padding, run separately."""
    cell, params = built(name)
    lengths, nonempty = np.array([3, 0, 3, 3], np.int32), np.array([0, 2, 3])
    pad = np.arange(X.shape[1])[:, None] >= lengths[:, None, None]
    carry = a_carry(cell)
    run = gradients(name, implementation="fused" if name in FUSED else "scan", reverse=reverse)
    to_numpy = functools.partial(jax.tree.map, np.asarray)
    value, grads = to_numpy(run(params, np.where(pad, np.float32(np.nan), X), carry, lengths))
    rows = lambda tree: jax.tree.map(lambda a: a[nonempty], tree)
    cut, own = to_numpy(run(params, SHORT, rows(carry)))
    outputs = (4 * 6 - 3 * 3) * 3 * np.sin(0.3)  # the outputs in the padding are 0
    carried = sum(np.sum(np.sin(c[1] + 0.3)) for c in jax.tree.leaves(carry))
    chex.assert_trees_all_close(value, np.float32(cut + outputs + carried), rtol=1e-5)
    chex.assert_trees_all_close(rows(grads[2]), own[2], atol=1e-5)
    chex.assert_trees_all_close(grads[1][nonempty, :3], own[1], atol=1e-5)
    assert not np.any(grads[1][1]) and not np.any(grads[1][:, 3:])
    if "learned" not in name:
        chex.assert_trees_all_close(grads[0], own[0], atol=1e-5)


@pytest.mark.parametrize("name", ["elman", "lstm", "gru", "gru before"])
def test_rows_without_steps_keep_the_carry_and_stay_finite(name):
    cell, params = built(name)
    x, carry = np.full_like(X, np.inf), a_carry(cell)
    none = np.zeros(4, np.int32)
    implementation = "fused" if name in FUSED else "scan"
    run = gradients(name, implementation=implementation, reverse=False)
    chex.assert_tree_all_finite(run(params, x, carry, none))
    after, y = nn.unroll(cell, params, x, lengths=none, carry=carry)
    chex.assert_trees_all_equal(after, carry)
    assert not np.any(y)
    after, y = nn.unroll(cell, params, X[:, :0], carry=carry)
    chex.assert_trees_all_equal(after, carry)
    assert y.shape == (4, 0, 3)


@pytest.mark.parametrize("name", ["lstm", "gru before"])
@both_ways
def test_a_sequence_in_two_parts_is_the_whole(name, reverse):
    cell, params = built(name)
    whole = nn.unroll(cell, params, X, reverse=reverse)
    for cut in (0, 4, 6):
        parts = [X[:, cut:], X[:, :cut]] if reverse else [X[:, :cut], X[:, cut:]]
        carry, outputs = None, []
        for part in parts:
            carry, y = nn.unroll(cell, params, part, carry=carry, reverse=reverse)
            outputs.append(y)
        joined = np.concatenate(outputs[::-1] if reverse else outputs, axis=1)
        chex.assert_trees_all_close((carry, joined), whole, atol=1e-6)


@pytest.mark.parametrize(
    "name, reverse, changes",
    [
        ("lstm", False, ({"remat": 1}, {"remat": 4}, {"remat": 9}, {"unroll": 4})),
        ("lstm", True, ({"remat": 1}, {"remat": 4}, {"remat": 9}, {"unroll": 4})),
        ("jordan", False, ({"remat": 4},)),
    ],
)
def test_unroll_and_remat_do_not_change_value_and_gradient(name, reverse, changes):
    cell, params = built(name)
    args = (params, X, a_carry(cell), LENGTHS)
    expected = gradients(name, implementation="scan", reverse=reverse)(*args)
    for options in changes:
        changed = gradients(name, reverse=reverse, **options)(*args)
        chex.assert_trees_all_close(changed, expected, atol=1e-5)


def test_remat_saves_memory():
    cell, params = built("lstm")
    x = np.ones((2, 256, 2), np.float32)
    sizes = {}
    for remat in (0, 16):
        f = lambda p, remat=remat: jnp.sum(
            nn.unroll(cell, p, x, implementation="scan", remat=remat)[1][:, -1]
        )
        analysis = jax.jit(jax.grad(f)).lower(params).compile().memory_analysis()
        sizes[remat] = analysis.temp_size_in_bytes
    limit = 0.7 if jax.default_backend() == "cpu" else 0.75  # 0.54 on a CPU, 0.71 on a GPU
    assert sizes[16] < limit * sizes[0]


def test_vmap_over_networks_and_over_carries():
    cell, _ = built("gru")
    trees = [filled(cell, X, seed=seed)[0] for seed in range(3)]
    carries = [normal(seed, 4, 3) for seed in range(3)]
    stack = lambda *a: np.stack(a)
    slope = lambda p, carry: jax.grad(lambda x: loss(cell)(p, x, carry))(jnp.asarray(X))
    mapped = jax.jit(jax.vmap(slope))(jax.tree.map(stack, *trees), stack(*carries))
    loop = [jax.jit(slope)(*args) for args in zip(trees, carries, strict=True)]
    chex.assert_trees_all_close(mapped, stack(*loop), atol=1e-6)


class TestRecurrent:
    def test_returns_all_last_or_the_carry(self):
        cell, params = built("lstm")
        carry, outputs = jax.tree.map(np.asarray, nn.unroll(cell, params, X, lengths=LENGTHS))
        run = lambda **options: nn.rnn(cell, **options).apply(params, {}, X, LENGTHS)[0]
        chex.assert_trees_all_close(run(), outputs)
        chex.assert_trees_all_close(run(returns="carry"), (outputs, carry))
        last = np.stack([outputs[n, max(length - 1, 0)] for n, length in enumerate(LENGTHS)])
        chex.assert_trees_all_close(run(returns="last"), last)
        assert not np.any(run(returns="last")[1])  # the row without steps
        backwards = run(returns="last", reverse=True)
        _, reverse = nn.unroll(cell, params, X, lengths=LENGTHS, reverse=True)
        chex.assert_trees_all_close(backwards, np.asarray(reverse)[:, 0])
        whole = nn.rnn(cell, returns="last").apply(params, {}, X)[0]
        chex.assert_trees_all_close(whole, np.asarray(cell.apply(params, {}, X)[0])[:, -1])

    @pytest.mark.parametrize("name", ["lstm", "gru"])
    def test_stateful_continues_from_the_last_call_and_stops_its_gradient(self, name):
        """Truncated BPTT: values of the whole sequence, gradient of the last call only."""
        cell, params = built(name)
        layer = nn.rnn(cell, stateful=True)
        _, state = filled(layer, X[:, :3])
        first, state = layer.apply(params, state, X[:, :3])
        second, _ = layer.apply(params, state, X[:, 3:])
        whole, _ = cell.apply(params, {}, X)
        chex.assert_trees_all_close(np.concatenate([first, second], 1), whole, atol=1e-6)

        def truncated(params):
            _, state = layer.apply(params, filled(layer, X)[1], X[:, :3])
            return jnp.sum(layer.apply(params, state, X[:, 3:])[0])

        carry = jax.tree.map(np.asarray, nn.unroll(cell, params, X[:, :3])[0])
        by_hand = lambda params: jnp.sum(nn.unroll(cell, params, X[:, 3:], carry=carry)[1])
        both = jax.jit(lambda p: (jax.grad(truncated)(p), jax.grad(by_hand)(p)))(params)
        chex.assert_trees_all_close(*both)

    def test_recurrent_dropout_draws_one_mask_for_all_steps(self):
        """h_t = x_t + m h_{t-1} with x_t = 1: m is 0 or 2 at all steps of a unit."""
        cell = nn.elman(50, activation=lambda a: a, use_bias=False)
        ones = functools.partial(np.ones, dtype=np.float32)
        params = {"kernel": ones((1, 50)), "recurrent_kernel": np.eye(50, dtype=np.float32)}
        layer = nn.rnn(cell, recurrent_dropout=0.5)
        x = ones((2, 4, 1))
        y, _ = layer.apply(params, {}, x, train=True, key=jax.random.key(3))
        y = np.asarray(y)
        sums = np.unique(y[:, -1])
        chex.assert_trees_all_close(sums, np.float32([1, 1 + 2 + 4 + 8]))
        assert not np.array_equal(y[0], y[1])
        chex.assert_trees_all_close(layer.apply(params, {}, x)[0], cell.apply(params, {}, x)[0])

    def test_bad_arguments(self):
        cell = nn.lstm(3)
        with pytest.raises(ValueError, match="expected a Cell"):
            nn.rnn(nn.dense(3))
        with pytest.raises(ValueError, match="stateful=True and reverse=True"):
            nn.rnn(nn.gru(3), stateful=True, reverse=True)
        with pytest.raises(ValueError, match="returns='first'"):
            nn.rnn(cell, returns="first")
        with pytest.raises(ValueError, match="recurrent_dropout=1.0"):
            nn.rnn(cell, recurrent_dropout=1.0)
        with pytest.raises(ValueError, match="did you mean 'fused'"):
            nn.rnn(cell, implementation="fusd")
        with pytest.raises(ValueError, match="'fused' supports neither remat"):
            nn.rnn(cell, implementation="fused", remat=2)
        with pytest.raises(ValueError, match="'fused' is not available for this cell"):
            nn.rnn(nn.coupled_lstm(3), implementation="fused")


def test_bad_sequences():
    cell, params = built("lstm")
    with pytest.raises(ValueError, match=r"lengths are float32\[4\], expected int32\[4\]"):
        nn.unroll(cell, params, X, lengths=np.ones(4, np.float32))
    with pytest.raises(ValueError, match=r"lengths are int32\[3\]"):
        nn.unroll(cell, params, X, lengths=np.ones(3, np.int32))
    with pytest.raises(ValueError, match=r"the carry is \['float32\[2, 3\]'.*expected h, c"):
        nn.unroll(cell, params, X, carry=(np.ones((2, 3), np.float32),) * 2)
    with pytest.raises(ValueError, match="the carry is.*bfloat16"):
        nn.unroll(cell, params, X, carry=(np.ones((4, 3), jnp.bfloat16),) * 2)
    with pytest.raises(ValueError, match="the kernel float32"):
        nn.unroll(cell, params, X[..., :1])
    with pytest.raises(ValueError, match="float32 and at least one step"):
        nn.unroll(cell, params, X[:, :0], implementation="cudnn")


@pytest.mark.parametrize("name", ["lstm", "gru", "elman"])
def test_parameters_of_another_width_raise(name):
    cell, params = built(name)
    wide = {"lstm": nn.lstm, "gru": nn.gru, "elman": nn.elman}[name](5)
    words = rf"{name}: got parameters of shapes .*expected .* for x of 2 features"
    with pytest.raises(ValueError, match=words):
        wide.apply(params, {}, X)
    with pytest.raises(ValueError, match=words):
        wide.step(params, wide.initial_carry(params, X[:, 0]), X[:, 0])
    with pytest.raises(ValueError, match="rnn: got bidirectional, expected a Cell"):
        nn.rnn(nn.bidirectional(cell), returns="last")
