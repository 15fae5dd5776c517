"""Texts with labels as the training loop sees them: several sets at once, the loss, validation."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from training.core.loop import Batch
from training.core.run import ModelTask, zero_loss
from training.data.text_set import TextSet
from vqa.metrics.functional.labels import macro_f1
from vqa.models import EmojiModel
from vqa.models.emoji import Phrases


class EmojiLoss(nn.Module):
    """Summed cross-entropy; a label counts by the square root of how rare it is.

    Args:
        model: learns.
        texts: what is learnt from.
        smoothing: share of each target that is spread over all labels.
    """

    def __init__(self, model: EmojiModel, texts: TextSet, smoothing: float) -> None:
        super().__init__()
        self.model, self.smoothing = model, smoothing
        self.heads = texts.heads
        for head, targets in texts.targets.items():
            shares = targets.mean(0).clamp(min=1e-4)
            weights = shares.rsqrt()
            self.register_buffer(f"weights_{head}", weights / (weights * shares).sum())

    def forward(self, batch: Batch) -> Tensor:
        """Loss of a batch of `TextSet`, a scalar."""
        if not len(batch["targets"]):
            return zero_loss(self)
        phrases = Phrases(*(batch[name] for name in Phrases._fields))
        seen, _ = self.model.text_features(self.model.embed(phrases), phrases.lengths)
        losses = []
        for number, head in enumerate(self.heads):
            mine = batch["heads"] == number
            logits = self.model.logits(seen[mine], head).float()
            targets = batch["targets"][mine, : logits.shape[1]]
            weights = targets @ getattr(self, f"weights_{head}")
            smooth = targets * (1 - self.smoothing) + self.smoothing / targets.shape[1]
            losses.append(-(weights * (smooth * logits.log_softmax(-1)).sum(1)).sum())
        return torch.stack(losses).sum()


class EmojiTask(ModelTask):
    """The model of feelings as the loop sees it."""

    def __init__(self, *args: Any, measured: list[str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.measured = measured

    @torch.no_grad()
    def validate(self, model: nn.Module) -> float:
        """Mean of the heads' macro-F1; every process measures all of it."""
        assert isinstance(model, EmojiModel)
        model.eval()
        scores = {}
        for head in self.measured:
            logits, targets = guesses(model, self.validation, head)
            scores[head] = macro_f1(logits.argmax(1).tolist(), (targets > 0).numpy())
        said = ", ".join(f"{head} {score:.4f}" for head, score in scores.items())
        self.accelerator.print(f"macro-F1: {said}")
        return float(np.mean(list(scores.values())))


@torch.no_grad()
def guesses(
    model: EmojiModel, texts: TextSet, head: str, batch_size: int = 256
) -> tuple[Tensor, Tensor]:
    """Logits (N, labels) of a head for all of its texts in order, and their targets, likewise."""
    device, tokens = next(model.parameters()).device, texts.tokens[head]
    logits = []
    for start in range(0, len(tokens), batch_size):
        phrases = model.phrases(tokens[start : start + batch_size])
        logits.append(model(Phrases(*(each.to(device) for each in phrases)), head)[0].cpu())
    return torch.cat(logits), texts.targets[head]
