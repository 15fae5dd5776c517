"""Rows of pictures and captions -> tensors to train on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
from torch import Tensor

from training.data.augmentation import NO_FLIP
from training.data.extra_annotations import ObjectLabels, read_annotations
from training.data.image_set import PictureSet, pad
from training.data.tune_fold import of_fold
from vqa.data.image_dataset import ImageRecord, chain_rows, open_rows, select_rows
from vqa.errors import BadData
from vqa.models import Captioner
from vqa.models.captioner import END
from vqa.preprocessing.ptb_tokenizer import ptb_tokenize
from vqa.preprocessing.vocabulary import Vocab


@dataclass(frozen=True)
class Corpus:
    """Pictures with what is said of them: `rows[i]` has `captions[i]` and `objects[i]`."""

    rows: Sequence[ImageRecord]
    captions: list[list[list[str]]]  # a picture, a caption, a token
    objects: list[set[str] | None]  # that can be seen; None: nobody looked

    def mirrors(self) -> list[bool]:
        """Whether what is said of a picture stays true of its mirror image, a row."""
        return [not NO_FLIP & {*chain(*texts)} for texts in self.captions]

    def __add__(self, other: Corpus) -> Corpus:
        rows = chain_rows([self.rows, other.rows])
        return Corpus(rows, self.captions + other.captions, self.objects + other.objects)


def read_corpus(
    data: str, split: str, *, share: float = 1.0, seed: int = 0, fold: bool | None = None
) -> Corpus:
    """Open the pictures of a data set that have captions.

    Args:
        data: as of `vqa.data.image_dataset.open_rows`. Captions and objects of a train split are
            those of `read_annotations`, where it has any.
        split: which part.
        share: how much of them to take, drawn at random.
        seed: of that.
        fold: as of `of_fold`.

    Raises:
        BadData: if the data cannot be read, or hold no caption.
    """
    rows = of_fold(open_rows(data, split, required="caption"), fold)
    more = read_annotations(data) if split == "train" else {}
    found = [more.get(row.image_id, (row.captions, None)) for row in rows]
    texts = [[tokens for text in said if (tokens := ptb_tokenize(text))] for said, _ in found]
    kept = [place for place, captions in enumerate(texts) if captions]
    if not kept:
        raise BadData(f"{data}, split {split!r}: has no caption")
    drawn = np.random.default_rng(seed).permutation(kept)[: max(1, round(share * len(kept)))]
    places = sorted(drawn.tolist())
    return Corpus(
        select_rows(rows, places), [texts[place] for place in places], [found[p][1] for p in places]
    )


def build_vocabulary(corpus: Corpus, min_count: int) -> Vocab:
    """The words of the captions, and the end.

    Raises:
        BadData: if none is frequent enough.
    """
    found = Vocab.build(chain.from_iterable(corpus.captions), min_count)
    if len(found) == len(Vocab.SPECIAL):
        raise BadData(f"no word is said {min_count} times: lower word_min_count")
    return Vocab((*found.words, END))


class CaptionSet(PictureSet):
    """Pictures with all their captions as samples.

    Args:
        corpus: the data.
        model: whose vocabulary and picture size to use; captions that are too long for it are left
            out, and so are pictures without any other.
        augment: as of `PictureSet`.
        cells: as of `PictureSet`.
        seed: as of `PictureSet`.
    """

    def __init__(
        self,
        corpus: Corpus,
        model: Captioner,
        *,
        augment: bool = False,
        cells: Sequence[np.ndarray] = (),
        seed: int = 0,
    ) -> None:
        size = model.config.encoder.image_size
        super().__init__(corpus.rows, size, augment=augment, cells=cells, seed=seed)
        self.corpus = corpus
        longest = model.config.max_words
        self.ids = [
            [model.words.encode(text) for text in texts if len(text) <= longest]
            for texts in corpus.captions
        ]
        self.mirrors = corpus.mirrors()
        self.objects = ObjectLabels(corpus.objects)
        self.samples = [i for i, ids in enumerate(self.ids) if ids and i not in self.skipped]
        if not self.samples:
            raise BadData(f"no picture has a caption of at most {longest} words")

    def batch(self, picks: list[tuple[int, int]]) -> dict[str, Tensor]:
        """Collate samples.

        Args:
            picks: (epoch, sample) pairs.

        Returns:
            `pixels` (B, 3, S, S) or `cells` (B, N, C), `place` (B,) in the corpus, `ids` (R, T),
            `owner` (R,), `objects` (B, O): 1 seen, 0 not, -1 nobody looked; `count` () = words and
            ends.
        """
        kept: list[Tensor] = []
        places: list[int] = []
        for epoch, sample in picks:
            place = self.samples[sample]
            picture = self.picture(place, epoch, mirrors=self.mirrors[place])
            if picture is not None:
                kept.append(picture)
                places.append(place)
        ids = [row for place in places for row in self.ids[place]]
        owner = [i for i, place in enumerate(places) for _ in self.ids[place]]
        return {
            **self.stack(kept),
            "place": torch.tensor(places, dtype=torch.long),
            "ids": pad(ids, Vocab.PAD),
            "owner": torch.tensor(owner, dtype=torch.long),
            "objects": self.objects.marks(places),
            "count": torch.tensor(sum(len(row) + 1 for row in ids)),
        }
