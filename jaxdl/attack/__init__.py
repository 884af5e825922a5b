"""Inputs made to fool a network: of any function of arrays that gives scores."""

from jaxdl.attack.gradient import fgsm, pgd

__all__ = ["fgsm", "pgd"]
