"""Gaze as the training loop sees it: pictures with fixations, the loss, and the validation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from saliency import gaze_metrics
from saliency.fixations import SIZE, density
from training.core.loop import Batch
from training.core.run import ModelTask, zero_loss
from vqa.models import GazeModel

TERMS = ("kl", "cc", "nss", "bce")  # of the loss
Measure = Callable[[Tensor, Tensor, Tensor], Tensor]  # maps, densities, counts (B, H, W) -> (B,)
MEASURES: dict[str, Measure] = {
    "cc": lambda maps, truth, _: gaze_metrics.cc(maps, truth),
    "nss": lambda maps, _, counts: gaze_metrics.nss(maps, counts),
    "ssim": lambda maps, truth, _: gaze_metrics.ssim(_over_peak(maps), _over_peak(truth)),
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
            return zero_loss(self)
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


class GazeTask(ModelTask):
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
        return float(summed / max(count, 1))
