"""The lectures' claims in small: networks on the embedded digits, for the direction alone.

They are trained by the experiments' own functions, so that a fault in a network, a loss, an
optimizer or the training changes what comes out. `tests/test_claims.py` reads the full results.
"""

import jax
import numpy as np
import optax
import pytest

import jaxdl
from experiments import (
    _lecture,
    _run,
    _seeds,
    deep_or_fat,
    double_descent,
    initialization,
    learning_rate,
    modular,
    noisy_test,
    overfit_or_not,
    random_labels,
    regularization,
    universal_approximation,
    xor,
)
from jaxdl import attack, data, nn

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module", autouse=True)
def small():
    """Takes the digits for MNIST and 64 hidden units for 500, and measures no speed-up."""
    with pytest.MonkeyPatch.context() as patch, jax.numpy_dtype_promotion("standard"):
        patch.delenv("JAXDL_DATA", raising=False)
        patch.setattr(_lecture, "WIDTH", 64)
        patch.setattr(_seeds, "measure_speedup", lambda *args, **options: 1.0)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Returns the results folder of the networks that `lectures` trains."""
    return tmp_path_factory.mktemp("networks")


@pytest.fixture(scope="module")
def lectures(small, folder):
    """`lectures(epochs, **kind)`: two networks of the lectures' set-up, trained once."""
    config = _run.Config(results=folder)

    def train(epochs=60, batch=20, **kind):
        return _lecture.train_networks(config, seeds=2, epochs=epochs, batch=batch, **kind)

    return train


def accuracy(networks):
    """Returns the test accuracy of each network after the last epoch."""
    return networks.history["eval_accuracy"][:, -1]


def run(module, folder, **options):
    """Runs an experiment in small; returns what it stores."""
    return module.run(module.Config(results=folder, **options))


def means(result):
    return {name: spread["mean"] for name, spread in result["measured"].items()}


@pytest.mark.row("T01", "C10")
def test_cross_entropy_is_ahead_of_squared_error(lectures):
    squared = lectures(loss="squared_error")
    entropy = lectures()
    assert accuracy(entropy).min() > 0.9 and accuracy(squared).max() < 0.7
    first = [
        _lecture.gradient_norms(networks, loss, smoke=False).sum()
        for networks, loss in ((entropy, "cross_entropy"), (squared, "squared_error"))
    ]
    assert first[0] > 10 * first[1]


@pytest.mark.row("T02")
def test_mini_batches_are_ahead_of_full_batches(lectures):
    assert accuracy(lectures()).min() - accuracy(lectures(batch=2000)).max() > 0.5


@pytest.mark.row("T03", "T04", "D13")
def test_nine_layers_learn_with_relus_and_not_with_sigmoids(lectures):
    shallow, deep = lectures(), lectures(25, layers=9)
    relu = lectures(25, layers=9, activation="relu")
    assert accuracy(deep).max() < 0.15
    assert min(accuracy(shallow).min(), accuracy(relu).min()) > 0.9
    norms = [
        _lecture.gradient_norms(n, "cross_entropy", smoke=False) for n in (shallow, deep, relu)
    ]
    of_3, of_9, of_relu = (of[:, 0] / of[:, -1] for of in norms)
    assert of_3.min() > 1e-2 and of_9.max() < 1e-4 and of_relu.min() > 0.5


@pytest.mark.row("T05", "E02", "T14", "R02")
def test_noise_and_attacks_on_test_images_cost_accuracy(lectures, folder):
    networks, test = lectures(activation="relu", batch=100, epochs=20), data.digits().test
    result = run(noisy_test, folder, seeds=2)
    clean, noisy, seen = means(result).values()
    assert clean > 0.9 and seen > clean - 0.02 and noisy < clean - 0.3
    assert 7.5 < result["moved"] < 8.5  # 64 unit normal numbers
    noise = np.random.default_rng(0).normal(size=test.x.shape)
    params = jax.tree.map(lambda leaf: leaf[0], networks.params)
    model = lambda x: networks.model.apply(params, {}, x)[0]
    x, y, sizes = test.x[:100], test.y[:100], 0.2
    one, forty = attack.fgsm(model, x, y, sizes), attack.pgd(model, x, y, sizes, steps=40)
    lot = np.clip(x + sizes * np.sign(noise[:100]), 0, 1, dtype=np.float32)
    left = [float((model(inputs).argmax(-1) == y).mean()) for inputs in (lot, one, forty)]
    assert left[0] > 0.85 and left[1] < 0.5 and left[2] < 0.1


@pytest.mark.row("D05")
def test_a_learning_rate_can_be_too_small_and_too_large(tmp_path):
    result = run(learning_rate, tmp_path, seeds=1, epochs=10)
    loss = means(result)
    assert loss["right"] < 0.2 and loss["too small"] > 2 and loss["too large"] > 10
    assert result["quadratic"]["0.99"] < 1e-9 and result["quadratic"]["1.01"] > 1e9
    losses, rates = np.array(result["losses"][0]), np.array(result["rates"])
    assert np.all(losses[rates > 10 * result["threshold"]] > np.log(10))
    assert 0.1 < result["threshold"] < 10


@pytest.mark.row("A08", "A09")
def test_xor_takes_a_hidden_layer(tmp_path):
    result = run(xor, tmp_path, seeds=3, steps=400)
    assert np.max(result["accuracy"]["no hidden layer"]) <= 0.75
    assert np.min(result["accuracy"]["hidden layer"]) == 1


@pytest.mark.row("E01")
def test_what_is_wrong_is_seen_in_training(tmp_path, monkeypatch):
    kinds = {"too small": (3, 2000), "few images": (64, 100), "many images": (64, 2000)}
    monkeypatch.setattr(overfit_or_not, "KINDS", kinds)
    result = run(overfit_or_not, tmp_path, seeds=1, steps=600)
    names = {"too small": "training", "few images": "overfitting", "many images": "none"}
    assert result["diagnoses"] == names
    accuracy = means(result)
    assert accuracy["too small, dropout"] < accuracy["too small"]


@pytest.mark.row("A15")
def test_basic_classifiers_know_a_scarce_class(tmp_path, monkeypatch):
    monkeypatch.setattr(modular, "EXAMPLES", (10,))
    result = run(modular, tmp_path, seeds=2, rows=1437, epochs=8)
    one, basic, shared = means(result).values()
    assert min(basic, shared) > one + 0.15
    one, basic, shared = (result["others"][10][name] for name in result["measured"])
    assert min(basic, shared) > max(0.7, one)


@pytest.mark.row("E10", "T13")
def test_random_labels_are_learned_by_heart(tmp_path):
    result = run(random_labels, tmp_path, seeds=1, rows=64, epochs=40)
    assert [*means(result).values()] == [1, 1, 1, 1]
    test = {name: spread["mean"] for name, spread in result["test"].items()}
    assert test.pop("true labels") > 0.7 and max(test.values()) < 0.3


@pytest.mark.row("D17", "D18", "D19", "D13")
def test_nine_layers_want_good_initial_values(tmp_path):
    result = run(initialization, tmp_path, seeds=1, epochs=5)
    accuracy, signal = means(result), result["deviations"]
    assert min(accuracy["He"], accuracy["LSUV"]) > 0.85 and accuracy["Glorot"] > 0.5
    assert max(accuracy["too small"], accuracy["too large"]) < 0.2
    np.testing.assert_allclose(signal["LSUV"], 1, atol=0.1)
    fall = np.array(signal["Glorot"][1:-2]) / signal["Glorot"][:-3]
    assert np.all((0.5 < fall) & (fall < 0.9))  # half of the variance in each ReLU
    assert accuracy["sigmoid, random"] < 0.3
    assert min(accuracy["sigmoid, Boltzmann machines"], accuracy["ReLU, random"]) > 0.7


@pytest.mark.row("A13")
def test_more_hidden_units_approximate_better(tmp_path):
    x, y = universal_approximation.targets()["sin(3 pi x)"]
    largest = {}
    for width in (4, 64):
        model = jaxdl.serial(nn.dense(width), jax.nn.tanh, nn.dense(1))
        networks = _seeds.train_networks(
            _run.Config(smoke=True),
            model,
            (x, y),
            seeds=2,
            loss="squared_error",
            optimizer=optax.adam(optax.cosine_decay_schedule(0.02, 2500)),
            batch_size=len(x),
            epochs=2500,
        )
        largest[width] = np.abs(networks.predict(x) - y).max((1, 2))
    assert largest[64].max() < 0.3 and largest[4].min() > 0.5


@pytest.mark.row("A14")
def test_few_deep_units_fold_what_a_fat_layer_cannot(tmp_path):
    x = np.linspace(0, 1, 513, dtype=np.float32)[:, None]
    deep = deep_or_fat.perceptron((2,) * deep_or_fat.FOLDS)
    teeth = np.abs((x * 2 ** (deep_or_fat.FOLDS - 1) + 0.5) % 1 - 0.5) * 2
    outputs, _ = deep.apply(deep_or_fat.construct_tents(), {}, x)
    np.testing.assert_allclose(outputs, teeth, atol=1e-4)
    fat = _seeds.train_networks(
        _run.Config(smoke=True),
        deep_or_fat.perceptron((10,)),
        (x, teeth),
        seeds=2,
        loss="squared_error",
        optimizer=optax.adam(0.01),
        batch_size=len(x),
        epochs=1000,
    )
    assert np.sqrt(fat.history["loss"][:, -1]).min() > 0.2


@pytest.mark.row("E11")
def test_the_test_error_falls_beyond_its_peak(tmp_path):
    result = run(double_descent, tmp_path, seeds=2, rows=100)
    before, top, after = means(result).values()
    assert before + 0.1 < top and after + 0.2 < top and after < before


@pytest.mark.row("E09")
def test_an_ensemble_is_ahead_of_its_networks(tmp_path):
    digits = data.digits()
    networks = _seeds.train_networks(
        _run.Config(smoke=True),
        regularization.network(64),
        (digits.train.x[:200], digits.train.y[:200]),
        seeds=10,
        loss="cross_entropy",
        optimizer=optax.sgd(_lecture.RATE),
        batch_size=50,
        epochs=60,
    )
    scores = networks.predict(digits.test.x)
    shares = np.asarray(jax.nn.softmax(scores)).mean(0)
    each = (scores.argmax(-1) == digits.test.y).mean(-1)
    assert (shares.argmax(-1) == digits.test.y).mean() > each.mean() + 0.01
