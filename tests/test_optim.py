import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxdl import nn, optim, train

PARAMS = {
    "kernel": np.array([[1, -2], [0.5, 3]], np.float32),
    "bias": np.array([0.1, 0], np.float32),
}


def gradients(step):
    rng = np.random.default_rng(step)
    return jax.tree.map(lambda w: rng.normal(size=w.shape).astype(np.float32), PARAMS)


def trajectory(transformation, params, gradients):
    """Every parameter tree from the start on, under a sequence of gradients."""
    state, path = transformation.init(params), [params]
    for gradient in gradients:
        updates, state = transformation.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
        path.append(params)
    return path


def run(transformation, params, gradients):
    """As `trajectory`, compiled."""
    return jax.jit(lambda p, g: trajectory(transformation, p, g))(params, gradients)


@pytest.mark.row("D03", "D11")
def test_sgd_is_the_hand_update_and_optax_bit_for_bit(variant):
    eta, g = 0.1, [gradients(step) for step in range(5)]
    by_hand = [PARAMS]
    for gradient in g:
        by_hand.append(jax.tree.map(lambda w, d: w - np.float32(eta) * d, by_hand[-1], gradient))
    ours = trajectory(optim.sgd(eta), PARAMS, g)
    chex.assert_trees_all_equal(ours, by_hand)
    chex.assert_trees_all_equal(ours, trajectory(optax.sgd(eta), PARAMS, g))
    repeated = variant(lambda g: trajectory(optim.sgd(eta), PARAMS, g))
    chex.assert_trees_all_close(repeated(g), by_hand, rtol=1e-6)


@pytest.mark.row("D11")
def test_a_step_of_the_decks_network_at_eta_1():
    """w' = w - delta with the deck's delta of w5 .. w8 (rows D11, S05)."""
    w = np.array([0.10, -0.50, -0.30, 0.80], np.float32)
    delta = [0.03463298928683772, 0.08386609953820857, 0.030494578556568334, 0.07384466121071578]
    (_, new) = trajectory(optim.sgd(1.0), w, [np.float32(delta)])
    expected = [0.06536701071316228, -0.5838660995382086, -0.33049457855656833, 0.7261553387892843]
    np.testing.assert_allclose(new, expected, rtol=1e-6)


@pytest.mark.row("D07")
def test_momentum_is_the_hand_update_and_optax_with_another_scale():
    """v = lambda v - eta g is -eta times optax's trace, at a constant rate."""
    eta, decay, g = 0.1, 0.9, [gradients(step) for step in range(5)]
    w, v = PARAMS, jax.tree.map(np.zeros_like, PARAMS)
    by_hand = [w]
    for gradient in g:
        v = jax.tree.map(lambda v, d: np.float32(decay) * v - np.float32(eta) * d, v, gradient)
        w = jax.tree.map(np.add, w, v)
        by_hand.append(w)
    ours, twin = optim.momentum(eta, decay), optax.sgd(eta, momentum=decay)
    chex.assert_trees_all_close(run(ours, PARAMS, g), by_hand, rtol=1e-6, atol=1e-7)
    chex.assert_trees_all_close(run(twin, PARAMS, g), by_hand, rtol=1e-5, atol=1e-6)
    _, state = optim.momentum(eta, decay).update(g[0], optim.momentum(eta).init(PARAMS))
    _, (trace, _) = optax.sgd(eta, momentum=decay).update(
        g[0], optax.sgd(eta, momentum=decay).init(PARAMS)
    )
    scaled = jax.tree.map(lambda t: np.float32(-eta) * np.asarray(t), trace.trace)
    chex.assert_trees_all_close(state.velocity, scaled, rtol=1e-6)


@pytest.mark.row("D07")
def test_when_the_rate_falls_the_lectures_velocity_keeps_the_old_one():
    schedule = lambda count: jnp.where(count < 1, 1.0, 0.1)
    w, g = np.zeros(1, np.float32), [np.ones(1, np.float32)] * 2
    ours = optax.inject_hyperparams(optim.momentum)(learning_rate=schedule, decay=0.5)
    assert run(ours, w, g)[-1] == pytest.approx(-1 - (0.5 * 1 + 0.1))
    twin = optax.sgd(schedule, momentum=0.5)
    assert run(twin, w, g)[-1] == pytest.approx(-1 - 0.1 * (0.5 * 1 + 1))


@pytest.mark.row("D07")
def test_momentum_crosses_a_plateau_and_a_bump_where_descent_stops():
    """A slope, a small hollow, a plateau, the valley: hope, and no guarantee."""

    def surface(w):
        return -jnp.exp(-((w - 3) ** 2)) * 2 - 0.3 * jnp.exp(-8 * w**2) + 0.02 * (w - 3) ** 2

    def descend(transformation):
        def step(carry, _):
            w, state = carry
            updates, state = transformation.update(jax.grad(surface)(w), state)
            return (optax.apply_updates(w, updates), state), None

        @jax.jit
        def end(w):
            return jax.lax.scan(step, (w, transformation.init(w)), length=1000)[0][0]

        return float(end(np.float32(-2)))

    assert abs(descend(optim.sgd(0.02)) - 0) < 0.3  # rests in the hollow
    assert abs(descend(optim.momentum(0.02, 0.95)) - 3) < 0.1


@pytest.mark.row("D06", "S22")
def test_adagrad_by_the_decks_numbers():
    """No epsilon, accumulator from 0; optax.adagrad's defaults are 1e-7 and 0.1."""
    with jax.enable_x64(True):
        w, g = np.float64(1.0), [np.float64(a) for a in (0.1, 0.2, 0.3)]
        expected = [1.0, 0.9, 0.8105572809000084, 0.7303789083262812]
        ours = trajectory(optim.adagrad(0.1), w, g)
        np.testing.assert_allclose(ours, expected, rtol=1e-15)
        twin = optax.adagrad(0.1, initial_accumulator_value=0.0, eps=0.0)
        np.testing.assert_allclose(run(twin, w, g), expected, rtol=1e-15)
        assert abs(run(optax.adagrad(0.1), w, g)[-1] - expected[-1]) > 0.05


adagrad = jax.jit(lambda w, g: trajectory(optim.adagrad(0.1), w, g))


@pytest.mark.row("D06")
@given(st.floats(1e-3, 1e3))
def test_adagrads_first_step_is_eta_whatever_the_slope(slope):
    _, w = adagrad(np.float32(1), [np.float32(slope)])
    assert w == pytest.approx(0.9)


@pytest.mark.row("D06")
def test_a_zero_gradient_moves_nothing_and_leaves_no_nan():
    g = [np.float32(row) for row in ([0, 0.1], [0, 0], [-3, 0])]
    path = adagrad(np.ones(2, np.float32), g)
    np.testing.assert_allclose(path, [[1, 1], [1, 0.9], [1, 0.9], [1.1, 0.9]], rtol=1e-6)


@pytest.mark.row("E05", "S22")
def test_the_decay_after_the_step_and_its_two_twins():
    w, g = np.float32(1), [np.float32(0.5)]
    deck = optax.chain(optim.sgd(0.1), optim.decay_after_step(0.01))
    assert trajectory(deck, w, g)[-1] == pytest.approx(0.9405)
    l2 = optax.chain(optax.add_decayed_weights(0.01), optax.sgd(0.1))
    beside = optax.chain(optax.add_decayed_weights(0.01), optax.scale_by_learning_rate(0.1))
    for twin in (l2, beside):
        assert trajectory(twin, w, g)[-1] == pytest.approx(0.949)


@pytest.mark.row("E05")
def test_useless_weights_go_to_0_and_useful_ones_do_not():
    useful = np.float32([1, 0])  # the loss 1/2 (w_0 - 2)^2 does not know the second weight
    tx = optax.chain(optim.sgd(0.1), optim.decay_after_step(0.01))

    def step(carry, _):
        w, state = carry
        updates, state = tx.update(useful * (w - 2), state, w)
        return (optax.apply_updates(w, updates), state), None

    run = jax.jit(lambda w: jax.lax.scan(step, (w, tx.init(w)), length=600)[0][0])
    w = np.asarray(run(np.float32([0, 2])))
    assert w[1] == pytest.approx(2 * 0.99**600, rel=1e-3)
    assert w[0] == pytest.approx(0.99 * 0.2 / (1 - 0.99 * 0.9), rel=1e-4)  # the fixed point


@jax.jit
def fifty_steps(curvature, rate):
    tx = optim.sgd(rate)

    def step(w, _):
        updates, _ = tx.update(curvature * w, optax.EmptyState())
        return optax.apply_updates(w, updates), None

    return jax.lax.scan(step, jnp.float32(1), length=50)[0]


@pytest.mark.row("D05")
@given(st.floats(0.1, 10), st.sampled_from([0.5, 0.99, 1.01, 1.5]))
def test_a_quadratic_converges_below_2_over_lambda_and_diverges_above(curvature, share):
    """w <- (1 - eta lambda) w, so |w| shrinks exactly when eta < 2 / lambda."""
    w = fifty_steps(np.float32(curvature), np.float32(share * 2 / curvature))
    assert (abs(w) < 1) == (share < 1)
    assert abs(w) == pytest.approx(abs(1 - 2 * share) ** 50, rel=1e-3)


@pytest.mark.parametrize("name", ["adagrad", "momentum", "sgd"])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_parameters_keep_their_dtype_and_compile_once(name, dtype):
    tx = optim.optimizer(name)
    params = jax.tree.map(lambda w: jnp.asarray(w, dtype), PARAMS)
    state = tx.init(params)
    chex.clear_trace_counter()

    @jax.jit
    @chex.assert_max_traces(n=1)
    def step(params, state):
        updates, state = tx.update(params, state, params)
        return optax.apply_updates(params, updates), state

    for _ in range(2):
        params, state = step(params, state)
    assert all(leaf.dtype == dtype for leaf in jax.tree.leaves(params))
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(params))


def test_small_gradients_of_half_precision_are_squared_in_float32():
    """1e-4 squared is 0 in float16: the accumulator would not see it."""
    g = [np.full(1, 1e-4, np.float16)]
    assert adagrad(np.ones(1, np.float16), g)[-1] == pytest.approx(0.9, rel=1e-3)


def test_rates_may_be_traced_for_many_runs_at_once():
    g = [gradients(0), gradients(1)]
    for factory in (optim.sgd, optim.momentum, optim.adagrad):
        final = lambda rate, factory=factory: trajectory(factory(rate), PARAMS, g)[-1]
        many = jax.jit(jax.vmap(final))(np.float32([0.1, 0.01]))
        second = jax.tree.map(lambda leaf: np.asarray(leaf)[1], many)
        alone = jax.jit(lambda final=final: final(0.01))()
        chex.assert_trees_all_close(second, alone, rtol=1e-5, atol=1e-6)


@pytest.mark.row("V02")
def test_optimizers_by_name_and_by_transformation():
    tx = optim.optimizer("sgd", learning_rate=0.1)
    g = gradients(0)
    chex.assert_trees_all_equal(
        trajectory(tx, PARAMS, [g]), trajectory(optim.sgd(0.1), PARAMS, [g])
    )
    with jax.numpy_dtype_promotion("standard"):  # optax's adam mixes its counter with floats
        adam = trajectory(optim.optimizer("adam"), PARAMS, [g])
        chex.assert_trees_all_equal(adam, trajectory(optax.adam(0.001), PARAMS, [g]))
    own = optax.lion(1e-3)
    assert optim.optimizer(own) is own
    with pytest.raises(ValueError, match=r"no optimizer 'adagrd'; did you mean 'adagrad'\?"):
        optim.optimizer("adagrd")
    with pytest.raises(ValueError, match="learning_rate passed with a transformation"):
        optim.optimizer(own, learning_rate=0.1)


WRONG = {
    "a rate": (0.1, r"is 0.1, a number; .*optax.adam\(0.1\)"),
    "a rate on the device": (np.float32(0.5), "is 0.5, a number"),
    "a factory": (optax.sgd, "is the function sgd; .*call the factory"),
    "a class": (optax.MultiSteps, "is the function MultiSteps"),
    "a schedule": (optax.cosine_decay_schedule(0.1, 9), r"optax.adam\(schedule\)"),
    "a pair of functions": ((optax.sgd(1).init, optax.sgd(1).update), "a tuple of 2; .*chain"),
    "a list": ([optax.clip(1.0), optax.sgd(1)], "a list of 2; expected one transformation"),
    "another library's": (object(), "of the type builtins.object; .*or a name: adabelief"),
    "a name of Keras": ("Adam", "no optimizer 'Adam'; did you mean 'adam'"),
    "no name": ("gd", "no optimizer 'gd'; did you mean 'sgd'"),
}


@pytest.mark.parametrize("spec, words", WRONG.values(), ids=WRONG)
def test_what_is_no_optimizer(spec, words):
    with pytest.raises(ValueError, match=words):
        optim.optimizer(spec)


def test_names_are_factories_of_a_rate():
    for name in optim.OPTIMIZERS:
        jax.eval_shape(optim.optimizer(name, learning_rate=0.5).init, PARAMS)
        jax.eval_shape(optim.optimizer(name).init, PARAMS)


# In `fit`: a dense layer on 64 rows, whose loss has closed forms.

X = np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32)
Y = X @ np.float32([[1.0], [-2.0], [0.5]]) + 0.3 + np.sin(9 * X[:, :1])
LINE = nn.dense(1)
START = np.float32([0.5, -0.5, 1.0, 0.0])


def fit_line(optimizer, batch_size=64, **options):
    """The weights, then the bias, from `START`."""
    optimizer = optim.optimizer(optimizer)
    params = {"kernel": START[:3, None], "bias": START[3:]}
    state = train.init_state(LINE, optimizer, jax.random.key(0), X)
    state = state.replace(params=params, opt_state=optim.init_state(optimizer, params))
    options = {"loss": "mse", "batch_size": batch_size, "verbose": 0, "state": state} | options
    state, _ = train.fit(LINE, (X, Y), optimizer=optimizer, **options)
    return np.append(np.asarray(state.params["kernel"])[:, 0], state.params["bias"])


DESIGN = np.hstack([X, np.ones((64, 1))]).astype(np.float64)


def slope(w):
    return 2 / 64 * DESIGN.T @ (DESIGN @ w - Y[:, 0])


def test_accumulated_gradients_make_one_large_batch():
    four = optax.MultiSteps(optax.sgd(0.1), 4)
    np.testing.assert_allclose(fit_line(four, 16), START - 0.1 * slope(START), rtol=1e-5)
    assert optim.optimizer(four) == optim.optimizer(four)  # one program


def test_a_line_search_reaches_the_least_squares():
    optimum = np.linalg.lstsq(DESIGN, Y[:, 0], rcond=None)[0]
    np.testing.assert_allclose(fit_line(optax.lbfgs(), epochs=12), optimum, atol=1e-4)


@pytest.mark.parametrize("clip", [False, True], ids=["alone", "in a chain"])
def test_sharpness_aware_minimization_steps_by_the_gradient_uphill(clip):
    uphill = optax.chain(optax.contrib.normalize(), optax.sgd(0.05))
    tx = optax.contrib.sam(optax.sgd(0.1), uphill, opaque_mode=True)
    tx = optax.chain(optax.clip(100.0), tx) if clip else tx
    g = slope(START)
    expected = START - 0.1 * slope(START + 0.05 * g / np.linalg.norm(g))
    np.testing.assert_allclose(fit_line(tx), expected, rtol=1e-5)


def test_a_plateau_is_of_the_training_loss():
    """Without improvement after the first step: the rate halves once in every two further steps."""
    tx = optax.chain(optax.sgd(0.0), optax.contrib.reduce_on_plateau(factor=0.5, patience=2))
    optimizer = optax.chain(tx)
    state, _ = train.fit(
        LINE, (X, Y), loss="mse", optimizer=optimizer, batch_size=64, epochs=5, verbose=0
    )
    assert optax.tree.get(state.opt_state, "scale") == 0.25


def test_schedules_and_masks_train_under_strict_promotion():
    kernels = lambda params: jax.tree.map(lambda w: w.ndim > 1, params)
    parts = lambda params: {"kernel": "rate", "bias": "still"}
    rate = optax.inject_hyperparams(optax.sgd)(learning_rate=lambda n: 0.1 / (1 + n))
    tx = optax.chain(
        optax.add_decayed_weights(0.01, mask=kernels),
        optax.multi_transform({"rate": rate, "still": optax.set_to_zero()}, parts),
    )
    with jax.numpy_dtype_promotion("strict"):
        ours = fit_line(optax.apply_if_finite(tx, 2), epochs=2)
    w = START.astype(np.float64)
    for n in (0, 1):
        decay = 0.01 * w * [1, 1, 1, 0]
        w = w - 0.1 / (1 + n) * (slope(w) + decay) * [1, 1, 1, 0]
    np.testing.assert_allclose(ours, w, rtol=1e-5)


def test_an_optimizer_that_does_not_fit_the_parameters_says_so():
    parts = {"a": optax.sgd(0.1)}
    with pytest.raises(ValueError, match="^optimizer: its init raises"):
        fit = lambda tx: train.fit(LINE, (X, Y), loss="mse", optimizer=tx, verbose=0)
        fit(optax.multi_transform(parts, {"kernel": "a", "other": "a"}))
    with pytest.raises(ValueError, match="^optimizer: its update raises .*as optax documents"):
        fit(optax.lookahead(optax.sgd(0.1), 5, 0.5))


def test_bad_settings():
    for factory in (optim.sgd, optim.momentum, optim.adagrad):
        for rate in (0, -0.1, float("nan"), float("inf")):
            with pytest.raises(ValueError, match=f"{factory.__name__}: learning_rate is"):
                factory(rate)
        with pytest.raises(ValueError, match=f"inject_hyperparams.{factory.__name__}"):
            factory(optax.constant_schedule(0.1))
    with pytest.raises(ValueError, match="momentum: decay is 1"):
        optim.momentum(0.1, 1)
    with pytest.raises(ValueError, match="decay_after_step: rate is 1.5"):
        optim.decay_after_step(1.5)
    tx = optim.decay_after_step()
    with pytest.raises(ValueError, match="decay_after_step: no parameters"):
        tx.update(PARAMS, tx.init(PARAMS))
