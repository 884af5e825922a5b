"""Fitting and its failures in small: shifted test data, too many parameters, double descent."""

import jax
import numpy as np
import optax
import pytest

import jaxdl
from jaxdl import data, losses, nn, train
from jaxdl.data import augment
from tests.nn.filled import filled


@pytest.mark.row("E02")
def test_noise_on_the_test_images_alone_is_worse_than_noise_on_both():
    """Least squares on the digits: what hurts is that the two distributions differ."""
    (x, y), (others, labels) = data.digits().train, data.digits().test
    noisy, noisy_others = (
        np.asarray(augment.noise(jax.random.key(i), a, 1.0)) for i, a in enumerate((x, others))
    )
    design = lambda images: np.hstack([images.reshape(len(images), -1), np.ones((len(images), 1))])
    accuracy = lambda w, images, labels: float(np.mean((design(images) @ w).argmax(1) == labels))

    def fit(images):
        a = np.float64(design(images))
        return np.linalg.solve(a.T @ a + 0.1 * np.eye(65), a.T @ np.eye(10)[y])

    clean, of_noise = fit(x), fit(noisy)
    history = {"accuracy": [accuracy(clean, x, y)]}
    assert history["accuracy"][0] > 0.94
    for images, low, high, problem in (
        (others, 0.93, 1.0, "none"),
        (noisy_others, 0.1, 0.3, "overfitting"),
    ):
        history["eval_accuracy"] = [accuracy(clean, images, labels)]
        assert low < history["eval_accuracy"][0] < high
        assert train.diagnose(history, goal=0.1).problem == problem
    # Trained on noise, the same images are known nearly twice as often.
    assert accuracy(of_noise, noisy_others, labels) > 1.5 * history["eval_accuracy"][0]


def memorizer(make):
    """A classifier of sequences, and its logits after 600 steps on the first 100 of them."""
    model = nn.serial(nn.rnn(make(3)), lambda y: y[:, -1], nn.dense(2))
    optimizer = optax.adam(0.03)

    def loss(params, x, labels):
        return losses.cross_entropy(model.apply(params, {}, x)[0], labels).mean()

    @jax.jit
    def logits(params, x, labels):
        def step(carry, _):
            params, state = carry
            slope = jax.grad(loss)(params, x[:100], labels[:100])
            updates, state = optimizer.update(slope, state)
            return (optax.apply_updates(params, updates), state), None

        (params, _), _ = jax.lax.scan(step, (params, optimizer.init(params)), length=600)
        return model.apply(params, {}, x)[0]

    return model, logits


@pytest.mark.row("E08")
def test_an_lstm_learns_wrong_labels_by_heart_with_four_times_the_parameters():
    """A hundred sequences, a quarter of the labels wrong; three units each, four seeds."""
    right, surprise, count = {}, {}, {}
    for make in (nn.elman, nn.lstm):
        model, logits = memorizer(make)
        right[make], surprise[make] = [], []
        for seed in range(4):
            rng = np.random.default_rng(seed)
            x = rng.normal(size=(500, 6, 3)).astype(np.float32)
            labels = (x[:, -1, 0] > 0).astype(np.int32)
            labels[:100] ^= rng.random(100) < 0.25
            params, _ = filled(model, x[:1], seed=seed, scale=0.3)
            with jax.numpy_dtype_promotion("standard"):  # adam mixes its counter with floats
                scores = np.asarray(logits(params, x, labels), np.float64)
            p = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
            right[make].append(np.mean(scores.argmax(1)[:100] == labels[:100]))
            surprise[make].append(-np.log(p[np.arange(500), labels])[100:].mean())
        count[make] = jaxdl.tree.count(params[next(iter(model.children))])
    assert count[nn.lstm] == 4 * count[nn.elman] == 4 * (3 * 3 + 3 * 3 + 3)
    assert min(right[nn.lstm]) >= 0.98 and np.mean(right[nn.elman]) < 0.9
    assert np.mean(surprise[nn.lstm]) > 1.5 * np.mean(surprise[nn.elman]) > 0.69


@pytest.mark.row("E10")
def test_a_regularized_cnn_learns_random_labels_and_noise_by_heart():
    """192 digits or noise; without its activations the network would not learn the digits."""
    layers = [nn.conv(16, stride=2), jax.nn.relu, nn.flatten(), nn.dense(128), jax.nn.relu]
    model = nn.serial(*layers, nn.dropout(0.2), nn.dense(10))
    rng = np.random.default_rng(0)
    digits, others = data.digits().train.x[:192], data.digits().test
    labels = rng.integers(0, 10, 192).astype(np.int32)
    noise = rng.normal(0.5, 0.25, digits.shape).astype(np.float32)
    optimizer = optax.adamw(5e-3, weight_decay=0.01)
    for x in (digits, noise):
        options = {"loss": "cross_entropy", "optimizer": optimizer, "batch_size": 64}
        state, _ = train.fit(model, (x, labels), epochs=80, verbose=0, **options)
        right = lambda x, y, state=state: np.mean(
            np.asarray(train.predict(model, state, x)).argmax(1) == y
        )
        assert right(x, labels) > 0.99
        assert abs(right(others.x, others.y) - 0.1) < 0.08


@jax.jit
def random_features(x, kernel, bias):
    return jax.nn.relu(nn.functional.dense(x, kernel, bias))


@pytest.mark.row("E11")
def test_the_test_error_peaks_where_features_are_as_many_as_examples_and_falls_again():
    """Least squares on random ReLU features, the shortest solution; medians of eight draws."""
    n, widths = 30, [7, 15, 30, 60, 300]
    error, size, training = np.zeros((3, 8, len(widths)))
    for seed in range(8):
        rng = np.random.default_rng(seed)
        x, direction = rng.normal(size=(n + 500, 6)), rng.normal(size=6)
        y = np.sin(0.6 * x @ direction)
        noisy = y[:n] + 0.2 * rng.normal(size=n)
        weights = rng.normal(size=(7, 300))
        with jax.enable_x64(True):
            features = np.asarray(random_features(x, weights[:6], weights[6]))
        for j, width in enumerate(widths):
            seen, unseen = features[:n, :width], features[n:, :width]
            solution = np.linalg.pinv(seen, rcond=1e-10) @ noisy
            error[seed, j] = np.mean((unseen @ solution - y[n:]) ** 2)
            training[seed, j] = np.mean((seen @ solution - noisy) ** 2)
            size[seed, j] = np.linalg.norm(solution)
    for curve in (np.median(error, 0), np.median(size, 0)):
        assert curve[2] > 4 * max(curve[1], curve[3]) and curve[3] > curve[4]
    assert training[:, :2].min() > 1e-4 and training[:, 2:].max() < 1e-9
