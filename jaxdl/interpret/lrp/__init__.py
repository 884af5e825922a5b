"""Layer-wise relevance propagation (LRP): the method, its rules and composites."""

from jaxdl.interpret.lrp import rules
from jaxdl.interpret.lrp.composites import COMPOSITES, epsilon_gamma_box
from jaxdl.interpret.lrp.lrp import lrp
from jaxdl.interpret.lrp.operations import register_rule

__all__ = ["COMPOSITES", "epsilon_gamma_box", "lrp", "register_rule", "rules"]
