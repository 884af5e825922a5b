"""DeepLIFT's rescale rule: multipliers of every operation that are exact between two runs."""

from jaxdl.interpret._rescale.operations import plan
from jaxdl.interpret._rescale.slopes import difference, zero_where

__all__ = ["difference", "plan", "zero_where"]
