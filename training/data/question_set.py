"""Rows of pictures and questions -> tensors to train on."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor

from training.data.augmentation import NO_FLIP
from training.data.extra_annotations import ObjectLabels
from training.data.image_set import PictureSet, pad
from vqa.data.image_dataset import ImageRecord, Question
from vqa.errors import BadData, BadText
from vqa.models import Answerer
from vqa.preprocessing.answer_normalization import normalize_answer
from vqa.preprocessing.question_text import tokenize
from vqa.preprocessing.vocabulary import Vocab


def graded_answers(question: Question) -> dict[str, float]:
    """Normalised answers with their score in 0..1.

    It is full for an answer of three people in ten, and for the first where fewer were asked, which
    is what `accuracy` compares with; the others of them are right too, but are not counted so.
    """
    if len(question.answers) == 10:
        counts = Counter(normalize_answer(a) for a in question.answers)
        return {answer: min(1.0, n / 3) for answer, n in counts.items()}
    given = question.answers or ((question.answer,) if question.answer is not None else ())
    return {normalize_answer(a): 1.0 if a == given[0] else 1 / 3 for a in reversed(given)}


def build_vocabularies(
    rows: Sequence[ImageRecord],
    word_min_count: int,
    answer_min_count: int,
    weights: Mapping[str, float] = MappingProxyType({}),
) -> tuple[Vocab, tuple[str, ...]]:
    """The words of the questions, and the answers frequent enough to learn, most frequent first.

    A question counts by the weight of its source, the data set's own as 1.
    """
    words: defaultdict[str, float] = defaultdict(float)
    answers: defaultdict[str, float] = defaultdict(float)
    for question in (q for place in range(len(rows)) for q in rows[place].questions):
        weight = {"": 1.0, **weights}.get(question.source, 0.0)
        for word in tokenize(question.text):
            words[word] += weight
        answers[_consensus(question)] += weight
    answers.pop("", None)  # an answer without any word
    known = _frequent(words, word_min_count)
    return Vocab((*Vocab.SPECIAL, *known)), tuple(_frequent(answers, answer_min_count))


def _frequent(counts: Mapping[str, float], least: float) -> list[str]:
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [name for name, n in ranked if n >= least and name not in Vocab.SPECIAL]


def _consensus(question: Question) -> str:
    graded = graded_answers(question)
    if question.answer is not None:
        return normalize_answer(question.answer)
    return max(graded, key=lambda a: (graded[a], a), default="")


@dataclass(frozen=True)
class Asked:
    """One question, ready for the network."""

    ids: list[int]
    target: dict[int, float]  # answer number -> share; sums to 1, or empty if none is known
    score: float  # of all known answers together: a share of 1 would have it
    mirrors: bool  # whether the answer survives a mirrored picture
    weight: float  # of its loss; below 1, the share of the epochs that ask it


class QuestionSet(PictureSet):
    """Pictures with their questions as samples.

    Args:
        rows: the data; questions without a known answer are left out.
        model: whose vocabularies and picture size to use.
        weights: of the questions, by their source; 1 for the data set's own. With one below 1 a
            question is asked in so large a share of the epochs, which costs less than to weigh it.
        objects: what can be seen in each picture, if anybody looked.
        augment: as of `PictureSet`.
        cells: as of `PictureSet`.
        unlearnable: keep questions without a known answer too.
        looks: where people look in each picture, (len(rows), h, w); None for the model to say it
            in every step again, which takes as long as its encoder.
        seed: as of `PictureSet`.

    Raises:
        BadData: if no question has a known answer.
    """

    def __init__(
        self,
        rows: Sequence[ImageRecord],
        model: Answerer,
        *,
        weights: Mapping[str, float] = MappingProxyType({}),
        objects: Sequence[set[str] | None] = (),
        augment: bool = False,
        cells: Sequence[np.ndarray] = (),
        looks: np.ndarray | None = None,
        unlearnable: bool = False,
        seed: int = 0,
    ) -> None:
        self.looks = looks
        size = model.config.encoder.image_size
        super().__init__(rows, size, augment=augment, cells=cells, seed=seed)
        self.num_answers = len(model.answers)
        numbers = {answer: i for i, answer in enumerate(model.answers)}
        weights = {"": 1.0, **weights}
        known = (
            [a for q in rows[place].questions if (a := _asked(q, model, numbers, weights))]
            for place in range(len(rows))
        )
        asked = [[a for a in some if a.target or unlearnable] for some in known]
        self.objects = ObjectLabels(objects or [None] * len(rows))
        self.samples = [(i, a) for i, a in enumerate(asked) if a and i not in self.skipped]
        if not self.samples:
            raise BadData("no question has an answer that is in the model's vocabulary")

    def batch(self, picks: list[tuple[int, int]]) -> dict[str, Tensor]:
        """Collate samples.

        Args:
            picks: (epoch, sample) pairs.

        Returns:
            `pixels` (B, 3, S, S) or `cells` (B, N, C), `ids` (Q, T), `owner` (Q,), `targets` (Q,
            A), `scores` (Q,), `weights` (Q,), `objects` (B, O) of `ObjectLabels`, `count` () = the
            weights' sum; with `looks` also these, (B, N), as far as the pictures show them.
        """
        kept: list[Tensor] = []
        places: list[int] = []
        asked: list[tuple[int, Asked]] = []
        looks: list[Tensor] = []
        for epoch, sample in picks:
            row, questions = self._drawn(sample, epoch)
            mirrors = all(q.mirrors for q in questions)
            picture = self.picture(row, epoch, mirrors=mirrors)
            if picture is not None:
                asked += [(len(kept), question) for question in questions]
                kept.append(picture)
                places.append(row)
                looks += self._looks(row, epoch, mirrors)
        found = {"objects": self.objects.marks(places), **self._collate(asked)}
        return {**self.stack(kept), **({"looks": torch.stack(looks)} if looks else {}), **found}

    def _drawn(self, sample: int, epoch: int) -> tuple[int, list[Asked]]:
        """A sample's row, and those of its questions that the epoch asks: one at the least."""
        row, questions = self.samples[sample]
        chance = np.random.default_rng((self.seed, epoch, row)).random(len(questions))
        kept = [q for q, c in zip(questions, chance, strict=True) if c < q.weight]
        return row, kept or [questions[int(chance.argmin())]]

    def _looks(self, row: int, epoch: int, mirrors: bool) -> list[Tensor]:
        """Where people look in what is shown of a picture, (N,); none if that is not known."""
        if self.looks is None:
            return []
        seen = self.looks[row].astype(np.float32)
        if self.augment:
            seen = self.view(row, epoch, mirrors).of_map(seen)
        return [torch.from_numpy(seen / seen.sum()).flatten()]

    def _collate(self, asked: list[tuple[int, Asked]]) -> dict[str, Tensor]:
        targets = torch.zeros(len(asked), self.num_answers)
        for place, (_, question) in enumerate(asked):
            for answer, share in question.target.items():
                targets[place, answer] = share
        weights = torch.tensor([max(1.0, question.weight) for _, question in asked])
        return {
            "ids": pad([a.ids for _, a in asked], Vocab.PAD),
            "owner": torch.tensor([owner for owner, _ in asked], dtype=torch.long),
            "targets": targets,
            "scores": torch.tensor([question.score for _, question in asked]),
            "weights": weights,
            "count": weights.sum(),
        }


def _asked(
    question: Question, model: Answerer, numbers: dict[str, int], weights: Mapping[str, float]
) -> Asked | None:
    graded = graded_answers(question)
    if not graded:
        return None  # nobody answered it: what is right is not known
    known = {numbers[a]: s for a, s in graded.items() if a in numbers}
    total = float(sum(known.values()))
    try:
        ids = model.question_ids(question.text)
    except BadText:
        return None
    if not (weight := weights.get(question.source, 0.0)):
        return None
    shares = {a: s / total for a, s in known.items()}
    return Asked(ids, shares, total, survives_mirror(question), weight)


def survives_mirror(question: Question) -> bool:
    """Whether the answers stay true of the picture's mirror image."""
    said = {word for answer in graded_answers(question) for word in answer.split()}
    return not NO_FLIP & {*tokenize(question.text), *said}
