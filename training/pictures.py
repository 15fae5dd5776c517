"""Pictures of rows -> tensors to train on: decoded and augmented, or encoded once beforehand."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vqa import images
from vqa.encoders import CELL_LENGTH, Encoder, Grid
from vqa.rows import Row

NO_FLIP = {"left", "right"}  # in what is said: a mirrored picture would falsify it
MIN_CROP = 0.8  # smallest side of a random crop, as a share of the picture's
See = Callable[[int], Image.Image | None]  # a row's picture
BATCH = 64  # pictures that are encoded at a time


class Sees(Protocol):
    """A model that begins with pictures."""

    encoder: Encoder
    training: bool

    def encode(self, pixels: Tensor) -> Grid:
        """Pixels (B, 3, S, S) in [0, 1] -> cells (B, N, C)."""

    def eval(self) -> Any:
        """As of any `nn.Module`."""

    def train(self, mode: bool) -> Any:
        """Likewise."""


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
        rows: Sequence[Row],
        size: int,
        *,
        augment: bool = False,
        cells: Sequence[np.ndarray] = (),
        seed: int = 0,
    ) -> None:
        self.rows, self.size, self.augment, self.cells = rows, size, augment, cells
        self.seed = seed
        self.skipped: set[int] = set(_broken(cells[0])) if cells else set()

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

    def view(self, row: int, epoch: int, mirrors: bool) -> View:
        """What an epoch shows of a row's picture, if it is augmented."""
        return View.draw((self.seed, epoch, row), mirrors=mirrors)

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


@dataclass(frozen=True)
class View:
    """A part of a picture, maybe mirrored."""

    mirrored: bool
    left: float  # as a share of the width, as they are after mirroring; so are the others
    top: float
    width: float
    height: float

    @classmethod
    def draw(cls, seed: tuple[int, ...], *, mirrors: bool) -> View:
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


def encode_rows(
    model: Sees,
    rows: Sequence[Row],
    cache: Path,
    *,
    mirrors: Sequence[bool] = (),
    views: int = 1,
    seed: int = 0,
) -> list[np.ndarray]:
    """Encode every picture once a view, into files that later runs with the same encoder and
    pictures find again.

    Args:
        model: whose encoder to use.
        rows: the pictures. One that does not decode gets a grid of NaN, is counted and named.
        cache: folder for such files; they are large and can be deleted at any time.
        mirrors: which of them may be mirrored, for further views.
        views: 1 for the pictures as they are; further ones are augmented.
        seed: of the augmentation, which is a function of (seed, view, row).

    Returns:
        Cells (len(rows), N, C) fp16 a view, mapped from the files.
    """
    size, key = model.encoder.config.image_size, _key(model, rows)
    allowed = hashlib.blake2b(bytes(mirrors), digest_size=4).hexdigest()

    def see(place: int, view: int = 0) -> Image.Image | None:
        picture = decode(rows[place], size)
        if picture is None or view == 0:
            return picture
        return View.draw((seed, view, place), mirrors=mirrors[place]).of(picture)

    learns = model.training
    model.eval()  # some encoders drop layers by chance while they learn
    found = [_encoded(model, cache / f"{key}.npy", see, len(rows))]
    for view in range(1, views):
        path = cache / f"{key}-{allowed}-{seed}-{view}.npy"
        found.append(_encoded(model, path, partial(see, view=view), len(rows)))
    model.train(learns)
    if broken := [rows[i].image_id for i in _broken(found[0])]:
        print(f"{len(broken)} pictures are left out: {broken}", file=sys.stderr)
    return found


def _broken(cells: np.ndarray) -> list[int]:
    return [int(row) for row in np.isnan(cells[:, 0, 0]).nonzero()[0]]


def _encoded(model: Sees, path: Path, see: See, num_rows: int) -> np.ndarray:
    if not path.exists():
        size = model.encoder.config.image_size
        with torch.inference_mode():  # the model tells the shape of its grid best
            grid = model.encode(torch.zeros(1, 3, size, size, device=model.encoder.mean.device))
        shape = (num_rows, *grid.cells.shape[1:])
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(f".{os.getpid()}.npy")
        cells = np.lib.format.open_memmap(fresh, "w+", np.float16, shape)
        _fill(cells, model, see)
        cells.flush()
        fresh.replace(path)
    return np.load(path, mmap_mode="r")


@torch.inference_mode()
def _fill(cells: np.ndarray, model: Sees, see: See) -> None:
    from tqdm import tqdm

    size, device = model.encoder.config.image_size, model.encoder.mean.device
    for start in tqdm(range(0, len(cells), BATCH), desc="encoding pictures", mininterval=5.0):
        places, pixels = [], []
        for place in range(start, min(start + BATCH, len(cells))):
            picture = see(place)
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
    _digest(digest, model.encoder.state_dict().values())
    gaze = getattr(model, "gaze", None)
    if gaze is not None:  # it is part of the cells
        digest.update(repr((gaze.config, getattr(model, "controls", None) is None)).encode())
        _digest(digest, (*gaze.state_dict().values(), getattr(model, "controls", torch.empty(0))))
    for place in range(len(rows)):
        digest.update(rows[place].image)
    return digest.hexdigest()


def _digest(digest: hashlib.blake2b, tensors: Iterable[Tensor]) -> None:
    for tensor in tensors:
        digest.update((tensor.cpu() + 0).numpy().tobytes())  # -0, which averaging loses, as 0
