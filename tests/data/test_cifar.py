import numpy as np

from jaxdl.data.cifar import RECORD, _split


def test_a_record_is_a_label_and_three_planes_row_by_row():
    records = np.zeros((3, RECORD), np.uint8)
    records[1, 0] = 7
    records[1, 1 + 1024 + 32 * 3 + 5] = 255  # green, row 3, column 5
    x, y = _split(records)
    assert y.tolist() == [0, 7, 0] and np.argwhere(x).tolist() == [[1, 3, 5, 1]]
