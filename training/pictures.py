"""Pictures of rows -> tensors to train on: decoded and augmented, or encoded once beforehand."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vqa import images
from vqa.encoders import CELL_LENGTH, Encoder, Grid
from vqa.rows import Row

NO_FLIP = {"left", "right"}  # in what is said: a mirrored picture would falsify it
MIN_CROP = 0.8  # smallest side of a random crop, as a share of the picture's


class Sees(Protocol):
    """A model that begins with pictures."""

    encoder: Encoder

    def encode(self, pixels: Tensor) -> Grid:
        """Pixels (B, 3, S, S) in [0, 1] -> cells (B, N, C)."""


class PictureSet:
    """The pictures of rows; one that does not decode is skipped and named.

    Args:
        rows: the data.
        size: side in pixels of the square that the pictures are squashed to.
        augment: mirror and crop the pictures, by chance.
        cells: grids encoded beforehand, (len(rows), N, C) fp16, instead of pixels; see
            `encode_rows`.
        seed: of the augmentation, which is a function of (seed, epoch, row).
    """

    def __init__(
        self,
        rows: Sequence[Row],
        size: int,
        *,
        augment: bool = False,
        cells: np.ndarray | None = None,
        seed: int = 0,
    ) -> None:
        self.rows, self.size, self.augment, self.cells = rows, size, augment, cells
        self.seed = seed
        broken = [] if cells is None else np.isnan(cells[:, 0, 0]).nonzero()[0].tolist()
        self.skipped: set[int] = set(broken)

    def picture(self, row: int, epoch: int, *, mirrors: bool) -> Tensor | None:
        """Pixels (3, S, S) or cells (N, C) of a row; None if it does not decode.

        Args:
            row: which.
            epoch: which; the augmentation differs between them.
            mirrors: whether it may be mirrored.
        """
        if row in self.skipped:
            return None
        if self.cells is not None:
            return torch.from_numpy(self.cells[row].astype(np.float32))
        picture = decode(self.rows[row], self.size)
        if picture is None:
            self.skipped.add(row)
            return None
        if self.augment:
            chance = np.random.default_rng((self.seed, epoch, row))
            picture = _augment(picture, chance, mirrors=mirrors)
        return images.to_pixels(picture, self.size)[0]

    def stack(self, kept: list[Tensor]) -> dict[str, Tensor]:
        """Pictures of one batch under their name: `pixels` (B, 3, S, S) or `cells` (B, N, C)."""
        name = "pixels" if self.cells is None else "cells"
        shape = (0, 3, self.size, self.size) if self.cells is None else (0, *self.cells.shape[1:])
        return {name: torch.stack(kept) if kept else torch.zeros(shape)}


def pad(rows: Sequence[Sequence[int]], filler: int) -> Tensor:
    """Number rows (R, longest) int64, filled up on the right."""
    longest = max(map(len, rows), default=1)
    padded = [[*row, *[filler] * (longest - len(row))] for row in rows]
    return torch.tensor(padded, dtype=torch.long).view(len(rows), longest)


def _augment(picture: Image.Image, chance: np.random.Generator, *, mirrors: bool) -> Image.Image:
    if mirrors and chance.random() < 0.5:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    width, height = (round(s * chance.uniform(MIN_CROP, 1)) for s in picture.size)
    left = int(chance.integers(0, picture.width - width + 1))
    top = int(chance.integers(0, picture.height - height + 1))
    return picture.crop((left, top, left + width, top + height))


def decode(row: Row, size: int) -> Image.Image | None:
    """A row's picture, no side below `size`; None, and a line on stderr, if it does not decode."""
    try:
        return images.load(row.image, min_side=size)
    except images.BadImage as error:
        print(f"skipped picture {row.image_id}: {error}", file=sys.stderr)
        return None


def first_pixels(rows: Sequence[Row], size: int, count: int = 256) -> list[Tensor]:
    """The first pictures that decode, each (1, 3, size, size) in [0, 1]."""
    first = (decode(rows[place], size) for place in range(min(count, len(rows))))
    return [images.to_pixels(picture, size) for picture in first if picture is not None]


@torch.inference_mode()
def encode_rows(model: Sees, rows: Sequence[Row], cache: Path, batch_size: int = 64) -> np.ndarray:
    """Encode every picture once, into a file that later runs with the same encoder and pictures
    find again.

    Args:
        model: whose encoder to use.
        rows: the pictures. One that does not decode gets a grid of NaN, is counted and named.
        cache: folder for such files; they are large and can be deleted at any time.
        batch_size: pictures a step.

    Returns:
        Cells (len(rows), N, C) fp16, mapped from the file.
    """
    height, width = model.encoder.grid_size
    shape = (len(rows), height * width, model.encoder.channels)
    path = cache / f"{_key(model, rows)}.npy"
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(f".{os.getpid()}.npy")
        cells = np.lib.format.open_memmap(fresh, "w+", np.float16, shape)
        _fill(cells, model, rows, batch_size)
        cells.flush()
        fresh.replace(path)
    cells = np.load(path, mmap_mode="r")
    if broken := [rows[i].image_id for i in np.isnan(cells[:, 0, 0]).nonzero()[0]]:
        print(f"{len(broken)} pictures are left out: {broken}", file=sys.stderr)
    return cells


def _fill(cells: np.ndarray, model: Sees, rows: Sequence[Row], batch_size: int) -> None:
    from tqdm import tqdm

    size, device = model.encoder.config.image_size, model.encoder.mean.device
    for start in tqdm(range(0, len(rows), batch_size), desc="encoding pictures", mininterval=5.0):
        places, pixels = [], []
        for place in range(start, min(start + batch_size, len(rows))):
            picture = decode(rows[place], size)
            if picture is None:
                cells[place] = np.nan
                continue
            places.append(place)
            pixels.append(images.to_pixels(picture, size))
        if places:
            encoded = model.encode(torch.cat(pixels).to(device)).cells
            cells[places] = encoded.half().cpu().numpy()


def _key(model: Sees, rows: Sequence[Row]) -> str:
    digest = hashlib.blake2b(digest_size=12)
    precision = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else None
    digest.update(repr((model.encoder.config, CELL_LENGTH, precision)).encode())
    for tensor in model.encoder.state_dict().values():
        digest.update(tensor.cpu().numpy().tobytes())
    for place in range(len(rows)):
        digest.update(rows[place].image)
    return digest.hexdigest()
