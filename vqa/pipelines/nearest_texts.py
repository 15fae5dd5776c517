"""The texts that a model of feelings reads most alike, out of those it is shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from vqa.data.text_dataset import Texts, open_texts, sets_of
from vqa.emoji_labels import emoji_of
from vqa.errors import BadData
from vqa.pipelines.emoji import EmojiPipeline
from vqa.preprocessing.tweet_tokenizer import tokenize

MAX_TEXTS = 20_000  # texts that are remembered


class Neighbour(NamedTuple):
    """A text near another one."""

    text: str
    emoji: str  # of the label that people gave it
    likeness: float  # cosine of what the heads are given, at most 1


class Neighbours:
    """Texts with labels, each with what the heads of a model are given for it.

    Args:
        feeler: reads them.
        texts: those of each set of labels, with the labels' names.
        seed: of which are remembered, if there are more than `MAX_TEXTS`.

    Raises:
        BadData: if none of them has a label.
    """

    def __init__(
        self, emoji_pipeline: EmojiPipeline, texts: Mapping[str, Texts], seed: int = 0
    ) -> None:
        rows = [(r.text, t.name_of(r.labels[0])) for t in texts.values() for r in t if r.labels]
        order = np.random.default_rng(seed).permutation(len(rows))[:MAX_TEXTS]
        self.rows = [rows[place] for place in order]
        if not self.rows:
            raise BadData("none of the sentences has a label")
        self.read_by(emoji_pipeline)

    def read_by(self, emoji_pipeline: EmojiPipeline) -> None:
        """Have the texts read by another model from now on."""
        starts = range(0, len(self.rows), 256)
        parts = [read(emoji_pipeline, [text for text, _ in self.rows[i : i + 256]]) for i in starts]
        self._reader = emoji_pipeline, torch.cat(parts).half()  # (N, F), of length 1

    def nearest(self, text: str, count: int = 5) -> list[Neighbour]:
        """The texts most like one, the most alike first; the text itself is left out."""
        emoji_pipeline, seen = self._reader
        likeness = seen.float() @ read(emoji_pipeline, [text])[0]
        best = likeness.topk(min(count + 1, len(self.rows)))
        found = [
            Neighbour(self.rows[i][0], emoji_of(self.rows[i][1]), min(1.0, value))
            for value, i in zip(best.values.tolist(), best.indices.tolist(), strict=True)
        ]
        return [each for each in found if each.text.strip() != text.strip()][:count]


def read(emoji_pipeline: EmojiPipeline, texts: list[str]) -> torch.Tensor:
    """What the heads of a model are given for texts, (N, F), each of length 1."""
    model = emoji_pipeline.model
    phrases = model.phrases([tokenize(text) for text in texts])
    with emoji_pipeline.lock, torch.inference_mode():
        seen, _ = model.text_features(model.embed(phrases), phrases.lengths)
    return F.normalize(seen, dim=1)


def open_sentences(named: str, split: str = "train") -> dict[str, Texts]:
    """The texts that `emoji=FOLDER,emotion=FOLDER` names.

    Raises:
        BadData: if it is not of that form, or they cannot be read.
    """
    return {name: open_texts(data, split, name) for name, data in sets_of(named).items()}
