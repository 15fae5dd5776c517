"""The heat layer, the blend and the words for a map."""

import numpy as np
import pytest
from PIL import Image

from saliency import overlay


def corner(row: int, column: int, size: int = 7) -> np.ndarray:
    values = np.zeros((size, size), dtype=np.float32)
    values[row, column] = 1
    return values


def lightness(rgb: np.ndarray) -> np.ndarray:
    """CIE L* of sRGB colours, (N, 3) in 0..255."""
    linear = np.where(rgb <= 0.04045 * 255, rgb / 255 / 12.92, ((rgb / 255 + 0.055) / 1.055) ** 2.4)
    luminance = linear @ np.array([0.2126, 0.7152, 0.0722])
    return np.where(luminance > 216 / 24389, 116 * np.cbrt(luminance) - 16, luminance * 24389 / 27)


def test_lightness_of_the_palette_rises_evenly():
    levels = lightness(overlay.PALETTE.astype(float))
    straight = np.linspace(levels[0], levels[-1], len(levels))
    assert (np.diff(levels) > 0).all()
    assert np.abs(levels - straight).max() < 6  # of 98


def test_the_palette_keeps_its_anchors():
    assert overlay.PALETTE.shape == (256, 3)
    assert overlay.PALETTE[0].tolist() == [0, 0, 4]
    assert overlay.PALETTE[-1].tolist() == [252, 255, 164]


def test_heat_has_the_wanted_size_and_is_hot_where_the_map_is():
    layer = heat_array(corner(0, 6), (70, 35))
    assert layer.shape == (35, 70, 4)
    assert layer[0, -1].tolist() == [252, 255, 164, 255]
    assert layer[-1, 0, 3] == 0


def test_heat_does_not_depend_on_the_scale_of_the_map():
    values = np.random.default_rng(0).random((5, 6))
    assert np.array_equal(heat_array(values, (50, 60)), heat_array(values * 1e-6, (50, 60)))


def test_heat_between_two_cells_is_between_their_heats():
    values = np.array([[0.0, 1.0]])
    alphas = heat_array(values, (100, 1))[0, :, 3].astype(int)
    assert (np.diff(alphas) >= 0).all()
    assert alphas[0] == 0
    assert alphas[-1] == 255
    assert abs(alphas[49] - 255 * 0.495**0.5) <= 2


def test_a_map_of_zeros_is_transparent():
    assert heat_array(np.zeros((4, 4)), (16, 16))[..., 3].max() == 0


def test_no_opacity_leaves_the_picture_as_it_is():
    picture = noise()
    assert np.array_equal(np.asarray(overlay.blend(picture, corner(3, 3), 0)), np.asarray(picture))


def test_full_opacity_shows_the_palette_where_the_map_is_hottest():
    blended = np.asarray(overlay.blend(noise(), np.ones((2, 2)), 1))
    assert (blended == overlay.PALETTE[255]).all()


def test_blend_equals_alpha_compositing_of_the_heat_layer():
    picture, values = noise(), np.random.default_rng(2).random((6, 6))
    layer = overlay.heat(values, picture.size)
    expected = Image.alpha_composite(picture.convert("RGBA"), layer).convert("RGB")
    difference = np.asarray(overlay.blend(picture, values, 1)).astype(int) - np.asarray(expected)
    assert np.abs(difference).max() <= 1


def test_blend_reads_any_mode_and_leaves_its_inputs_alone():
    picture, values = noise().convert("L"), np.random.default_rng(3).random((6, 6))
    before = picture.tobytes(), values.copy()
    assert overlay.blend(picture, values, 0.5).mode == "RGB"
    assert picture.tobytes() == before[0]
    assert np.array_equal(values, before[1])


@pytest.mark.parametrize("opacity", [-0.1, 1.5, float("nan")])
def test_an_opacity_outside_its_range_is_named(opacity):
    with pytest.raises(ValueError, match=f"opacity is {opacity}"):
        overlay.blend(noise(), corner(0, 0), opacity)


@pytest.mark.parametrize(
    ("row", "column", "words"),
    [
        (0, 0, "mostly upper left"),
        (0, 6, "mostly upper right"),
        (6, 0, "mostly lower left"),
        (6, 6, "mostly lower right"),
        (3, 3, "mostly centre"),
        (0, 3, "mostly upper centre"),
        (3, 6, "mostly middle right"),
    ],
)
def test_one_hot_place_is_named(row, column, words):
    assert overlay.describe(corner(row, column)) == words


def test_two_hot_places_are_both_named():
    values = corner(3, 3) + 0.8 * corner(0, 6)
    assert overlay.describe(values) == "mostly centre and upper right"


def test_an_even_map_is_said_to_be_everywhere():
    values = np.random.default_rng(4).uniform(0.9, 1.1, (14, 14))
    assert overlay.describe(values) == "spread over the whole picture"


def test_a_map_of_zeros_is_nowhere():
    assert overlay.describe(np.zeros((7, 7))) == "nowhere"


def test_the_words_do_not_depend_on_the_grid():
    coarse = corner(2, 0, size=3)
    fine = np.kron(coarse, np.ones((4, 5)))
    assert overlay.describe(coarse) == overlay.describe(fine) == "mostly lower left"


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (np.zeros(4), r"\(4,\)"),
        (np.zeros((0, 3)), r"\(0, 3\)"),
        (np.zeros((3, 3, 3)), r"\(3, 3, 3\)"),
        (np.full((2, 2), np.nan), "finite"),
        (-np.ones((2, 2)), "below 0"),
    ],
)
def test_what_is_no_map_is_named(values, reason):
    for function in (lambda v: overlay.heat(v, (8, 8)), overlay.describe):
        with pytest.raises(ValueError, match=reason):
            function(values)


def heat_array(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.asarray(overlay.heat(values, size))


def noise() -> Image.Image:
    pixels = np.random.default_rng(1).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    return Image.fromarray(pixels)
