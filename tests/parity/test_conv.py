import functools

import flax.linen as linen
import jax
import pytest

from jaxdl import nn
from tests.parity.flax_parity import assert_same_as_linen, draw

X = draw(2, 7, 6, 4)
CASES = {
    "same": dict(padding="SAME"),
    "valid": dict(padding="VALID"),
    "circular": dict(padding="CIRCULAR"),
    "pairs": dict(padding=((1, 2), (0, 1))),
    "stride": dict(strides=(2, 1), padding="SAME"),
    "dilation": dict(kernel_dilation=2, padding="SAME"),
    "groups": dict(feature_group_count=2, padding="SAME"),
    "no bias": dict(use_bias=False),
}
NAMES = {"strides": "stride", "kernel_dilation": "dilation", "feature_group_count": "groups"}


@pytest.mark.parametrize("options", CASES.values(), ids=CASES)
def test_conv(options):
    ours = {NAMES.get(name, name): value for name, value in options.items()}
    assert_same_as_linen(nn.conv(6, 3, **ours), linen.Conv(6, (3, 3), **options), X, atol=1e-4)


@pytest.mark.parametrize("shape", [(2, 7, 3), (1, 4, 5, 4, 3)], ids=["1-d", "3-d"])
def test_conv_of_other_dimensions(shape):
    window = (3,) * (len(shape) - 2)
    assert_same_as_linen(nn.conv(4, 3), linen.Conv(4, window), draw(*shape), atol=1e-4)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_conv_transpose(stride, padding):
    twin = linen.ConvTranspose(5, (3, 3), strides=(stride, stride), padding=padding)
    model = nn.conv_transpose(5, 3, stride=stride, padding=padding)
    assert_same_as_linen(model, twin, X, atol=1e-4)


@pytest.mark.parametrize("stride, padding", [(2, "VALID"), (1, "VALID"), (2, "SAME")])
@pytest.mark.parametrize(
    "ours, theirs",
    [(nn.functional.max_pool, linen.max_pool), (nn.functional.avg_pool, linen.avg_pool)],
    ids=["max", "average"],
)
def test_pooling(ours, theirs, stride, padding):
    g = functools.partial(theirs, window_shape=(2, 2), strides=(stride, stride), padding=padding)

    class Twin(linen.Module):
        @linen.compact
        def __call__(self, x):
            with jax.numpy_dtype_promotion("standard"):  # Flax divides by an integer
                return g(x)

    pool = {nn.functional.max_pool: nn.max_pool, nn.functional.avg_pool: nn.avg_pool}[ours]
    assert_same_as_linen(pool(2, stride=stride, padding=padding), Twin(), X)
