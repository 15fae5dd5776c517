"""An auxiliary loss: which objects can be seen in the picture."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from training.data.extra_annotations import ObjectLabels


class ObjectLoss(nn.Module):
    """Auxiliary: which objects are in the picture, by the mean of its cells.

    Args:
        channels: of the cells.
        num_objects: as many targets.
        weight: of a picture's loss.
    """

    def __init__(self, channels: int, num_objects: int, weight: float) -> None:
        super().__init__()
        self.say, self.weight = nn.Linear(channels, num_objects), weight

    def forward(self, cells: Tensor, marks: Tensor) -> Tensor:
        """Cells (B, N, C) and marks (B, O) of `ObjectLabels` -> the summed loss."""
        logits = self.say(cells.mean(dim=1)).float()
        losses = F.binary_cross_entropy_with_logits(logits, marks.clamp(min=0), reduction="none")
        return self.weight * (losses * (marks >= 0)).sum()


def object_loss(channels: int, labels: ObjectLabels, weight: float) -> ObjectLoss | None:
    """The loss, where there are labels and it has a weight."""
    return ObjectLoss(channels, len(labels), weight) if weight and len(labels) else None
