"""Programs of JAX (jaxprs): tracing, evaluation, graphs, primitives and cost.

Internal: everything that depends on the form of JAX's programs is in this package, so that a new
JAX with another form concerns no other code. Only `jaxdl.depth` and
`jaxdl.receptive_field` are public.
"""
