"""Smaller networks from trained ones: pruning, int8 quantization and distillation.

All are functions over the parameters or the outputs of any model; no layer has to be written for
them.
"""

from jaxdl.compress.distill import distillation
from jaxdl.compress.prune import keep_pruned, prune, prune_filters
from jaxdl.compress.quantize import (
    QuantizedArray,
    calibrate,
    dequantize,
    integer_model,
    nbytes,
    quantize,
    weight_only_model,
)

__all__ = [
    "QuantizedArray",
    "calibrate",
    "dequantize",
    "distillation",
    "integer_model",
    "keep_pruned",
    "nbytes",
    "prune",
    "prune_filters",
    "quantize",
    "weight_only_model",
]
