"""Panels: a picture beside its overlays, titles, a legend, and words where there is no heat."""

import numpy as np
import pytest
from PIL import Image, ImageFont

from saliency import overlay, panels
from saliency.panels import Panel, legend, side_by_side, top_panel

SIDE, GAP, TITLE, LEGEND = 200, 16, 28, 28  # pixels
WARM = np.pad(np.ones((2, 2)), ((0, 5), (0, 5)))


def photo(size=(80, 60), mode="RGB") -> Image.Image:
    rng = np.random.default_rng(0)
    return (
        Image.fromarray(rng.integers(60, 256, (6, 8, 3), dtype=np.uint8)).resize(size).convert(mode)
    )


def pictures(sheet: Image.Image, size=(SIDE, 150), columns=4, legends=0) -> list[np.ndarray]:
    """The pictures in a sheet of one to so many columns, row by row."""
    across, down = size[0] + GAP, TITLE + size[1] + legends + GAP
    rows, found = (sheet.height - GAP) // down, (sheet.width - GAP) // across
    corners = [
        (GAP + c * across, GAP + TITLE + r * down) for r in range(rows) for c in range(found)
    ]
    return [np.asarray(sheet.crop((x, y, x + size[0], y + size[1]))) for x, y in corners]


def fitted(picture: Image.Image) -> Image.Image:
    return picture.convert("RGB").resize((SIDE, 150), Image.Resampling.LANCZOS)


def is_white(region: np.ndarray) -> bool:
    return bool((region == 255).all())


def test_the_picture_stands_beside_its_overlays_in_one_size():
    sheet = top_panel(photo(), [WARM, WARM[::-1]], ["cat", "dog"], side=SIDE, opacity=0.6)
    plain, first, second = pictures(sheet)
    assert np.array_equal(plain, fitted(photo()))
    assert np.array_equal(first, overlay.blend(fitted(photo()), WARM, 0.6))
    assert np.array_equal(second, overlay.blend(fitted(photo()), WARM[::-1], 0.6))


def test_the_best_answers_share_one_scale():
    _, _, weak = pictures(top_panel(photo(), [4 * WARM, WARM], ["cat", "dog"], side=SIDE))
    assert np.array_equal(weak, overlay.blend(fitted(photo()), WARM, 0.7, scale=4))
    assert not np.array_equal(weak, overlay.blend(fitted(photo()), WARM, 0.7))


def test_several_methods_have_a_scale_and_a_legend_each():
    sheet = side_by_side(
        photo(), [Panel("Grad-CAM", WARM), Panel("LIME", 9 * (WARM - 0.5), True)], side=SIDE
    )
    _, first, second = pictures(sheet, legends=LEGEND)
    assert np.array_equal(first, overlay.blend(fitted(photo()), WARM, 0.7))
    assert np.array_equal(second, overlay.blend(fitted(photo()), WARM - 0.5, 0.7, signed=True))
    for index, signed in ((1, False), (2, True)):
        left, top = GAP + index * (SIDE + GAP), GAP + TITLE + 150
        strip = sheet.crop((left, top, left + SIDE, top + LEGEND))
        assert np.array_equal(strip, legend(SIDE, signed=signed))


def test_the_best_answers_share_one_legend_as_wide_as_they_are():
    sheet = top_panel(photo(), [WARM, WARM], ["cat", "dog"], signed=True, side=SIDE)
    width = 2 * SIDE + GAP
    left, top = 2 * GAP + SIDE, GAP + TITLE + 150
    strip = sheet.crop((left, top, left + width, top + LEGEND))
    assert np.array_equal(strip, legend(width, signed=True))
    assert is_white(np.asarray(sheet)[top:, :left])


@pytest.mark.parametrize("signed", [False, True])
def test_a_map_without_positive_evidence_is_a_dimmed_picture_with_words(signed):
    sheet = top_panel(photo(), [WARM, 0 * WARM], ["cat", "dog"], signed=signed, side=SIDE)
    plain, _, without = pictures(sheet)
    dark = (0.4 * plain).astype(int)
    worded = np.abs(without.astype(int) - dark).max(axis=2) > 2
    assert (without == 255).all(axis=2).sum() > 100  # the letters
    assert 0.02 < worded.mean() < 0.15  # of the area, the rest is the picture
    rows, columns = np.nonzero(worded)
    assert abs(rows.mean() - 75) < 3
    assert abs(columns.mean() - 100) < 3


def test_a_map_that_only_speaks_against_shows_where_and_still_has_the_words():
    sheet = top_panel(photo(), [-WARM], ["cat"], signed=True, side=SIDE)
    plain, without = pictures(sheet)
    assert (without == 255).all(axis=2).sum() > 100
    red, _, blue = without[:30, :40].reshape(-1, 3).mean(axis=0)
    assert blue > red + 80
    assert without[110:].mean() < 0.5 * plain[110:].mean()


@pytest.mark.parametrize("size", [(6, 400), (400, 6), (1, 1), (16, 12), (3000, 2000)])
@pytest.mark.parametrize("mode", ["L", "RGBA", "P"])
def test_the_words_have_room_in_any_picture(size, mode):
    sheet = np.asarray(top_panel(photo(size, mode), [0 * WARM], ["cat"], side=SIDE)).astype(int)
    across = (sheet.shape[1] - 3 * GAP) // 2
    panel = sheet[GAP + TITLE : -GAP - LEGEND, 2 * GAP + across : -GAP]
    letters = (panel == 255).all(axis=2)
    assert letters.sum() > 100
    assert not letters[[0, -1]].any()
    assert not letters[:, [0, -1]].any()


def test_a_long_title_ends_in_an_ellipsis_and_keeps_off_its_neighbour():
    long = "is there a person behind the counter of this very long shop"
    sheet = np.asarray(top_panel(photo(), [WARM, WARM], [long * 100, "dog"], side=SIDE))
    titles = sheet[GAP : GAP + TITLE]
    assert is_white(titles[:, 2 * (GAP + SIDE) : 2 * (GAP + SIDE) + GAP])
    assert not is_white(titles[:, 2 * (GAP + SIDE) - 30 : 2 * (GAP + SIDE)])


def test_a_title_is_cut_no_shorter_than_it_must():
    font = ImageFont.load_default(16)
    title = "is there a person behind the counter"
    for width in range(20, 320, 7):
        cut = panels._cut(title, font, width)
        assert font.getlength(cut) <= width
        if cut != title:
            kept = cut.removesuffix("…")
            assert title.startswith(kept)
            longer = title[: len(kept) + 2].rstrip()  # a blank before the ellipsis is left out
            assert font.getlength(f"{longer}…") > width
    assert cut == title


def test_a_title_is_one_line_and_has_what_the_font_lacks_of_accents_left_off():
    font = ImageFont.load_default(16)
    assert panels._cut(" a\n b\t café ", font, 300) == "a b cafe"
    assert panels._cut("", font, 300) == ""


def test_any_title_can_be_drawn():
    for title in ("", "日本語 😀", "\x00\u200b", "اللغة", "a" * 100_000):
        sheet = top_panel(photo(), [WARM], [title], side=SIDE)
        assert sheet.size == (3 * GAP + 2 * SIDE, 2 * GAP + TITLE + 150 + LEGEND)


def test_more_pictures_than_columns_go_on_in_the_next_row():
    maps = [Panel(str(n), np.roll(WARM, n)) for n in range(4)]
    found = pictures(side_by_side(photo(), maps, side=SIDE, columns=2), legends=LEGEND)
    assert len(found) == 6
    for (_, values, _), drawn in zip(maps, found[1:5], strict=True):
        assert np.array_equal(drawn, overlay.blend(fitted(photo()), values, 0.7))
    assert is_white(found[5])
    single = top_panel(photo(), [WARM, WARM], ["cat", "dog"], side=SIDE, columns=1)
    assert single.size == (2 * GAP + SIDE, 4 * GAP + 3 * (TITLE + 150) + LEGEND)


def test_a_legend_goes_from_less_to_more_as_over_grey():
    strip = np.asarray(legend(240))
    bar = strip[14, 60:180].astype(int)
    ramp = np.asarray(
        overlay.blend(Image.new("RGB", (300, 1), (128, 128, 128)), np.arange(300)[None], 0.7)
    )
    assert strip.shape == (LEGEND, 240, 3)
    assert all(np.abs(ramp[0].astype(int) - colour).sum(axis=1).min() <= 6 for colour in bar)
    assert bar[-1, 0] > bar[-1, 2] + 50


def test_a_signed_legend_goes_from_against_to_for():
    bar = np.asarray(legend(240, signed=True))[14].astype(int)
    colour = bar[(bar != 255).any(axis=1)]
    cool, warm = colour[: len(colour) // 2], colour[len(colour) // 2 :]
    assert (cool[:, 2] - cool[:, 0]).max() > 80
    assert (warm[:, 0] - warm[:, 2]).max() > 80
    assert not np.array_equal(legend(240), legend(240, signed=True))


def test_panels_leave_their_inputs_alone():
    picture, values = photo(), WARM.copy()
    before = picture.tobytes()
    side_by_side(picture, [Panel("a", values), Panel("b", 0 * values)])
    assert picture.tobytes() == before
    assert np.array_equal(values, WARM)


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lambda: top_panel(photo(), [WARM], ["cat", "dog"]), "1 maps and 2 titles"),
        (lambda: top_panel(photo(), [], []), "no maps"),
        (lambda: top_panel(photo(), [-WARM], ["cat"]), "below 0"),
        (lambda: side_by_side(photo(), [Panel("a", np.ones(3))]), r"\(3,\)"),
        (lambda: side_by_side(photo(), [Panel("a", WARM * np.nan)]), "finite"),
        (lambda: side_by_side(photo(), [Panel("a", WARM)], opacity=2), "opacity is 2"),
        (lambda: side_by_side(photo(), [Panel("a", WARM)], side=0), "side is 0"),
        (lambda: side_by_side(photo(), [Panel("a", WARM)], columns=0), "columns is 0"),
        (lambda: top_panel(photo(), [WARM], ["cat"], columns=0), "columns is 0"),
        (lambda: legend(80), "80 pixels"),
    ],
)
def test_what_cannot_be_drawn_is_named(call, reason):
    with pytest.raises(ValueError, match=reason):
        call()
