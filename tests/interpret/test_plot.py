import io
import subprocess
import sys

import numpy as np
import pytest

from jaxdl.interpret import plot

IMAGES = np.linspace(0, 1, 3 * 4 * 4, dtype=np.float32).reshape(3, 4, 4)


def drawn(figure):
    """The arrays and limits of the images in a figure that can be saved."""
    figure.savefig(io.BytesIO(), format="png", dpi=40)
    images = [image for ax in figure.axes for image in ax.images]
    return [(np.asarray(image.get_array()), image.get_clim()) for image in images]


def test_all_images_share_one_scale():
    shown = drawn(plot.image_grid(IMAGES[..., None], titles=["a", "b", "c"], columns=2))
    assert [limits for _, limits in shown] == [(0, 1)] * 3
    for (array, _), image in zip(shown, IMAGES, strict=True):
        np.testing.assert_array_equal(array, image)


def test_maps_with_a_sign_have_zero_in_the_middle():
    assert {limits for _, limits in drawn(plot.heat_map(IMAGES - 0.25))} == {(-0.75, 0.75)}
    assert {limits for _, limits in drawn(plot.heat_map(IMAGES, label="score"))} >= {(0, 1)}
    assert {limits for _, limits in drawn(plot.heat_map(IMAGES, limit=2))} == {(0, 2)}


def test_channels_of_a_map_are_added_up():
    ((array, _),) = drawn(plot.heat_map(np.ones((1, 4, 4, 3))))
    np.testing.assert_array_equal(array, np.full((4, 4), 3))


def test_colour_images():
    colours = np.stack([IMAGES] * 3, -1)
    assert drawn(plot.image_grid(colours))[0][0].shape == (4, 4, 3)
    assert len(drawn(plot.overlay(colours, IMAGES, label="score"))) == 6


def test_maps_by_their_own_greatest():
    shown = drawn(plot.heat_map(np.stack([IMAGES[0], 0 * IMAGES[1], -4 * IMAGES[2]]), own=True))
    assert [np.abs(array).max() for array, _ in shown] == [1, 0, 1]


def test_the_strongest_pixels_are_revealed():
    maps = np.arange(16.0).reshape(1, 4, 4) - 20  # the strongest are the most negative
    ((array, _),) = drawn(plot.reveal(np.zeros((1, 4, 4)) + np.eye(4), maps, share=0.25))
    assert np.all(array[1:] == 0.5) and array[0, 0].tolist() == [1, 1, 1]
    ((array, _),) = drawn(plot.reveal(np.stack([np.eye(4)] * 3, -1)[None], np.abs(maps)))
    assert array[0, 0, 0] == 1 and 0.5 < array[3, 3, 0] < 0.7


def test_signals_over_their_attributions():
    values, maps = np.sin(np.arange(20.0)).reshape(2, 10), np.ones((2, 10, 3))
    figure = plot.signals(values, maps, titles=["a", "b"])
    assert [limits for _, limits in drawn(figure)][:2] == [(0, 3)] * 2
    np.testing.assert_array_equal(figure.axes[1].lines[0].get_ydata(), values[1].astype(np.float32))
    drawn(plot.signals(np.zeros((1, 5)), np.zeros((1, 5))))


def test_a_step_stands_above_its_own_colour_and_ten_images_in_a_row():
    (strip,) = plot.signals(np.zeros((1, 10)), np.ones((1, 10))).axes[0].images
    assert tuple(strip.get_extent())[:2] == (-0.5, 9.5)
    first = plot.image_grid(np.zeros((12, 2, 2))).axes[0]
    assert first.get_subplotspec().get_gridspec().ncols == 10


def test_maps_of_zeros_can_be_drawn():
    drawn(plot.reveal(IMAGES, np.zeros((3, 4, 4))))
    drawn(plot.heat_map(np.zeros((2, 4, 4))))
    drawn(plot.overlay(IMAGES, np.zeros((3, 4, 4))))


def test_overlay_is_as_dense_as_the_map_is_strong():
    maps = np.zeros((1, 4, 4))
    maps[0, 1, 2], maps[0, 3, 3] = -1, 0.5
    figure = plot.overlay(IMAGES[:1], maps)
    above = figure.axes[0].images[1]
    np.testing.assert_array_equal(above.get_alpha(), np.abs(maps[0]))
    colour = above.cmap(above.norm(above.get_array()))
    assert colour[1, 2, 2] > colour[1, 2, 0] and colour[3, 3, 0] > colour[3, 3, 2]


def test_overlay_can_show_the_image_alone_too():
    figure = plot.overlay(IMAGES, IMAGES, originals=True, columns=2, titles=["a", "b", "c"])
    assert [len(ax.images) for ax in figure.axes] == [1, 1, 2, 2, 1, 0, 2, 0]


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: plot.image_grid(IMAGES[0]), r"images are \(4, 4\); .*image\[None\]"),
        (lambda: plot.image_grid(np.ones((1, 4, 4, 2))), r"images are \(1, 4, 4, 2\)"),
        (lambda: plot.heat_map(IMAGES[0]), r"heat_map: maps are \(4, 4\)"),
        (lambda: plot.overlay(IMAGES, IMAGES[:2]), r"images are \(3, 4, 4\) and maps \(2, 4, 4\)"),
        (lambda: plot.reveal(IMAGES, IMAGES, share=0), "a share in .0, 1."),
        (lambda: plot.signals(IMAGES[0], IMAGES[0, :2]), r"values are \(4, 4\), maps \(2, 4\)"),
        (lambda: plot.image_grid(IMAGES, titles=["a"]), "1 titles for 3 images"),
    ],
)
def test_bad_arguments(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_matplotlib_is_imported_by_the_first_figure_only():
    code = "import sys, jaxdl.interpret; assert 'matplotlib' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
