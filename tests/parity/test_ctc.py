"""CTC against torch."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl import losses


@pytest.mark.row("K05")
@pytest.mark.parametrize("blank", [0, 4])
def test_torch_has_the_same_loss_and_gradient(blank):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(4, 9, 5)).astype(np.float32)
    labels = np.array([[1, 2, 2], [3, 0, 0], [3, 1, 0], [0, 0, 0]], np.int32)
    lengths, counts = np.array([9, 4, 7, 5]), np.array([3, 1, 2, 0])
    x = torch.tensor(logits, requires_grad=True)
    theirs = torch.nn.functional.ctc_loss(
        x.log_softmax(-1).transpose(0, 1),
        torch.tensor(labels),
        torch.tensor(lengths),
        torch.tensor(counts),
        blank=blank,
        reduction="none",
    )
    theirs.sum().backward()

    def ours(logits):
        values = losses.ctc(logits, *map(jnp.asarray, (labels, lengths, counts)), blank=blank)
        return jnp.sum(values), values

    gradient, values = jax.grad(ours, has_aux=True)(jnp.asarray(logits))
    chex.assert_trees_all_close(values, theirs.detach().numpy(), rtol=1e-4)
    chex.assert_trees_all_close(gradient, x.grad.numpy(), atol=1e-4)
