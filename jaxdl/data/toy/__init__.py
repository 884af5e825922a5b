"""Small generated data sets: travel requests, numbers and dates in words, memory tasks."""

from jaxdl.data.toy import memory_tasks, numerals, travel

__all__ = ["memory_tasks", "numerals", "travel"]
