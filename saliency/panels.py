"""Panels: a picture beside its overlays, titled, with a legend, as one RGB picture.

Text is in the font that comes with Pillow, which has no more than English letters, digits and
signs: accents are left off, what else it lacks becomes a box.
"""

from __future__ import annotations

import math
import unicodedata
from bisect import bisect_right
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from saliency.overlay import NO_EVIDENCE, Values, blend, shared_scale, upright

_PAPER, _INK, _FAINT, _GREY = (255, 255, 255), (33, 37, 41), (90, 96, 104), (128, 128, 128)
_TITLE, _SMALL = 16, 13  # font sizes in pixels
_TITLE_ROOM, _LEGEND_HEIGHT = 28, 28
_GAP = 16  # between panels, and around them
_ROOM = (168, 24)  # at least, for a picture: words may lie on it
_DIM = 0.4  # of the brightness: so that white words can be read on any picture
_OPACITY = 0.7


class Panel(NamedTuple):
    """One overlay of a panel picture."""

    title: str
    values: Values  # (h, w), at least 0 unless signed
    signed: bool = False


def side_by_side(
    picture: Image.Image,
    panels: Sequence[Panel],
    *,
    opacity: float = _OPACITY,
    side: int = 320,
    columns: int = 4,
) -> Image.Image:
    """The picture, then maps that have nothing to do with each other, such as several methods'.

    Each map is coloured by its own largest magnitude and has its own legend. One without anything
    above 0 is said to be so in words on the dimmed picture.

    Args:
        picture: any picture; it is read as RGB.
        panels: the maps and their titles, which are cut where they are too long.
        opacity: of the hottest place, from 0 to 1.
        side: pixels of each picture's longer side.
        columns: pictures in a row, the first included.

    Returns:
        An RGB picture.

    Raises:
        ValueError: if opacity is not in 0..1, side or columns not positive, or a map is none.
    """
    base = _fitted(picture, side)
    width, _ = _room(base)
    cells = [_cell("picture", base, Image.new("RGB", (width, _LEGEND_HEIGHT), _PAPER))]
    for title, values, signed in panels:
        picture_with_map = _drawn(base, values, opacity, signed, None)
        cells.append(_cell(title, picture_with_map, legend(width, signed=signed, opacity=opacity)))
    return _grid(cells, columns)


def top_panel(
    picture: Image.Image,
    maps: Sequence[Values],
    titles: Sequence[str],
    *,
    signed: bool = False,
    opacity: float = _OPACITY,
    side: int = 320,
    columns: int = 4,
) -> Image.Image:
    """The picture, then one method's maps of its best answers, all on one scale with one legend.

    Args:
        picture: any picture; it is read as RGB.
        maps: (h, w) each, at least 0 unless signed; best first.
        titles: one a map.
        signed: below 0 speaks against.
        opacity, side, columns: as in `side_by_side`.

    Returns:
        An RGB picture.

    Raises:
        ValueError: as `side_by_side`, or if there are no maps, or not as many titles as maps.
    """
    if len(maps) != len(titles):
        raise ValueError(f"there are {len(maps)} maps and {len(titles)} titles")
    base, scale = _fitted(picture, side), shared_scale(maps, signed=signed)
    overlays = [_drawn(base, values, opacity, signed, scale) for values in maps]
    cells = [_cell(*cell) for cell in zip(["picture", *titles], [base, *overlays], strict=True)]
    per_row = max(min(columns, len(cells)) - 1, 1)  # overlays in a row, which the legend is for
    width = per_row * (cells[0].width + _GAP) - _GAP
    return _grid(cells, columns, legend(width, signed=signed, opacity=opacity))


def legend(width: int, *, signed: bool = False, opacity: float = _OPACITY) -> Image.Image:
    """What the colours mean, as they look over a grey picture: a bar between two words.

    Args:
        width: in pixels, at least 120.
        signed: from against to for, instead of from less to more.
        opacity: as the maps'.

    Returns:
        An RGB picture, 28 pixels high.

    Raises:
        ValueError: if width is too small, or opacity not in 0..1.
    """
    if width < 120:
        raise ValueError(f"a legend {width} pixels wide has no room for its words")
    strip, font, middle = Image.new("RGB", (width, _LEGEND_HEIGHT), _PAPER), _font(_SMALL), 14
    low, high = ("against", "for") if signed else ("less", "more")
    draw = ImageDraw.Draw(strip)
    draw.text((0, middle), low, _FAINT, font, anchor="lm")
    draw.text((width, middle), high, _FAINT, font, anchor="rm")
    left, right = font.getlength(low) + 8, width - font.getlength(high) - 8
    bar = Image.new("RGB", (round(right - left), 10), _GREY)
    ramp = np.linspace(-1 if signed else 0, 1, bar.width)[None]
    strip.paste(blend(bar, ramp, opacity, signed=signed), (round(left), middle - 5))
    return strip


def _fitted(picture: Image.Image, side: int) -> Image.Image:
    """As RGB with a longer side of so many pixels."""
    if side < 1:
        raise ValueError(f"side is {side} and must be positive")
    picture = upright(picture)
    scale = side / max(picture.size)
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    return picture.resize(size, Image.Resampling.LANCZOS)


def _drawn(
    picture: Image.Image, values: Values, opacity: float, signed: bool, scale: float | None
) -> Image.Image:
    """One overlay; without positive evidence dimmed, with what speaks against, and in words."""
    if np.max(values, initial=0) > 0:
        return blend(picture, values, opacity, signed=signed, scale=scale)
    dimmed = Image.blend(Image.new("RGB", picture.size), picture, _DIM)
    overlaid = blend(dimmed, values, opacity, signed=signed, scale=scale)
    labelled = _centred(overlaid, _room(picture), _INK)
    ImageDraw.Draw(labelled).text(
        (labelled.width / 2, labelled.height / 2),
        NO_EVIDENCE,
        _PAPER,
        _font(_TITLE),
        anchor="mm",
        stroke_width=2,  # for what speaks against is as light as the words
        stroke_fill=_INK,
    )
    return labelled


def _room(picture: Image.Image) -> tuple[int, int]:
    """Width and height for a picture: its own, unless that is too little for words."""
    return max(picture.width, _ROOM[0]), max(picture.height, _ROOM[1])


def _centred(
    picture: Image.Image, size: tuple[int, int], colour: tuple[int, int, int]
) -> Image.Image:
    """In the middle of a sheet of that size and colour."""
    sheet = Image.new("RGB", size, colour)
    sheet.paste(picture, ((size[0] - picture.width) // 2, (size[1] - picture.height) // 2))
    return sheet


def _cell(title: str, picture: Image.Image, strip: Image.Image | None = None) -> Image.Image:
    """A title, a picture and perhaps a legend, one below the other."""
    width, height = _room(picture)
    below = strip.height if strip else 0
    cell = Image.new("RGB", (width, _TITLE_ROOM + height + below), _PAPER)
    font = _font(_TITLE)
    ImageDraw.Draw(cell).text((0, 18), _cut(title, font, width), _INK, font, anchor="ls")
    cell.paste(_centred(picture, (width, height), _PAPER), (0, _TITLE_ROOM))
    if strip:
        cell.paste(strip, (0, _TITLE_ROOM + height))
    return cell


def _cut(title: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """One line of text that fits, with an ellipsis where something is left out."""
    plain = unicodedata.normalize("NFKD", " ".join(title.split()))
    text = "".join(letter for letter in plain if not unicodedata.combining(letter))
    if len(text) <= width and font.getlength(text) <= width:
        return text
    fits = bisect_right(
        range(width), float(width), key=lambda n: font.getlength(f"{text[:n]}\u2026")
    )
    return f"{text[: fits - 1].rstrip()}\u2026"


def _grid(
    cells: Sequence[Image.Image], columns: int, strip: Image.Image | None = None
) -> Image.Image:
    """Cells of one size in rows, with margins, and perhaps a legend under the second."""
    if columns < 1:
        raise ValueError(f"columns is {columns} and must be positive")
    columns = min(columns, len(cells))
    rows = math.ceil(len(cells) / columns)
    across, down = cells[0].width + _GAP, cells[0].height + _GAP
    below = strip.height if strip else 0
    size = _GAP + columns * across, _GAP + rows * down + below
    sheet = Image.new("RGB", size, _PAPER)
    for index, cell in enumerate(cells):
        row, column = divmod(index, columns)
        sheet.paste(cell, (_GAP + column * across, _GAP + row * down))
    if strip:
        sheet.paste(strip, (_GAP + (across if columns > 1 else 0), rows * down))
    return sheet


@lru_cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise OSError("this Pillow has no FreeType, and so no text")
    return font
