"""What the detector of concepts learns from: the words of captions, and the objects in pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn

from training.annotations import Seen
from training.caption_words import STOPS
from training.loop import Batch, fit
from training.pictures import PictureSet
from training.run import OurTask, Run, none_of
from training.tuning import parameter_groups
from vqa import checkpoints
from vqa.models import Answerer
from vqa.models.concepts import ConceptDetector
from vqa.rows import Row
from vqa.sources import BadData
from vqa.text import stem

HELD_OUT = 20  # each so many-eth picture measures the detector while the others teach it


def choose_concepts(seen: Sequence[Seen], min_count: int) -> tuple[str, ...]:
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
        rows: Sequence[Row],
        seen: Sequence[Seen],
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
        known = (place for place, one in enumerate(seen) if one != Seen(None, None))
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


class ConceptLoss(nn.Module):
    """Summed binary cross-entropy of what is known."""

    def __init__(self, detector: ConceptDetector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, batch: Batch) -> Tensor:
        """Loss of a batch of `ConceptSet`, a scalar."""
        if not len(batch["cells"]):
            return none_of(self)
        logits, marks = self.detector(batch["cells"]), batch["marks"]
        losses = F.binary_cross_entropy_with_logits(logits, marks.clamp(min=0), reduction="none")
        return (losses * (marks >= 0)).sum()


class ConceptTask(OurTask):
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
        return -total / max(count, 1)


def learn_concepts(
    model: Answerer,
    rows: Sequence[Row],
    seen: Sequence[Seen],
    cells: list[np.ndarray],
    run: Run,
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
