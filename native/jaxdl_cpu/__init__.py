"""Matrix products and convolutions of any JAX program by oneDNN, on a CPU.

    import jaxdl_cpu
    jaxdl_cpu.enable()      # functions that are compiled from now on call oneDNN where it is faster

Derivatives, `vmap`, `scan` and `jit` are unchanged: they work on JAX's primitives, and only the
lowering of `lax.dot_general` and `lax.conv_general_dilated` to XLA's operations differs.
"""

from jaxdl_cpu._lowering import Info, disable, enable, enabled, info

__all__ = ["Info", "disable", "enable", "enabled", "info"]
