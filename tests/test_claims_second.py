"""The claims of the second reading: exact checks, stored numbers, and small reruns."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments import (
    attention_in_image,
    epoch_seconds,
    how_large,
    linear_pieces,
    missing_units,
    rare_cases,
    smaller_loss,
)
from jaxdl import attack, data, interpret, losses, nn, serial, train

sgd = functools.lru_cache(optax.sgd)


def fit(model, split, *, params=None, rate=0.1, seed=0, **options):
    """Trains by plain SGD, from given parameters if there are any; returns the state."""
    state = train.init_state(model, sgd(rate), jax.random.key(seed), split[0][:1])
    if params is not None:
        state = state.replace(params=params)
    options = {"loss": "squared_error", "verbose": 0, "state": state} | options
    return train.fit(model, split, optimizer=sgd(rate), **options)[0]


def mean(values):
    return np.asarray(values, np.float64).mean(-1)


# Exact checks.


@pytest.mark.row("X03")
def test_twenty_batches_are_twenty_updates_and_the_full_batch_is_one():
    x, y = np.ones((100, 1), np.float32), np.zeros((100, 1), np.float32)
    model = nn.dense(1, use_bias=False)
    for size, updates in ((5, 20), (100, 1)):
        params = {"kernel": jnp.ones((1, 1))}
        state = fit(model, (x, y), params=params, batch_size=size, epochs=1)
        assert int(state.step) == updates
        # On equal rows each update multiplies the weight by 1 - 2 rate.
        np.testing.assert_allclose(state.params["kernel"], 0.8**updates, rtol=1e-4)


def numpy_logits(layers, x):
    for kernel, bias in layers[:-1]:
        x = np.maximum(x @ kernel + bias, 0)
    return x @ layers[-1][0] + layers[-1][1]


@pytest.fixture(scope="module")
def shapes():
    """Networks of three shapes in one model, untrained, with biases that are not zero."""
    model = how_large.network(8, 2, classes=3)
    sizes = [(3, 1), (5, 2), (8, 2)]
    x = np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32)
    states = how_large.init_shapes(model, sizes, [0], x)
    rng = np.random.default_rng(1)
    params = {
        name: layer | {"bias": jnp.asarray(rng.normal(size=layer["bias"].shape), jnp.float32)}
        for name, layer in states.params.items()
    }
    return model, sizes, x, states.replace(params=params)


@pytest.mark.row("X08")
def test_a_masked_network_is_the_network_of_its_own_shape_trained_too(shapes):
    model, sizes, x, states = shapes
    y = np.arange(12, dtype=np.int32) % 3
    trained, _ = train.train_many(
        model,
        (x, y),
        seeds=[0] * 3,
        states=states,
        loss="cross_entropy",
        optimizer=sgd(0.1),
        batch_size=12,
        epochs=2,
        verbose=0,
    )
    logits = jax.jit(jax.vmap(lambda p, s: model.apply(p, s, x)[0]))
    before, after = (np.asarray(logits(s.params, s.model_state)) for s in (states, trained))
    for i, (width, layers) in enumerate(sizes):
        parts = how_large.slice_shape(states.params, i, width, layers)
        shape = [4, *[width] * layers, 3]
        assert [kernel.shape for kernel, _ in parts] == list(zip(shape, shape[1:], strict=False))
        np.testing.assert_allclose(before[i], numpy_logits(parts, x), atol=1e-5)
        for _ in range(2):  # descent on the small network alone
            parts = numpy_descend(parts, x, y, 0.1)
        np.testing.assert_allclose(after[i], numpy_logits(parts, x), atol=1e-5)


def numpy_descend(layers, x, y, rate):
    """One step of gradient descent on the mean cross-entropy, by hand."""
    inputs = [x]
    for kernel, bias in layers[:-1]:
        inputs.append(np.maximum(inputs[-1] @ kernel + bias, 0))
    scores = np.exp(numpy_logits(layers, x))
    error = (scores / scores.sum(1, keepdims=True) - np.eye(3)[y]) / len(x)
    updated = []
    for (kernel, bias), h in zip(reversed(layers), reversed(inputs), strict=True):
        updated.append((kernel - rate * h.T @ error, bias - rate * error.sum(0)))
        error = (error @ kernel.T) * (h > 0)
    return updated[::-1]


@pytest.mark.row("X08")
def test_the_initial_kernels_of_a_shape_have_its_own_deviation(shapes):
    _, sizes, _, states = shapes
    kernels = [
        how_large.slice_shape(states.params, i, *size)[-1][0] for i, size in enumerate(sizes)
    ]
    for (width, _), kernel in zip(sizes, kernels, strict=True):
        # From one seed: the largest network's kernel, for a sum over fewer inputs.
        np.testing.assert_allclose(kernel, kernels[-1][:width] * (8 / width) ** 0.5, rtol=1e-5)


@pytest.mark.row("X04")
def test_pieces_of_relu_networks_are_where_the_slope_jumps(shapes):
    model, sizes, x, states = shapes
    start, end = x[0].astype(np.float64), x[1].astype(np.float64)
    counts = []
    for i, (width, layers) in enumerate(sizes):
        parts = how_large.slice_shape(states.params, i, width, layers)
        places = linear_pieces.knots(parts, start, end)
        counts.append(len(places) - 1)
        if layers == 1:
            kernel, bias = parts[0]
            zeros = -(start @ kernel + bias) / ((end - start) @ kernel)
            inside = np.sort(zeros[(zeros > 0) & (zeros < 1)])
            np.testing.assert_allclose(places[1:-1], inside, atol=1e-6)
            assert counts[-1] <= width + 1
        steps = np.linspace(0, 1, 4001)
        bends = np.abs(np.diff(model_logits(model, states, i, start, end, steps), 2, axis=0)).max(1)
        jumps = steps[1:-1][bends > 1e-5]
        near = np.abs(jumps[:, None] - places[1:-1]).min(1) if len(places) > 2 else jumps
        assert len(jumps) and np.all(near < 3e-4)  # the library's network bends nowhere else
        assert all(np.abs(jumps - place).min() < 3e-4 for place in places[1:-1])
    assert counts[0] < counts[-1]


def model_logits(model, states, i, start, end, steps):
    with jax.enable_x64(True):
        params, state = jax.tree.map(
            lambda a: np.asarray(a[i], np.float64), (states.params, states.model_state)
        )
        x = start + steps[:, None] * (end - start)
        return np.asarray(model.apply(params, state, jnp.asarray(x))[0])


@pytest.mark.row("X05")
def test_a_smaller_loss_with_less_accuracy_under_attack_in_closed_form():
    """A strong feature of +-1, and nine weak ones of +-0.2 (Tsipras et al. 2019, 1805.12152)."""
    signs = np.array([1, -1, 1, -1], np.float32)
    x = signs[:, None] * np.array([1.0] + [0.2] * 9, np.float32)
    labels = jnp.asarray(signs > 0, jnp.int32)
    strong, weak = np.eye(10, dtype=np.float32)[0], np.array([0.0] + [1.0] * 9, np.float32)
    results = []
    for weights in (strong, weak):

        def f(x, weights=weights):
            score = x @ weights
            return jnp.stack([-score, score], -1)

        attacked = attack.fgsm(f, jnp.asarray(x), labels, 0.5, bounds=(-2.0, 2.0))
        margin = np.abs(x @ weights)
        loss = losses.cross_entropy(f(jnp.asarray(x)), labels)
        np.testing.assert_allclose(loss, np.log1p(np.exp(-2 * margin)), rtol=1e-5)
        results.append((float(loss.mean()), float((f(attacked).argmax(-1) == labels).mean())))
    # Sizes of attack 0.5: 1 - 0.5 > 0 is still right, 9 * (0.2 - 0.5) < 0 is wrong.
    (strong_loss, strong_right), (weak_loss, weak_right) = results
    assert weak_loss < strong_loss and (strong_right, weak_right) == (1.0, 0.0)


@pytest.mark.row("X06")
def test_one_image_for_a_class_and_attributions_for_each_image():
    weights = np.array([[2.0, -1.0], [0.5, 3.0], [-1.0, 1.0]], np.float32)
    x = jnp.array([[1.0, 0.0, 2.0], [0.0, 1.0, 1.0]])

    def f(x):
        return x @ weights

    best = interpret.activation_maximization(
        f, (3,), target=0, key=jax.random.key(0), l2=0.5, steps=300, optimizer=sgd(0.1)
    )
    np.testing.assert_allclose(best.image, weights[:, 0], atol=1e-4)  # w / (2 l2)
    attributions = interpret.input_x_gradient(f, x, target=0)
    np.testing.assert_allclose(attributions, np.asarray(x) * weights[:, 0], atol=1e-6)
    # The first image does not have what the output prefers second most.
    assert best.image[1] > 0.4 and attributions[0, 1] == 0


@pytest.mark.row("X06")
def test_pixels_are_removed_in_the_order_of_a_picture_and_pictures_correlated():
    images = np.arange(1.0, 9.0).reshape(2, 2, 2, 1)
    pictures = np.array([4.0, 1.0, 3.0, 2.0, -4.0, -1.0, -3.0, -2.0]).reshape(images.shape)
    changed = attention_in_image.remove_pixels(images, pictures, 2)
    assert changed.ravel().tolist() == [0, 2, 0, 4, 5, 0, 7, 0]
    # Differences of the ranks: 3, -1, 0, -2, and with the signs turned -1, -1, -1, 3... by hand.
    ranks = np.array([[1, 2, 3, 4], [1, 2, 3, 4]]), np.array([[4, 1, 3, 2], [1, 4, 2, 3]])
    expected = np.mean(1 - 6 * ((ranks[0] - ranks[1]) ** 2).sum(1) / (4 * 15))
    assert attention_in_image.correlate(images, pictures) == pytest.approx(expected)


@pytest.mark.row("X07")
def test_a_network_learns_frequencies_and_is_wrong_in_the_rare_case():
    """Cross-entropy is smallest at the frequencies of the labels of equal inputs."""
    x = np.zeros((20, 1), np.float32)
    y = np.array([0] * 19 + [1], np.int32)
    state = fit(nn.dense(2), (x, y), loss="cross_entropy", rate=5.0, batch_size=20, epochs=40)
    shares = jax.nn.softmax(np.asarray(state.params["bias"]))
    np.testing.assert_allclose(shares, [0.95, 0.05], atol=1e-3)
    answers = np.full(20, np.argmax(shares))
    right = rare_cases.accuracy_by_class(answers, y, np.array([0, 1]))
    assert right.tolist() == [1.0, 0.0] and (answers == y).mean() == 0.95


@pytest.mark.row("X07")
def test_every_digit_is_rare_for_one_seed_and_the_tail_has_its_counts():
    labels = data.digits().train.y
    orders = [rare_cases.rank_classes(seed) for seed in range(5)]
    assert all(sorted(order) == list(range(10)) for order in orders)
    assert len({order[-1] for order in orders}) == 5
    assert rare_cases.COUNTS[0] == 140 and rare_cases.COUNTS[-1] == 3
    rows = rare_cases.select_long_tail(labels, orders[1])
    counts = np.bincount(labels[rows], minlength=10)[orders[1]]
    assert tuple(counts) == rare_cases.COUNTS and len(set(rows)) == len(rows)


@pytest.mark.row("X09")
def test_dropout_shares_the_work_so_that_a_missing_unit_costs_less():
    """Two equal units and the target 1, from weights 1 and 0: without dropout the error is 0.

    With a rate of 1/2 the mean squared error is (w1 + w2 - 1)^2 + w1^2 + w2^2, smallest at 1/3.
    """
    x, y = np.ones((2000, 2), np.float32), np.ones((2000, 1), np.float32)
    model = serial(nn.dropout(0.5), nn.dense(1, use_bias=False))
    params = {"dense_0": {"kernel": jnp.array([[1.0], [0.0]])}}
    state = fit(model, (x, y), params=params, batch_size=2000, epochs=40)
    weights = np.asarray(state.params["dense_0"]["kernel"])[:, 0]
    np.testing.assert_allclose(weights, [1 / 3, 1 / 3], atol=0.02)
    without_a_unit = (1 - weights) ** 2  # 0 and 1 at the start
    np.testing.assert_allclose(without_a_unit, 4 / 9, atol=0.03)


@pytest.mark.row("X09")
def test_removed_units_are_zeros_in_both_layers():
    rng = np.random.default_rng(0)
    layers = [
        (rng.normal(size=shape).astype(np.float32), rng.normal(size=shape[1]).astype(np.float32))
        for shape in ((4, 6), (6, 6), (6, 3))
    ]
    params = {
        f"dense_{i}": dict(zip(("kernel", "bias"), layer, strict=True))
        for i, layer in enumerate(layers)
    }
    masks = (rng.random((5, 2, 6)) > 0.5).astype(np.float32)
    x, labels = rng.normal(size=(30, 4)).astype(np.float32), rng.integers(0, 3, 30)
    expected = []
    for mask in masks:
        h = x
        for (kernel, bias), units in zip(layers[:2], mask, strict=True):
            h = np.maximum(h @ kernel + bias, 0) * units
        expected.append(((h @ layers[2][0] + layers[2][1]).argmax(1) == labels).mean())
    accuracy = missing_units.accuracy_without(params, masks, x, labels)
    np.testing.assert_allclose(accuracy, expected, atol=1e-6)
    chosen = missing_units.choose_units(0.25, 3, 0)
    assert (chosen == 0).sum(-1).tolist() == [[32, 32]] * 3 and len(np.unique(chosen, axis=0)) == 3


# Small reruns.


@pytest.mark.slow
@pytest.mark.row("X04", "X08")
def test_rerun_wider_networks_read_better_and_have_more_pieces():
    digits = data.digits()
    networks = how_large.sweep([(4, 1), (32, 1)], [0, 1], digits.train, 20)
    accuracy = networks.accuracy(digits.test.x, digits.test.y)
    assert accuracy[2:].min() > accuracy[:2].max() and accuracy[2:].mean() > 0.9
    lines = linear_pieces.choose_lines(digits.test, 10, 0)
    counts = [
        np.mean([len(linear_pieces.knots(parts, *line)) for line in lines])
        for i, width in enumerate((4, 4, 32, 32))
        for parts in [how_large.slice_shape(networks.params, i, width, 1)]
    ]
    assert min(counts[2:]) > max(counts[:2])


@pytest.mark.slow
@pytest.mark.row("X05")
def test_rerun_weight_decay_has_a_larger_loss_and_is_more_robust():
    values = smaller_loss.trace(smaller_loss.network(), data.digits(), [0], (10, 100), steps=10)
    loss, attacked = values["loss"][..., 0], values["under attack"][..., 0]
    assert loss[1, 0] < loss[0, 0] / 2 and loss[1, 0] < loss[1, 1] / 2
    assert attacked[1, 0] < attacked[0, 0] - 0.02 and attacked[1, 0] < attacked[1, 1] - 0.05


@pytest.mark.slow
@pytest.mark.parametrize(
    "module",
    [
        pytest.param(rare_cases, marks=pytest.mark.row("X07")),
        pytest.param(missing_units, marks=pytest.mark.row("X09")),
        pytest.param(attention_in_image, marks=pytest.mark.row("X06")),
    ],
)
def test_rerun_with_two_seeds(module, tmp_path):
    options = {"choices": 5} if module is missing_units else {}
    result = module.run(module.Config(seeds=2, results=tmp_path, **options))
    expected = "holds in part" if module is attention_in_image else "holds"
    assert module.judge(result).outcome == expected
    assert json.dumps(result, allow_nan=False)


@pytest.mark.slow
@pytest.mark.row("X03")
def test_rerun_twenty_updates_do_more_than_one():
    digits = data.digits().train
    model = smaller_loss.network()
    losses_of = [
        epoch_seconds.train_many(model, digits, updates, seeds=[0], epochs=10)[1]["loss"][0, -1]
        for updates in (20, 1)
    ]
    assert losses_of[0] < losses_of[1] / 2
