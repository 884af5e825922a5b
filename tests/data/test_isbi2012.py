import numpy as np
import pytest
from PIL import Image

from jaxdl import data


@pytest.mark.row("H11")
def test_the_slices_and_their_split(data_root):
    data_root("isbi2012")
    membranes = data.isbi2012()
    (x, y), (x_test, y_test) = membranes.train, membranes.test
    assert x.shape == (24, 512, 512, 1) and x_test.shape == (6, 512, 512, 1)
    assert y.shape == (24, 512, 512) and y_test.shape == (6, 512, 512)
    assert x.dtype == np.float32 and y.dtype == np.int32 and set(np.unique(y)) == {0, 1}
    assert membranes.classes == ("membrane", "cell")
    for image, label in zip(x_test[..., 0], y_test, strict=True):  # membranes are dark
        assert image[label == 0].mean() < image[label == 1].mean() - 0.1
        assert 0.7 < label.mean() < 0.85


def test_damaged_files(tmp_path):
    with pytest.raises(ValueError, match="isbi2012: no folder 'train' here"):
        data.isbi2012(tmp_path)
    for kind in ("image", "label"):
        (tmp_path / "train" / kind).mkdir(parents=True)
    first = tmp_path / "train" / "label" / "0.png"
    with pytest.raises(ValueError, match=r"0\.png: no complete PNG image"):
        data.isbi2012(tmp_path)
    first.write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(ValueError, match=r"0\.png: no complete PNG image"):
        data.isbi2012(tmp_path)
    Image.new("RGB", (512, 512)).save(first)
    with pytest.raises(ValueError, match=r"is \(512, 512\) RGB; expected \(512, 512\) L"):
        data.isbi2012(tmp_path)
    for i in range(30):
        Image.new("L", (512, 512), 7).save(first.with_name(f"{i}.png"), compress_level=1)
    with pytest.raises(ValueError, match="a label is 7; expected 0 for membranes and 255"):
        data.isbi2012(tmp_path)
