"""JAX's primitives: their kinds, and readers of their parameters.

The names of parameters belong to JAX, which may change them in any release. `readers` therefore
compares what it reads with known examples before its first use.
"""

from __future__ import annotations

import functools
from types import ModuleType


@functools.cache
def readers() -> ModuleType:
    """Returns the module `parameters`, checked against the running JAX.

    The check runs at the first call. It only traces: it compiles nothing and touches no device. It
    is not made on import, so that `import jaxdl` works with any JAX.

    Raises:
      ImportError: this version of JAX stores the parameters of a primitive in another form.
    """
    from jaxdl.jaxpr.primitives import examples, parameters

    examples.check()
    return parameters
