"""Which labels are taken for which, as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vqa.emoji_labels import emoji_of

FONT = Path(__file__).parents[1] / "assets" / "emoji.ttf"
_STRIKE = 109  # the one size that the font has
_CELL = 40  # pixels a label
_DARK = (85, 36, 104)


def draw(confusion: Sequence[Sequence[int]], labels: Sequence[str]) -> Image.Image:
    """A confusion matrix as a picture: a row a right label, a column a given one, the darker the
    larger the share of its row.

    Args:
        confusion: (labels, labels) counts.
        labels: their names; each stands as its emoji.
    """
    counts = np.asarray(confusion, float)
    shares = counts / counts.sum(1, keepdims=True).clip(min=1)
    side = (1 + len(labels)) * _CELL
    picture = Image.new("RGB", (side, side), "white")
    pen = ImageDraw.Draw(picture)
    for row, each in enumerate(shares):
        for column, share in enumerate(each):
            left, top = (column + 1) * _CELL, (row + 1) * _CELL
            shade = tuple(round(255 + share**0.5 * (dark - 255)) for dark in _DARK)
            pen.rectangle((left, top, left + _CELL - 2, top + _CELL - 2), fill=shade)
    for place, label in enumerate(labels, 1):
        icon = _icon(emoji_of(label))
        picture.paste(icon, (place * _CELL + 4, 4), icon)
        picture.paste(icon, (4, place * _CELL + 4), icon)
    return picture


def _icon(emoji: str) -> Image.Image:
    font = ImageFont.truetype(FONT, _STRIKE)
    large = Image.new("RGBA", (136, 128), (0, 0, 0, 0))
    ImageDraw.Draw(large).text((0, 0), emoji, font=font, embedded_color=True)
    return large.resize((_CELL - 8, _CELL - 8), Image.Resampling.LANCZOS)


def most(
    confusion: Sequence[Sequence[int]], labels: Sequence[str], count: int = 3
) -> list[tuple[str, str, float]]:
    """What is taken for something else most often: right label, given label, share of the right."""
    counts = np.asarray(confusion, float)
    shares = counts / counts.sum(1, keepdims=True).clip(min=1)
    np.fill_diagonal(shares, 0)
    order = np.argsort(-shares, axis=None)[:count]
    places = [(int(p) // len(labels), int(p) % len(labels)) for p in order]
    return [(labels[row], labels[column], float(shares[row, column])) for row, column in places]
