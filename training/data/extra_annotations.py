"""What a folder knows of its training pictures: more captions, objects and questions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from training.data.question_generation import SOURCE, caption_questions
from vqa.data import cells
from vqa.data.image_dataset import ImageRecord, Question
from vqa.errors import BadData
from vqa.preprocessing.ptb_tokenizer import ptb_tokenize
from vqa.preprocessing.question_text import stem

ANNOTATIONS = "extra_annotations.parquet"  # captions and objects by image_id
QUESTIONS = "extra_questions.parquet"  # questions by image_id, each with its source


class Annotation(NamedTuple):
    """Of one picture."""

    captions: list[str]
    objects: set[str]  # that can be seen


def read_annotations(data: str) -> dict[int | str, Annotation]:
    """By the picture's id; empty where there are none."""
    # COCO's label of the fruit mostly stands for the colour where it was found in captions alone.
    return {
        row["image_id"]: Annotation(
            list(cells.texts(row["captions"], f"{data}, picture {row['image_id']}, captions")),
            {o["name"] for o in row["objects"] if not (o["name"] == "orange" and o["in_captions"])},
        )
        for row in _read(Path(data) / ANNOTATIONS)
    }


class PictureLabels(NamedTuple):
    """What is known to be in a picture, as stems of words; None where nobody looked."""

    said: frozenset[str] | None  # by its captions, which leave out little that matters
    objects: frozenset[str] | None  # by those who looked for the objects of a list


class MoreQuestions(Sequence[ImageRecord]):
    """Training rows with further questions, each marked with its source.

    Args:
        rows: as of `vqa.data.image_dataset.open_rows`.
        data: their folder.
        weights: the sources that are wanted: those of `QUESTIONS`, and `SOURCE` for questions made
            of the pictures' captions.
        seed: of the latter.
    """

    def __init__(
        self, rows: Sequence[ImageRecord], data: str, weights: Mapping[str, float], seed: int = 0
    ) -> None:
        self.rows = rows
        self.annotations = read_annotations(data)
        self.more: dict[int, list[Question]] = defaultdict(list)
        ids = [rows[place].image_id for place in range(len(rows))]
        if set(weights) - {SOURCE}:
            asked = _questions(data, weights)
            for place, image_id in enumerate(ids):
                self.more[place] += asked.get(image_id, ())
        if weights.get(SOURCE):
            said = [self._captions(place) for place in range(len(rows))]
            tokens = [[ptb_tokenize(text) for text in texts] for texts in said]
            for place, questions in enumerate(caption_questions(tokens, seed)):
                self.more[place] += questions

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, place: int) -> ImageRecord:  # type: ignore[override]  # no slices
        row = self.rows[place]
        return replace(row, questions=(*row.questions, *self.more.get(place, ())))

    def __iter__(self) -> Iterator[ImageRecord]:
        return (self[place] for place in range(len(self)))

    def objects(self) -> list[set[str] | None]:
        """What can be seen in each picture; None where nobody looked."""
        found = (self.annotations.get(self.rows[place].image_id) for place in range(len(self)))
        return [known and known.objects for known in found]

    def seen(self) -> list[PictureLabels]:
        """What captions and objects tell of each picture."""
        found = []
        for place, objects in enumerate(self.objects()):
            said = {stem(t) for text in self._captions(place) for t in ptb_tokenize(text)}
            names = {stem(word) for name in objects or () for word in name.split()}
            found.append(PictureLabels(frozenset(said) or None, frozenset(names) or None))
        return found

    def _captions(self, place: int) -> Sequence[str]:
        row = self.rows[place]
        known = self.annotations.get(row.image_id)
        return known.captions if known else row.captions


def parse_weights(text: str) -> dict[str, float]:
    """'pope=1,captions=0.25' -> weights by source, without those of weight 0.

    Raises:
        ValueError: if it is not of that form, or a weight is below 0.
    """
    weights = {}
    for part in filter(None, text.split(",")):
        name, equals, number = part.partition("=")
        try:
            weight = float(number)
        except ValueError:
            weight = -1.0
        if not name or not equals or not weight >= 0:
            raise ValueError(f"{part!r} is no source=weight")
        weights[name.strip()] = weight
    return {name: weight for name, weight in weights.items() if weight}


def _questions(data: str, weights: Mapping[str, float]) -> dict[int | str, list[Question]]:
    found: dict[int | str, list[Question]] = defaultdict(list)
    sources = set()
    for row in _read(Path(data) / QUESTIONS):
        sources.add(row["source"])
        if row["source"] in weights:
            where = f"{data}, questions on picture {row['image_id']}"
            question = Question(
                "",
                -1,
                cells.text(row["question"], where),
                cells.text(row["answer"], where) or None,
                cells.texts(row["answers"], where),
                row["answer_type"],
                row["source"],
            )
            found[row["image_id"]].append(question)
    if unknown := sorted(set(weights) - sources - {SOURCE}) if sources else []:
        raise BadData(
            f"{data}: has no questions of {', '.join(unknown)}, but of {', '.join(sorted(sources))}"
        )
    return found


def _read(file: Path) -> list[dict[str, Any]]:
    from pyarrow import parquet

    return list(parquet.read_table(file).to_pylist()) if file.is_file() else []


class ObjectLabels:
    """The objects of pictures as targets.

    Args:
        objects: what can be seen in each; None where nobody looked.
    """

    def __init__(self, objects: Sequence[set[str] | None]) -> None:
        self.objects = objects
        names = sorted(set().union(*(o for o in objects if o)))
        self.places = {name: place for place, name in enumerate(names)}

    def __len__(self) -> int:
        return len(self.places)

    def marks(self, pictures: Sequence[int]) -> Tensor:
        """(B, O): 1 seen, 0 not, -1 nobody looked."""
        marks = torch.zeros(len(pictures), len(self))
        for row, picture in zip(marks, pictures, strict=True):
            seen = self.objects[picture]
            if seen is None:
                row.fill_(-1)
            else:
                row[[self.places[name] for name in seen]] = 1
        return marks
