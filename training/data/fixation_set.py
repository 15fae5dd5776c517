"""Pictures with the fixations of people, in batches."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from saliency.fixations import SIZE, count_map
from training.core.loop import Batch
from training.data.augmentation import RandomCropFlip
from training.data.decoding import decode
from training.data.image_set import PictureSet
from vqa.data.image_dataset import ImageRecord
from vqa.preprocessing import images


class GazeSet(PictureSet):
    """Pictures with where people looked.

    Args:
        rows: the data; rows without a fixation are left out.
        size: as of `PictureSet`.
        augment: as of `PictureSet`.
        seed: as of `PictureSet`.
    """

    def __init__(
        self, rows: Sequence[ImageRecord], size: int, *, augment: bool = False, seed: int = 0
    ) -> None:
        super().__init__(rows, size, augment=augment, seed=seed)
        self.fixations = [rows[place].fixations for place in range(len(rows))]
        self.samples = [place for place, points in enumerate(self.fixations) if points]

    def batch(self, picks: list[tuple[int, int]]) -> Batch:
        """Collate samples.

        Args:
            picks: (epoch, sample) pairs.

        Returns:
            `pixels` (B, 3, S, S), `counts` (B, H, W) of the fixations, `count` () = B.
        """
        pixels, counts = [], []
        for epoch, sample in picks:
            place = self.samples[sample]
            picture = None if place in self.skipped else decode(self.rows[place], self.size)
            if picture is None:
                self.skipped.add(place)
                continue
            points = list(self.fixations[place])
            if self.augment:
                view = RandomCropFlip.draw((self.seed, epoch, place), mirrors=True)
                picture, points = view.of(picture), view.places(points)
            if points:
                pixels.append(images.to_pixels(picture, self.size)[0])
                counts.append(count_map(points))
        empty = torch.zeros(0, *SIZE)
        return {
            **self.stack(pixels),
            "counts": torch.stack(counts) if counts else empty,
            "count": torch.tensor(len(counts)),
        }
