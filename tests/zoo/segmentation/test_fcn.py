import jax
import numpy as np
import pytest

from jaxdl import interop, tree
from jaxdl.zoo.segmentation import fcn


def shapes(model, *shape):
    """Returns the shapes of the parameters and of the output."""
    x = jax.ShapeDtypeStruct(shape, np.float32)
    params, state = jax.eval_shape(model.init, jax.random.key(0), x)
    return params, jax.eval_shape(model.apply, params, state, x)[0].shape


@pytest.mark.row("H04")
@pytest.mark.parametrize(
    "make, expected",
    [(fcn.fcn32s, 136_152_917), (fcn.fcn16s, 134_815_994), (fcn.fcn8s, 134_489_759)],
)
def test_numbers_of_parameters(make, expected):
    params, output = shapes(make(), 1, 33, 64, 3)
    assert tree.count(params) == expected and output == (1, 33, 64, 21)


def centred(kernel):
    """A kernel that copies its input: 1 at its centre, on each channel."""
    copy = np.zeros(kernel.shape, np.float32)
    copy[tuple(n // 2 for n in kernel.shape[:2])] = np.eye(*kernel.shape[2:])
    return copy


def copying(model, x):
    """Parameters with which convolutions copy their input; upsampling has its initial values."""
    shapes = jax.eval_shape(model.init, jax.random.key(0), x)[0]
    params = {}
    for name, leaves in shapes.items():
        if name.startswith("up"):
            params[name], _ = model.children[name].init(jax.random.key(0), x)
        else:
            params[name] = {"kernel": centred(leaves["kernel"]), "bias": np.zeros(5, np.float32)}
    return params


@pytest.mark.row("H02", "H04")
@pytest.mark.parametrize(
    "stride, centres", [(32, [15.5]), (16, [15.5, 7.5]), (8, [15.5, 7.5, 3.5])]
)
def test_scores_are_aligned_with_their_pixels(stride, centres):
    """Each map shows the maxima of its windows: on a ramp, the value in the middle and a constant.

    A map that is cropped at an offset that is wrong by one pixel changes the output by 1 or 2.
    """
    i, j = np.mgrid[:128, :96]
    ramp = np.float32(i + 2 * j)[None, ..., None].repeat(5, -1)
    # With fewer than five channels convolutions are unrolled, which takes seconds to compile.
    model = fcn.fcn(stride, num_classes=5, channels=(5,) * 5, hidden=5)
    y = jax.jit(model.apply)(copying(model, ramp), {}, ramp)[0]
    expected = sum(ramp + 3 * centre for centre in centres)
    inner = np.s_[:, 29:93, 29:61]  # interpolated between windows that lie within the image
    assert y.shape == ramp.shape
    np.testing.assert_allclose(y[inner], expected[inner], rtol=1e-5)


def test_scores_begin_at_zero(key):
    """All classes are equally likely at first."""
    model = fcn.fcn8s()
    for name in ("score_fr", "score_pool4", "score_pool3"):
        params, _ = model.children[name].init(key, np.ones((1, 2, 2, 5), np.float32))
        assert not any(np.any(leaf) for leaf in params.values()), name


def test_wrong_numbers_of_classes():
    for make in (fcn.fcn32s, fcn.fcn16s, fcn.fcn8s):
        with pytest.raises(ValueError, match="num_classes is 0; expected an integer of at least 1"):
            make(num_classes=0)


def test_names_of_weights_are_those_of_pytorch_fcn():
    """Its three networks name the upsampling layers differently."""
    x = jax.ShapeDtypeStruct((1, 8, 8, 3), np.float32)
    expected = {
        32: {"upscore"},
        16: {"score_pool4", "upscore2", "upscore16"},
        8: {"score_pool4", "score_pool3", "upscore2", "upscore_pool4", "upscore8"},
    }
    for stride, names in expected.items():
        model = fcn.fcn(stride, num_classes=3, channels=(2,) * 5, hidden=2)
        shapes = jax.eval_shape(model.init, jax.random.key(0), x)
        zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
        exported = interop.export_torch_state_dict(model, *zeros, inputs=x)
        modules = {name.partition(".")[0] for name in exported}
        head = {name for name in modules if not name.startswith("conv")}
        assert head == names | {"fc6", "fc7", "score_fr"}
