"""A checkpoint of format 1, as 0.1.0 wrote it: every later version must read it.

`python -m tests.train.golden` writes it anew, for another format beside this one.
"""
