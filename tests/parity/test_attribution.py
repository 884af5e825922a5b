"""Attributions against Zennit's and Captum's: golden values, written by golden/attribution.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl import interpret
from jaxdl.interpret.relevance import epsilon_gamma_box, rules
from tests.parity.golden import attribution

GOLDEN = np.load(attribution.FILE)
OWN = attribution.draw()
T = attribution.TARGET


def network(pool="max"):
    def conv(x, w, padding):
        numbers = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(x, w, (1, 1), padding, dimension_numbers=numbers)

    def f(x):
        own = {name: jnp.asarray(value) for name, value in OWN.items()}
        x = jax.nn.relu(conv(x, own["w1"], "SAME") + own["b1"])
        x = conv(x, own["w2"], "VALID") + own["b2"]
        x = (x - own["mean"]) * (jax.lax.rsqrt(own["var"] + 1e-5) * own["scale"]) + own["offset"]
        with jax.named_scope("features"):
            x = jax.nn.relu(x)
        window = ((1, 2, 2, 1), (1, 2, 2, 1), "VALID")
        if pool == "max":
            x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, *window)
        else:
            x = jax.lax.reduce_window(x, 0.0, jax.lax.add, *window) / 4
        x = x.transpose(0, 3, 1, 2).reshape(len(x), -1)  # torch flattens channels first
        return jax.nn.relu(x @ own["w3"] + own["b3"]) @ own["w4"] + own["b4"]

    return f


def everywhere(rule):
    return lambda layer: rule


COMPOSITES = {
    name: name
    for name in (
        "epsilon_plus",
        "epsilon_alpha2_beta1",
        "epsilon_plus_flat",
        "epsilon_alpha2_beta1_flat",
    )
} | {
    "epsilon_gamma_box": epsilon_gamma_box(-3.0, 3.0),
    "rule_epsilon": everywhere(rules.epsilon()),
    "rule_gamma": everywhere(rules.gamma(0.25)),
    "rule_alpha_beta": everywhere(rules.alpha_beta(2, 1)),
    "rule_z_plus": everywhere(rules.z_plus()),
    "rule_box": everywhere(rules.box(-3.0, 3.0)),
    "rule_w_square": everywhere(rules.w_square()),
    "rule_flat": everywhere(rules.flat()),
}


def close(found, name, tolerance=1e-5):
    """Zennit leaves an epsilon of 1e-5 in the batch norm that it has merged: 5e-6 of all."""
    expected = GOLDEN[name]
    np.testing.assert_allclose(found, expected, atol=tolerance * np.abs(expected).max())


@pytest.mark.row("Q08")
@pytest.mark.parametrize("name", COMPOSITES)
def test_zennit_has_the_same_relevances(name):
    with jax.enable_x64(True):
        x = jnp.asarray(OWN["x"])
        close(interpret.lrp(network(), x, target=T, composite=COMPOSITES[name]), name)


def test_zennit_has_the_same_excitation_backprop():
    with jax.enable_x64(True):
        x = jnp.asarray(OWN["x"])
        found = interpret.lrp(network(), x, target=T, composite="z_plus", start="one")
        close(found, "excitation")


@pytest.mark.row("B09")
@pytest.mark.parametrize("name", ["guided_backprop", "deconvnet", "beta_smooth"])
def test_zennit_has_the_same_gradients_through_another_relu(name):
    with jax.enable_x64(True):
        found = getattr(interpret, name)(network(), jnp.asarray(OWN["x"]), target=T)
        close(found, name, 1e-12)
        if name == "guided_backprop":
            close(found, "captum_guided_backprop", 1e-12)


def test_captum_has_the_same_attributions():
    with jax.enable_x64(True):
        f, x, base = network(), jnp.asarray(OWN["x"]), jnp.asarray(OWN["baseline"])
        options = {"target": T}
        close(interpret.saliency(f, x, **options), "saliency", 1e-12)
        path = interpret.integrated_gradients(f, x, baseline=base, steps=20, **options)
        close(path, "integrated_gradients", 1e-7)
        covered = interpret.occlusion(f, x, (3, 3, 2), stride=(2, 2, 2), **options)
        close(covered, "occlusion", 1e-7)
        mask = attribution.segments()
        close(interpret.ablation(f, x, baseline=base, mask=mask, **options), "ablation", 1e-12)
        lifted = interpret.deep_lift(network("mean"), x, baseline=base, **options)
        close(lifted, "deep_lift", 1e-7)
        cam = interpret.grad_cam(f, x, at="features", resize=False, **options)
        close(cam, "grad_cam", 1e-12)


def test_captums_gradient_shap_is_the_same_up_to_chance():
    with jax.enable_x64(True):
        base = jnp.concatenate([OWN["baseline"], -OWN["baseline"]])
        found = interpret.expected_gradients(
            network("mean"),
            jnp.asarray(OWN["x"]),
            base,
            key=jax.random.key(0),
            target=T,
            samples=4000,
            chunk=500,
        )
        close(found, "gradient_shap", 0.06)
