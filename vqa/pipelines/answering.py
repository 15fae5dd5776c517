"""Models that answer, behind one set of plain calls: ours here, those of transformers beside it."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqa.errors import BadText
from vqa.models import Answer, Answerer
from vqa.models.encoder import Grid
from vqa.pipelines.feature_cache import CACHE_BYTES, CachedImageEncoder
from vqa.pipelines.gaze import GazePipeline
from vqa.preprocessing import images
from vqa.preprocessing.answer_normalization import normalize_answer
from vqa.preprocessing.vocabulary import Vocab
from vqa.scorers.native import AnswerScorer, QuestionScorer


class WhatIf(NamedTuple):
    """An answer to a picture, and to the same one with a part of it hidden."""

    before: Answer
    after: Answer
    share: float  # of the picture that is hidden, 0..1
    pixels: Tensor  # (1, 3, S, S) in [0, 1], the picture with the part hidden


class AnswerPipeline(ABC):
    """Answers questions about pictures; safe to share between threads."""

    network: nn.Module  # in eval mode; it learns no more
    size: int  # side in pixels of the square that it sees
    gaze_pipeline: GazePipeline | None = None  # of a gaze model of its own

    def __init__(self) -> None:
        self.lock = threading.RLock()  # its own thread may ask again, from `progress`

    @abstractmethod
    def answer_pixels(self, pixels: Tensor, question: str, *, k: int = 5) -> Answer:
        """Answer one question about pixels (1, 3, S, S) in [0, 1]; errors as of `answer`."""

    @abstractmethod
    def scorer(
        self, question: str, picture: images.Source | None = None, *, k: int = 5
    ) -> QuestionScorer:
        """A question's answers as scores of the pixels, for any tool of `saliency`.

        Args:
            question: in English.
            picture: a model that writes its answers looks for them here; without it has none.
            k: how many it looks for.

        Raises:
            BadImage: if the picture cannot be read.
            BadText: if the question is empty or too long.
        """

    def answer(self, picture: images.Source, question: str, *, k: int = 5) -> Answer:
        """Answer one question about a picture.

        Args:
            picture: a path, bytes, file object, PIL picture or array.
            question: in English; words that the model does not know are named in the answer.
            k: how many of the likeliest answers to return.

        Raises:
            BadImage: if the picture cannot be read.
            BadText: if the question is empty or too long.
        """
        return self.answer_pixels(self.pixels(picture), question, k=k)

    def answer_batch(
        self, pictures: Sequence[images.Source], questions: Sequence[Sequence[str]], *, k: int = 5
    ) -> list[list[Answer]]:
        """Answer many questions about many pictures; nothing is cached.

        Args:
            pictures: B pictures.
            questions: for each picture, its questions.
            k: how many of the likeliest answers to return.

        Returns:
            For each picture, the answers in the order of its questions.

        Raises:
            BadImage: if a picture cannot be read.
            BadText: if a question is empty or too long.
        """
        squares = map(self.pixels, pictures)
        return [
            [self.answer_pixels(pixels, question, k=k) for question in asked]
            for pixels, asked in zip(squares, questions, strict=True)
        ]

    def what_if(
        self, picture: images.Source, question: str, hidden: np.ndarray, *, k: int = 5
    ) -> WhatIf:
        """Hide a part of a picture under its mean colour, and ask again.

        Args:
            picture: a path, bytes, file object, PIL picture or array.
            question: in English.
            hidden: what to hide, (H, W) of any size, not 0 there; it covers the whole picture.
            k: how many of the likeliest answers to return.

        Raises:
            BadImage: if the picture cannot be read.
            BadText: if the question is empty or too long.
            ValueError: if `hidden` is no such array.
        """
        if hidden.ndim != 2 or not hidden.size:
            raise ValueError(f"hidden must be an array (H, W), it is {hidden.shape}")
        raw = images.read(picture)
        before, pixels = self.answer(raw, question, k=k), self.pixels(raw)
        marks = torch.from_numpy(hidden != 0).float()[None, None]
        mask = F.interpolate(marks, size=pixels.shape[-2:], mode="nearest-exact")
        covered = torch.where(mask > 0, pixels.mean(dim=(2, 3), keepdim=True), pixels)
        return WhatIf(
            before, self.answer_pixels(covered, question, k=k), float(mask.mean()), covered
        )

    def pixels(self, picture: images.Source) -> Tensor:
        """A picture as the model sees it, (1, 3, S, S) in [0, 1]: squashed to its square.

        Raises:
            BadImage: if the picture cannot be read.
        """
        return images.to_pixels(images.load(picture, min_side=self.size), self.size)

    def targets(
        self,
        names: Sequence[str],
        picture: images.Source,
        question: str,
        answer: str | None,
        k: int,
    ) -> list[int]:
        """The numbers of an answer, or of the k likeliest ones.

        Args:
            names: the answers of the question's scorer, in words.
            picture: a path, bytes, file object, PIL picture or array.
            question: in English.
            answer: one of the names; None for the likeliest.
            k: how many; with `answer`, 1.

        Raises:
            BadImage: if the picture cannot be read.
            BadText: if the question is empty or too long, or the answer is none that the model has.
            ValueError: if there is an answer and k is not 1.
        """
        if answer is None:
            return [names.index(text) for text, _ in self.answer(picture, question, k=k).top]
        if k != 1:
            raise ValueError(f"with an answer there is one map, not {k}")
        for wanted in (answer, normalize_answer(answer)):
            if wanted in names:
                return [names.index(wanted)]
        raise BadText(
            f'"{answer}" is none of the {len(names):,} answers that the model knows: '
            "choose one of its guesses."
        )


class GridAnswerPipeline(AnswerPipeline):
    """A model of ours that answers. A picture is encoded once, however often it is asked about.

    Args:
        answerer: the model; it is put into eval mode, and learns no more.
        cache_bytes: memory for the grids of the pictures seen last.
    """

    network: Answerer

    def __init__(self, answerer: Answerer, *, cache_bytes: int = CACHE_BYTES) -> None:
        super().__init__()
        self._eyes = CachedImageEncoder(answerer, self.lock, cache_bytes=cache_bytes)
        self.network = self._eyes.model
        self.size = answerer.config.encoder.image_size
        self.gaze_pipeline = None if answerer.gaze is None else GazePipeline(answerer.gaze)

    def answer(self, picture: images.Source, question: str, *, k: int = 5) -> Answer:
        """Answer one question; the picture's grid is kept for the next one."""
        ids = self.network.question_ids(question)
        return self._ask(self._eyes.grid(picture), [question], [ids], [0], k)[0]

    def answer_batch(
        self, pictures: Sequence[images.Source], questions: Sequence[Sequence[str]], *, k: int = 5
    ) -> list[list[Answer]]:
        """Answer many questions about many pictures in one pass of the encoder."""
        if len(pictures) != len(questions):
            raise ValueError(f"{len(pictures)} pictures, but questions for {len(questions)}")
        owners = [i for i, asked in enumerate(questions) for _ in asked]
        flat = [question for asked in questions for question in asked]
        ids = [self.network.question_ids(question) for question in flat]
        if not flat:
            return [[] for _ in pictures]
        answers = iter(self._ask(self._eyes.grids(pictures), flat, ids, owners, k))
        return [[next(answers) for _ in asked] for asked in questions]

    def answer_pixels(self, pixels: Tensor, question: str, *, k: int = 5) -> Answer:
        """Answer one question about pixels (1, 3, S, S) in [0, 1]."""
        ids = self.network.question_ids(question)
        with self.lock, torch.inference_mode():
            grid = self.network.encode(pixels)
        return self._ask(grid, [question], [ids], [0], k)[0]

    def scorer(
        self, question: str, picture: images.Source | None = None, *, k: int = 5
    ) -> AnswerScorer:
        """Score all answers that the model has, whatever the picture."""
        return AnswerScorer(self.network, question).eval()

    def _ask(
        self, grid: Grid, questions: list[str], ids: list[list[int]], owners: list[int], k: int
    ) -> list[Answer]:
        longest = max(map(len, ids))
        padded = torch.tensor([row + [Vocab.PAD] * (longest - len(row)) for row in ids])
        with self.lock, torch.inference_mode():
            output = self.network(grid.cells, padded, torch.tensor(owners))
            return [
                self.network.describe(question, output, row, (grid.height, grid.width), k)
                for row, question in enumerate(questions)
            ]
