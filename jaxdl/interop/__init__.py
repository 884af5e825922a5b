"""Models and weights of other libraries.

`load` and `export_torch_state_dict` are here; import the submodule for other libraries.
"""

from jaxdl.interop.torch import export_torch_state_dict, load

__all__ = ["export_torch_state_dict", "load"]
