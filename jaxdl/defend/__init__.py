"""Defences against adversarial inputs, and a check that they do not only hide the gradient."""

from jaxdl.defend.adversarial_training import (
    adversarial_loss,
    fast_adversarial_loss,
    trades_loss,
)
from jaxdl.defend.gradient_masking import MaskingReport, Sign, check_gradient_masking
from jaxdl.defend.gradient_penalty import gradient_penalty_loss
from jaxdl.defend.purification import denoising_autoencoder, purify, straight_through

__all__ = [
    "MaskingReport",
    "Sign",
    "adversarial_loss",
    "check_gradient_masking",
    "denoising_autoencoder",
    "fast_adversarial_loss",
    "gradient_penalty_loss",
    "purify",
    "straight_through",
    "trades_loss",
]
