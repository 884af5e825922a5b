"""Adversarial attacks on any function from arrays to scores."""

from jaxdl.attack.carlini_wagner import carlini_wagner
from jaxdl.attack.deep_fool import deep_fool
from jaxdl.attack.evolution import Evolution, differential_evolution
from jaxdl.attack.fooling import fooling_images
from jaxdl.attack.gradient import fgsm, pgd
from jaxdl.attack.one_pixel import PixelSearch, one_pixel, search_pixels
from jaxdl.attack.random_search import random_search
from jaxdl.attack.transfer import robust_accuracy, succeeds, transfer_matrix
from jaxdl.attack.universal import universal

__all__ = [
    "Evolution",
    "PixelSearch",
    "carlini_wagner",
    "deep_fool",
    "differential_evolution",
    "fgsm",
    "fooling_images",
    "one_pixel",
    "pgd",
    "random_search",
    "robust_accuracy",
    "search_pixels",
    "succeeds",
    "transfer_matrix",
    "universal",
]
