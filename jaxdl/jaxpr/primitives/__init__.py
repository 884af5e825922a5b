"""Parameters of JAX's primitives. The only place that reads them by their names.

The names belong to JAX, which may change them in any release. They are checked against the running
JAX when this package is imported, by tracing: nothing is compiled and no device is touched. Import
it by `_jaxpr.primitives()`, once a program is read, so that `import jaxdl` does not depend on it.
"""

from jaxdl.jaxpr.primitives.examples import check
from jaxdl.jaxpr.primitives.parameters import (
    Convolution,
    axes,
    branch_platforms,
    branches,
    called,
    channels_last,
    convolution,
    cumulative,
    dot_general,
    padding,
    reshape_order,
    scan,
    slicing,
    top_k,
    widened,
    window,
    with_padding,
)

__all__ = [
    "Convolution",
    "axes",
    "branch_platforms",
    "branches",
    "called",
    "channels_last",
    "convolution",
    "cumulative",
    "dot_general",
    "padding",
    "reshape_order",
    "scan",
    "slicing",
    "top_k",
    "widened",
    "window",
    "with_padding",
]

check()
