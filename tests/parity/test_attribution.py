"""Attributions against Zennit's and Captum's: golden values, written by golden/attribution.py."""

import jax
import numpy as np
import pytest

from jaxdl import interpret
from jaxdl.interpret.lrp import epsilon_gamma_box, rules
from tests.interpret.networks import run
from tests.parity.golden import attribution

GOLDEN = np.load(attribution.FILE)
OWN = attribution.draw()
T = attribution.TARGET


def network(pool="max"):
    def conv(x, w, padding):
        numbers = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(x, w, (1, 1), padding, dimension_numbers=numbers)

    def f(x):
        x = jax.nn.relu(conv(x, OWN["w1"], "SAME") + OWN["b1"])
        x = conv(x, OWN["w2"], "VALID") + OWN["b2"]
        x = (x - OWN["mean"]) * (OWN["scale"] / np.sqrt(OWN["var"] + 1e-5)) + OWN["offset"]
        with jax.named_scope("features"):
            x = jax.nn.relu(x)
        window = ((1, 2, 2, 1), (1, 2, 2, 1), "VALID")
        if pool == "max":
            x = jax.lax.reduce_window(x, -np.inf, jax.lax.max, *window)
        else:
            x = jax.lax.reduce_window(x, 0.0, jax.lax.add, *window) / 4
        x = x.transpose(0, 3, 1, 2).reshape(len(x), -1)  # torch flattens channels first
        return jax.nn.relu(x @ OWN["w3"] + OWN["b3"]) @ OWN["w4"] + OWN["b4"]

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
    "rule_z_plus_with_bias": everywhere(rules.z_plus(bias=True)),
    "rule_epsilon_without_bias": everywhere(rules.epsilon(bias=False)),
    "rule_gamma_without_bias": everywhere(rules.gamma(0.25, bias=False)),
    "rule_alpha_beta_without_bias": everywhere(rules.alpha_beta(2, 1, bias=False)),
    "rule_box": everywhere(rules.box(-3.0, 3.0)),
    "rule_w_square": everywhere(rules.w_square()),
    "rule_flat": everywhere(rules.flat()),
}


def close(actual, name, tolerance=1e-5):
    """Zennit leaves an epsilon of 1e-5 in the batch norm that it has merged: 5e-6 of all."""
    expected = GOLDEN[name]
    np.testing.assert_allclose(actual, expected, atol=tolerance * np.abs(expected).max())


@pytest.mark.row("Q08")
@pytest.mark.parametrize("name", COMPOSITES)
def test_zennit_has_the_same_relevances(name):
    with jax.enable_x64(True):
        actual = run(interpret.lrp, network(), OWN["x"], target=T, composite=COMPOSITES[name])
        close(actual, name)


def test_zennit_has_the_same_excitation_backprop():
    with jax.enable_x64(True):
        options = {"target": T, "composite": "z_plus", "start": "one"}
        actual = run(interpret.lrp, network(), OWN["x"], **options)
        close(actual, "excitation")


@pytest.mark.parametrize("name", ["guided_backprop", "deconvnet", "beta_smooth"])
def test_zennit_has_the_same_gradients_through_another_relu(name):
    with jax.enable_x64(True):
        actual = run(getattr(interpret, name), network(), OWN["x"], target=T)
        close(actual, name, 1e-12)
        if name == "guided_backprop":
            close(actual, "captum_guided_backprop", 1e-12)


def test_captum_has_the_same_attributions():
    with jax.enable_x64(True):
        f, x, base, mask = network(), OWN["x"], OWN["baseline"], attribution.segments()
        of = lambda method, *arguments, f=f, **options: run(
            method, f, x, *arguments, target=T, **options
        )
        close(of(interpret.saliency), "saliency", 1e-12)
        path = of(interpret.integrated_gradients, baseline=base, steps=20)
        close(path, "integrated_gradients", 1e-7)
        close(of(interpret.occlusion, (3, 3, 2), stride=(2, 2, 2)), "occlusion", 1e-7)
        close(of(interpret.ablation, baseline=base, mask=mask), "ablation", 1e-12)
        close(of(interpret.deep_lift, f=network("mean"), baseline=base), "deep_lift", 1e-7)
        close(of(interpret.grad_cam, layer="features", resize=False), "grad_cam", 1e-12)


def test_captums_gradient_shap_is_the_same_up_to_chance():
    # In float32: convolutions of float64 are slow on a CPU, and chance is the greater error.
    actual = run(
        interpret.expected_gradients,
        network("mean"),
        OWN["x"].astype(np.float32),
        np.concatenate([OWN["baseline"], -OWN["baseline"]]).astype(np.float32),
        key=jax.random.key(0),
        target=T,
        samples=4000,
        batch_size=500,
    )
    close(actual, "gradient_shap", 0.06)
