"""Which concepts each training picture shows, in batches for the concept detector."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from training.core.loop import Batch
from training.data.extra_annotations import PictureLabels
from training.data.image_set import PictureSet
from training.data.question_words import STOPS
from vqa.data.image_dataset import ImageRecord
from vqa.errors import BadData
from vqa.preprocessing.question_text import stem

HELD_OUT = 20  # each so many-eth picture measures the detector while the others teach it


def choose_concepts(seen: Sequence[PictureLabels], min_count: int) -> tuple[str, ...]:
    """The stems that captions of so many pictures say, most frequent first.

    Raises:
        BadData: if there is none.
    """
    counts = Counter(word for one in seen for word in one.said or ())
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    dull = {stem(word) for word in STOPS}
    found = (word for word, n in ranked if n >= min_count and word.isalpha() and word not in dull)
    if concepts := tuple(found):
        return concepts
    raise BadData("a detector of concepts needs captions: no word is said of enough pictures")


class ConceptSet(PictureSet):
    """Pictures with the concepts in them as samples; those of which nothing is known are left out.

    Args:
        rows: the data.
        seen: what is known of each.
        concepts: the names of the targets.
        cells: as of `PictureSet`.
        held_out: whether to take those pictures alone that are held out, or all others.
        seed: as of `PictureSet`.
    """

    def __init__(
        self,
        rows: Sequence[ImageRecord],
        seen: Sequence[PictureLabels],
        concepts: Sequence[str],
        *,
        cells: Sequence[np.ndarray],
        held_out: bool,
        seed: int = 0,
    ) -> None:
        super().__init__(rows, 0, cells=cells, seed=seed)  # pictures are never decoded here
        self.seen, self.places = seen, {name: place for place, name in enumerate(concepts)}
        listed = frozenset().union(*(one.objects or () for one in seen))
        self.listed = self._numbers(listed)
        known = (place for place, one in enumerate(seen) if one != PictureLabels(None, None))
        self.samples = [p for p in known if p not in self.skipped and self._is_held(p) == held_out]

    def batch(self, picks: list[tuple[int, int]]) -> Batch:
        """Collate samples.

        Args:
            picks: (epoch, sample) pairs.

        Returns:
            `cells` (B, N, C), `marks` (B, W): 1 seen, 0 not, -1 unknown; `count` () = B.
        """
        places = [self.samples[sample] for _, sample in picks]
        epochs = [epoch for epoch, _ in picks]
        seen = [self.picture(p, e, mirrors=False) for p, e in zip(places, epochs, strict=True)]
        kept = [cells for cells in seen if cells is not None]  # all: broken ones are no samples
        marks = torch.stack([self.marks(place) for place in places]) if places else torch.zeros(0)
        return {**self.stack(kept), "marks": marks, "count": torch.tensor(float(len(kept)))}

    def marks(self, place: int) -> Tensor:
        """(W,): 1 seen, 0 not, -1 unknown."""
        one = self.seen[place]
        row = torch.full((len(self.places),), -1.0 if one.said is None else 0.0)
        if one.objects is not None:
            row[self.listed] = 0.0
        row[self._numbers((one.said or frozenset()) | (one.objects or frozenset()))] = 1.0
        return row

    def usual(self) -> Tensor:
        """How often each concept is in a picture, (W,) as log-odds."""
        total, known = torch.zeros(2, len(self.places))
        for place in self.samples:
            marks = self.marks(place)
            total += marks == 1
            known += marks >= 0
        return torch.logit((total + 0.5) / (known + 1))  # one more picture, half of it: never 0

    def _numbers(self, names: frozenset[str]) -> list[int]:
        return sorted(self.places[name] for name in names if name in self.places)

    @staticmethod
    def _is_held(place: int) -> bool:
        return place % HELD_OUT == HELD_OUT - 1
