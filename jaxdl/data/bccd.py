"""BCCD: microscope images of blood cells with boxes. MIT license, by cosmicad and akshaylamba.

The folder has the layout of Pascal VOC: `JPEGImages`, `Annotations` and `ImageSets/Main`.
"""

from __future__ import annotations

import os
import pathlib
import re
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np

from jaxdl._check import require_ints
from jaxdl._optional import extra
from jaxdl.data._files import data_folder

__all__ = ["DetectionDataset", "DetectionSplit", "bccd"]

CLASSES = ("background", "RBC", "WBC", "Platelets")
SIZE = (480, 640)
COUNTS = {"train": 205, "val": 87, "test": 72}


class DetectionSplit(NamedTuple):
    """Images with boxes, padded to a common number M.

    Attributes:
      x: (N, H, W, C) float32 images in [0, 1].
      boxes: (N, M, 4) float32 x0, y0, x1, y1 in pixels; 0 for padding.
      labels: (N, M) int32 classes from 1 on; 0 for padding.
    """

    x: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray


class DetectionDataset(NamedTuple):
    """A data set for detection.

    Attributes:
      train, validation, test: the splits.
      classes: names of the labels, in order; the first is the background.
    """

    train: DetectionSplit
    validation: DetectionSplit
    test: DetectionSplit
    classes: tuple[str, ...]


def bccd(
    root: str | os.PathLike | None = None, *, size: tuple[int, int] = SIZE
) -> DetectionDataset:
    """Loads BCCD: 364 images with 4,886 red and white blood cells and platelets.

    Two boxes of the annotations have no area and are left out.

    Args:
      root: the folder of `BCCD`; None looks in `$JAXDL_DATA/bccd`, then in the user's cache.
      size: height and width to which images and boxes are scaled.

    Returns:
      A `DetectionDataset` of 205, 87 and 72 images, (N, *size, 3), and boxes (N, 30, 4).

    Raises:
      ImportError: pillow is not installed.
      ValueError: a file is missing, damaged or not what is expected, or `size` is not positive.
    """
    height, width = require_ints("bccd", 1, height=size[0], width=size[1])
    folder = data_folder("bccd", "BCCD", root=root)
    splits = []
    for part, count in COUNTS.items():
        path = folder / "ImageSets" / "Main" / f"{part}.txt"
        names = _read(path).decode("ascii", "replace").split()
        if len(names) != count or not all(re.fullmatch(r"BloodImage_\d{5}", n) for n in names):
            raise ValueError(
                f"{path.name}: {len(names)} lines; expected {count} names such as "
                "BloodImage_00001. Get it again."
            )
        x = [_image(folder / "JPEGImages" / f"{name}.jpg", height, width) for name in names]
        objects = [_objects(folder / "Annotations" / f"{name}.xml") for name in names]
        boxes, labels = np.zeros((count, 30, 4), np.float32), np.zeros((count, 30), np.int32)
        for i, rows in enumerate(objects):
            for j, (label, box) in enumerate(rows):
                labels[i, j], boxes[i, j] = label, box
        boxes *= np.array([width / SIZE[1], height / SIZE[0]] * 2, np.float32)
        splits.append(DetectionSplit(np.stack(x), boxes, labels))
    train, validation, test = splits
    return DetectionDataset(train, validation, test, CLASSES)


def _read(path: pathlib.Path, limit: int = 1 << 20) -> bytes:
    if not path.is_file() or path.stat().st_size > limit:
        raise ValueError(f"bccd: {path} is missing or longer than {limit} bytes; get it again.")
    return path.read_bytes()


def _image(path: pathlib.Path, height: int, width: int) -> np.ndarray:
    with extra("data", "bccd"):
        from PIL import Image

    try:
        with Image.open(path, formats=("JPEG",)) as image:
            if image.size != SIZE[::-1] or image.mode != "RGB":
                raise ValueError(
                    f"{path.name} is {image.size} {image.mode}; expected {SIZE[::-1]} RGB."
                )
            scaled = image.resize((width, height), Image.Resampling.BOX)
            return np.asarray(scaled, np.float32) / np.float32(255)
    except (OSError, SyntaxError) as error:
        raise ValueError(f"{path.name}: no complete JPEG image ({error}); get it again.") from error


def _objects(path: pathlib.Path) -> list[tuple[int, list[float]]]:
    """Returns the class and the box of each object of an annotation."""
    content = _read(path)
    # Entities could expand without end; the annotations have none.
    if b"<!" in content:
        raise ValueError(f"{path.name}: has a declaration '<!'; expected plain elements.")
    objects = []
    try:
        for element in ElementTree.fromstring(content).iter("object"):
            label = CLASSES.index(element.findtext("name", ""))
            edges = ("xmin", "ymin", "xmax", "ymax")
            box = [float(element.findtext(f"bndbox/{edge}", "")) for edge in edges]
            if not (0 <= box[0] <= box[2] <= SIZE[1] and 0 <= box[1] <= box[3] <= SIZE[0]):
                raise ValueError(f"box {box} is not inside of the image")
            if box[0] < box[2] and box[1] < box[3]:
                objects.append((label, box))
    except (ElementTree.ParseError, ValueError) as error:
        raise ValueError(f"{path.name}: no annotation of BCCD ({error}); get it again.") from error
    if not 0 < len(objects) <= 30:
        raise ValueError(f"{path.name}: {len(objects)} objects; expected 1 to 30. Get it again.")
    return objects
