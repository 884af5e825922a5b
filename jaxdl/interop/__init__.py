"""Models and weights of other libraries.

PyTorch's weights and folding are here; import the submodule for another library.
"""

from jaxdl.interop.fold import fold_batch_norm
from jaxdl.interop.torch import export_torch_state_dict, load

__all__ = ["export_torch_state_dict", "fold_batch_norm", "load"]
