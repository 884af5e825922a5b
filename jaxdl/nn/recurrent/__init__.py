"""Recurrent layers: cells, the loop over time, and stacks of them."""
