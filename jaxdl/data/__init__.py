"""Data sets, mini-batches, sources and streams, augmentation, text and audio."""

from jaxdl.data import augment, toy
from jaxdl.data.audio import log_mel, mel_filters, read_wav
from jaxdl.data.batches import batches, one_hot, permutation
from jaxdl.data.bccd import DetectionDataset, DetectionSplit, bccd
from jaxdl.data.cifar import cifar10, cifar10_png
from jaxdl.data.corpora import (
    Utterances,
    movie_reviews,
    multi30k,
    snips,
    tiny_shakespeare,
)
from jaxdl.data.dataset import Dataset, Split, Weighted, add_weights
from jaxdl.data.digits import digits
from jaxdl.data.idx import fashion_mnist, mnist, read_idx
from jaxdl.data.isbi2012 import isbi2012
from jaxdl.data.source import (
    BatchStream,
    RandomAccessSource,
    from_grain,
    from_hugging_face,
    from_iterable,
)
from jaxdl.data.spoken_digits import Recordings, digit_strings, spoken_digits
from jaxdl.data.text import TRIGRAMS, Vocabulary, bucket_by_length, letter_trigrams, pad, tokenize
from jaxdl.data.usps import usps

__all__ = [
    "TRIGRAMS",
    "BatchStream",
    "Dataset",
    "DetectionDataset",
    "DetectionSplit",
    "RandomAccessSource",
    "Recordings",
    "Split",
    "Utterances",
    "Vocabulary",
    "Weighted",
    "add_weights",
    "augment",
    "batches",
    "bccd",
    "bucket_by_length",
    "cifar10",
    "cifar10_png",
    "digit_strings",
    "digits",
    "fashion_mnist",
    "from_grain",
    "from_hugging_face",
    "from_iterable",
    "isbi2012",
    "letter_trigrams",
    "log_mel",
    "mel_filters",
    "mnist",
    "movie_reviews",
    "multi30k",
    "one_hot",
    "pad",
    "permutation",
    "read_idx",
    "read_wav",
    "snips",
    "spoken_digits",
    "tiny_shakespeare",
    "tokenize",
    "toy",
    "usps",
]
