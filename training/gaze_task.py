"""Gaze as the training loop sees it: pictures with fixations, the loss, and the validation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from saliency import gaze_metrics
from saliency.fixations import SIZE, count_map, density
from training.loop import Batch
from training.pictures import PictureSet, View, decode
from training.run import OurTask, none_of
from vqa import images
from vqa.models import GazeModel
from vqa.rows import Row

TERMS = ("kl", "cc", "nss", "bce")  # of the loss
Measure = Callable[[Tensor, Tensor, Tensor], Tensor]  # maps, densities, counts (B, H, W) -> (B,)
MEASURES: dict[str, Measure] = {
    "cc": lambda maps, truth, _: gaze_metrics.cc(maps, truth),
    "nss": lambda maps, _, counts: gaze_metrics.nss(maps, counts),
    "ssim": lambda maps, truth, _: gaze_metrics.ssim(_over_peak(maps), _over_peak(truth)),
}


class GazeSet(PictureSet):
    """Pictures with where people looked.

    Args:
        rows: the data; rows without a fixation are left out.
        size: as of `PictureSet`.
        augment: as of `PictureSet`.
        seed: as of `PictureSet`.
    """

    def __init__(
        self, rows: Sequence[Row], size: int, *, augment: bool = False, seed: int = 0
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
                view = View.draw((self.seed, epoch, place), mirrors=True)
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


class GazeLoss(nn.Module):
    """Summed loss over the pictures, at the size at which gaze is measured.

    Args:
        model: learns.
        weights: of each of `TERMS`: the divergence from the density, 1 - the correlation with it,
            -NSS, and the binary cross-entropy against the density over its peak, a pixel.
    """

    def __init__(self, model: GazeModel, weights: dict[str, float]) -> None:
        super().__init__()
        self.model, self.weights = model, weights

    def forward(self, batch: Batch) -> Tensor:
        """Loss of a batch of `GazeSet`, a scalar."""
        if not len(batch["pixels"]):
            return none_of(self)
        logits = self.model.logits(batch["pixels"]).float()
        counts = batch["counts"]
        truth = density(counts)
        maps = at_size(self.model.spread(logits))
        terms = {
            "kl": lambda: gaze_metrics.kl(maps, truth),
            "cc": lambda: 1 - gaze_metrics.cc(maps, truth),
            "nss": lambda: -gaze_metrics.nss(maps, counts),
            "bce": lambda: _cross_entropy(logits, truth),
        }
        losses = [weight * terms[name]() for name, weight in self.weights.items() if weight]
        return torch.stack(losses).sum()


def _cross_entropy(logits: Tensor, truth: Tensor) -> Tensor:
    """Of logits (B, S, S) against densities (B, H, W) over their peak, a picture: (B,)."""
    peaks = _over_peak(truth).unsqueeze(1)
    wanted = F.interpolate(peaks, size=logits.shape[-2:], mode="bilinear").squeeze(1)
    losses = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    return losses.mean((1, 2))


def _over_peak(maps: Tensor) -> Tensor:
    return maps / maps.amax((-2, -1), keepdim=True)


def at_size(maps: Tensor) -> Tensor:
    """Maps (B, H, W) that sum to 1 -> (B, *SIZE) that sum to 1."""
    shown = F.interpolate(maps.unsqueeze(1), size=SIZE, mode="bilinear", antialias=True).squeeze(1)
    return shown / shown.sum((1, 2), keepdim=True)


class GazeTask(OurTask):
    """The gaze model as the loop sees it."""

    def __init__(self, *args: Any, measure: Measure, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.measure = measure

    @torch.no_grad()
    def validate(self, model: nn.Module) -> float:
        """Mean of `measure` between maps and densities over the validation pictures."""
        assert isinstance(model, GazeModel)
        model.eval()
        accelerator, device = self.accelerator, self.accelerator.device
        share = range(accelerator.process_index, len(self.validation), accelerator.num_processes)
        total = np.zeros(2)
        for start in range(0, len(share), 16):
            batch = self.validation.batch([(0, i) for i in share[start : start + 16]])
            if not int(batch["count"]):
                continue
            maps = at_size(model(batch["pixels"].to(device)).float())
            counts = batch["counts"].to(device)
            values = self.measure(maps, density(counts), counts)
            total += (float(values.sum()), len(values))
        summed, count = accelerator.reduce(torch.tensor(total, device=device), "sum").tolist()
        return summed / max(count, 1)
