"""DeepLIFT's rescale rule: multipliers of operations, exact between two runs."""

from jaxdl.interpret._rescale.operations import plan
from jaxdl.interpret._rescale.slopes import difference, zero_where

__all__ = ["difference", "plan", "zero_where"]
