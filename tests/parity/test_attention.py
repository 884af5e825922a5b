import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl import nn
from tests.parity.flax_parity import draw

Q, K, V = (draw(*shape, seed=seed) for seed, shape in enumerate([(2, 3, 4), (2, 5, 4), (2, 5, 6)]))
MASK = np.random.default_rng(3).random((2, 3, 5)) < 0.6
MASK[:, :, 0] = True


@pytest.mark.row("L01")
@pytest.mark.parametrize("mask", [None, MASK], ids=["all", "masked"])
@pytest.mark.parametrize("scale", [None, 0.3])
def test_torch_scaled_dot_product_and_its_gradients(mask, scale):
    torch = pytest.importorskip("torch")
    q, k, v = (torch.tensor(np.asarray(a), requires_grad=True) for a in (Q, K, V))
    theirs = torch.nn.functional.scaled_dot_product_attention(
        q, k, v, attn_mask=None if mask is None else torch.tensor(np.asarray(mask)), scale=scale
    )
    theirs.sin().sum().backward()

    def f(q, k, v):
        context, _ = nn.functional.attend(nn.functional.dot_scores(q, k, scale=scale), v, mask=mask)
        return jnp.sum(jnp.sin(context)), context

    gradients, context = jax.grad(f, (0, 1, 2), has_aux=True)(Q, K, V)
    chex.assert_trees_all_close(context, theirs.detach().numpy(), atol=1e-6)
    chex.assert_trees_all_close(gradients, tuple(t.grad.numpy() for t in (q, k, v)), atol=1e-5)
