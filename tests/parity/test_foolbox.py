"""Attacks against the committed results of Foolbox, and Foolbox itself where installed."""

import jax
import numpy as np
import pytest

from jaxdl import attack
from tests.parity.golden import foolbox_attacks

GOLDEN = dict(np.load(foolbox_attacks.FILE))
X = foolbox_attacks.draw()[1]
F = foolbox_attacks.f
LINF, L2 = foolbox_attacks.LINF, foolbox_attacks.L2


@pytest.fixture(scope="module")
def actual():
    @jax.jit
    def attacks(x, labels):
        of_f = lambda run, *arguments, **options: run(F, x, labels, *arguments, **options)
        return {
            "fgsm": of_f(attack.fgsm, LINF),
            "bim": of_f(attack.pgd, LINF, step=0.2 * LINF, steps=5),
            "pgd": of_f(attack.pgd, LINF, step=0.15 * LINF, steps=10),
            "fgm": of_f(attack.fgsm, L2, norm="l2"),
            "pgd_l2": of_f(attack.pgd, L2, norm="l2", step=0.15 * L2, steps=10),
            "deep_fool": of_f(attack.deep_fool),
            "carlini_wagner": of_f(attack.carlini_wagner),
        }

    return {name: np.asarray(x) for name, x in attacks(X, F(X).argmax(-1)).items()}


@pytest.mark.parametrize("name", ["fgsm", "bim", "pgd", "fgm", "pgd_l2", "deep_fool"])
def test_attacked_inputs_are_those_of_foolbox(name, actual):
    assert np.abs(actual[name] - X).max(1).min() > 1e-3
    # Foolbox adds 1e-4 to the distance of each step of DeepFool.
    error = 3e-4 if name == "deep_fool" else 2e-5
    np.testing.assert_allclose(actual[name], GOLDEN[name], atol=error)


def test_carlini_wagner_comes_as_near_as_foolbox(actual):
    """Foolbox measures distances from inputs that it has moved by a millionth."""
    labels = F(X).argmax(-1)
    ours, theirs = actual["carlini_wagner"], GOLDEN["carlini_wagner"]
    assert attack.succeeds(F, ours, labels).all() and attack.succeeds(F, theirs, labels).all()
    sizes, wanted = (np.linalg.norm(x - X, axis=1) for x in (ours, theirs))
    np.testing.assert_allclose(sizes, wanted, rtol=0.01)
    np.testing.assert_allclose(ours, theirs, atol=0.02)


def test_foolbox_has_the_committed_results():
    pytest.importorskip("foolbox", reason="Foolbox is not installed; its results are committed")
    with jax.numpy_dtype_promotion("standard"):
        for name, value in foolbox_attacks.compute().items():
            np.testing.assert_allclose(value, GOLDEN[name], atol=1e-4)
