"""The embedded digits, and the real files where they are at hand."""

import io
import tarfile

import numpy as np
import pytest

from jaxdl import data
from jaxdl.data.cifar import RECORD, RECORDS


def check(split, n, shape, classes=10):
    assert split.x.shape == (n, *shape) and split.x.dtype == np.float32
    assert split.y.shape == (n,) and split.y.dtype == np.int32
    assert split.x.min() == 0.0 and split.x.max() == 1.0
    assert set(split.y) == set(range(classes))


def test_digits_are_embedded_split_and_read_only():
    digits = data.digits()
    check(digits.train, 1438, (8, 8, 1))
    check(digits.test, 359, (8, 8, 1))
    assert data.digits() is digits
    with pytest.raises(ValueError, match="read-only"):
        digits.train.x[0] = 1


def test_digits_of_the_two_splits_are_all_the_digits_once():
    digits = data.digits()
    rows = np.concatenate([digits.train.x, digits.test.x]).reshape(-1, 64)
    assert len(np.unique(rows, axis=0)) == 1797
    counts = np.bincount(digits.train.y) + np.bincount(digits.test.y)
    np.testing.assert_array_equal(counts, [178, 182, 177, 183, 181, 182, 181, 179, 174, 180])


def test_digits_are_learnable_by_the_nearest_neighbour():
    train, test = data.digits().train, data.digits().test
    a, b = train.x.reshape(-1, 64), test.x.reshape(-1, 64)
    distance = (b**2).sum(1)[:, None] - 2 * b @ a.T + (a**2).sum(1)
    assert np.mean(train.y[distance.argmin(1)] == test.y) > 0.97


@pytest.mark.row("A20", "V08")
def test_mnist(data_root):
    mnist = data.mnist(data_root("mnist"))
    check(mnist.train, 60_000, (28, 28, 1))
    check(mnist.test, 10_000, (28, 28, 1))
    np.testing.assert_array_equal(mnist.train.y[:8], [5, 0, 4, 1, 9, 2, 1, 3])
    np.testing.assert_array_equal(
        np.bincount(mnist.test.y), [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    )
    np.testing.assert_allclose(mnist.train.x.mean(), 0.1307, atol=1e-4)
    stroke = [3, 18, 18, 18, 126, 136, 175, 26, 166, 255, 247, 127]  # top of the first image, a 5
    np.testing.assert_allclose(mnist.train.x[0, 5, 12:24, 0], np.divide(stroke, 255), rtol=1e-6)
    flat, targets = mnist.test.x.reshape(-1, 784), data.one_hot(mnist.test.y, 10)
    np.testing.assert_array_equal(targets.argmax(1), mnist.test.y)
    assert flat.shape == (10_000, 784) and targets.shape == (10_000, 10)


def test_fashion_mnist(data_root):
    fashion = data.fashion_mnist(data_root("fashion-mnist"))
    check(fashion.train, 60_000, (28, 28, 1))
    np.testing.assert_array_equal(np.bincount(fashion.test.y), [1000] * 10)
    assert fashion.classes[fashion.train.y[0]] == "ankle boot"


def test_usps(data_root):
    usps = data.usps(data_root("usps"))
    check(usps.train, 7291, (16, 16, 1))
    check(usps.test, 2007, (16, 16, 1))
    a, b = usps.train.x.reshape(-1, 256), usps.test.x.reshape(-1, 256)
    distance = (b**2).sum(1)[:, None] - 2 * b @ a.T + (a**2).sum(1)
    assert abs(np.mean(usps.train.y[distance.argmin(1)] == usps.test.y) - 0.944) < 0.002


def test_cifar10_png(data_root):
    cifar = data.cifar10_png(data_root("cifar10-png"))
    check(cifar.train, 3200, (32, 32, 3))
    check(cifar.test, 800, (32, 32, 3))
    assert [cifar.classes[label] for label in cifar.train.y[:3]] == ["frog", "truck", "truck"]


def archive(tmp_path, records, names=None, size=None):
    names = names or [f"data_batch_{i}.bin" for i in range(1, 6)] + ["test_batch.bin"]
    path = tmp_path / "cifar-10-binary.tar.gz"
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        for name in names:
            info = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            content = records.tobytes()[:size]
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path.parent


@pytest.mark.slow
def test_cifar10_from_its_binary_version(tmp_path):
    records = np.zeros((RECORDS, RECORD), np.uint8)
    records[:, 0] = np.arange(RECORDS) % 10
    records[7, 1 + 1024 + 32 * 3 + 5] = 255  # green, row 3, column 5
    cifar = data.cifar10(archive(tmp_path, records))
    check(cifar.train, 50_000, (32, 32, 3))
    assert cifar.test.x[7].sum() == 1.0 == cifar.test.x[7, 3, 5, 1] and cifar.test.y[7] == 7


def test_bad_cifar10_archives(tmp_path):
    records = np.zeros((RECORDS, RECORD), np.uint8)
    with pytest.raises(ValueError, match="expected 30730000"):
        data.cifar10(archive(tmp_path, records, size=100))
    with pytest.raises(ValueError, match="has no .*data_batch_1.bin"):
        data.cifar10(archive(tmp_path, records, names=["../../evil"], size=10))
    records[0, 0] = 12
    with pytest.raises(ValueError, match="a label is 12"):
        data.cifar10(archive(tmp_path, records))
    path = tmp_path / "cifar-10-binary.tar.gz"
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ValueError, match="damaged or truncated"):
        data.cifar10(tmp_path)


def test_mixed_up_idx_files_raise(tmp_path, data_root):
    folder = data_root("mnist")
    for name in ("train-labels-idx1-ubyte.gz", "t10k-labels-idx1-ubyte.gz"):
        (tmp_path / name).write_bytes((folder / "t10k-labels-idx1-ubyte.gz").read_bytes())
    for name in ("train-images-idx3-ubyte.gz", "t10k-images-idx3-ubyte.gz"):
        (tmp_path / name).symlink_to(folder / name)
    with pytest.raises(ValueError, match="files are of one data set"):
        data.mnist(tmp_path)
