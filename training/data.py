"""Rows of pictures and questions -> tensors to train on."""

from __future__ import annotations

import hashlib
import os
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vqa import images
from vqa.models import Answerer
from vqa.models.answerer import CELL_LENGTH
from vqa.rows import BadData, Question, Row
from vqa.text import BadText, Vocab, check, normalize_answer, tokenize

NO_FLIP = {"left", "right"}  # in question or answers: a mirrored picture would falsify them
MIN_CROP = 0.8  # smallest side of a random crop, as a share of the picture's


def graded_answers(question: Question) -> dict[str, float]:
    """Normalised answers with their score in 0..1.

    It is full for an answer of three people in ten, and for any answer where fewer were asked.
    """
    if len(question.answers) == 10:
        counts = Counter(normalize_answer(a) for a in question.answers)
        return {answer: min(1.0, n / 3) for answer, n in counts.items()}
    given = question.answers or ((question.answer,) if question.answer is not None else ())
    return dict.fromkeys(map(normalize_answer, given), 1.0)


def build_vocabularies(
    rows: Sequence[Row], word_min_count: int, answer_min_count: int
) -> tuple[Vocab, tuple[str, ...]]:
    """The words of the questions, and the answers frequent enough to learn, most frequent first."""
    questions = [q for place in range(len(rows)) for q in rows[place].questions]
    words = Vocab.build([tokenize(q.text) for q in questions], word_min_count)
    counts = Counter(map(_consensus, questions))
    counts.pop("", None)  # an answer without any word
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return words, tuple(answer for answer, n in ranked if n >= answer_min_count)


def _consensus(question: Question) -> str:
    graded = graded_answers(question)
    if question.answer is not None:
        return normalize_answer(question.answer)
    return max(graded, key=lambda a: (graded[a], a), default="")


@dataclass(frozen=True)
class Asked:
    """One question, ready for the network."""

    ids: list[int]
    target: dict[int, float]  # answer number -> share; sums to 1
    mirrors: bool  # whether the answer survives a mirrored picture


class QuestionSet:
    """Pictures with their questions as samples; a picture that does not decode is skipped, counted
    and named.

    Args:
        rows: the data; rows without any question that has a known answer are left out.
        model: whose vocabularies and picture size to use.
        augment: mirror and crop the pictures, by chance.
        cells: grids encoded beforehand, (len(rows), N, C) fp16, instead of pixels; see
            `encode_rows`.
        seed: of the augmentation, which is a function of (seed, epoch, sample).
    """

    def __init__(
        self,
        rows: Sequence[Row],
        model: Answerer,
        *,
        augment: bool = False,
        cells: np.ndarray | None = None,
        seed: int = 0,
    ) -> None:
        self.rows, self.augment, self.cells, self.seed = rows, augment, cells, seed
        self.size = model.config.encoder.image_size
        self.num_answers = len(model.answers)
        numbers = {answer: i for i, answer in enumerate(model.answers)}
        asked = [
            [a for q in rows[place].questions if (a := _asked(q, model, numbers))]
            for place in range(len(rows))
        ]
        broken = set() if cells is None else set(np.isnan(cells[:, 0, 0]).nonzero()[0].tolist())
        self.samples = [(i, a) for i, a in enumerate(asked) if a and i not in broken]
        self.skipped: set[int] = set()
        if not self.samples:
            raise BadData("no question has an answer that is in the model's vocabulary")

    def __len__(self) -> int:
        return len(self.samples)

    def batch(self, picks: list[tuple[int, int]]) -> dict[str, Tensor]:
        """Collate samples.

        Args:
            picks: (epoch, sample) pairs.

        Returns:
            `pixels` (B, 3, S, S) or `cells` (B, N, C), `ids` (Q, T), `owner` (Q,), `targets` (Q,
            A), `count` () = Q.
        """
        kept: list[Tensor] = []
        asked: list[tuple[int, Asked]] = []
        for epoch, sample in picks:
            row, questions = self.samples[sample]
            picture = self._picture(row, epoch, questions)
            if picture is not None:
                asked += [(len(kept), question) for question in questions]
                kept.append(picture)
        name = "pixels" if self.cells is None else "cells"
        shape = (0, 3, self.size, self.size) if self.cells is None else (0, *self.cells.shape[1:])
        stacked = torch.stack(kept) if kept else torch.zeros(shape)
        return {name: stacked, **self._collate(asked)}

    def _collate(self, asked: list[tuple[int, Asked]]) -> dict[str, Tensor]:
        longest = max((len(a.ids) for _, a in asked), default=1)
        targets = torch.zeros(len(asked), self.num_answers)
        for place, (_, question) in enumerate(asked):
            for answer, share in question.target.items():
                targets[place, answer] = share
        padded = [a.ids + [Vocab.PAD] * (longest - len(a.ids)) for _, a in asked]
        return {
            "ids": torch.tensor(padded, dtype=torch.long).view(len(asked), longest),
            "owner": torch.tensor([owner for owner, _ in asked], dtype=torch.long),
            "targets": targets,
            "count": torch.tensor(len(asked)),
        }

    def _picture(self, row: int, epoch: int, questions: list[Asked]) -> Tensor | None:
        if self.cells is not None:
            return torch.from_numpy(self.cells[row].astype(np.float32))
        if row in self.skipped:
            return None
        picture = decode(self.rows[row], self.size)
        if picture is None:
            self.skipped.add(row)
            return None
        if self.augment:
            chance = np.random.default_rng((self.seed, epoch, row))
            picture = _augment(picture, chance, mirrors=all(q.mirrors for q in questions))
        return images.to_pixels(picture, self.size)[0]


def _asked(question: Question, model: Answerer, numbers: dict[str, int]) -> Asked | None:
    graded = graded_answers(question)
    known = {numbers[a]: s for a, s in graded.items() if a in numbers}
    total = sum(known.values())
    try:
        ids = model.question_ids(question.text)
    except BadText:
        return None
    if not total:
        return None
    said = {*tokenize(check(question.text)), *(word for a in graded for word in a.split())}
    mirrors = not NO_FLIP & said
    return Asked(ids, {a: s / total for a, s in known.items()}, mirrors)


def _augment(picture: Image.Image, chance: np.random.Generator, *, mirrors: bool) -> Image.Image:
    if mirrors and chance.random() < 0.5:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    width, height = (round(s * chance.uniform(MIN_CROP, 1)) for s in picture.size)
    left = int(chance.integers(0, picture.width - width + 1))
    top = int(chance.integers(0, picture.height - height + 1))
    return picture.crop((left, top, left + width, top + height))


def decode(row: Row, size: int) -> Image.Image | None:
    """A row's picture, no side below `size`; None, and a line on stderr, if it does not decode."""
    try:
        return images.load(row.image, min_side=size)
    except images.BadImage as error:
        print(f"skipped picture {row.image_id}: {error}", file=sys.stderr)
        return None


@torch.inference_mode()
def encode_rows(
    model: Answerer, rows: Sequence[Row], cache: Path, batch_size: int = 64
) -> np.ndarray:
    """Encode every picture once, into a file that later runs with the same encoder and pictures
    find again.

    Args:
        model: whose encoder to use.
        rows: the pictures. One that does not decode gets a grid of NaN, is counted and named.
        cache: folder for such files; they are large and can be deleted at any time.
        batch_size: pictures a step.

    Returns:
        Cells (len(rows), N, C) fp16, mapped from the file; all the same for a blind model.
    """
    height, width = model.encoder.grid_size
    shape = (len(rows), height * width, model.encoder.channels)
    if model.config.blind:
        one = model.encode(model.temperature.new_zeros(1, 3, 1, 1)).cells.half().cpu().numpy()
        return np.broadcast_to(one, shape)
    path = cache / f"{_key(model, rows)}.npy"
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(f".{os.getpid()}.npy")
        cells = np.lib.format.open_memmap(fresh, "w+", np.float16, shape)
        _fill(cells, model, rows, batch_size)
        cells.flush()
        fresh.replace(path)
    cells = np.load(path, mmap_mode="r")
    if broken := [rows[i].image_id for i in np.isnan(cells[:, 0, 0]).nonzero()[0]]:
        print(f"{len(broken)} pictures are left out: {broken}", file=sys.stderr)
    return cells


def _fill(cells: np.ndarray, model: Answerer, rows: Sequence[Row], batch_size: int) -> None:
    from tqdm import tqdm

    size, device = model.config.encoder.image_size, model.temperature.device
    for start in tqdm(range(0, len(rows), batch_size), desc="encoding pictures", mininterval=5.0):
        places, pixels = [], []
        for place in range(start, min(start + batch_size, len(rows))):
            picture = decode(rows[place], size)
            if picture is None:
                cells[place] = np.nan
                continue
            places.append(place)
            pixels.append(images.to_pixels(picture, size))
        if places:
            encoded = model.encode(torch.cat(pixels).to(device)).cells
            cells[places] = encoded.half().cpu().numpy()


def _key(model: Answerer, rows: Sequence[Row]) -> str:
    digest = hashlib.blake2b(digest_size=12)
    precision = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else None
    digest.update(repr((model.config.encoder, CELL_LENGTH, precision)).encode())
    for tensor in model.encoder.state_dict().values():
        digest.update(tensor.cpu().numpy().tobytes())
    for place in range(len(rows)):
        digest.update(rows[place].image)
    return digest.hexdigest()
