"""Texts with their labels, in batches."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from training.core.loop import Batch
from vqa.data.text_dataset import Texts
from vqa.models import EmojiModel
from vqa.preprocessing.tweet_tokenizer import Token, tokenize


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
