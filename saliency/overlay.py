"""Maps as colour: a heat layer, the layer blended over its picture, and the map in words.

A map is any (h, w) array of finite numbers, none below 0: brighter where more. A signed map may
hold any finite numbers: warm where they speak for, cool where they speak against, nothing at 0.

Colours are relative to a magnitude, `scale`: the map's own largest unless given. Places of one map
can always be compared, maps only if they are coloured with one scale (`shared_scale`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

Colours = NDArray[np.uint8]
Values = NDArray[np.floating]

# Inferno, sampled every eighth: lightness rises evenly, so equal steps of heat look equal, also in
# print and to the colour-blind.
_INFERNO = "000004 1f0c48 57106e 8a226a bc3754 e35933 f98e09 f9cb35 fcffa4"
# Both hues of a signed map, from next to nothing to most: CIE L* from 8 to 80 in equal steps, alike
# in both, as saturated as sRGB allows at hues that no kind of colour-blindness confuses.
_AGAINST = "011833 032b4f 07406c 0b568a 106da7 1685c4 1b9fe2 31b8fd 85cffd"
_FOR = "38010d 5a0317 7f061b a70a18 d01004 e64507 fb680c fd9346 feb87c"


def _ramp(anchors: str, levels: int) -> Colours:
    """Colours (levels, 3) that pass through evenly spaced anchors, in hexadecimal."""
    fixed = np.frombuffer(bytes.fromhex(anchors), np.uint8).reshape(-1, 3)
    places = np.linspace(0, len(fixed) - 1, levels)
    channels = [np.interp(places, range(len(fixed)), channel).round() for channel in fixed.T]
    return np.stack(channels, axis=1, dtype=np.uint8, casting="unsafe")


def _with_alpha(palette: Colours, heat: NDArray[np.floating]) -> Colours:
    """RGBA: half as hot is more than half as opaque, or only the hottest place would be seen.

    Next to nothing is less, or a place of nothing would have an edge that can be seen.
    """
    alpha = (255 * np.minimum(np.sqrt(heat), 4 * heat)).round().astype(np.uint8)
    return np.concatenate([palette, alpha[:, None]], axis=1)


PALETTE = _ramp(_INFERNO, 256)  # (256, 3), from cold to hot
SIGNED_PALETTE = np.concatenate(  # (255, 3), from most against to most for; 127 is nothing
    [_ramp(_AGAINST, 128)[:0:-1], np.zeros((1, 3), np.uint8), _ramp(_FOR, 128)[1:]]
)
PALETTE.flags.writeable = SIGNED_PALETTE.flags.writeable = False
_RGBA = _with_alpha(PALETTE, np.linspace(0, 1, 256))
_SIGNED_RGBA = _with_alpha(SIGNED_PALETTE, np.abs(np.linspace(-1, 1, 255)))

NO_EVIDENCE = "no positive evidence"
_ROWS = ("upper", "middle", "lower")
_COLUMNS = ("left", "centre", "right")
_EVEN = 1.6  # times its fair share: no ninth of the picture has more, so the map has no place
_RIVAL = 0.6  # of the first place's share: from here on the second is named too
_AREA = 0.1  # of the picture: how much of the mass its hottest part holds says how concentrated


def heat(
    values: Values, size: tuple[int, int], *, signed: bool = False, scale: float | None = None
) -> Image.Image:
    """Colour a map: nothing is transparent, hot is opaque and light.

    Args:
        values: the map, (h, w), at least 0 unless signed.
        size: width and height of the picture it will lie on, in pixels.
        signed: below 0 speaks against; two hues.
        scale: the magnitude that gets the hottest colour, above 0; what exceeds it is clipped. The
            map's own largest if None.

    Returns:
        An RGBA picture of that size, the map enlarged bilinearly; all transparent if it is all 0.

    Raises:
        ValueError: if values is not such a map, or scale not above 0.
    """
    layer = Image.fromarray(_levels(values, size, signed, scale))
    layer.putpalette((_SIGNED_RGBA if signed else _RGBA).tobytes(), "RGBA")
    return layer.convert("RGBA")


def upright(picture: Image.Image) -> Image.Image:
    """A picture as RGB, turned as its EXIF orientation says, as models see it.

    `Image.open` leaves a phone's photo on its side, where a map would lie on the wrong places.
    """
    picture.load()  # a TIFF turns itself when it is loaded
    try:
        turned = ImageOps.exif_transpose(picture)
    except Exception:  # a camera's broken notes are no reason to refuse its picture
        turned = picture
    return turned.convert("RGB")  # a copy, also of RGB


def blend(
    picture: Image.Image,
    values: Values,
    opacity: float,
    *,
    signed: bool = False,
    scale: float | None = None,
) -> Image.Image:
    """Lay a map over its picture.

    Args:
        picture: any picture; it is read as RGB and turned upright.
        values: the map, (h, w), at least 0 unless signed.
        opacity: of the hottest place, from 0 (the picture alone) to 1 (the palette's colour alone).
        signed: as in `heat`.
        scale: as in `heat`.

    Returns:
        An RGB picture of the upright picture's size.

    Raises:
        ValueError: if opacity is not in 0..1, values is not such a map, or scale not above 0.
    """
    if not 0 <= opacity <= 1:
        raise ValueError(f"opacity is {opacity} and must be from 0 to 1")
    colours = _premultiplied(_SIGNED_RGBA if signed else _RGBA, opacity)
    blended = upright(picture)
    pixels = colours.take(_levels(values, blended.size, signed, scale), mode="clip")
    layer = Image.frombuffer("RGBa", blended.size, pixels, "raw", "RGBa", 0, 1)
    blended.paste(layer, (0, 0), layer)
    return blended


def shared_scale(maps: Sequence[Values], *, signed: bool = False) -> float:
    """One scale for maps that are to be compared: their largest magnitude.

    Args:
        maps: (h, w) each, at least 0 unless signed.
        signed: as in `heat`.

    Returns:
        That magnitude, 1 if all of them are 0 everywhere.

    Raises:
        ValueError: if there are no maps, or one is no such map.
    """
    if not len(maps):
        raise ValueError("there are no maps to share a scale")
    return max(float(np.abs(_checked(values, signed)).max()) for values in maps) or 1.0


def describe(values: Values, *, signed: bool = False) -> str:
    """Say where a map is hot and how concentrated, for those who cannot see it.

    Args:
        values: the map, (h, w), at least 0 unless signed.
        signed: below 0 speaks against.

    Returns:
        One or two of nine places, or that there is none, and how much of the map's sum above 0 lies
        in the hottest tenth of the picture: "mostly lower left, 62% of the mass in 10% of the
        area". If nothing is above 0, "no positive evidence". Then, where a signed map speaks
        against: "; against it mostly upper left, 25% of all evidence".

    Raises:
        ValueError: if values is not such a map.
    """
    checked = _checked(values, signed)
    above, below = np.maximum(checked, 0), np.maximum(-checked, 0)
    if not below.any():
        return f"{_where(above)}, {_concentration(above)}" if above.any() else NO_EVIDENCE
    if not above.any():
        return f"{NO_EVIDENCE}; against it {_where(below)}, {_concentration(below)}"
    share = f"{below.sum() / (above.sum() + below.sum()):.0%}"
    against = f"; against it {_where(below)}, {share} of all evidence" if share != "0%" else ""
    return f"{_where(above)}, {_concentration(above)}{against}"


def _where(values: NDArray[np.float64]) -> str:
    """The places of a map that is at least 0, and somewhere above."""
    shares = _ninths(values)
    first, second = np.argsort(-shares, kind="stable")[:2]
    if shares[first] <= _EVEN * shares.mean():
        return "spread over the whole picture"
    if shares[second] < _RIVAL * shares[first]:
        return f"mostly {_place(int(first))}"
    return f"mostly {_place(int(first))} and {_place(int(second))}"


def _concentration(values: NDArray[np.float64]) -> str:
    """How much of such a map lies in its hottest tenth; a cell on the border counts in part."""
    hottest = np.cumsum(np.sort(values, axis=None)[::-1])
    cells = np.arange(hottest.size + 1)
    inside = np.interp(_AREA * hottest.size, cells, np.concatenate([[0], hottest]))
    return f"{inside / hottest[-1]:.0%} of the mass in {_AREA:.0%} of the area"


def _ninths(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """How much of the map lies in each ninth of the picture, row by row from the top left."""
    height, width = values.shape
    thirds = np.kron(values, np.ones((3, 3)))  # now both sides divide by 3, no cell is split
    shares: NDArray[np.float64] = thirds.reshape(3, height, 3, width).sum(axis=(1, 3))
    return shares.ravel()


def _place(index: int) -> str:
    row, column = _ROWS[index // 3], _COLUMNS[index % 3]
    return "centre" if (row, column) == ("middle", "centre") else f"{row} {column}"


def _premultiplied(colours: Colours, opacity: float) -> NDArray[np.uint32]:
    """One number a colour, for Pillow's "RGBa", which it pastes twice as quickly as "RGBA"."""
    alpha = (colours[:, 3:] * opacity).round()
    premultiplied = np.concatenate([colours[:, :3] * (alpha / 255), alpha], axis=1)
    packed: NDArray[np.uint32] = premultiplied.round().astype(np.uint8).view(np.uint32)
    return packed[:, 0]


def _levels(
    values: Values, size: tuple[int, int], signed: bool, scale: float | None
) -> NDArray[np.uint8]:
    """Where each pixel of (width, height) lies in its palette."""
    checked = _checked(values, signed)
    if scale is not None:
        if not 0 < scale < np.inf:
            raise ValueError(f"scale is {scale} and must be above 0 and finite")
        checked = checked.clip(-scale, scale)
    peak = scale or max(-checked.min(), checked.max()) or 1
    relative = (checked / peak).astype(np.float32)
    return _enlarge(127 + 127 * relative if signed else 255 * relative, size)


def _enlarge(levels: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Resize levels to (width, height), bilinearly, as Pillow would but quicker."""
    small = min(size[0], levels.shape[1]), min(size[1], levels.shape[0])
    if small != levels.shape[::-1]:
        levels = np.asarray(Image.fromarray(levels).resize(small, Image.Resampling.BILINEAR))
    enlarged = (levels + 0.5).astype(np.uint16)
    for length in size:  # columns, turned to rows, which are quicker to copy; then rows
        enlarged = _stretch(np.ascontiguousarray(enlarged.T), length)
    return enlarged.astype(np.uint8)


def _stretch(levels: NDArray[np.uint16], length: int) -> NDArray[np.uint16]:
    """Enlarge to so many rows: 8 bits of level and 8 of weight, what is below 0 between wraps."""
    rows = len(levels)
    places = np.clip((np.arange(length) + 0.5) * (rows / length) - 0.5, 0, rows - 1)
    above = places.astype(np.intp)
    stretched: NDArray[np.uint16] = np.diff(levels, axis=0, append=levels[-1:]).take(above, axis=0)
    stretched *= ((places - above) * 256).round().astype(np.uint16)[:, None]
    stretched += (levels * 256 + 128).take(above, axis=0)
    stretched >>= 8
    return stretched


def _checked(values: Values, signed: bool) -> NDArray[np.float64]:
    """The map as float64, or an error that says what it is instead."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 2 or array.size == 0:
        raise ValueError(f"a map has shape (height, width), this one has {array.shape}")
    low, high = array.min(), array.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError("a map holds finite numbers, this one has others")
    if low < 0 and not signed:
        raise ValueError(f"a map that is not signed has nothing below 0, this one {low:g}")
    return array
