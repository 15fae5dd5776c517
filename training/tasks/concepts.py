"""What the detector of concepts learns from: the words of captions, and the objects in pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn

from training.core.finetuning import parameter_groups
from training.core.loop import Batch, fit
from training.core.run import ModelTask, Run, zero_loss
from training.data.concept_set import ConceptSet
from training.data.extra_annotations import PictureLabels
from vqa import checkpoints
from vqa.data.image_dataset import ImageRecord
from vqa.models import Answerer
from vqa.models.concept_detector import ConceptDetector


class ConceptLoss(nn.Module):
    """Summed binary cross-entropy of what is known."""

    def __init__(self, detector: ConceptDetector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, batch: Batch) -> Tensor:
        """Loss of a batch of `ConceptSet`, a scalar."""
        if not len(batch["cells"]):
            return zero_loss(self)
        logits, marks = self.detector(batch["cells"]), batch["marks"]
        losses = F.binary_cross_entropy_with_logits(logits, marks.clamp(min=0), reduction="none")
        return (losses * (marks >= 0)).sum()


class ConceptTask(ModelTask):
    """The detector as the loop sees it; the rest of the answerer stands still."""

    @torch.no_grad()
    def validate(self, model: nn.Module) -> float:
        """The loss a picture of those held out, below 0: higher is better."""
        assert isinstance(model, Answerer)
        assert model.detector is not None
        loss = ConceptLoss(model.detector).eval()
        sums = torch.zeros(2, device=self.accelerator.device)
        for batch in _batches(self.validation, self.accelerator):
            sums += torch.stack([loss(batch), batch["count"]])
        total, count = self.accelerator.reduce(sums, "sum").tolist()
        return -float(total / max(count, 1))


def learn_concepts(
    model: Answerer,
    rows: Sequence[ImageRecord],
    seen: Sequence[PictureLabels],
    cells: list[np.ndarray],
    run: Run[Any],
    *,
    epochs: int,
    lr: float,
) -> float:
    """Teach the detector of an answerer what fits a picture.

    Args:
        model: changed in place.
        rows: the training pictures.
        seen: what is known of each.
        cells: their grids, a view each.
        run: under way.
        epochs: of the learning.
        lr: likewise.

    Returns:
        CPU seconds.
    """
    assert model.detector is not None
    config, accelerator = run.config, run.accelerator
    model.requires_grad_(False)
    model.detector.requires_grad_(True)
    learnt, held = (
        ConceptSet(rows, seen, model.concepts, cells=some, held_out=out, seed=config.seed)
        for some, out in ((cells, False), (cells[:1], True))
    )
    model.detector.detect.bias.data.copy_(learnt.usual())
    task = ConceptTask(
        model,
        ConceptLoss(model.detector),
        train=learnt,
        validation=held,
        groups=parameter_groups(model, config, lr),
        accelerator=accelerator,
        best=run.work / "concepts-best",
    )
    progress = fit(task, config.schedule(epochs), accelerator, run.work / "concepts")
    model.load_state_dict(checkpoints.load_as(Answerer, task.best).state_dict())
    standardise_concepts(model, cells[0])
    model.requires_grad_(True)
    return progress.cpu_seconds


@torch.no_grad()
def standardise_concepts(model: Answerer, cells: np.ndarray) -> None:
    """Measure on pictures how well each concept usually fits.

    Args:
        model: changed in place.
        cells: grids of pictures, (P, N, C).
    """
    assert model.detector is not None
    detector, device = model.detector.eval(), model.temperature.device
    found = []
    for start in range(0, len(cells), 64):
        part = cells[start : start + 64].astype(np.float32)
        found.append(detector(torch.from_numpy(part).to(device)))
    odds = torch.cat(found)
    odds = odds[odds.isfinite().all(dim=1)]  # a picture that does not decode has no grid
    detector.usual.copy_(odds.mean(dim=0))
    detector.spread.copy_(odds.std(dim=0) + 1e-3)  # never 0


def _batches(data: ConceptSet, accelerator: Accelerator) -> Iterator[Batch]:
    share = range(accelerator.process_index, len(data), accelerator.num_processes)
    for start in range(0, len(share), 64):
        batch = data.batch([(0, i) for i in share[start : start + 64]])
        yield {name: t.to(accelerator.device) for name, t in batch.items()}
