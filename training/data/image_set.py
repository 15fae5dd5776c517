"""Pictures of rows -> tensors to train on: decoded and augmented, or encoded once beforehand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from training.data.augmentation import RandomCropFlip
from training.data.decoding import decode
from training.data.feature_cache import undecodable
from vqa.data.image_dataset import ImageRecord
from vqa.preprocessing import images


class PictureSet:
    """The pictures of rows; one that does not decode is skipped and named.

    Args:
        rows: the data.
        size: side in pixels of the square that the pictures are squashed to.
        augment: mirror and crop the pictures, by chance.
        cells: grids encoded beforehand instead of pixels, (len(rows), N, C) fp16 a view; an epoch
            sees one view of each picture. See `encode_rows`.
        seed: of the augmentation, which is a function of (seed, epoch, row).

    Attributes:
        samples: what a subclass learns from, as it sees fit.
    """

    samples: Sequence[Any]

    def __init__(
        self,
        rows: Sequence[ImageRecord],
        size: int,
        *,
        augment: bool = False,
        cells: Sequence[np.ndarray] = (),
        seed: int = 0,
    ) -> None:
        self.rows, self.size, self.augment, self.cells = rows, size, augment, cells
        self.seed = seed
        self.skipped: set[int] = set(undecodable(cells[0])) if cells else set()

    def __len__(self) -> int:
        return len(self.samples)

    def picture(self, row: int, epoch: int, *, mirrors: bool) -> Tensor | None:
        """Pixels (3, S, S) or cells (N, C) of a row; None if it does not decode.

        Args:
            row: which.
            epoch: which; the augmentation differs between them.
            mirrors: whether it may be mirrored.
        """
        if row in self.skipped:
            return None
        if self.cells:
            view = self.cells[epoch % len(self.cells)]
            return torch.from_numpy(view[row].astype(np.float32))
        picture = decode(self.rows[row], self.size)
        if picture is None:
            self.skipped.add(row)
            return None
        if self.augment:
            picture = self.view(row, epoch, mirrors).of(picture)
        return images.to_pixels(picture, self.size)[0]

    def view(self, row: int, epoch: int, mirrors: bool) -> RandomCropFlip:
        """What an epoch shows of a row's picture, if it is augmented."""
        return RandomCropFlip.draw((self.seed, epoch, row), mirrors=mirrors)

    def stack(self, kept: list[Tensor]) -> dict[str, Tensor]:
        """Pictures of one batch under their name: `pixels` (B, 3, S, S) or `cells` (B, N, C)."""
        name = "cells" if self.cells else "pixels"
        shape = (0, *self.cells[0].shape[1:]) if self.cells else (0, 3, self.size, self.size)
        return {name: torch.stack(kept) if kept else torch.zeros(shape)}


def pad(rows: Sequence[Sequence[int]], filler: int) -> Tensor:
    """Number rows (R, longest) int64, filled up on the right."""
    longest = max(map(len, rows), default=1)
    padded = [[*row, *[filler] * (longest - len(row))] for row in rows]
    return torch.tensor(padded, dtype=torch.long).view(len(rows), longest)
