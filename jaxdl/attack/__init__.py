"""Adversarial attacks on any function from arrays to scores."""

from jaxdl.attack.gradient import fgsm, pgd
from jaxdl.attack.random_search import random_search

__all__ = ["fgsm", "pgd", "random_search"]
