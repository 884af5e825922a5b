"""Signs of gradient masking: on models that hide their gradient, and on one that does not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl import defend

RNG = np.random.default_rng(0)
WEIGHTS = RNG.normal(size=(16, 2)).astype(np.float32)
WEIGHTS -= WEIGHTS.mean(0)  # so that both classes occur
X = RNG.uniform(0.3, 0.7, (24, 16)).astype(np.float32)


def plain(x):
    return x @ WEIGHTS


LABELS = np.argmax(plain(X), -1)


def check(f, epsilon=0.04, **options):
    options = {
        "labels": LABELS,
        "x": X,
        "key": jax.random.key(0),
        "steps": 10,
        "queries": 60,
    } | options
    return defend.check_gradient_masking(f, epsilon=epsilon, **options)


def suspicious(report):
    return {name for name, sign in report._asdict().items() if name != "examples" and sign[0]}


@pytest.mark.row("R05")
def test_a_plain_model_shows_no_sign_and_one_step_is_exact():
    report = check(plain, substitute=lambda x: plain(x) + 0.1)
    assert not report.masked and suspicious(report) == set() and report.examples == 24
    # The margin of a linear model falls by epsilon ||w_0 - w_1||_1, within the bounds by all of it.
    margin = np.abs(np.diff(plain(X), axis=1))[:, 0]
    falls = 0.04 * np.abs(np.diff(WEIGHTS, axis=1)).sum()
    expected = float((margin < falls).mean())
    assert 0 < expected < 1
    assert report.one_step_is_stronger.numbers == {"one step": expected, "many steps": expected}
    assert report.transfer_is_stronger.numbers["transfer"] == expected
    assert report.unbounded_attack_fails.numbers == {"unbounded": 1.0}
    assert report.search_is_stronger.numbers["search"] > 0.5 * expected


@pytest.mark.row("R05")
@pytest.mark.parametrize(
    "f",
    [
        lambda x: plain(jnp.round(16 * x) / 16),
        lambda x: 1e4 * plain(x),
        lambda x: plain(jnp.where(x > 0.5, 0.6, 0.4).astype(x.dtype)),
    ],
    ids=["quantized", "saturated softmax", "thresholds"],
)
def test_hidden_gradients_are_reported(f):
    labels = np.argmax(f(X), -1)
    report = check(f, substitute=plain, labels=labels)
    assert report.masked
    assert suspicious(report) >= {
        "search_is_stronger",
        "transfer_is_stronger",
        "unbounded_attack_fails",
        "larger_is_not_stronger",
        "gradient_is_missing",
    }
    assert report.gradient_is_missing.numbers["zero"] > 0.9


def test_a_barrier_around_the_data_makes_one_step_stronger():
    # The loss has a local maximum at a distance of 0.01; beyond 0.04 the class changes.
    def f(x):
        distance = jnp.abs(x[:, 0] - 0.5)
        hill = -jnp.where(distance < 0.01, distance, 0.02 - distance)
        margin = jnp.where(distance > 0.04, -1.0, 1.0 + 10 * hill).astype(x.dtype)
        return jnp.stack([margin, jnp.zeros_like(margin)], axis=1)

    x = (0.5 + RNG.uniform(0.001, 0.005, (8, 1))).astype(np.float32)
    report = check(f, x=x, labels=np.zeros(8, int), epsilon=0.1)
    assert report.one_step_is_stronger == (True, {"one step": 1.0, "many steps": 0.0})
    assert report.search_is_stronger.suspicious and not report.gradient_is_missing.suspicious


def test_gradients_that_are_not_finite_are_no_success():
    report = check(lambda x: plain(x) + jnp.sqrt(0 * x[:, :1]))
    assert report.gradient_is_missing == (True, {"zero": 0.0, "not finite": 1.0})
    assert report.one_step_is_stronger.numbers["many steps"] == 0


def test_one_logit_is_two_classes():
    def logit(x):
        return (plain(x) @ jnp.array([-1.0, 1.0]))[:, None]

    ours, theirs = check(logit), check(plain)
    for a, b in zip(ours[:2], theirs[:2], strict=True):
        assert a.suspicious == b.suspicious
    numbers = ours.larger_is_not_stronger.numbers
    assert numbers == theirs.larger_is_not_stronger.numbers
    assert list(numbers) == ["1 epsilon", "2 epsilon", "4 epsilon", "unbounded"]


@pytest.mark.parametrize(
    "change, words",
    [
        ({"epsilon": 0.0}, "epsilon is 0.0; expected a number above 0"),
        ({"tolerance": 1.0}, r"tolerance is 1.0; expected a number in \[0, 1\)"),
        ({"queries": 0}, "queries is 0"),
        ({"key": 0}, "expected one PRNG key"),
        ({"bounds": None}, "bounds is None"),
        ({"labels": np.zeros(3, int)}, "labels have shape"),
        ({"labels": LABELS * 1.0}, "expected integers"),
        ({"labels": 1 - LABELS}, "classifies none of 24 examples correctly"),
        ({"x": X + 1}, "expected x within them"),
    ],
)
def test_bad_arguments(change, words):
    with pytest.raises(ValueError, match=words):
        check(plain, **change)
