"""BCCD and the images of shapes."""

import numpy as np
import pytest

from jaxdl import data
from jaxdl.data.bccd import _image, _objects

OBJECT = "<object><name>{}</name><bndbox>{}</bndbox></object>"
EDGES = "<xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax>"


def annotation(path, *objects):
    """Writes an annotation of `(name, edges)` pairs."""
    rows = [OBJECT.format(name, EDGES.format(*edges)) for name, edges in objects]
    path.write_text(f"<annotation>{''.join(rows)}</annotation>")
    return path


def test_objects_of_an_annotation(tmp_path):
    cells = ("WBC", (68, 315, 286, 480)), ("RBC", (7, 7, 7, 7)), ("Platelets", (0, 1, 20, 30))
    objects = _objects(annotation(tmp_path / "a.xml", *cells))
    assert objects == [(2, [68, 315, 286, 480]), (3, [0, 1, 20, 30])]  # one has no area


@pytest.mark.parametrize(
    "objects, message",
    [
        ([], "0 objects; expected 1 to 30"),
        ([("RBC", (0, 0, 641, 9))], "not inside of the image"),
        ([("RBC", (9, 0, 3, 9))], "not inside of the image"),
        ([("RBC", (0, 0, "nan", 9))], "not inside of the image"),
        ([("RBC", (0, 0, "", 9))], "no annotation of BCCD"),
        ([("cell", (0, 0, 4, 9))], "no annotation of BCCD"),
        ([("RBC", (0, 0, 4, 9))] * 31, "31 objects"),
    ],
)
def test_annotations_that_are_rejected(tmp_path, objects, message):
    with pytest.raises(ValueError, match=message):
        _objects(annotation(tmp_path / "a.xml", *objects))


def test_files_that_are_rejected(tmp_path):
    path = tmp_path / "a.xml"
    with pytest.raises(ValueError, match="is missing"):
        _objects(path)
    path.write_text("<!DOCTYPE a [<!ENTITY b 'c'>]><a/>")
    with pytest.raises(ValueError, match="has a declaration"):
        _objects(path)
    path.write_text("<annotation>")
    with pytest.raises(ValueError, match="no annotation of BCCD"):
        _objects(path)
    path.write_text("no image")
    with pytest.raises(ValueError, match="no complete JPEG image"):
        _image(path, 48, 64)
    with pytest.raises(ValueError, match="no folder 'BCCD'|no folder"):
        data.bccd(tmp_path)
    (tmp_path / "BCCD" / "ImageSets" / "Main").mkdir(parents=True)
    (tmp_path / "BCCD" / "ImageSets" / "Main" / "train.txt").write_text("../../secret\n")
    with pytest.raises(ValueError, match="train.txt: 1 lines; expected 205 names"):
        data.bccd(tmp_path)


@pytest.mark.slow
def test_the_real_files(data_root):
    cells = data.bccd(data_root("bccd"), size=(120, 160))
    splits = cells[:3]
    assert [len(split.x) for split in splits] == [205, 87, 72]
    labels = np.concatenate([split.labels for split in splits])
    assert cells.classes == ("background", "RBC", "WBC", "Platelets")
    assert np.bincount(labels.ravel())[1:].tolist() == [4153, 372, 361]
    for split in splits:
        assert split.x.shape[1:] == (120, 160, 3) and 0 <= split.x.min() < split.x.max() <= 1
        assert split.boxes.shape == (len(split.x), 30, 4)
        side = split.boxes[..., 2:] - split.boxes[..., :2]
        assert np.all((side > 0).all(-1) == (split.labels > 0)) and not np.any(
            side[split.labels == 0]
        )
    # A white cell is darker in red light than its surroundings.
    split = splits[0]
    inside, outside = [], []
    for x, boxes, kinds in zip(*split, strict=True):
        for box in boxes[kinds == 2].astype(int):
            middle = (box[:2] + box[2:]) // 2
            inside.append(x[middle[1], middle[0], 0])
            outside.append(x[..., 0].mean())
    assert np.mean(inside) < np.mean(outside) - 0.1


def test_shapes_are_inside_of_their_boxes():
    images, boxes, labels = data.toy.shapes(12, size=24, objects=3, seed=1)
    assert images.shape == (12, 24, 24, 3) and boxes.shape == (12, 3, 4) and labels.shape == (12, 3)
    assert images.dtype == boxes.dtype == np.float32 and 0 <= images.min() < images.max() <= 1
    assert set(np.unique(labels)) == {0, 1, 2, 3} and np.all(labels[:, 0] > 0)
    assert not np.any(boxes[labels == 0])
    for image, (box, *_), row in zip(images, boxes.astype(int), labels, strict=True):
        if row[1] == 0:  # one shape
            bright = np.argwhere(image.max(-1) > 0.35)
            low, high = bright.min(0), bright.max(0) + 1
            assert [*low[::-1], *high[::-1]] == box.tolist()
            area = len(bright) / np.prod(box[2:] - box[:2])
            assert area == pytest.approx({1: 1, 2: np.pi / 4, 3: 0.5}[int(row[0])], abs=0.13)
    again = data.toy.shapes(12, size=24, objects=3, seed=1)
    assert all(np.array_equal(a, b) for a, b in zip((images, boxes, labels), again, strict=True))
    with pytest.raises(ValueError, match="size is 7"):
        data.toy.shapes(1, size=7)
    with pytest.raises(ValueError, match="objects is 0"):
        data.toy.shapes(1, objects=0)
