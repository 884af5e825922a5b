"""Balls of three norms: exact steps and projections, against brute force and closed forms."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize

from jaxdl import attack, losses
from jaxdl.attack import _ball

NORMS = ("linf", "l2", "l1")
ORDERS = {"linf": np.inf, "l2": 2, "l1": 1}
DUALS = {"linf": 1, "l2": 2, "l1": np.inf}
W = np.array([[1.0, -2.0], [0.5, 0.0], [-1.0, 3.0], [0.0, 0.25]], np.float32)
MIDDLE = np.full((2, 4), 0.5, np.float32)
LABELS = np.array([0, 1])


def linear(x):
    return x @ W


def norms(change, norm):
    return np.linalg.norm(np.asarray(change, np.float64), ORDERS[norm], axis=1)


@functools.partial(jax.jit, static_argnames="norm")
def project(x, center, radius, low, high, norm):
    return _ball.project(_ball.Ball(norm, center, radius, low, high), x)


@functools.partial(jax.jit, static_argnames=("norm", "steps"))
def run(x, labels, epsilon, key, norm, steps=3):
    def f(x):
        return jnp.sin(3 * x @ W)

    return attack.pgd(f, x, labels, epsilon, norm=norm, steps=steps, key=key, momentum=0.5)


def references(u, low, high):
    """The nearest point of each unit ball and [low, high], by sorting the ends of pieces."""
    pieces = {"linf": np.clip(u, np.maximum(low, -1), np.minimum(high, 1))}

    def solve(shrink, size, ends):
        """The root of a monotonic function that is simple between consecutive ends."""
        ends = np.unique(ends)
        sizes = [size(shrink(end)) for end in ends]
        first = max(i for i, value in enumerate(sizes) if value >= 1)
        return optimize.brentq(
            lambda v: size(shrink(v)) - 1, ends[first], ends[first + 1], xtol=1e-14
        )

    def of_l1(t):
        return np.clip(np.sign(u) * np.maximum(np.abs(u) - t, 0), low, high)

    def of_l2(t):  # u / (1 + t)
        return np.clip(u / (1 + t), low, high)

    for norm, shrink in (("l1", of_l1), ("l2", of_l2)):
        size = lambda v, norm=norm: np.linalg.norm(v, ORDERS[norm])
        inside = size(shrink(0.0)) <= 1
        ends = [0.0, *np.abs(u), *np.abs(u) + 10, 1e3]
        pieces[norm] = shrink(0.0 if inside else solve(shrink, size, ends))
    return pieces


@pytest.mark.parametrize("norm", NORMS)
def test_projections_are_the_nearest_points(norm):
    rng = np.random.default_rng(0)
    x, center = rng.normal(0.5, 1, (12, 6)), rng.uniform(0, 1, (12, 6))
    radius = rng.uniform(0.05, 2, (12, 1)) * np.ones((12, 6))
    low, high = np.zeros((12, 6)), np.ones((12, 6))
    low[6:9], high[6:9] = -np.inf, np.inf  # no bounds
    x[9:] = center[9:] + 1e-3  # inside already
    arrays = [a.astype(np.float32) for a in (x, center, radius, low, high)]
    actual = np.asarray(project(*arrays, norm=norm))
    x, center, radius, low, high = (a.astype(np.float64) for a in arrays)
    for i in range(12):
        r = radius[i, 0]
        u = references((x[i] - center[i]) / r, (low[i] - center[i]) / r, (high[i] - center[i]) / r)
        np.testing.assert_allclose(actual[i], center[i] + r * u[norm], atol=2e-6)
    assert (norms(actual - center, norm) <= radius[:, 0] + 1e-6).all()


def test_a_projection_against_a_general_solver():
    """A quadratic program with the L1 norm as the sum of two positive parts."""
    rng = np.random.default_rng(1)
    u, low, high = rng.normal(0, 1, 4), -rng.uniform(0, 0.5, 4), rng.uniform(0, 0.5, 4)

    def nearest(limit):
        split = lambda v: v[:4] - v[4:]
        result = optimize.minimize(
            lambda v: np.sum((split(v) - u) ** 2),
            np.zeros(8),
            bounds=[*((0, h) for h in high), *((0, -v) for v in low)],
            constraints={"type": "ineq", "fun": limit},
            method="SLSQP",
            options={"ftol": 1e-14, "maxiter": 500},
        )
        return split(result.x)

    wanted = {
        "l1": nearest(lambda v: 0.7 - np.sum(v)),
        "l2": nearest(lambda v: 0.49 - np.sum((v[:4] - v[4:]) ** 2)),
    }
    for norm, point in wanted.items():
        arrays = [np.float32(a)[None] for a in (u, np.zeros(4), np.full(4, 0.7), low, high)]
        np.testing.assert_allclose(project(*arrays, norm=norm)[0], point, atol=1e-4)


@pytest.mark.row("R01")
@settings(max_examples=25)
@given(st.integers(0, 2**31 - 1), st.floats(0, 3), st.sampled_from(NORMS))
def test_norms_and_bounds_are_exact(seed, epsilon, norm):
    rng = np.random.default_rng(seed)
    x = rng.uniform(0, 1, (5, 4)).astype(np.float32)
    x[0] = np.round(x[0])  # in a corner of the bounds
    labels = rng.integers(0, 2, 5)
    actual = np.asarray(run(x, labels, np.float32(epsilon), jax.random.key(seed), norm))
    assert (norms(actual - x, norm) <= epsilon + 1e-6).all()
    assert actual.min() >= 0 and actual.max() <= 1
    if epsilon > 0.01:
        assert (norms(actual - x, norm) > 0).any()


@pytest.mark.row("R01", "R02")
@pytest.mark.parametrize("norm", NORMS)
def test_a_linear_margin_falls_by_the_dual_norm(norm):
    """The largest fall of w . x within a ball of a norm is epsilon times the dual norm of w."""
    w = W[:, 0] - W[:, 1]
    epsilon = 0.3

    @jax.jit
    def attacks(x):
        options = {"norm": norm, "bounds": None}
        return (
            attack.fgsm(linear, x, LABELS, epsilon, **options),
            attack.pgd(linear, x, LABELS, epsilon, steps=10, **options),
            attack.pgd(linear, x, LABELS, epsilon, steps=20, key=jax.random.key(0), **options),
            attack.pgd(linear, x, LABELS, epsilon, steps=1, step=epsilon, **options),
            attack.pgd(linear, x, LABELS, epsilon, steps=10, momentum=1.0, **options),
        )

    wanted = epsilon * np.linalg.norm(w, DUALS[norm])
    results = [np.asarray(result) for result in attacks(MIDDLE)]
    for actual, error in zip(results, (1e-4, 1e-4, 1e-2, 1e-4, 1e-4), strict=True):
        fall = (MIDDLE - actual) @ w
        np.testing.assert_allclose(fall, [wanted, -wanted], rtol=error)
    np.testing.assert_array_equal(results[3], results[0])


def test_a_step_of_l1_fills_values_to_their_bounds():
    """Linear programming is the reference: max g . v with ||v||_1 <= step, 0 <= x + v <= 1."""
    rng = np.random.default_rng(2)
    x = rng.uniform(0, 1, (6, 4)).astype(np.float32)
    labels = np.zeros(6, int)
    actual = np.asarray(
        jax.jit(lambda x: attack.fgsm(linear, x, labels, 1.1, norm="l1"))(x), np.float64
    )
    w = (W[:, 1] - W[:, 0]).astype(np.float64)  # the direction in which the loss grows
    for before, after in zip(x.astype(np.float64), actual, strict=True):
        best = optimize.linprog(
            np.r_[-w, w],
            A_ub=np.ones((1, 8)),
            b_ub=[1.1],
            bounds=[*((0, 1 - v) for v in before), *((0, v) for v in before)],
        )
        assert w @ (after - before) == pytest.approx(-best.fun, rel=1e-5)


@pytest.mark.parametrize("norm", NORMS)
def test_masked_values_do_not_change(norm):
    mask = np.array([True, False, True, False])
    run = lambda **options: attack.pgd(
        linear, MIDDLE, LABELS, 0.4, norm=norm, steps=4, mask=mask, **options
    )
    both = jax.jit(lambda: (run(), run(key=jax.random.key(0))))()
    for actual in map(np.asarray, both):
        np.testing.assert_array_equal(actual[:, ~mask], MIDDLE[:, ~mask])
        assert (norms(actual - MIDDLE, norm) <= 0.4 + 1e-6).all()
        assert (actual[:, mask] != MIDDLE[:, mask]).any(1).all()


@pytest.mark.parametrize("norm", NORMS)
def test_normalized_inputs_with_arrays_as_units(norm):
    """The attack of normalized inputs is the normalized attack."""
    mean, std = np.float32([0.4, 0.5]), np.float32([0.2, 0.3])
    rng = np.random.default_rng(0)
    images = rng.uniform(0, 1, (2, 3, 2)).astype(np.float32)
    images[0, 0] = [0, 1]
    weights = rng.normal(0, 1, (6, 2)).astype(np.float32)
    of_normalized = lambda x: jnp.sin(x.reshape(len(x), 6) @ weights)
    of_images = lambda x: of_normalized((x - mean) / std)

    @jax.jit
    def attacks(images):
        wanted = attack.pgd(of_images, images, LABELS, 0.5, norm=norm, steps=6)
        return wanted, attack.pgd(
            of_normalized,
            (images - mean) / std,
            LABELS,
            np.float32(0.5) / std,
            norm=norm,
            steps=6,
            bounds=((0 - mean) / std, (1 - mean) / std),
        )

    wanted, actual = attacks(images)
    np.testing.assert_allclose(actual * std + mean, wanted, atol=1e-5)


@pytest.mark.row("R02")
def test_restarts_keep_the_best_of_each_example():
    """A loss with a local maximum at 0.2 and the largest at 0.8."""

    def loss(output, labels):
        return 0.5 * jnp.exp(-(((output - 0.2) / 0.1) ** 2)) + jnp.exp(
            -(((output - 0.8) / 0.1) ** 2)
        )

    x = np.full((8, 1), 0.3, np.float32)
    options = {"loss": loss, "step": 0.02, "steps": 40}

    @jax.jit
    def attacks(key):
        run = functools.partial(attack.pgd, lambda x: x, x, None, 1.0, **options)
        one, two = jax.random.split(key)
        return run(), run(key=one, restarts=12), run(key=two, restarts=12, targeted=True)

    alone, best, least = attacks(jax.random.key(0))
    np.testing.assert_allclose(alone, 0.2, atol=0.03)
    np.testing.assert_allclose(best, 0.8, atol=0.03)
    assert float(loss(least, None).max()) < 0.01
    with pytest.raises(ValueError, match="restarts is 2 and key is None; expected a key"):
        attack.pgd(lambda x: x, x, None, 1.0, loss=loss, restarts=2)


def test_momentum_adds_gradients_of_norm_one():
    """Dong et al. 2018, eq. 6, written out with NumPy."""
    steps, epsilon, decay = 5, 0.2, 0.9
    x = MIDDLE.astype(np.float64)
    w = W.astype(np.float64)
    y, velocity = x, np.zeros_like(x)
    sign = np.where(LABELS == 0, 1, -1)[:, None]
    for _ in range(steps):
        scores = np.sin(4 * y @ w)
        p = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
        errors = (p - np.eye(2)[LABELS]) * 4 * np.cos(4 * y @ w)
        gradient = errors @ w.T
        velocity = decay * velocity + gradient / np.abs(gradient).sum(1, keepdims=True)
        y = np.clip(y + epsilon / steps * np.sign(velocity), x - epsilon, x + epsilon)
    assert sign.shape == (2, 1)
    actual = jax.jit(
        lambda x: attack.pgd(
            lambda x: jnp.sin(4 * x @ W),
            x,
            LABELS,
            epsilon,
            step=epsilon / steps,
            steps=steps,
            momentum=decay,
        )
    )(MIDDLE)
    np.testing.assert_allclose(actual, y, atol=1e-6)


def test_several_labels_and_embeddings_by_their_loss():
    x = np.full((2, 4), 0.5, np.float32)
    several = np.array([[1, 0], [0, 1]])
    direction = np.sign(W @ (0.5 - several.T)).T  # logits of 0: sigmoid - y

    @jax.jit
    def attacks(x):
        centred = lambda x: (x - 0.5) @ W
        away = lambda output, wanted: jnp.sum((output - wanted) ** 2, -1)
        of_labels = attack.fgsm(centred, x, several, 0.1, loss=losses.binary_cross_entropy)
        pull = attack.pgd(
            centred, x, jnp.ones((2, 2)), 0.1, loss=away, norm="l2", targeted=True, steps=30
        )
        push = attack.pgd(centred, x, jnp.ones((2, 2)), 0.1, loss=away, norm="l2", steps=30)
        return of_labels, pull, push

    of_labels, pull, push = attacks(x)
    np.testing.assert_allclose(of_labels - x, 0.1 * direction, atol=1e-6)
    near, far = (np.linalg.norm((np.asarray(v) - 0.5) @ W - 1, axis=1) for v in (pull, push))
    assert (near < np.sqrt(2) - 0.1).all() and (far > np.sqrt(2) + 0.1).all()
    with pytest.raises(ValueError, match=r"loss returns \(\) for 2 examples; expected \(2, ...\)"):
        attack.fgsm(linear, x, several, 0.1, loss=lambda o, y: jnp.mean(o))


def test_a_norm_of_a_tree_is_that_of_all_its_values():
    f = lambda x: x["a"] @ W[:2] + x["b"] @ W[2:] * x["n"][:, None].astype(jnp.float32)
    n = np.array([1, 1])
    tree = {"a": MIDDLE[:, :2], "b": MIDDLE[:, 2:], "n": n}
    bounds = ({"a": 0.0, "b": np.zeros(2), "n": None}, 1.0)

    @jax.jit
    def attacks():
        run = functools.partial(attack.fgsm, labels=LABELS, norm="l2", epsilon=0.3)
        return run(linear, MIDDLE), run(f, tree), run(f, tree, bounds=bounds)

    wanted, *trees = attacks()
    for actual in trees:
        np.testing.assert_allclose(np.hstack([actual["a"], actual["b"]]), wanted, rtol=1e-6)
        np.testing.assert_array_equal(actual["n"], n)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"norm": "l3"}, "norm is 'l3'; expected one of"),
        ({"epsilon": np.ones(3)}, r"epsilon has shape \(3,\) for x of \(2, 4\)"),
        ({"epsilon": np.array([0.1, 0.1, -0.1, 0])}, "epsilon has -0.1; expected a number >= 0"),
        ({"epsilon": np.array(["a"] * 4)}, "epsilon is <U1; expected a number >= 0"),
        ({"mask": np.ones(3)}, r"mask has shape \(3,\)"),
        ({"bounds": (np.zeros(3), 1)}, r"bounds has shape \(3,\)"),
        ({"bounds": (np.zeros(4), np.full(4, np.nan))}, "bounds has nan"),
        ({"bounds": (np.zeros(4), np.array([1, 1, 0, 1.0]))}, "expected the smaller one first"),
        ({"bounds": (np.zeros(4), np.array([1, 1, 0.4, 1]))}, r"0.5\] and bounds are"),
        ({"momentum": -1}, "momentum is -1; expected a number >= 0"),
        ({"step": np.ones(3)}, r"step has shape \(3,\)"),
        ({"restarts": 0}, "restarts is 0; expected an integer"),
    ],
)
def test_bad_arguments(change, words):
    options = {"epsilon": 0.1} | change
    with pytest.raises(ValueError, match=words):
        attack.pgd(linear, MIDDLE, LABELS, **options)
