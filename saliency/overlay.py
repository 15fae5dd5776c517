"""Maps as colour: a heat layer, the layer blended over its picture, and the map in words.

A map is any (h, w) array of finite numbers, none below 0: brighter where more. It is scaled by its
own maximum, so colours compare places of one map, not two maps.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# Inferno, sampled every eighth: lightness rises evenly, so equal steps of heat look equal, also in
# print and to the colour-blind.
_ANCHORS = (
    (0, 0, 4),
    (31, 12, 72),
    (87, 16, 110),
    (138, 34, 106),
    (188, 55, 84),
    (227, 89, 51),
    (249, 142, 9),
    (249, 203, 53),
    (252, 255, 164),
)
_LEVELS = np.arange(256)
PALETTE: NDArray[np.uint8] = np.stack(
    [
        np.interp(_LEVELS, np.linspace(0, 255, len(_ANCHORS)), channel).round()
        for channel in zip(*_ANCHORS, strict=True)
    ],
    axis=1,
).astype(np.uint8)
PALETTE.flags.writeable = False
# Half as hot is more than half as opaque, or all but the hottest place would be lost on a photo.
_ALPHA: NDArray[np.uint8] = (255 * np.sqrt(_LEVELS / 255)).round().astype(np.uint8)
_PALETTE_RGBA = np.concatenate([PALETTE, _ALPHA[:, None]], axis=1)

_ROWS = ("upper", "middle", "lower")
_COLUMNS = ("left", "centre", "right")
_EVEN = 1.6  # times its fair share: no ninth of the picture has more, so the map has no place
_RIVAL = 0.6  # of the first place's share: from here on the second is named too


def heat(values: NDArray[np.floating], size: tuple[int, int]) -> Image.Image:
    """Colour a map: cold is transparent, hot is opaque and light.

    Args:
        values: the map, (h, w), at least 0.
        size: width and height of the picture it will lie on, in pixels.

    Returns:
        An RGBA picture of that size, the map enlarged bilinearly; all transparent if it is all 0.

    Raises:
        ValueError: if values is not such a map.
    """
    return Image.fromarray(_PALETTE_RGBA[_levels(values, size)])


def blend(
    picture: Image.Image, values: NDArray[np.floating], opacity: float, *, signed: bool = False
) -> Image.Image:
    """Lay a map over its picture.

    Args:
        picture: any picture; it is read as RGB.
        values: the map, (h, w), at least 0.
        opacity: of the hottest place, from 0 (the picture alone) to 1 (the palette's colour alone).

    Returns:
        An RGB picture of the same size.

    Raises:
        ValueError: if opacity is not in 0..1, or values is not such a map.
    """
    if not 0 <= opacity <= 1:
        raise ValueError(f"opacity is {opacity} and must be from 0 to 1")
    levels = _levels(values, picture.size)
    mask = Image.fromarray((_ALPHA * opacity).round().astype(np.uint8)[levels])
    return Image.composite(Image.fromarray(PALETTE[levels]), picture.convert("RGB"), mask)


def describe(values: NDArray[np.floating]) -> str:
    """Say where a map is hot, for those who cannot see it.

    Args:
        values: the map, (h, w), at least 0.

    Returns:
        One or two of nine places ("mostly lower left", "mostly centre and upper right"), or that
        the map has none.

    Raises:
        ValueError: if values is not such a map.
    """
    shares = _ninths(_checked(values))
    total = shares.sum()
    if total == 0:
        return "nowhere"
    first, second = np.argsort(-shares, kind="stable")[:2]
    if shares[first] <= _EVEN * total / len(shares):
        return "spread over the whole picture"
    if shares[second] < _RIVAL * shares[first]:
        return f"mostly {_place(int(first))}"
    return f"mostly {_place(int(first))} and {_place(int(second))}"


def _ninths(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """How much of the map lies in each ninth of the picture, row by row from the top left."""
    height, width = values.shape
    thirds = np.kron(values, np.ones((3, 3)))  # now both sides divide by 3, no cell is split
    shares: NDArray[np.float64] = thirds.reshape(3, height, 3, width).sum(axis=(1, 3))
    return shares.ravel()


def _place(index: int) -> str:
    row, column = _ROWS[index // 3], _COLUMNS[index % 3]
    return "centre" if (row, column) == ("middle", "centre") else f"{row} {column}"


def _levels(values: NDArray[np.floating], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Enlarge a map to (width, height) and scale it to the palette's 0..255."""
    checked = _checked(values)
    peak = float(checked.max()) or 1.0
    enlarged = Image.fromarray(checked * (255 / peak)).resize(size, Image.Resampling.BILINEAR)
    return (np.asarray(enlarged) + 0.5).astype(np.uint8)


def _checked(values: NDArray[np.floating]) -> NDArray[np.float32]:
    """The map as contiguous float32, or an error that says what it is instead."""
    array = np.ascontiguousarray(values, dtype=np.float32)
    if array.ndim != 2 or array.size == 0:
        raise ValueError(f"a map has shape (height, width), this one has {array.shape}")
    if not np.isfinite(array).all() or array.min() < 0:
        raise ValueError("a map holds finite numbers, none below 0; this one has others")
    return array
