"""Experiments: `python -m experiments` lists them; each writes its results below `results/`."""
