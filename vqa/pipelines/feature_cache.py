"""Pictures encoded once, however often they are asked about."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Generic, TypeVar

import torch
from torch import Tensor

from vqa.models import Answerer, Captioner
from vqa.models.encoder import Grid
from vqa.preprocessing import images

CACHE_BYTES = 16 * 2**20  # about 60 grids of 7 x 7 x 1280: more than people ask about at a time
Model = TypeVar("Model", Answerer, Captioner)


class CachedImageEncoder(Generic[Model]):
    """A model with the grids of the pictures it saw last; safe to share between threads.

    Args:
        model: with an encoder; it is put into eval mode, and learns no more.
        lock: one user at a time; its own thread may enter again, from `progress`.
        cache_bytes: memory for the grids.
    """

    def __init__(
        self, model: Model, lock: threading.RLock, *, cache_bytes: int = CACHE_BYTES
    ) -> None:
        self.model: Model = model.eval().requires_grad_(False)
        for parameter in model.parameters():  # the layout that convolutions like best
            if parameter.ndim == 4:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
        self._lock, self._grids = lock, FeatureCache(cache_bytes)

    def pixels(self, picture: images.Source) -> Tensor:
        """A picture as the model sees it, (1, 3, S, S) in [0, 1]: squashed to its square.

        Raises:
            BadImage: if the picture cannot be read.
        """
        size = self.model.config.encoder.image_size
        return images.to_pixels(images.load(picture, min_side=size), size)

    def grid(self, picture: images.Source) -> Grid:
        """A picture's grid of cells (1, N, C), from memory if it is there.

        Raises:
            BadImage: if the picture cannot be read.
        """
        raw = images.read(picture)
        key = images.fingerprint(raw)
        with self._lock:
            if (grid := self._grids.get(key)) is not None:
                return grid
        pixels = self.pixels(raw)
        with self._lock, torch.inference_mode():
            if (grid := self._grids.get(key)) is None:  # another thread may have been faster
                grid = self.model.encode(pixels)
                self._grids.put(key, grid)
            return grid

    def grids(self, pictures: Sequence[images.Source]) -> Grid:
        """The grids of many pictures (B, N, C) in one pass; none is kept.

        Raises:
            BadImage: if a picture cannot be read.
        """
        pixels = torch.cat([self.pixels(picture) for picture in pictures])
        with self._lock, torch.inference_mode():
            return self.model.encode(pixels)


class FeatureCache:
    """The grids used last, by the content of their pictures, within a number of bytes."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes, self._bytes = max_bytes, 0
        self._grids: OrderedDict[str, Grid] = OrderedDict()

    def get(self, key: str) -> Grid | None:
        """The grid kept under a key, if it still is."""
        if key in self._grids:
            self._grids.move_to_end(key)
        return self._grids.get(key)

    def put(self, key: str, grid: Grid) -> None:
        """Keep a grid; the ones not used for longest make room."""
        if key in self._grids:
            return
        self._grids[key] = grid
        self._bytes += grid.cells.nbytes
        while self._bytes > self._max_bytes:
            _, dropped = self._grids.popitem(last=False)
            self._bytes -= dropped.cells.nbytes
