"""Small generated data sets: travel requests, numbers in words, memory tasks, shapes."""

from jaxdl.data.toy import memory_tasks, numerals, travel
from jaxdl.data.toy.shapes import shapes

__all__ = ["memory_tasks", "numerals", "shapes", "travel"]
