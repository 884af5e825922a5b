import numpy as np
import pytest

from jaxdl.zoo.classic.bag_of_words import codebook, k_means, patches
from tests.nn.filled import normal


@pytest.mark.row("A17")
def test_a_codebook_of_as_many_words_as_patches_is_the_patches(key):
    x = normal(0, 1, 4, 4, 1)
    book = codebook(key, x, 4, size=3, stride=1)
    assert (book.size, book.stride) == (3, 1)
    rows = lambda a: sorted(np.asarray(a).reshape(-1, 9).round(4).tolist())
    np.testing.assert_allclose(rows(book.words), rows(patches(x, 3, 1)), atol=1e-3)


def test_a_centre_that_nothing_is_near_to_stays(key):
    """Of two centres at one place, one has no points."""
    centres = k_means(key, np.float32([[1], [1], [5]]), 3)
    assert sorted(np.asarray(centres).ravel().tolist()) == [1, 1, 5]
