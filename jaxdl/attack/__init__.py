"""Adversarial attacks on any function from arrays to scores."""

from jaxdl.attack.gradient import fgsm, pgd

__all__ = ["fgsm", "pgd"]
