"""The grids of a frozen encoder, computed once and kept on the disk."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from training.data.augmentation import RandomCropFlip
from training.data.decoding import decode
from vqa.data.image_dataset import ImageRecord
from vqa.models.encoder import CELL_LENGTH, Encoder, Grid
from vqa.preprocessing import images

LoadPicture = Callable[[int], Image.Image | None]  # a row's picture
BATCH = 64  # pictures that are encoded at a time


class HasEncoder(Protocol):
    """A model that begins with pictures."""

    encoder: Encoder
    training: bool

    def encode(self, pixels: Tensor) -> Grid:
        """Pixels (B, 3, S, S) in [0, 1] -> cells (B, N, C)."""

    def eval(self) -> Any:
        """Switch to evaluation mode; every `nn.Module` has it."""

    def train(self, mode: bool) -> Any:
        """Switch training mode on or off; every `nn.Module` has it."""


def encode_rows(
    model: HasEncoder,
    rows: Sequence[ImageRecord],
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
        return RandomCropFlip.draw((seed, view, place), mirrors=mirrors[place]).of(picture)

    learns = model.training
    model.eval()  # some encoders drop layers by chance while they learn
    found = [_encoded(model, cache / f"{key}.npy", see, len(rows))]
    for view in range(1, views):
        path = cache / f"{key}-{allowed}-{seed}-{view}.npy"
        found.append(_encoded(model, path, partial(see, view=view), len(rows)))
    model.train(learns)
    if broken := [rows[i].image_id for i in undecodable(found[0])]:
        print(f"{len(broken)} pictures are left out: {broken}", file=sys.stderr)
    return found


def undecodable(cells: np.ndarray) -> list[int]:
    """The indices of pictures that did not decode: their cells are NaN."""
    return [int(row) for row in np.isnan(cells[:, 0, 0]).nonzero()[0]]


def _encoded(model: HasEncoder, path: Path, see: LoadPicture, num_rows: int) -> np.ndarray:
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
    return np.asanyarray(np.load(path, mmap_mode="r"))


@torch.inference_mode()
def _fill(cells: np.ndarray, model: HasEncoder, see: LoadPicture) -> None:
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


def _key(model: HasEncoder, rows: Sequence[ImageRecord]) -> str:
    digest = hashlib.blake2b(digest_size=12)
    precision = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else None
    digest.update(repr((model.encoder.config, CELL_LENGTH, precision)).encode())
    _digest(digest, model.encoder.state_dict().values())
    gaze = getattr(model, "gaze", None)
    if gaze is not None:  # it is part of the cells
        digest.update(repr((gaze.config, getattr(model, "controls", None) is None)).encode())
        _digest(digest, (*gaze.state_dict().values(), getattr(model, "controls", torch.empty(0))))
    objects = getattr(model, "objects", None)
    if objects is not None:
        _digest(digest, objects.state_dict().values())
    for place in range(len(rows)):
        digest.update(rows[place].image)
    return digest.hexdigest()


def _digest(digest: hashlib.blake2b, tensors: Iterable[Tensor]) -> None:
    for tensor in tensors:
        digest.update((tensor.cpu() + 0).numpy().tobytes())  # -0, which averaging loses, as 0
