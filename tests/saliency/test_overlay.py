"""Palettes, the heat layer, the blend and the words for a map."""

import io

import numpy as np
import pytest
from PIL import Image

from saliency import overlay, panels
from vqa.preprocessing import images


def corner(row: int, column: int, size: int = 7) -> np.ndarray:
    values = np.zeros((size, size), dtype=np.float32)
    values[row, column] = 1
    return values


def linear(rgb: np.ndarray) -> np.ndarray:
    """sRGB colours in 0..255, without their gamma, in 0..1."""
    return np.where(rgb <= 0.04045 * 255, rgb / 255 / 12.92, ((rgb / 255 + 0.055) / 1.055) ** 2.4)


def lab(light: np.ndarray) -> np.ndarray:
    """CIE L*a*b* (white D65) of linear sRGB colours, (N, 3) in 0..1."""
    xyz = light @ np.array(
        [[0.4124, 0.2126, 0.0193], [0.3576, 0.7152, 0.1192], [0.1805, 0.0722, 0.9505]]
    )
    xyz = xyz / np.array([0.9505, 1, 1.089])
    root = np.where(xyz > 216 / 24389, np.cbrt(xyz), (xyz * 24389 / 27 + 16) / 116)
    x, y, z = root.T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=1)


def lightness(rgb: np.ndarray) -> np.ndarray:
    """CIE L* of sRGB colours, (N, 3) in 0..255."""
    return lab(linear(rgb))[:, 0]


# Machado, Oliveira, Fernandes (2009), severity 1, for linear sRGB: what the colour-blind see.
COLOUR_BLIND = {
    "protan": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "deutan": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    "tritan": [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
}
# From next to nothing to most.
AGAINST = overlay.SIGNED_PALETTE[126::-1].astype(float)
FOR = overlay.SIGNED_PALETTE[128:].astype(float)


def test_lightness_of_the_palette_rises_evenly():
    levels = lightness(overlay.PALETTE.astype(float))
    straight = np.linspace(levels[0], levels[-1], len(levels))
    assert (np.diff(levels) > 0).all()
    assert np.abs(levels - straight).max() < 6  # of 98


def test_the_palette_keeps_its_anchors():
    assert overlay.PALETTE.shape == (256, 3)
    assert overlay.PALETTE[0].tolist() == [0, 0, 4]
    assert overlay.PALETTE[-1].tolist() == [252, 255, 164]


@pytest.mark.parametrize("half", [AGAINST, FOR], ids=["against", "for"])
def test_lightness_of_each_half_of_the_signed_palette_rises_evenly(half):
    levels = lightness(half)
    straight = np.linspace(levels[0], levels[-1], len(levels))
    assert (np.diff(levels) > 0).all()
    assert np.abs(levels - straight).max() < 1  # of 72
    assert levels[-1] - levels[0] > 70


def test_equal_magnitudes_for_and_against_are_equally_light():
    assert np.abs(lightness(AGAINST) - lightness(FOR)).max() < 1
    assert np.array_equal(overlay.SIGNED_PALETTE[127], [0, 0, 0])


@pytest.mark.parametrize("sight", COLOUR_BLIND)
def test_the_colour_blind_tell_for_from_against(sight):
    seen = [
        lab(np.clip(linear(half) @ np.transpose(COLOUR_BLIND[sight]), 0, 1))
        for half in (AGAINST, FOR)
    ]
    apart = np.linalg.norm(seen[0] - seen[1], axis=1)
    assert apart.min() > 20  # 2 is what can just be told
    assert apart[32:].min() > 40


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


def test_a_signed_map_is_cool_where_against_warm_where_for_and_clear_at_nothing():
    against, nothing, support = heat_array(np.array([[-2.0, 0, 2]]), (3, 1), signed=True)[0]
    assert against.tolist() == [*overlay.SIGNED_PALETTE[0], 255]
    assert support.tolist() == [*overlay.SIGNED_PALETTE[-1], 255]
    assert nothing[3] == 0
    assert against[2] > against[0]
    assert support[0] > support[2]


def test_for_and_against_of_one_magnitude_are_equally_opaque():
    values = np.linspace(-1, 1, 255)[None]
    alphas = heat_array(values, (255, 1), signed=True)[0, :, 3]
    assert np.array_equal(alphas, alphas[::-1])
    assert (np.diff(alphas[127:].astype(int)) >= 0).all()
    assert len(np.unique(alphas)) > 100


def test_next_to_nothing_has_no_edge_that_could_be_seen():
    for signed in (False, True):
        ramp = heat_array(np.linspace(0, 1, 1000)[None], (1000, 1), signed=signed)[0, :, 3]
        assert ramp[ramp > 0].min() <= 8  # of 255


@pytest.mark.parametrize("size", [(640, 480), (33, 35), (224, 224), (20, 300), (5, 7), (1, 1)])
@pytest.mark.parametrize("grid", [(7, 7), (1, 1), (14, 3), (224, 224)])
def test_a_map_is_resized_as_pillow_resizes(grid, size):
    values = np.random.default_rng(5).random(grid).astype(np.float32)
    colour = [1, 1 << 8, 1 << 16]
    level_of = {int(rgb): level for level, rgb in enumerate(overlay.PALETTE @ colour)}
    levels = np.vectorize(level_of.__getitem__)(heat_array(values, size)[..., :3] @ colour)
    resized = Image.fromarray(values).resize(size, Image.Resampling.BILINEAR)
    wanted = np.asarray(resized) / values.max() * 255
    assert levels.shape == size[::-1]
    assert np.abs(levels - wanted).max() <= 2.5  # three roundings and two weights, each to 8 bits


def test_a_scale_is_the_magnitude_that_is_hottest():
    values = np.array([[0.0, 1, 2, 4]])
    layer = heat_array(values, (4, 1), scale=2)[0]
    assert layer[2].tolist() == layer[3].tolist() == [*overlay.PALETTE[255], 255]
    assert np.array_equal(layer[1], heat_array(values[:, :3], (3, 1))[0, 1])


def test_a_signed_scale_clips_both_ends():
    layer = heat_array(np.array([[-9.0, 0, 9]]), (3, 1), signed=True, scale=1)
    assert np.array_equal(layer, heat_array(np.array([[-1.0, 0, 1]]), (3, 1), signed=True))


def test_maps_on_their_shared_scale_compare():
    strong, weak = np.array([[0.0, 8]]), np.array([[0.0, 2]])
    scale = overlay.shared_scale([weak, strong])
    assert scale == 8
    hottest = [heat_array(values, (2, 1), scale=scale)[0, 1].tolist() for values in (strong, weak)]
    assert hottest == [[*overlay.PALETTE[255], 255], [*overlay.PALETTE[64], 128]]


def test_a_shared_scale_counts_what_speaks_against_too():
    assert overlay.shared_scale([np.array([[-3.0, 1]]), np.ones((2, 2))], signed=True) == 3


def test_maps_of_zeros_share_a_scale_too():
    assert overlay.shared_scale([np.zeros((2, 2))]) == 1


def test_no_maps_have_no_scale():
    with pytest.raises(ValueError, match="no maps"):
        overlay.shared_scale([])


@pytest.mark.parametrize("scale", [0, -1.0, float("inf"), float("nan")])
def test_a_scale_that_is_none_is_named(scale):
    with pytest.raises(ValueError, match=f"scale is {scale}"):
        overlay.heat(corner(0, 0), (8, 8), scale=scale)


def test_what_exceeds_the_scale_by_far_is_clipped_too():
    layer = heat_array(np.array([[0, 1e300]]), (2, 1), scale=1e-300)[0]
    assert layer[:, 3].tolist() == [0, 255]


@pytest.mark.parametrize("tiny", [1e-300, 5e-324])
def test_the_tiniest_map_is_coloured_like_any_other(tiny):
    assert np.array_equal(
        heat_array(tiny * corner(3, 3).astype(float), (9, 9)), heat_array(corner(3, 3), (9, 9))
    )


def test_a_signed_blend_equals_alpha_compositing_of_its_heat_layer():
    picture, values = noise(), np.random.default_rng(2).normal(size=(6, 6))
    layer = overlay.heat(values, picture.size, signed=True, scale=1.5)
    expected = Image.alpha_composite(picture.convert("RGBA"), layer).convert("RGB")
    blended = np.asarray(overlay.blend(picture, values, 1, signed=True, scale=1.5))
    assert np.abs(blended.astype(int) - np.asarray(expected)).max() <= 1


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
    assert overlay.describe(corner(row, column)) == f"{words}, 100% of the mass in 10% of the area"


def test_two_hot_places_are_both_named():
    values = corner(3, 3) + 0.8 * corner(0, 6)
    assert place(values) == "mostly centre and upper right"


def test_an_even_map_is_said_to_be_everywhere():
    values = np.random.default_rng(4).uniform(0.9, 1.1, (14, 14))
    assert place(values) == "spread over the whole picture"


@pytest.mark.parametrize("signed", [False, True])
def test_a_map_of_zeros_is_said_to_have_no_positive_evidence(signed):
    assert overlay.describe(np.zeros((7, 7)), signed=signed) == "no positive evidence"


def test_the_hottest_tenth_of_the_area_is_said_with_its_share():
    values = np.full((10, 10), 38 / 90)
    values[8:, :5] = 6.2
    words = "mostly lower left, 62% of the mass in 10% of the area"
    assert overlay.describe(values) == words


def test_a_cell_on_the_border_of_the_tenth_counts_in_part():
    values = np.ones((7, 7))  # a tenth is 4.9 cells
    values.flat[:5] = 10, 10, 10, 10, 5
    assert round(100 * (40 + 0.9 * 5) / 89) == 50
    assert "50% of the mass in 10% of the area" in overlay.describe(values)


@pytest.mark.parametrize("grid", [(7, 7), (14, 14), (3, 5)])
def test_an_even_map_has_a_tenth_of_its_mass_in_a_tenth_of_the_area(grid):
    words = "spread over the whole picture, 10% of the mass in 10% of the area"
    assert overlay.describe(np.ones(grid)) == words


def test_a_signed_map_says_where_it_speaks_for_and_where_against():
    values = 3 * corner(6, 0) - corner(0, 6)
    assert overlay.describe(values, signed=True) == (
        "mostly lower left, 100% of the mass in 10% of the area; "
        "against it mostly upper right, 25% of all evidence"
    )


def test_a_map_that_only_speaks_against_says_so():
    assert overlay.describe(-corner(0, 0), signed=True) == (
        "no positive evidence; against it mostly upper left, 100% of the mass in 10% of the area"
    )


def test_a_speck_against_is_not_worth_a_word():
    values = corner(6, 0) - 1e-6 * corner(0, 6)
    assert overlay.describe(values, signed=True) == overlay.describe(corner(6, 0))


def test_the_words_do_not_depend_on_the_grid():
    coarse = corner(2, 0, size=3)
    fine = np.kron(coarse, np.ones((4, 5)))
    words = "mostly lower left, 90% of the mass in 10% of the area"
    assert overlay.describe(coarse) == overlay.describe(fine) == words


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (np.zeros(4), r"\(4,\)"),
        (np.zeros((0, 3)), r"\(0, 3\)"),
        (np.zeros((3, 3, 3)), r"\(3, 3, 3\)"),
        (np.full((2, 2), np.nan), "finite"),
        (np.array([[0, np.inf]]), "finite"),
        (np.array([[0, -np.inf]]), "finite"),
        (-np.ones((2, 2)), "below 0, this one -1"),
    ],
)
def test_what_is_no_map_is_named(values, reason):
    for function in (
        lambda v: overlay.heat(v, (8, 8)),
        lambda v: overlay.blend(noise(), v, 0.5),
        lambda v: overlay.shared_scale([v]),
        overlay.describe,
    ):
        with pytest.raises(ValueError, match=reason):
            function(values)


def place(values: np.ndarray) -> str:
    return overlay.describe(values).split(",")[0]


def heat_array(values: np.ndarray, size: tuple[int, int], **options) -> np.ndarray:
    return np.asarray(overlay.heat(values, size, **options))


def noise() -> Image.Image:
    pixels = np.random.default_rng(1).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def photo(orientation: int, kind: str = "JPEG") -> Image.Image:
    """A file of 60 x 40 pixels, as a camera held that way stores it, opened by Pillow alone."""
    picture, exif, file = Image.new("RGB", (60, 40), (90, 90, 90)), Image.Exif(), io.BytesIO()
    picture.putpixel((0, 0), (255, 255, 255))
    exif[0x0112] = orientation
    picture.save(file, kind, exif=exif.tobytes())
    return Image.open(io.BytesIO(file.getvalue()))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_map_lies_on_the_upright_photo_as_models_see_it(orientation, kind):
    opened = photo(orientation, kind)
    expected = images.load(photo(orientation, kind))
    bare = overlay.blend(opened, corner(0, 6), 0)
    assert bare.size == expected.size
    assert np.abs(np.asarray(bare, int) - np.asarray(expected, int)).max() <= 1
    over = overlay.blend(photo(orientation, kind), corner(0, 6), 0.9)
    assert over.tobytes() == overlay.blend(expected, corner(0, 6), 0.9).tobytes()


def test_a_panel_shows_the_upright_photo():
    turned, expected = (
        panels.top_panel(picture, [corner(0, 6)], ["red"], signed=False)
        for picture in (photo(6), images.load(photo(6)))
    )
    assert turned.tobytes() == expected.tobytes()


def test_broken_notes_of_a_camera_are_no_reason_to_refuse_its_picture():
    picture = Image.new("RGB", (8, 8))
    picture.info["exif"] = b"Exif\x00\x00not a header"
    assert overlay.blend(picture, corner(0, 0), 0.5).size == (8, 8)
