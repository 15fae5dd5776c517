"""The engine: loaded models behind plain calls. A picture is encoded once, however often asked."""

from __future__ import annotations

import dataclasses
import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from saliency import faithfulness, registry
from saliency.types import Explanation, Progress
from vqa import checkpoints, images
from vqa.encoders import Grid
from vqa.models import Answer, Answerer
from vqa.scorers import AnswerScorer
from vqa.text import BadText, Vocab, normalize_answer

CACHE_BYTES = 64 * 2**20  # about 250 grids of 7 x 7 x 1280


class Engine:
    """Answers questions about pictures; safe to share between threads.

    Args:
        answerer: the model, in eval mode.
        cache_bytes: memory for the grids of the pictures seen last.
    """

    def __init__(self, answerer: Answerer, *, cache_bytes: int = CACHE_BYTES) -> None:
        self.answerer = answerer.eval().requires_grad_(False)
        for parameter in answerer.encoder.parameters():  # the layout that convolutions like best
            if parameter.ndim == 4:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
        # One model, one user at a time; its own thread may ask again, from `progress`.
        self._lock = threading.RLock()
        self._grids = GridCache(cache_bytes)

    @classmethod
    def load(cls, vqa: str | Path = "vqa", *, revision: str | None = None) -> Engine:
        """Load a shipped model by name, a local directory, or a Hub id.

        Raises:
            BadCheckpoint: naming what is wrong with it.
        """
        model = checkpoints.load(vqa, revision=revision)
        if not isinstance(model, Answerer):
            raise checkpoints.BadCheckpoint(f"{vqa} holds a {type(model).__name__}, no answerer")
        return cls(model)

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
        ids = self.answerer.question_ids(question)
        grid = self._encode(picture)
        return self._ask(grid, [question], [ids], [0], k)[0]

    def answer_batch(
        self, pictures: Sequence[images.Source], questions: Sequence[Sequence[str]], *, k: int = 5
    ) -> list[list[Answer]]:
        """Answer many questions about many pictures in one pass; nothing is cached.

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
        if len(pictures) != len(questions):
            raise ValueError(f"{len(pictures)} pictures, but questions for {len(questions)}")
        owners = [i for i, asked in enumerate(questions) for _ in asked]
        flat = [question for asked in questions for question in asked]
        ids = [self.answerer.question_ids(question) for question in flat]
        if not flat:
            return [[] for _ in pictures]
        pixels = torch.cat([self.pixels(picture) for picture in pictures])
        with self._lock, torch.inference_mode():
            grid = self.answerer.encode(pixels)
        answers = iter(self._ask(grid, flat, ids, owners, k))
        return [[next(answers) for _ in asked] for asked in questions]

    def explain(
        self,
        picture: images.Source,
        question: str,
        answer: str | None = None,
        method: str = "grad_cam",
        *,
        k: int = 1,
        seed: int = 0,
        progress: Progress | None = None,
        **options: Any,
    ) -> tuple[Explanation, ...]:
        """Say why the model gives an answer, as a map over the picture.

        Args:
            picture: a path, bytes, file object, PIL picture or array.
            question: in English.
            answer: which answer to explain; None for the model's own.
            method: a name in `saliency.registry.METHODS`.
            k: how many of the likeliest answers to explain, each with a map, likeliest first; with
                `answer`, 1.
            seed: of the methods that draw at random.
            progress: called with (done, total); what it raises ends the explanation.
            options: the method's own.

        Returns:
            Explanations with maps (S, S) over the whole picture squashed to the model's square, the
            answer as their `label`.

        Raises:
            BadImage: if the picture cannot be read.
            BadText: if the question is empty or too long, or the answer is none that the model has.
            CannotExplain: if the model lacks what the method needs.
            ValueError: if there is no such method or option.
        """
        scorer = self.scorer(question)
        raw = images.read(picture)
        targets = self._targets(raw, question, answer, k)
        pixels = self.pixels(raw)
        with self._lock:
            found = registry.explain(
                scorer, pixels, targets, method, seed=seed, progress=progress, **options
            )
        names = self.answerer.answers
        return tuple(dataclasses.replace(each, label=names[each.target]) for each in found)

    def counterfactual(
        self,
        picture: images.Source,
        question: str,
        explanation: Explanation,
        *,
        fraction: float = 0.1,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> faithfulness.Counterfactual:
        """Cover what an explanation marks, and as much at random, and ask again.

        Args:
            picture: the one that was explained.
            question: the one that was asked.
            explanation: as `explain` returns it.
            fraction: how much of the picture to cover, between 0 and 1.
            seed: of the random covers.
            progress: called with (done, total); what it raises ends the work.

        Returns:
            What became of the answer; `before` and `after` are numbers in `answerer.answers`.

        Raises:
            BadImage: if the picture cannot be read.
            BadText: if the question is empty or too long.
            NoEvidence: if the explanation has nothing above 0.
        """
        scorer, pixels = self.scorer(question), self.pixels(picture)
        with self._lock:
            return faithfulness.counterfactual(
                scorer, pixels, explanation.map, fraction=fraction, seed=seed, progress=progress
            )

    def scorer(self, question: str) -> AnswerScorer:
        """A question's answers as scores of the pixels, for any tool of `saliency`.

        Raises:
            BadText: if the question is empty or too long.
        """
        return AnswerScorer(self.answerer, question).eval()

    def _targets(
        self, picture: images.Source, question: str, answer: str | None, k: int
    ) -> list[int]:
        names = self.answerer.answers
        if answer is None:
            return [names.index(text) for text, _ in self.answer(picture, question, k=k).top]
        if k != 1:
            raise ValueError(f"with an answer there is one map, not {k}")
        if (wanted := normalize_answer(answer)) not in names:
            raise BadText(
                f'"{answer}" is none of the {len(names):,} answers that the model knows: '
                "choose one of its guesses."
            )
        return [names.index(wanted)]

    def _encode(self, picture: images.Source) -> Grid:
        raw = images.read(picture)
        key = images.fingerprint(raw)
        with self._lock:
            if (grid := self._grids.get(key)) is not None:
                return grid
        pixels = self.pixels(raw)
        with self._lock, torch.inference_mode():
            if (grid := self._grids.get(key)) is None:  # another thread may have been faster
                grid = self.answerer.encode(pixels)
                self._grids.put(key, grid)
            return grid

    def pixels(self, picture: images.Source) -> Tensor:
        """A picture as the model sees it, (1, 3, S, S) in [0, 1]: squashed to its square.

        Raises:
            BadImage: if the picture cannot be read.
        """
        size = self.answerer.config.encoder.image_size
        return images.to_pixels(images.load(picture, min_side=size), size)

    def _ask(
        self, grid: Grid, questions: list[str], ids: list[list[int]], owners: list[int], k: int
    ) -> list[Answer]:
        longest = max(map(len, ids))
        padded = torch.tensor([row + [Vocab.PAD] * (longest - len(row)) for row in ids])
        with self._lock, torch.inference_mode():
            output = self.answerer(grid.cells, padded, torch.tensor(owners))
            return [
                self.answerer.describe(question, output, row, (grid.height, grid.width), k)
                for row, question in enumerate(questions)
            ]


class GridCache:
    """The grids used last, by the content of their pictures, within a number of bytes."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes, self._bytes = max_bytes, 0
        self._grids: OrderedDict[str, Grid] = OrderedDict()

    def get(self, key: str) -> Grid | None:
        """The grid kept under a key, if it still is."""
        if key in self._grids:
            self._grids.move_to_end(key)
        return self._grids.get(key)

    def put(self, key: str, grid: Grid) -> None:
        """Keep a grid; the ones not used for longest make room."""
        if key in self._grids:
            return
        self._grids[key] = grid
        self._bytes += grid.cells.nbytes
        while self._bytes > self._max_bytes:
            _, dropped = self._grids.popitem(last=False)
            self._bytes -= dropped.cells.nbytes
