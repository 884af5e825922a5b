import jax
import numpy as np

from jaxdl import interpret
from jaxdl.interpret.lrp import epsilon_gamma_box, rules
from tests.interpret.networks import array, double

W, V, X = array(0, 5, 6), array(1, 6, 3), array(2, 2, 5)
COMPOSITES = {
    "epsilon": "epsilon",
    "box": epsilon_gamma_box(-3.0, 3.0),
    "no pattern fits": {"conv_*": rules.z_plus()},
    "flat": lambda layer: rules.flat(),
    "two patterns fit": {"*": rules.flat(), "**": rules.z_plus()},
    "gamma": "gamma",
    "gamma everywhere": lambda layer: rules.gamma(0.25),
}


def test_which_rule_dense_layers_have():
    """z^B is of a first convolution only; the first pattern counts, and epsilon without one."""
    with double():
        f = lambda x: jax.nn.relu(x @ W) @ V
        explain = lambda x: {
            name: interpret.lrp(f, x, target=0, composite=composite)
            for name, composite in COMPOSITES.items()
        }
        actual = jax.jit(explain)(X)
        for name, same in (
            ("box", "epsilon"),
            ("no pattern fits", "epsilon"),
            ("two patterns fit", "flat"),
            ("gamma", "gamma everywhere"),
        ):
            np.testing.assert_allclose(actual[name], actual[same], atol=1e-9, err_msg=name)
