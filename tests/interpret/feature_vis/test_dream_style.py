"""Deep Dream and style transfer: what must rise, what must fall, and the first step by hand."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxdl.interpret import feature_vis
from jaxdl.interpret.feature_vis import objective
from jaxdl.interpret.feature_vis.dream import normalized_steps
from jaxdl.interpret.feature_vis.network import layer_values

RNG = np.random.default_rng(0)
KERNEL = RNG.normal(size=(3, 3, 3, 5)).astype(np.float32) / 3
IMAGE = RNG.uniform(size=(16, 12, 3)).astype(np.float32)
STYLE = RNG.uniform(size=(9, 9, 3)).astype(np.float32) ** 3


def network(x):
    with jax.named_scope("conv"):
        x = jax.lax.conv_general_dilated(
            x, jnp.asarray(KERNEL), (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        x = jnp.tanh(x)
    return x.mean((1, 2))


def dream(goal="conv", image=IMAGE, **options):
    options = {"key": jax.random.key(0), "octaves": 1, "jitter": 0} | options
    return feature_vis.deep_dream(network, image, goal, **options)


@pytest.mark.row("I14")
def test_gradient_ascent_raises_the_norm_of_a_layer_in_every_step():
    actual = dream(steps=20, step_size=0.01)
    assert actual.score.shape == (1, 21) and (np.diff(actual.score[0]) > 0).all()

    assert float((value(actual.image[None]) ** 2).mean()) == pytest.approx(
        float(actual.score[0, -1]), rel=1e-5
    )
    assert float((value(IMAGE[None]) ** 2).mean()) == pytest.approx(
        float(actual.score[0, 0]), rel=1e-5
    )


@pytest.mark.row("I14")
def test_a_step_has_the_stated_mean_size_and_the_direction_of_the_gradient():
    actual = dream(objective.logit(2), steps=1, step_size=0.05)
    slope = np.asarray(jax.grad(lambda x: network(x[None])[0, 2])(jnp.asarray(IMAGE)))
    change = np.asarray(actual.image) - IMAGE
    assert np.abs(change).mean() == pytest.approx(0.05, rel=1e-4)
    chex.assert_trees_all_close(change, 0.05 * slope / np.abs(slope).mean(), atol=1e-5)


def test_octaves_keep_the_original_where_nothing_changes():
    flat = lambda x: network(x) * 0
    still = feature_vis.deep_dream(
        flat, IMAGE, objective.logit(0), key=jax.random.key(0), octaves=2, steps=1
    )
    chex.assert_trees_all_close(still.image, IMAGE, atol=1e-6)
    moved = dream(octaves=2, steps=2, bounds=(0, 1), jitter=2)
    assert moved.score.shape == (2, 3)
    assert moved.image.shape == IMAGE.shape and 0 <= moved.image.min() and moved.image.max() <= 1
    assert moved.score[1, -1] > dream(steps=1).score[0, 0]


def test_a_gradient_of_zero_is_no_step():
    optimizer = normalized_steps(1.0)
    updates, _ = optimizer.update({"a": jnp.zeros(3)}, optax.EmptyState())
    chex.assert_trees_all_equal(updates, {"a": jnp.zeros(3)})


@pytest.mark.row("I15")
def test_the_total_loss_of_style_transfer_falls():
    actual = feature_vis.style_transfer(
        network,
        IMAGE,
        STYLE,
        content_layer="conv",
        style_layers=["conv"],
        key=jax.random.key(0),
        style_weight=30.0,
        smoothness=0.1,
        bounds=(0, 1),
        steps=40,
        optimizer=optax.adam(0.01),
    )
    loss = -np.asarray(actual.score)
    assert loss[-1] < 0.7 * loss[0] and (np.diff(loss) < 0).mean() > 0.9
    differences = sum(np.abs(np.diff(IMAGE, axis=axis)).sum() for axis in (0, 1))
    grams = [np.asarray(objective.gram(value(image[None])))[0] for image in (IMAGE, STYLE)]
    first = 30 * ((grams[0] - grams[1]) ** 2).sum() / 100 + 0.1 * differences / IMAGE.size
    assert loss[0] == pytest.approx(first, rel=1e-4)
    final = np.asarray(objective.gram(value(actual.image[None])))[0]
    assert ((final - grams[1]) ** 2).sum() < 0.7 * ((grams[0] - grams[1]) ** 2).sum()


def value(x):
    """The layer, by the function itself."""
    x = jnp.asarray(x)
    return layer_values("test", network, x, ("conv",))(x)["conv"]


@pytest.mark.parametrize(
    "options, words",
    [
        ({"image": IMAGE[None]}, r"expected floating-point \(H, W, C\)"),
        ({"octaves": 6}, "less than 8 pixels"),
        ({"octaves": 0}, "octaves is 0"),
        ({"octave_scale": 1.0}, "octave_scale is 1.0"),
        ({"step_size": 0.0}, "step_size is 0.0"),
        ({"goal": "other"}, "no layer 'other'"),
    ],
)
def test_bad_arguments_of_dreams(options, words):
    with pytest.raises(ValueError, match=words):
        dream(**options)


@pytest.mark.parametrize("options", [{"style_weight": 0.0}, {"smoothness": -1.0}])
def test_bad_arguments_of_style(options):
    with pytest.raises(ValueError, match="expected a number"):
        feature_vis.style_transfer(
            network,
            IMAGE,
            STYLE,
            content_layer="conv",
            style_layers="conv",
            key=jax.random.key(0),
            **options,
        )
