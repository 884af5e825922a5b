import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdl
from jaxdl import nn
from tests.parity.flax_parity import assert_same_as_linen, draw

IMAGES = 1 + 2 * draw(4, 3, 3, 6)
OPTIONS = [(True, True), (True, False), (False, True)]


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("use_scale, use_bias", OPTIONS)
@pytest.mark.parametrize("x", [IMAGES, IMAGES[:, 0, 0]], ids=["images", "rows"])
def test_batch_norm(x, use_scale, use_bias, train):
    options = dict(momentum=0.9, use_scale=use_scale, use_bias=use_bias)
    assert_same_as_linen(
        nn.batch_norm(eps=1e-3, **options), linen.BatchNorm(epsilon=1e-3, **options), x, train=train
    )


def test_batch_norm_by_default():
    assert_same_as_linen(nn.batch_norm(), linen.BatchNorm(), IMAGES, train=True)


@pytest.mark.parametrize("use_scale, use_bias", OPTIONS)
def test_layer_norm(use_scale, use_bias):
    options = dict(use_scale=use_scale, use_bias=use_bias)
    assert_same_as_linen(nn.layer_norm(**options), linen.LayerNorm(**options), IMAGES)


@pytest.mark.parametrize("groups", [1, 3, 6])
def test_group_norm(groups):
    assert_same_as_linen(nn.group_norm(groups), linen.GroupNorm(groups), IMAGES)


def test_instance_norm():
    assert_same_as_linen(nn.instance_norm(), linen.InstanceNorm(), IMAGES)


@pytest.mark.row("D20")
def test_batch_norm_of_torch():
    """Its momentum is 1 - ours, and its running variance the unbiased n/(n - 1) of ours."""
    torch = pytest.importorskip("torch")
    layer, twin = nn.batch_norm(momentum=0.9), torch.nn.BatchNorm2d(6, momentum=0.1)
    params, state = jaxdl.init(layer, jax.random.key(0), IMAGES)
    nchw = torch.tensor(np.transpose(IMAGES, (0, 3, 1, 2)).copy(), requires_grad=True)
    theirs = twin(nchw)
    theirs.sin().sum().backward()

    def ours(x):
        y, new = layer.apply(params, state, x, train=True)
        return jnp.sum(jnp.sin(y)), (y, new)

    gradient, (y, new) = jax.grad(ours, has_aux=True)(IMAGES)
    as_nhwc = lambda t: np.transpose(t.detach().numpy(), (0, 2, 3, 1))
    np.testing.assert_allclose(y, as_nhwc(theirs), atol=1e-5)
    np.testing.assert_allclose(gradient, as_nhwc(nchw.grad), atol=1e-5)
    np.testing.assert_allclose(new["mean"], twin.running_mean.numpy(), rtol=1e-5, atol=1e-6)
    n = 4 * 3 * 3
    moved = (new["var"] - 0.9) * n / (n - 1) + 0.9
    np.testing.assert_allclose(moved, twin.running_var.numpy(), rtol=1e-5)
    twin.eval()
    own = {"mean": jnp.asarray(twin.running_mean.numpy()), "var": jnp.asarray(moved)}
    tested, _ = layer.apply(params, own, IMAGES)
    np.testing.assert_allclose(tested, as_nhwc(twin(nchw)), atol=1e-5)
