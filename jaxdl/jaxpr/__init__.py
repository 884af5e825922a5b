"""Programs of JAX (jaxprs): reading, tracing, bounds, cost and incremental evaluation."""
