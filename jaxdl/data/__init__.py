"""Data sets as arrays on the host, mini-batches, and augmentation."""

from jaxdl.data import augment
from jaxdl.data.batches import batches, one_hot, permutation
from jaxdl.data.cifar import cifar10, cifar10_png
from jaxdl.data.dataset import Dataset, Split
from jaxdl.data.digits import digits
from jaxdl.data.idx import fashion_mnist, mnist, read_idx
from jaxdl.data.usps import usps

__all__ = [
    "Dataset",
    "Split",
    "augment",
    "batches",
    "cifar10",
    "cifar10_png",
    "digits",
    "fashion_mnist",
    "mnist",
    "one_hot",
    "permutation",
    "read_idx",
    "usps",
]
