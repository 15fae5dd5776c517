"""A gaze model behind plain calls."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F

from vqa.models import GazeModel
from vqa.preprocessing import images


class GazePipeline:
    """Says where people would look; safe to share between threads.

    Args:
        model: it is put into eval mode, and learns no more.
    """

    def __init__(self, model: GazeModel) -> None:
        self.model = model.eval().requires_grad_(False)
        self._lock = threading.Lock()

    def maps(
        self, pictures: Sequence[images.Source], *, size: tuple[int, int] | None = None
    ) -> np.ndarray:
        """Where people would look in many pictures, in one pass.

        Args:
            pictures: B paths, bytes, file objects, PIL pictures or arrays.
            size: height and width of the maps; None for the model's square.

        Returns:
            (B, H, W) float32 over the whole pictures, each sums to 1.

        Raises:
            BadImage: if a picture cannot be read.
        """
        side = self.model.config.encoder.image_size
        size = size or (side, side)
        if not pictures:
            return np.zeros((0, *size), np.float32)
        squares = [images.to_pixels(images.load(p, min_side=side), side) for p in pictures]
        with self._lock, torch.inference_mode():
            maps = self.model(torch.cat(squares)).unsqueeze(1)
        if maps.shape[-2:] != size:
            maps = F.interpolate(maps, size=size, mode="bilinear", antialias=True)
        found: np.ndarray = (maps / maps.sum((2, 3), keepdim=True)).squeeze(1).numpy()
        return found
