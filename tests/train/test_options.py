"""Evaluation by steps, batches, augmentation of pairs, averaged weights, frozen parts."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdl
from jaxdl import data, losses, metrics, nn, optim, serial, train
from tests.train import toy

MODEL, NOISY, SGD = toy.mlp(), toy.noisy(), optax.sgd(0.1)
X, Y = toy.data()
HALF = X[:20], Y[:20]
options = {"loss": "cross_entropy", "optimizer": SGD, "batch_size": 16, "verbose": 0}
fit = functools.partial(train.fit, MODEL, **options)


def test_several_sets_after_a_number_of_steps(tmp_path):
    """4 steps an epoch, an evaluation after every 3; a run resumed in between has the same."""
    sets = {"val": HALF, "all": (X, Y)}
    every = train.Evaluation(sets, every=3)
    run = functools.partial(fit, (X, Y), eval_data=every, metrics=["accuracy", "auc"])
    state, history = run(epochs=3)
    assert history["eval_step"] == [3, 6, 9, 12] and len(history["loss"]) == 3
    assert history["val_accuracy"][-1] == train.evaluate(MODEL, state, HALF)["accuracy"]
    third = fit((X, Y), epochs=train.Steps(3))[0]
    scores = train.evaluate(MODEL, third, (X, Y), metrics=["auc"], loss="cross_entropy")
    assert history["all_auc"][0] == pytest.approx(scores["auc"])
    assert history["all_loss"][0] == pytest.approx(scores["loss"], rel=1e-6)
    checkpoints = train.Checkpointer(tmp_path, every=2)
    with pytest.raises(ZeroDivisionError):
        run(epochs=3, checkpoint=checkpoints, callbacks=[Failing(9)])
    again, resumed = run(epochs=3, checkpoint=checkpoints, callbacks=[Failing(99)])
    chex.assert_trees_all_equal(toy.plain(again), toy.plain(state))
    for name in set(history) - {"seconds", "compile_seconds", "eval_seconds"}:
        assert resumed[name] == history[name], name  # the AUC of an epoch that was cut, too


class Failing(train.Callback):
    """Fails at the evaluation of a step, after an odd number of steps of the epoch."""

    def __init__(self, step):
        self.step = step

    def on_eval_end(self, context):
        if int(context.state.step) == self.step:
            raise ZeroDivisionError


def test_early_stopping_counts_evaluations():
    stop = train.EarlyStopping("eval_loss", patience=2, min_delta=100)
    evaluation = train.Evaluation((X, Y), every=1)
    state, history = fit((X, Y), epochs=5, eval_data=evaluation, callbacks=[stop])
    assert history["eval_step"] == [1, 2, 3] and stop.best == history["eval_loss"][0]
    chex.assert_trees_all_equal(state.params, fit((X, Y), epochs=train.Steps(1))[0].params)


@pytest.mark.parametrize("name, larger", [
    ("eval_acc", True), ("val_f1", True), ("eval_auc", True), ("eval_top5", True), ("r2", True),
    ("mean_iou", True), ("recall_at_10", True), ("eval_loss", False), ("eval_rmse", False),
    ("eval_ece", False), ("brier", False), ("test_perplexity", False),
])  # fmt: skip
def test_the_direction_of_a_name(name, larger):
    context = train.Context(MODEL, fit((X, Y), epochs=train.Steps(1))[0], {name: (0.5,)}, 1, 4)
    stop = train.EarlyStopping(name, restore_best=False)
    stop.on_fit_begin(context)
    for epoch, value in enumerate((0.5, 0.25, 0.75), 1):
        history = {name: (*context.history[name], value)}
        context = train.Context(MODEL, context.state, history, epoch, 4)
        stop.on_epoch_end(context)
    assert stop.best == (0.75 if larger else 0.25)


def test_a_direction_that_is_not_known():
    for name in ("eval_quality", "loss_accuracy"):
        with pytest.raises(ValueError, match=f"{name}.*pass mode='max' if larger is better"):
            train.EarlyStopping(name)


def test_batches_are_dropped_and_kept_in_order():
    seen = []
    net = jaxdl.Module(
        lambda key, x: ({"w": jnp.ones(())}, {}),
        lambda params, state, x, **_: (
            jax.debug.callback(seen.append, x) or x * params["w"],
            state,
        ),
    )
    rows = np.arange(10, dtype=np.float32)[:, None]
    cut = train.Batches(4, drop_last=True, shuffle=False)
    run = functools.partial(train.fit, net, (rows, rows), **(options | {"loss": "mse"}))
    state, history = run(batch_size=cut, epochs=2, execution=train.Execution(steps_per_call=1))
    batches = [np.asarray(x).ravel().tolist() for x in seen if x.shape == (4, 1)]
    assert batches == [[0, 1, 2, 3], [4, 5, 6, 7]] * 2 and int(state.step) == 4
    seen.clear()
    run(
        batch_size=train.Batches(4, drop_last=True),
        epochs=2,
        execution=train.Execution(steps_per_call=1),
    )
    orders = [data.permutation(10, seed=0, epoch=epoch)[:8] for epoch in (0, 1)]
    assert np.array_equal(np.ravel(seen), np.ravel(orders))
    with pytest.raises(ValueError, match="batch_size is 11 and the data have 10 rows"):
        run(batch_size=train.Batches(11))
    with pytest.raises(ValueError, match="Batches: size is 0"):
        train.Batches(0)
    stream = data.from_iterable([(rows, rows)])
    with pytest.raises(ValueError, match="data is a BatchStream, which makes its own batches"):
        train.fit(net, stream, **(options | {"loss": "mse", "batch_size": cut}))


def test_a_short_data_set_is_one_batch():
    assert int(train.fit(MODEL, HALF, loss="cross_entropy", optimizer=SGD, verbose=0)[0].step) == 1


def test_augmentation_of_inputs_and_targets():
    """Labels that are rotated with the inputs: the run equals one on rotated data."""
    classes = jax.nn.one_hot(Y, 3)
    rotate = lambda key, x, y: (-x, jnp.roll(y, 1, axis=-1))
    state, _ = fit(train.AugmentedData((X, np.asarray(classes)), rotate))
    expected, _ = fit((-X, np.asarray(jnp.roll(classes, 1, axis=-1))))
    chex.assert_trees_all_equal(state.params, expected.params)
    with_default = lambda key, x, size=-1: size * x
    state, _ = fit(train.AugmentedData((X, Y), with_default))
    chex.assert_trees_all_equal(state.params, fit((-X, Y))[0].params)
    with pytest.raises(
        ValueError, match=r"augment\(key, x, y\) returns .*expected the tuple \(x, y\)"
    ):
        fit(train.AugmentedData((X, Y), lambda key, x, y: x))


def test_the_loss_is_checked_with_the_targets_of_the_augmentation():
    """A loss of rows of probabilities, with labels that the augmentation converts to rows."""
    rows = lambda key, x, y: (x, jax.nn.one_hot(y, 3))
    options = {"loss": optax.losses.softmax_cross_entropy}
    state, _ = fit(train.AugmentedData((X, Y), rows), **options)
    chex.assert_trees_all_close(state.params, fit((X, Y))[0].params, rtol=1e-5)
    with pytest.raises(ValueError, match=r"does not take the output .* with y float32\[\d+, 4\]"):
        fit(train.AugmentedData((X, Y), lambda key, x, y: (x, jax.nn.one_hot(y, 4))), **options)


def test_the_loss_is_checked_with_the_inputs_of_the_augmentation():
    """Images and masks that are cropped alike, for a model that labels pixels."""
    images, masks = np.zeros((4, 6, 6, 1), np.float32), np.zeros((4, 6, 6), np.int32)
    crop = lambda key, x, y: (x[:, :3, :3], y[:, :3, :3])
    model = jaxdl.serial(nn.dense(2))
    train.fit(
        model,
        train.AugmentedData((images, masks), crop),
        loss="cross_entropy",
        optimizer=SGD,
        verbose=0,
    )


def test_mixup_and_cutmix_keep_the_mass_of_the_targets():
    images = jnp.stack([jnp.full((8, 6, 1), i) for i in range(10)]).astype(jnp.float32)
    labels = jnp.arange(10) % 3
    for mix in (data.augment.mixup, data.augment.cutmix):
        x, y, _ = jax.jit(functools.partial(mix, num_classes=10, alpha=1.0))(
            jax.random.key(3), images, jnp.arange(10)
        )
        np.testing.assert_allclose(y.sum(1), 1, rtol=1e-6)
        # The share of each source in the image is its share in the target.
        np.testing.assert_allclose(x.mean((1, 2, 3)), y @ jnp.arange(10.0), rtol=1e-5)
        assert ((y > 0.01).sum(1) <= 2).all() and (y < 0.99).any()
        rows, *_ = mix(jax.random.key(0), images, jax.nn.one_hot(labels, 3))
        assert rows.shape == images.shape
        with pytest.raises(ValueError, match="expected the number of classes"):
            mix(jax.random.key(0), images, labels)
    with pytest.raises(ValueError, match="alpha is 0"):
        data.augment.mixup(jax.random.key(0), images, labels, num_classes=3, alpha=0)


def test_mixing_leaves_out_what_has_no_weight():
    """Labels of weight 0 are wrong here, and reach no target; the weights are the shares."""
    weight = jnp.arange(10.0) % 2
    labels = jnp.where(weight == 0, 0, 1)
    x = jnp.arange(10.0)[:, None]
    _, y, mixed = data.augment.mixup(jax.random.key(1), x, labels, weight, num_classes=2, alpha=1.0)
    _, plain, _ = data.augment.mixup(jax.random.key(1), x, labels, num_classes=2, alpha=1.0)
    np.testing.assert_allclose(y[mixed > 0], np.tile([0, 1], (int((mixed > 0).sum()), 1)))
    np.testing.assert_allclose(mixed, plain[:, 1], rtol=1e-6)
    net = lambda augment: fit(train.AugmentedData((X, Y, np.ones((50, 1, 1))), augment))
    with pytest.raises(
        ValueError, match=r"changes x and y, and the weights are float32\[50, 1, 1\]"
    ):
        net(lambda key, x, y: (x, y))
    with pytest.raises(ValueError, match="a function of one value"):
        net(data.augment.both)


def test_images_and_masks_move_together():
    images = jax.random.uniform(jax.random.key(0), (6, 5, 4, 1))
    masks = (images[..., 0] > 0.5).astype(jnp.int32)
    for move in (data.augment.flip, functools.partial(data.augment.shift, pixels=2)):
        x, y, w = data.augment.both(move)(
            jax.random.key(1), images, masks, 2.0 * masks.astype(jnp.float32)
        )
        assert y.dtype == jnp.int32 and not np.array_equal(y, masks)
        np.testing.assert_array_equal(y, (x[..., 0] > 0.5).astype(np.int32))
        np.testing.assert_array_equal(w, 2 * y)


def test_an_average_of_the_weights():
    """a <- 0.9 a + 0.1 w after every step, and the evaluation by it."""
    chain = optax.chain(optax.adam(0.01), optim.params_ema(0.9))
    averaged = lambda state: optim.averaged_params(state.opt_state)
    evaluation = train.Evaluation((X, Y), params=averaged)
    run = functools.partial(fit, (X, Y), optimizer=chain)
    state, history = run(epochs=train.Steps(4), eval_data=evaluation)
    expected = train.init_state(MODEL, chain, jax.random.key(0), X).params
    for steps in range(1, 5):
        new = run(epochs=train.Steps(steps))[0].params
        expected = jax.tree.map(lambda a, w: 0.9 * a + 0.1 * w, expected, new)
    chex.assert_trees_all_close(averaged(state), expected, rtol=1e-5, atol=1e-7)
    values = train.evaluate(
        MODEL, state.replace(params=averaged(state)), (X, Y), loss="cross_entropy"
    )
    assert history["eval_loss"] == [pytest.approx(values["loss"], rel=1e-6)]
    assert history["eval_loss"] != [
        train.evaluate(MODEL, state, (X, Y), loss="cross_entropy")["loss"]
    ]
    plain = fit((X, Y), optimizer=optax.adam(0.01), epochs=train.Steps(4))[0]
    chex.assert_trees_all_equal(plain.params, state.params)
    with pytest.raises(ValueError, match="has 0 averages"):
        optim.averaged_params(plain.opt_state)
    with pytest.raises(ValueError, match="decay is 1"):
        optim.params_ema(1)


def test_frozen_parts_stay_as_they_are():
    """Parameters, statistics and dropout of the body; its features are those of a trained net."""
    body = serial(nn.dense(8), nn.batch_norm(), jax.nn.relu, nn.dropout(0.5))
    whole = serial(body=body, head=nn.dense(3))
    trained, _ = train.fit(whole, (X, Y), **options)
    params, statistics = trained.params["body"], trained.model_state["body"]
    tuned = serial(body=jaxdl.frozen(body, params, statistics), head=nn.dense(3))
    state, history = train.fit(
        tuned, (X, Y), **(options | {"optimizer": optax.adamw(0.1), "epochs": 5})
    )
    assert set(state.params) == {"head"}
    chex.assert_trees_all_equal(state.model_state["body"], {"params": params, "state": statistics})
    features = body.apply(params, statistics, X)[0]
    head = nn.dense(3)
    begin = train.init_state(tuned, SGD, jax.random.key(0), X).params["head"]
    scores = head.apply(begin, {}, features)[0]
    first = train.fit(tuned, (X, Y), **(options | {"batch_size": 50}))[1]["loss"][0]
    assert first == pytest.approx(float(losses.cross_entropy(scores, Y).mean()), rel=1e-5)
    expected = head.apply(state.params["head"], {}, features)[0]
    chex.assert_trees_all_close(train.predict(tuned, state, X), expected, rtol=1e-5)
    assert history["loss"][-1] < history["loss"][0]
    gradient = jax.grad(lambda s: tuned.apply(state.params, s, X)[0].sum())(state.model_state)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(gradient["body"]["params"]))
    taps = jaxdl.capture(tuned, state.params, state.model_state, X)[1]
    assert "body/dense_0" in taps
    with pytest.raises(
        ValueError, match=r"params dense_0/bias has shape \(8,\).*expected .*\(9,\)"
    ):
        jaxdl.init(
            jaxdl.frozen(serial(nn.dense(9)), {"dense_0": params["dense_0"]}), jax.random.key(0), X
        )
    low = train.fit(tuned, (X, Y), **options, execution=train.Execution(precision="bfloat16"))[0]
    chex.assert_trees_all_equal(low.model_state["body"]["params"], params)


def test_a_state_of_another_model_or_optimizer():
    old, _ = fit((X, Y))
    with pytest.raises(
        ValueError, match=r"params/dense_0/kernel was float32\[4,8\], is float32\[4,9\]"
    ):
        train.fit(serial(nn.dense(9), jax.nn.relu, nn.dense(3)), (X, Y), state=old, **options)
    adam = optax.adam(0.01)
    with pytest.raises(ValueError, match=r"of another optimizer.*opt_state=optimizer.init"):
        fit((X, Y), optimizer=adam, state=old)
    new, _ = fit((X, Y), optimizer=adam, state=old.replace(opt_state=adam.init(old.params)))
    assert int(new.step) == 8
    with pytest.raises(ValueError, match="state is a dict; expected a train.TrainState"):
        fit((X, Y), state=old.params)


def test_wrong_kinds():
    with pytest.raises(
        ValueError, match=r"callbacks is one EarlyStopping; write callbacks=\[...\]"
    ):
        fit((X, Y), callbacks=train.EarlyStopping("loss"))
    with pytest.raises(ValueError, match="schedule is 0.1; expected a function of the step"):
        train.LRLogger(0.1)
    with pytest.raises(ValueError, match="Evaluation: every is 0"):
        train.Evaluation(HALF, every=0)
    with pytest.raises(ValueError, match=r"dict of \[\]; expected data by name"):
        train.Evaluation({})
    two = jaxdl.compose("two", {"a": nn.dense(2)}, lambda call, x: (call("a", x), x))
    with pytest.raises(ValueError, match="squared_error: the output is a tuple.*one array"):
        train.fit(two, (X, X), **(options | {"loss": "mse"}))


class Adding(train.Callback):
    def __init__(self, answer):
        self.answer = answer

    def on_epoch_end(self, context):
        return self.answer


def test_what_callbacks_may_add():
    assert fit((X, Y), callbacks=[Adding({"a": np.float32(2)})])[1]["a"] == [2.0]
    for answer in (True, {"a": "text"}, 3):
        with pytest.raises(ValueError, match="Adding returns .*dict of numbers"):
            fit((X, Y), callbacks=[Adding(answer)])
    with pytest.raises(ValueError, match="Adding returns 'loss', which the history has already"):
        fit((X, Y), callbacks=[Adding({"loss": 0.0})])


def test_names_of_metrics():
    always = lambda o, t: jnp.ones(len(t))
    with pytest.raises(ValueError, match="metrics has 2 named 'lambda'.*write a dict"):
        fit((X, Y), metrics=[always, lambda o, t: o[:, 0]])
    with pytest.raises(ValueError, match="named 'eval_loss', which the history uses"):
        fit((X, Y), metrics={"eval_loss": always})
    with pytest.raises(ValueError, match=r"factory r2; expected its result: metrics.r2\(\)"):
        fit((X, Y), metrics=[metrics.r2])
    with pytest.raises(ValueError, match="two sets have a metric 'a_b_loss'"):
        evaluation = train.Evaluation({"a": HALF, "a_b": HALF})
        fit((X, Y), metrics={"b_loss": always}, eval_data=evaluation)
    several = fit((X, Y), metrics=[metrics.f1(average="micro"), "auc"], eval_data=HALF)[1]
    assert {"f1", "eval_f1", "auc"} <= set(several)
    with pytest.raises(ValueError, match="params is a dict; expected a function"):
        train.Evaluation(HALF, params={})
    with pytest.raises(ValueError, match="returns a TrainState; expected a tree like"):
        fit((X, Y), eval_data=train.Evaluation(HALF, params=lambda state: state))


def test_a_monitor_that_the_history_lacks(tmp_path):
    with pytest.raises(
        ValueError, match="Checkpointer: monitor is 'eval_fooo'.*history entries: loss"
    ):
        fit((X, Y), checkpoint=train.Checkpointer(tmp_path, monitor="eval_fooo", mode="min"))


def test_a_state_that_was_donated():
    state, _ = fit((X, Y))
    jax.jit(lambda s: jax.tree.map(lambda a: a, s), donate_argnums=0)(state)
    with pytest.raises(ValueError, match="state has been donated to a step; expected a copy"):
        fit((X, Y), state=state)
