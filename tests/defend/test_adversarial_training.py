"""Adversarial training: exact on linear models, and inside of `fit` as any other loss."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdl
from jaxdl import attack, data, defend, losses, nn, train

W = np.float32([1.0, -2.0, 0.5, 0.0])
X = np.random.default_rng(0).uniform(0.3, 0.7, (6, 4)).astype(np.float32)
Y = np.float32([0.2, -1.0, 1.5, 0.0, -2.0, 0.7])
DIGITS = data.digits()
SIZE = 0.15
SGD = optax.sgd(0.1)


class Recorder:
    """A linear model as `apply`, which records the inputs of its trained passes."""

    def __init__(self):
        self.trained = []

    def __call__(self, params, state, x, *, train=False, key=None):
        if train:
            self.trained.append(x)
        return x @ params, state + int(train)


@functools.cache
def mlp():
    return jaxdl.serial(nn.flatten(), nn.dense(64), jax.nn.relu, nn.dense(10))


def robust_accuracy(model, state):
    f, (x, y) = train.predictor(model, state), DIGITS.test
    moved = jax.jit(lambda x: attack.pgd(f, x, y, SIZE, steps=20))(x)
    return [float((np.argmax(jax.jit(f)(a), -1) == y).mean()) for a in (x, moved)]


@functools.cache
def trained(loss):
    state, history = train.fit(
        mlp(),
        DIGITS.train,
        loss=loss,
        optimizer=optax.adam(3e-3),
        batch_size=64,
        epochs=8,
        verbose=0,
    )
    return state, history


@pytest.mark.row("R05")
@pytest.mark.parametrize("norm, dual", [("linf", 1), ("l2", 2)])
def test_the_worst_case_of_a_linear_regression(norm, dual):
    options = {"norm": norm, "steps": 20, "step": 0.1, "bounds": None}
    loss = defend.adversarial_loss(0.1, loss=losses.half_squared_error, **options)
    apply = Recorder()
    output, values, state = loss.compute(apply, W, 0, X, Y, jax.random.key(0))
    # The largest error of w x within the ball is |w x - y| + epsilon ||w||_q, of the dual norm.
    worst = np.abs(X @ W - Y) + 0.1 * np.linalg.norm(W, dual)
    np.testing.assert_allclose(values, worst**2 / 2, rtol=1e-4)
    np.testing.assert_allclose(output, apply.trained[0] @ W, rtol=1e-6)
    assert state == 1 and len(apply.trained) == 1


@pytest.mark.parametrize("epsilon", [0.0, 0.05, 0.4])
def test_one_step_goes_uphill_within_the_box_and_the_bounds(epsilon):
    loss = defend.fast_adversarial_loss(epsilon, bounds=(0.0, 1.0), loss="half_squared_error")

    def move(key):
        apply = Recorder()
        loss.compute(apply, W, 0, X, Y, key)
        return apply.trained[0]

    moved = np.asarray(jax.jit(jax.vmap(move))(jax.random.split(jax.random.key(0), 50)))
    assert np.abs(moved - X).max() <= epsilon + 1e-6 and 0 <= moved.min() <= moved.max() <= 1
    # From the far end of the box, a step of 1.25 epsilon goes a quarter of epsilon past its centre.
    error = X @ W - Y
    uphill = np.sign(error[:, None] * W)
    # The sign of a large error is the same in all of the box.
    used = (uphill != 0) & (np.abs(error)[:, None] > 0.4 * np.abs(W).sum())
    assert used.any() and ((moved - X) * uphill >= 0.25 * epsilon - 1e-6)[:, used].all()
    assert epsilon == 0 or np.ptp(moved[:, used], 0).max() > 0.1 * epsilon  # random starts


@pytest.mark.parametrize("make", [defend.adversarial_loss, defend.trades_loss])
def test_an_attack_of_size_0_changes_no_step_and_no_batch_statistics(make):
    model = jaxdl.serial(nn.dense(5), nn.batch_norm(momentum=0.9), jax.nn.relu, nn.dense(3))
    labels, optimizer = np.arange(6) % 3, SGD
    state = train.init_state(model, optimizer, jax.random.key(0), X)
    plain, _ = jax.jit(train.make_train_step(model, "cross_entropy", optimizer))(state, (X, labels))
    loss = make(0.0, bounds=(0, 1), steps=2)
    new, metrics = jax.jit(train.make_train_step(model, loss, optimizer, metrics=None))(
        state, (X, labels)
    )
    chex.assert_trees_all_close(new.params, plain.params, rtol=1e-5, atol=1e-6)
    assert set(metrics) == {"loss", "accuracy"}
    if make is defend.adversarial_loss:
        chex.assert_trees_all_close(new.model_state, plain.model_state, rtol=1e-6)
    else:  # two passes over the same batch: r <- 0.9 (0.9 r + 0.1 s) + 0.1 s
        twice = jax.tree.map(
            lambda a, b: 0.9 * b + (b - 0.9 * a), state.model_state, plain.model_state
        )
        chex.assert_trees_all_close(new.model_state, twice, rtol=1e-5, atol=1e-6)


def test_the_running_statistics_are_those_of_the_changed_batch():
    model = jaxdl.serial(nn.batch_norm(momentum=0.0), nn.dense(3))
    labels = np.arange(6) % 3
    params, state = jaxdl.init(model, jax.random.key(0), X)
    passes = []

    def apply(params, state, x, *, train=False, key=None):
        output, new = model.apply(params, state, x, train=train, key=key)
        if train:
            passes.append(x)
        return output, new

    loss = defend.adversarial_loss(0.2, bounds=(0, 1), steps=3)
    _, _, new = loss.compute(apply, params, state, X, labels, jax.random.key(1))
    (moved,) = passes
    np.testing.assert_allclose(new["batch_norm_0"]["mean"], np.mean(moved, 0), rtol=1e-5)
    assert np.abs(np.mean(moved, 0) - X.mean(0)).max() > 0.01


@pytest.mark.row("R05")
@pytest.mark.parametrize(
    "loss, gain",
    [
        (defend.adversarial_loss(SIZE, bounds=(0, 1), steps=5), 0.2),
        (defend.fast_adversarial_loss(SIZE, bounds=(0, 1)), 0.2),
        (defend.trades_loss(SIZE, bounds=(0, 1), steps=5), 0.2),
        (defend.gradient_penalty_loss(0.3), 0.1),
    ],
    ids=["PGD", "fast", "TRADES", "gradient penalty"],
)
def test_training_within_fit_makes_a_network_robust(loss, gain):
    clean, before = robust_accuracy(mlp(), trained("cross_entropy")[0])
    state, history = trained(loss)
    defended, after = robust_accuracy(mlp(), state)
    assert clean > 0.9 and defended > 0.85 and after > before + gain
    assert history["accuracy"][-1] > 0.5


def test_ignored_labels_and_two_inputs():
    def forward(call, x, ids):
        return call("logits", x + jax.nn.one_hot(ids, 4))

    model = jaxdl.compose("pair", {"logits": nn.dense(3)}, forward)
    labels = np.array([0, 1, 2, -100, 0, 1])
    pairs = data.add_weights((X, np.arange(6) % 4), labels, ignore_index=-100)
    for loss in (defend.fast_adversarial_loss(0.1, bounds=(0, 1)), defend.gradient_penalty_loss(1)):
        state, history = train.fit(
            model,
            pairs,
            loss=loss,
            optimizer=SGD,
            batch_size=3,
            eval_data=pairs,
            verbose=0,
        )
        assert np.isfinite(history["loss"]).all() and np.isfinite(history["eval_loss"]).all()
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.params))


def test_inputs_out_of_bounds_stop_the_run():
    loss = defend.fast_adversarial_loss(0.1, bounds=(0.0, 0.5))
    with pytest.raises(train.NonFiniteError):
        train.fit(
            jaxdl.serial(nn.dense(3)),
            (X, np.arange(6) % 3),
            loss=loss,
            optimizer=SGD,
            verbose=0,
        )


def test_a_checkpoint_is_of_one_attack(tmp_path):
    def run(epsilon):
        return train.fit(
            jaxdl.serial(nn.dense(3)),
            (X, np.arange(6) % 3),
            loss=defend.fast_adversarial_loss(epsilon, bounds=(0, 1)),
            optimizer=SGD,
            checkpoint=tmp_path,
            verbose=0,
        )

    run(0.1)
    run(0.1)
    with pytest.raises(ValueError, match="loss was .*epsilon=0.1.*, is .*epsilon=0.2"):
        run(0.2)


def test_a_model_loss_is_equal_by_value_and_has_the_task_of_its_loss():
    make = functools.partial(defend.adversarial_loss, bounds=(0, 1))
    assert make(0.1) == make(0.1) and hash(make(0.1)) == hash(make(0.1)) and make(0.1) != make(0.2)
    assert losses.task(make(0.1)) == "multiclass"
    assert losses.task(make(0.1, loss="binary_cross_entropy")) == "binary"
    logits, labels = jnp.eye(3), jnp.arange(3)
    chex.assert_trees_all_equal(make(0.1)(logits, labels), losses.cross_entropy(logits, labels))


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: defend.adversarial_loss(-0.1, bounds=None), "epsilon is -0.1; expected a number"),
        (lambda: defend.adversarial_loss("a", bounds=None), "epsilon is 'a'"),
        (lambda: defend.adversarial_loss(0.1, bounds=None, steps=0), "steps is 0; expected"),
        (lambda: defend.adversarial_loss(0.1, bounds=(1, 0)), "the smaller one first"),
        (lambda: defend.fast_adversarial_loss(0.1, bounds=None, step=-1), "step is -1"),
        (lambda: defend.trades_loss(0.1, bounds=None, beta=-1.0), "beta is -1.0"),
        (lambda: defend.trades_loss(0.1, bounds=None, norm="l3"), "norm is 'l3'"),
        (lambda: defend.trades_loss(0.1, bounds=(0, np.ones(3))), "make the normalization a layer"),
        (lambda: defend.adversarial_loss(0.1, bounds=None, loss="crossentropy"), "no loss"),
        (lambda: defend.gradient_penalty_loss(-1), "strength is -1; expected a number >= 0"),
    ],
)
def test_bad_options(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_trades_needs_classes():
    loss = defend.trades_loss(0.1, bounds=None, loss="half_squared_error")
    with pytest.raises(ValueError, match="expected logits"):
        loss.compute(Recorder(), W, 0, X, Y, jax.random.key(0))
