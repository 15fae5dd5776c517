"""Random crops and mirror images of training pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

NO_FLIP = {"left", "right"}  # in what is said: a mirrored picture would falsify it
MIN_CROP = 0.8  # smallest side of a random crop, as a share of the picture's


@dataclass(frozen=True)
class RandomCropFlip:
    """A part of a picture, maybe mirrored."""

    mirrored: bool
    left: float  # as a share of the width, as they are after mirroring; so are the others
    top: float
    width: float
    height: float

    @classmethod
    def draw(cls, seed: tuple[int, ...], *, mirrors: bool) -> RandomCropFlip:
        """One by chance, mirrored only where it may be."""
        chance = np.random.default_rng(seed)
        mirrored = bool(mirrors and chance.random() < 0.5)
        width, height = chance.uniform(MIN_CROP, 1, size=2)
        left, top = chance.uniform(0, 1 - width), chance.uniform(0, 1 - height)
        return cls(mirrored, left, top, width, height)

    def of(self, picture: Image.Image) -> Image.Image:
        """What it shows of a picture."""
        if self.mirrored:
            picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        left, right = (round(x * picture.width) for x in (self.left, self.left + self.width))
        top, bottom = (round(y * picture.height) for y in (self.top, self.top + self.height))
        return picture.crop((left, top, right, bottom))

    def of_map(self, values: np.ndarray) -> np.ndarray:
        """What it shows of a map of the picture (h, w) float32, at the same size."""
        image, (height, width) = Image.fromarray(values), values.shape
        if self.mirrored:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        left, right = (x * width for x in (self.left, self.left + self.width))
        top, bottom = (y * height for y in (self.top, self.top + self.height))
        box = (left, top, min(right, width), min(bottom, height))
        return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR, box))

    def places(self, points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
        """Points x, y of the picture, as shares of the view; those outside it are left out."""
        turned = [(1 - x if self.mirrored else x, y) for x, y in points]
        moved = [((x - self.left) / self.width, (y - self.top) / self.height) for x, y in turned]
        return [(x, y) for x, y in moved if 0 <= x <= 1 and 0 <= y <= 1]
