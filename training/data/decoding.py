"""Training pictures decoded; what does not decode is named and left out."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from PIL import Image
from torch import Tensor

from vqa.data.image_dataset import ImageRecord
from vqa.errors import BadImage
from vqa.preprocessing import images


def decode(row: ImageRecord, size: int) -> Image.Image | None:
    """A row's picture, no side below `size`; None, and a line on stderr, if it does not decode."""
    try:
        return images.load(row.image, min_side=size)
    except BadImage as error:
        print(f"skipped picture {row.image_id}: {error}", file=sys.stderr)
        return None


def first_pixels(rows: Sequence[ImageRecord], size: int, count: int = 256) -> list[Tensor]:
    """The first pictures that decode, each (1, 3, size, size) in [0, 1]."""
    first = (decode(rows[place], size) for place in range(min(count, len(rows))))
    return [images.to_pixels(picture, size) for picture in first if picture is not None]
