"""The answerer as the training loop sees it: its loss, its validation, its calibration."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn

from training.core.loop import Batch
from training.core.run import ModelTask, zero_loss
from training.data.question_set import QuestionSet
from training.tasks.object_loss import ObjectLoss
from vqa.models import Answerer

TEMPERATURES = torch.logspace(-0.5, 0.7, 241)  # 0.32 to 5.0, steps of 1.2%


class AnswerLoss(nn.Module):
    """Summed soft cross-entropy over the graded answers, a question by its weight.

    Args:
        model: learns.
        objects: an auxiliary loss, a picture; None for none.
    """

    def __init__(self, model: Answerer, objects: ObjectLoss | None = None) -> None:
        super().__init__()
        self.model, self.objects = model, objects

    def forward(self, batch: Batch) -> Tensor:
        """Loss of a batch of `QuestionSet`, a scalar."""
        if not len(batch["ids"]):
            return zero_loss(self)
        cells = batch.get("cells")
        if cells is None:
            cells = self.model.encode(batch["pixels"], batch.get("looks")).cells
        logits = self.model(cells, batch["ids"], batch["owner"]).logits
        each = -(batch["targets"] * logits.float().log_softmax(-1)).sum(1)
        total: Tensor = (batch["weights"] * each).sum()
        if self.objects is not None:
            seen = cells[..., : self.model.encoder.channels]  # without gaze
            total = total + self.objects(seen, batch["objects"])
        return total


class AnswerTask(ModelTask):
    """The answerer as the loop sees it, with the encoder frozen or not."""

    def validate(self, model: nn.Module) -> float:
        """Mean graded score of the best answer over the validation questions that can be learnt.

        It ranks checkpoints of one training; `training.score` gives the official accuracy over all
        questions.
        """
        right = total = 0.0
        for batch, logits in predict(model, self.validation, self.accelerator):
            rows = torch.arange(len(logits))
            graded = batch["targets"] / batch["targets"].amax(1, keepdim=True)
            right += graded[rows, logits.argmax(1)].sum().item()
            total += len(logits)
        sums = torch.tensor([right, total], device=self.accelerator.device)
        right, total = map(float, self.accelerator.reduce(sums, "sum").tolist())
        return right / max(total, 1)


@torch.no_grad()
def predict(
    model: Any, questions: QuestionSet, accelerator: Accelerator
) -> Iterator[tuple[Batch, Tensor]]:
    """Yield this process's share of the batches with their logits (Q, A), in eval mode."""
    model.eval()
    share = range(accelerator.process_index, len(questions), accelerator.num_processes)
    for start in range(0, len(share), 64):
        batch = questions.batch([(0, i) for i in share[start : start + 64]])
        if not len(batch["ids"]):
            continue
        batch = {name: t.to(accelerator.device) for name, t in batch.items()}
        with accelerator.autocast():
            cells = batch["cells"] if "cells" in batch else model.encode(batch["pixels"]).cells
            logits = model(cells, batch["ids"], batch["owner"]).logits
        yield {n: t.cpu() for n, t in batch.items()}, logits.float().cpu()


def fit_temperature(model: Answerer, questions: QuestionSet, accelerator: Accelerator) -> float:
    """The temperature at which the best answer's probability best forecasts its accuracy, by search
    on a fine grid.

    Guo et al. 2017 make the labels likeliest. Where ten people answer, three make an answer right:
    their shares are lower than the accuracy, and so would be the probability.

    Args:
        model: its own temperature is ignored.
        questions: validation, those without a known answer too: none will be right.
        accelerator: each process takes its share; all get the same temperature.
    """
    losses = torch.zeros(len(TEMPERATURES))
    for batch, logits in predict(model, questions, accelerator):
        best = logits.argmax(dim=1, keepdim=True)
        right = batch["targets"].gather(1, best).squeeze(1) * batch["scores"]
        for place, temperature in enumerate(TEMPERATURES):
            shown = (logits / temperature).softmax(-1).amax(1)
            each = F.binary_cross_entropy(shown.clamp(max=1), right.clamp(max=1), reduction="sum")
            losses[place] += each
    losses = accelerator.reduce(losses.to(accelerator.device), "sum")
    return TEMPERATURES[losses.argmin().item()].item()
