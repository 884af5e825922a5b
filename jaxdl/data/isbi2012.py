"""ISBI 2012: membranes of nerve cells in electron microscopy.

Cardona et al. 2010 (doi:10.1371/journal.pbio.1000502), Arganda-Carreras et al. 2015
(doi:10.3389/fnana.2015.00142): 30 slices of the ventral nerve cord of a fruit fly larva, 4 nm a
pixel and 50 nm apart.
"""

from __future__ import annotations

import os

import numpy as np

from jaxdl.data._files import data_folder, read_png
from jaxdl.data.dataset import Dataset, Split, images

__all__ = ["isbi2012"]

SLICES, TRAINING, SIZE = 30, 24, 512


def isbi2012(root: str | os.PathLike | None = None) -> Dataset:
    """Loads the labelled slices of ISBI 2012: the first 24 to train, the last 6 to test.

    Neighbouring slices are alike. The test slices are one block, so that only the first of them is
    next to a training slice. The labels of the challenge's own test stack are not public.

    Args:
      root: the folder of `train/image/0.png` to `29.png` and `train/label/`; None looks in
        `$JAXDL_DATA/isbi2012`, then in the user's cache.

    Returns:
      A `Dataset` of (N, 512, 512, 1) float32 images in [0, 1] and (N, 512, 512) int32 labels of
      the pixels, 0 for membranes and 1 for the interior of cells.

    Raises:
      ValueError: a file is missing, damaged or not what is expected.
    """
    folder = data_folder("isbi2012", "train", root=root)

    def read(kind):
        paths = [folder / kind / f"{i}.png" for i in range(SLICES)]
        return np.stack([read_png("isbi2012", path, (SIZE, SIZE), "L") for path in paths])

    labels = read("label")
    if not np.isin(labels, (0, 255)).all():
        raise ValueError(
            f"isbi2012: a label is {labels[~np.isin(labels, (0, 255))][0]}; expected 0 for "
            "membranes and 255 for cells. Get the files again."
        )
    split = images(read("image"), labels // 255, 255)
    train, test = (
        Split(split.x[part], split.y[part])
        for part in (slice(None, TRAINING), slice(TRAINING, None))
    )
    return Dataset(train, test, ("membrane", "cell"))
