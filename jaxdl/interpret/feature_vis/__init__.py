"""Pictures of what a model, or a part of it, answers to most."""

from jaxdl.interpret.feature_vis.activation_maximization import (
    Maximization,
    activation_maximization,
)

__all__ = ["Maximization", "activation_maximization"]
