"""Texts with labels as the training loop sees them: several sets at once, the loss, validation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.loop import Batch
from training.run import OurTask, none_of
from vqa.metrics.feeling_measures import macro_f1
from vqa.models import EmojiModel
from vqa.models.emoji import Phrases
from vqa.texts import Texts
from vqa.tweets import Token, tokenize


class TextSet:
    """The texts of several heads, mixed.

    Args:
        texts: of each head; texts without labels are left out.
        model: numbers them.
        power: a head gets a share of an epoch like its number of texts to this power: 1 as they
            are, 0 as much of each.
        seed: of the mixing.
    """

    def __init__(
        self, texts: Mapping[str, Texts], model: EmojiModel, *, power: float = 1.0, seed: int = 0
    ) -> None:
        self.model, self.seed = model, seed
        self.heads = list(model.config.heads)
        self.tokens: dict[str, list[list[Token]]] = {}
        self.targets: dict[str, Tensor] = {}  # (N, labels), each row sums to 1
        for head, rows in texts.items():
            kept = [row for row in rows if row.labels]
            self.tokens[head] = [tokenize(row.text) for row in kept]
            marks = torch.zeros(len(kept), model.config.heads[head])
            for place, row in enumerate(kept):
                marks[place, list(row.labels)] = 1 / len(row.labels)
            self.targets[head] = marks
        sizes = np.array([len(each) for each in self.tokens.values()], float)
        shares = sizes**power / (sizes**power).sum()
        self.size = int(sizes.sum())
        self.counts = np.maximum(1, np.round(shares * self.size)).astype(int)
        self._planned: tuple[int, list[tuple[str, int]]] | None = None

    def __len__(self) -> int:
        return int(self.counts.sum())

    def batch(self, picks: list[tuple[int, int]]) -> Batch:
        """Collate samples.

        Args:
            picks: (epoch, sample) pairs.

        Returns:
            The fields of `Phrases`; `heads` (B,), the number of each text's head; `targets` (B, L)
            over the labels of the largest head, each row sums to 1; `count` () = B.
        """
        chosen = [self._plan(epoch)[sample] for epoch, sample in picks]
        widest = max(self.model.config.heads.values())
        targets = [
            F.pad(found, (0, widest - len(found)))
            for found in (self.targets[head][place] for head, place in chosen)
        ]
        phrases = self.model.phrases([self.tokens[head][place] for head, place in chosen])
        return {
            **phrases._asdict(),
            "heads": torch.tensor([self.heads.index(head) for head, _ in chosen]),
            "targets": torch.stack(targets) if targets else torch.zeros(0, widest),
            "count": torch.tensor(len(chosen)),
        }

    def _plan(self, epoch: int) -> list[tuple[str, int]]:
        """Which text each sample of an epoch is: a small set comes around more than once."""
        if self._planned is None or self._planned[0] != epoch:
            random = np.random.default_rng((self.seed, epoch))
            plan = []
            for (head, tokens), count in zip(self.tokens.items(), self.counts, strict=True):
                rounds = -(-count // len(tokens))
                order = np.concatenate([random.permutation(len(tokens)) for _ in range(rounds)])
                plan += [(head, int(place)) for place in order[:count]]
            self._planned = epoch, plan
        return self._planned[1]


class FeelingLoss(nn.Module):
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
            return none_of(self)
        phrases = Phrases(*(batch[name] for name in Phrases._fields))
        seen, _ = self.model.read(self.model.embed(phrases), phrases.lengths)
        losses = []
        for number, head in enumerate(self.heads):
            mine = batch["heads"] == number
            logits = self.model.logits(seen[mine], head).float()
            targets = batch["targets"][mine, : logits.shape[1]]
            weights = targets @ getattr(self, f"weights_{head}")
            smooth = targets * (1 - self.smoothing) + self.smoothing / targets.shape[1]
            losses.append(-(weights * (smooth * logits.log_softmax(-1)).sum(1)).sum())
        return torch.stack(losses).sum()


class FeelingTask(OurTask):
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
