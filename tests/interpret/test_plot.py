import io
import pickle
import subprocess
import sys

import matplotlib.image
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


def scales(figure):
    return {limits for _, limits in drawn(figure)}


def test_maps_with_a_sign_have_zero_in_the_middle():
    assert scales(plot.heat_map(IMAGES - 0.25, clip=100)) == {(-0.75, 0.75)}
    assert scales(plot.heat_map(IMAGES, clip=100, label="score")) >= {(0, 1)}
    assert scales(plot.heat_map(IMAGES, limit=2)) == {(0, 2)}


def test_scales_end_at_a_percentile_of_the_sizes():
    rng = np.random.default_rng(0)
    maps = rng.standard_t(2, (2, 50, 50, 3)) * np.array([1, 9])[:, None, None, None]
    summed = np.abs(maps.sum(-1))
    ((low, high),) = scales(plot.heat_map(maps))
    assert low == -high and (summed > high).sum() == 50  # of 5,000 values
    ((_, (low, high)), *_) = drawn(plot.signals(maps[0, :2, :, 0], maps[0, :2], clip=90))
    np.testing.assert_allclose((low, high), np.percentile(summed[0, :2], 90) * np.array([-1, 1]))
    for values, clip, ends in (
        *((maps, 99, "both"), (maps, 100, "neither"), (summed, 99, "max"), (-summed, 99, "min")),
    ):
        bar = plot.heat_map(values, clip=clip, label="score").axes[-1]
        assert bar._colorbar.extend == ends  # pointed where values go beyond
    sparse = np.zeros((1, 50, 50))
    sparse[0, 3, 3] = 7  # the percentile is 0
    assert scales(plot.heat_map(sparse)) == {(0, 7)}
    (over,) = plot.overlay(np.zeros((1, 50, 50)), maps[:1]).axes
    opaque = over.images[1].get_alpha() == over.images[1].get_alpha().max()
    assert opaque.sum() == 25
    ((seen, _),) = drawn(plot.reveal(np.zeros((1, 50, 50)), maps[:1]))
    assert (seen[..., 0] == 0).sum() == 25


def test_maps_with_and_without_a_sign_and_their_own_scales():
    maps = np.stack([IMAGES[0], -5 * IMAGES[1], IMAGES[2] - 0.8])
    figure = plot.heat_map(maps, scale_each=True, label="share")
    shown = [image for ax in figure.axes for image in ax.images][:3]
    assert [image.get_clim() for image in shown] == [(0, 1), (-1, 1), (-1, 1)]
    for image, values in zip(shown, maps, strict=True):
        np.testing.assert_allclose(
            image.get_array() * np.percentile(np.abs(values), 99), values, atol=1e-7
        )
        np.testing.assert_allclose(image.to_rgba([0.0])[0], 1, atol=1e-2)  # zero is white
    # A positive value has the same colour in maps with and without a sign.
    np.testing.assert_allclose(*(image.to_rgba([0.6])[0] for image in shown[:2]), atol=1e-2)
    bar = figure.axes[-1]
    assert bar.get_ylabel() == "share" and bar.get_ylim() == (-1, 1)
    over = plot.overlay(IMAGES, maps, scale_each=True, clip=100)
    assert [ax.images[1].get_alpha().max() for ax in over.axes] == [0.8, 0.8, 0.8]


@pytest.mark.parametrize("shape, n, inches", [((28, 28), 10, 1.12), ((224, 224), 6, 2.24)])
def test_larger_images_have_larger_panels_of_whole_dots(shape, n, inches):
    figure = plot.heat_map(np.zeros((n, *shape)), titles=["egg"] * n, label="score")
    figure.savefig(io.BytesIO(), format="png")
    panels = np.array([ax.get_window_extent().size for ax in figure.axes[:n]])
    np.testing.assert_allclose(panels, inches * 200, atol=0.2)
    dots = panels / shape
    np.testing.assert_allclose(dots, dots.round(), rtol=1e-3)
    assert {image.get_interpolation() for ax in figure.axes[:n] for image in ax.images} == {
        "nearest"
    }
    assert len({round(ax.get_position().y0, 3) for ax in figure.axes[:n]}) == (1 if n > 6 else 2)


def test_an_image_with_more_pixels_than_dots_is_averaged():
    board = np.indices((1200, 1200)).sum(0)[None] % 2 * 1.0
    figure = plot.image_grid(board, size=0.5, limits=(0, 1))
    file = io.BytesIO()
    figure.savefig(file, format="png")
    file.seek(0)
    middle = matplotlib.image.imread(file)[30:70, 30:70, :3]
    assert np.abs(middle - 0.5).max() < 0.1  # neither black nor white was sampled


@pytest.mark.parametrize("shape", [(1, 50), (50, 1)])
def test_narrow_images_have_room_for_a_title_and_a_colour_bar(shape):
    figure = plot.heat_map(np.ones((2, *shape)), titles=["egg", "ham"], label="score per unit")
    figure.savefig(io.BytesIO(), format="png")
    for ax in figure.axes:
        box = ax.get_tightbbox()
        assert min(box.x0, box.y0, *(figure.bbox.size - box.max)) >= 0
    assert figure.axes[0].get_title() == "egg"


def test_long_titles_and_labels_are_complete():
    titles = ["West Highland white terrier", "x", "electroencephalographically", "a\nb", "$x^2$ y"]
    figure = plot.heat_map(
        np.ones((5, 8, 8)), titles=titles, label="change of the score per unit of the grey value"
    )
    figure.savefig(io.BytesIO(), format="png")
    shown = [ax.get_title() for ax in figure.axes[:5]]
    assert [title.replace("-\n", "").replace("\n", " ") for title in shown] == [
        *titles[:3],
        "a b",
        "$x^2$ y",
    ]
    whole = figure.bbox
    for ax in figure.axes:
        box = ax.get_tightbbox()
        assert whole.x0 <= box.x0 and whole.y0 <= box.y0
        assert box.x1 <= whole.x1 and box.y1 <= whole.y1
    for ax in figure.axes[:5]:  # no title reaches into the next panel
        assert ax.title.get_window_extent().width < ax.get_window_extent().width + 1
    bar = figure.axes[-1]
    label = bar.yaxis.label
    assert label.get_text().replace("\n", " ") == "change of the score per unit of the grey value"
    assert label.get_window_extent().height <= bar.get_window_extent().height


@pytest.mark.parametrize(
    "draw",
    [
        lambda: plot.image_grid(IMAGES),
        lambda: plot.overlay(IMAGES, IMAGES, label="score"),
        lambda: plot.signals(IMAGES[0], IMAGES[0]),
    ],
)
def test_a_notebook_shows_a_figure_once_and_as_large_as_it_says(draw):
    figure = draw()
    png = figure._repr_png_()
    assert png.startswith(b"\x89PNG")
    data, metadata = figure._repr_mimebundle_(include=None, exclude=None)
    assert list(data) == ["image/png"] and data["image/png"].startswith(b"\x89PNG")
    height, width = matplotlib.image.imread(io.BytesIO(png)).shape[:2]
    assert metadata["image/png"] == {"width": round(width / 2), "height": round(height / 2)}
    others = ("_repr_html_", "_repr_svg_", "_repr_jpeg_", "_ipython_display_")
    assert not any(getattr(figure, name, lambda: None)() for name in others)
    assert pickle.loads(pickle.dumps(figure)).get_size_inches().tolist() == list(
        figure.get_size_inches()
    )


def test_channels_of_a_map_are_added_up():
    ((array, _),) = drawn(plot.heat_map(np.ones((1, 4, 4, 3))))
    np.testing.assert_array_equal(array, np.full((4, 4), 3))


def test_colour_images():
    colours = np.stack([IMAGES] * 3, -1)
    assert drawn(plot.image_grid(colours))[0][0].shape == (4, 4, 3)
    assert len(drawn(plot.overlay(colours, IMAGES, label="score"))) == 6


def test_maps_by_their_own_greatest():
    maps = np.stack([IMAGES[0], 0 * IMAGES[1], -4 * IMAGES[2]])
    shown = drawn(plot.heat_map(maps, scale_each=True, clip=100))
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
    for n, columns in ((20, 10), (12, 6), (7, 7)):
        first = plot.image_grid(np.zeros((n, 2, 2))).axes[0]
        assert first.get_subplotspec().get_gridspec().ncols == columns


def test_maps_of_zeros_can_be_drawn():
    drawn(plot.reveal(IMAGES, np.zeros((3, 4, 4))))
    drawn(plot.heat_map(np.zeros((2, 4, 4))))
    drawn(plot.overlay(IMAGES, np.zeros((3, 4, 4))))


def test_overlay_is_as_dense_as_the_map_is_strong():
    maps = np.zeros((1, 4, 4))
    maps[0, 1, 2], maps[0, 3, 3] = -1, 0.5
    figure = plot.overlay(IMAGES[:1], maps, clip=100)
    above = figure.axes[0].images[1]
    np.testing.assert_allclose(above.get_alpha(), 0.8 * np.abs(maps[0]))
    colour = above.cmap(above.norm(above.get_array()))
    assert colour[1, 2, 2] > colour[1, 2, 0] and colour[3, 3, 0] > colour[3, 3, 2]


def test_colours_are_grey_below_an_overlay_and_bytes_are_understood():
    photo = np.random.default_rng(0).integers(0, 256, (1, 4, 4, 3), np.uint8)
    figure = plot.overlay(photo, np.zeros((1, 4, 4)), originals=True)
    above, below = (ax.images[0].get_array() for ax in figure.axes)
    np.testing.assert_allclose(above, photo[0] / 255, atol=1e-6)
    luminance = photo[0] @ np.array([0.299, 0.587, 0.114]) / 255
    np.testing.assert_allclose(below, 0.5 + 0.5 * np.stack([luminance] * 3, -1), atol=1e-6)
    (shown,) = plot.image_grid(photo / 127.5 - 1, limits=(-1, 1)).axes[0].images
    np.testing.assert_allclose(shown.get_array(), photo[0] / 255, atol=1e-6)


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
        (lambda: plot.reveal(IMAGES, IMAGES, share=0), "a share of the pixels in .0, 1."),
        (lambda: plot.heat_map(IMAGES, clip=0), "clip is 0; .* percentile in .0, 100."),
        (lambda: plot.heat_map(IMAGES, limit=-1.0), "limit is -1.0; expected .* above 0"),
        (lambda: plot.heat_map(IMAGES, limit=1.0, scale_each=True), "limit=1.0 .* scale_each=True"),
        (lambda: plot.overlay(IMAGES, IMAGES * np.nan), r"maps have 48 NaN .* first at \(0, 0, 0"),
        (lambda: plot.image_grid(np.full((1, 2, 2, 3), 99.0)), "from 99 to 99; .* uint8"),
        (lambda: plot.image_grid(IMAGES[:0]), r"images are \(0, 4, 4\)"),
        (lambda: plot.image_grid(IMAGES, size=0), "size is 0; expected"),
        (lambda: plot.signals(IMAGES[0], IMAGES[0, :2]), r"values are \(4, 4\), maps \(2, 4\)"),
        (lambda: plot.image_grid(IMAGES, titles=[1, 2, 3]), "a title is 1; expected texts"),
        (lambda: plot.image_grid(IMAGES, titles=3), "titles are 3; expected a list of texts"),
        (lambda: plot.image_grid(IMAGES, limits=(0, 0)), "expected the low one first"),
        (lambda: plot.image_grid(IMAGES, limits=(1, 0)), "expected the low one first"),
        (lambda: plot.image_grid(IMAGES, limits=(0, np.nan)), "limits is nan; expected a finite"),
        (lambda: plot.image_grid(IMAGES, limits=3), "limits are 3; expected .low, high."),
        (lambda: plot.image_grid(IMAGES * 1j), "images are complex.*real numbers"),
        (lambda: plot.heat_map(IMAGES * 1j), "maps are complex.*real numbers"),
        (lambda: plot.heat_map(np.ones((3, 3, 12, 12))), "Pass np.moveaxis"),
        (lambda: plot.heat_map(IMAGES, clip="a"), "clip is 'a'; expected a percentile"),
        (lambda: plot.heat_map(IMAGES, limit="a"), "limit is 'a'; expected a number above 0"),
        (lambda: plot.heat_map(IMAGES, columns="a"), "columns is 'a'; expected an integer"),
        (lambda: plot.heat_map(IMAGES, size="a"), "size is 'a'; expected inches"),
        (lambda: plot.signals(IMAGES[0], IMAGES[0], size=7.0), "expected .width, height."),
        (
            lambda: plot.signals(IMAGES[0], IMAGES[0], size=(7, None)),
            "size is None; expected inches",
        ),
        (lambda: plot.reveal(IMAGES, IMAGES, share="a"), "share is 'a'"),
        (lambda: plot.image_grid(IMAGES, cmap="grey_"), "cmap is 'grey_'; expected"),
        (lambda: plot.overlay(IMAGES, IMAGES, cmap=3), "cmap is 3; expected"),
        (lambda: plot.image_grid(IMAGES, titles=["a"]), "1 titles for 3 images"),
    ],
)
def test_bad_arguments(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_titles_may_be_an_array():
    titles = [ax.get_title() for ax in plot.image_grid(IMAGES, titles=np.array(list("abc"))).axes]
    assert titles == ["a", "b", "c"]


def test_matplotlib_is_imported_by_the_first_figure_only():
    code = "import sys, jaxdl.interpret; assert 'matplotlib' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
