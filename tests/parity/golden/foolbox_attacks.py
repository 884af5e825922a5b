"""Writes foolbox_attacks.npz: the attacks of Foolbox 3.3 on a small network, on the JAX backend.

`pip install foolbox`, then `python -m tests.parity.golden.foolbox_attacks`. Weights and inputs are
drawn by NumPy, so that the tests draw them again. No change reaches the bounds: Foolbox clips to
them after it has projected, while ours projects onto both.
"""

import pathlib

import jax.numpy as jnp
import numpy as np

FILE = pathlib.Path(__file__).with_suffix(".npz")
LINF, L2 = 0.1, 0.2


def draw() -> tuple[list[np.ndarray], np.ndarray]:
    """Returns the weights of a network of two layers, and inputs (6, 8) in [0.35, 0.65]."""
    rng = np.random.default_rng(0)
    weights = [rng.normal(0, 1, shape).astype(np.float32) for shape in ((8, 10), (10, 4))]
    return weights, rng.uniform(0.35, 0.65, (6, 8)).astype(np.float32)


def f(x):
    """Returns scores (N, 4)."""
    (first, second), _ = draw()
    return jnp.tanh((x - 0.5) @ first) @ second


def compute() -> dict[str, np.ndarray]:
    """Returns the attacked inputs (6, 8) by the name of the attack."""
    import foolbox

    model = foolbox.JAXModel(f, bounds=(0, 1))
    x = jnp.asarray(draw()[1])
    labels = jnp.argmax(f(x), -1)
    attacks, start = foolbox.attacks, {"random_start": False}
    runs = {
        "fgsm": (attacks.FGSM(**start), LINF),
        "bim": (attacks.LinfBasicIterativeAttack(rel_stepsize=0.2, steps=5, **start), LINF),
        "pgd": (attacks.LinfPGD(rel_stepsize=0.15, steps=10, **start), LINF),
        "fgm": (attacks.FGM(**start), L2),
        "pgd_l2": (attacks.L2PGD(rel_stepsize=0.15, steps=10, **start), L2),
        "deep_fool": (attacks.L2DeepFoolAttack(loss="logits"), None),
        "carlini_wagner": (attacks.L2CarliniWagnerAttack(steps=500), None),
    }
    return {
        name: np.asarray(run(model, x, labels, epsilons=epsilon)[1])
        for name, (run, epsilon) in runs.items()
    }


if __name__ == "__main__":
    np.savez_compressed(FILE, **compute())
