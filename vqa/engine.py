"""The engine: loaded models behind plain calls. A picture is encoded once, however often asked."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from saliency import faithfulness, registry
from saliency.types import Explanation, Progress
from vqa import checkpoints, images
from vqa.describer import Describer
from vqa.encoders import Grid
from vqa.grids import CACHE_BYTES, Eyes
from vqa.models import Answer, Answerer, Caption, Captioner
from vqa.scorers import AnswerScorer
from vqa.text import BadText, Vocab, normalize_answer


class Engine:
    """Answers questions about pictures and describes them; safe to share between threads.

    Args:
        answerer: the model; it is put into eval mode, and learns no more.
        captioners: models that describe, by name; the first is the one asked if none is named.
        cache_bytes: memory for the grids of the pictures seen last, a model.
    """

    def __init__(
        self,
        answerer: Answerer,
        captioners: Mapping[str, Captioner] = MappingProxyType({}),
        *,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        self._lock = threading.RLock()
        self._eyes = Eyes(answerer, self._lock, cache_bytes=cache_bytes)
        self.answerer = self._eyes.model
        self.describers = {
            name: Describer(model, cache_bytes=cache_bytes) for name, model in captioners.items()
        }

    @classmethod
    def load(
        cls,
        vqa: str | Path = "vqa",
        captioners: Sequence[str | Path] = (),
        *,
        revision: str | None = None,
    ) -> Engine:
        """Load models, each a shipped one by name, a local directory, or a Hub id.

        Args:
            vqa: the model that answers.
            captioners: the models that describe; none are needed.
            revision: of `vqa`, if it is a Hub id: branch, tag or commit.

        Raises:
            BadCheckpoint: naming what is wrong with one of them.
        """
        answerer = checkpoints.load_as(Answerer, vqa, revision=revision)
        return cls(
            answerer, {str(name): checkpoints.load_as(Captioner, name) for name in captioners}
        )

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
        return self._ask(self._eyes.grid(picture), [question], [ids], [0], k)[0]

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
        answers = iter(self._ask(self._eyes.grids(pictures), flat, ids, owners, k))
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

    def caption(
        self, picture: images.Source, *, beam: int = 3, model: str | None = None, **options: Any
    ) -> Caption:
        """Describe one picture; see `Describer.caption` for the options.

        Args:
            picture: a path, bytes, file object, PIL picture or array.
            beam: captions that are followed at a time, and given as alternatives; 1 is greedy.
            model: which of the captioners; None for the first.
            options: `start`, `temperature`, `seed`.

        Raises:
            BadImage: if the picture cannot be read.
            BadText: if the start is too long or has a word that the model does not know.
            ValueError: if there is no such captioner, or an option is out of range.
        """
        return self.describer(model).caption(picture, beam=beam, **options)

    def describer(self, name: str | None = None) -> Describer:
        """A captioner by its name; the first if none is given.

        Raises:
            ValueError: naming those that there are.
        """
        if name is None and self.describers:
            return next(iter(self.describers.values()))
        if name not in self.describers:
            have = ", ".join(self.describers) or "none: load the engine with captioners"
            raise ValueError(f"there is no captioner {name!r}; there are: {have}")
        return self.describers[name]

    def explain_caption(
        self,
        picture: images.Source,
        caption: str | Sequence[str] | None = None,
        method: str = "grad_cam",
        *,
        words: Sequence[int] | None = None,
        model: str | None = None,
        seed: int = 0,
        progress: Progress | None = None,
        **options: Any,
    ) -> tuple[Explanation, ...]:
        """Say why a model says each word of a caption, as a map a word.

        Args:
            picture: a path, bytes, file object, PIL picture or array.
            caption: which caption to explain, a text or its tokens; None for the model's own.
            method: a name in `saliency.registry.METHODS`.
            words: the places of the words to explain, from 0; None for all of them.
            model: which of the captioners; None for the first.
            seed: of the methods that draw at random.
            progress: called with (done, total); what it raises ends the explanation.
            options: the method's own.

        Returns:
            Explanations with maps (S, S) over the whole picture squashed to the model's square, the
            word as their `label`. Their score is the logarithm of the word's probability.

        Raises:
            BadImage: if the picture cannot be read.
            BadText: if the caption is empty, too long or has a word that the model does not know.
            CannotExplain: if the model lacks what the method needs.
            ValueError: if there is no such method, option, word or captioner.
        """
        describer, raw = self.describer(model), images.read(picture)
        scorer = describer.scorer(describer.caption(raw).words if caption is None else caption)
        targets = range(len(scorer.words)) if words is None else words
        with describer.lock:
            found = registry.explain(
                scorer,
                describer.pixels(raw),
                list(targets),
                method,
                seed=seed,
                progress=progress,
                **options,
            )
        return tuple(dataclasses.replace(each, label=scorer.words[each.target]) for each in found)

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

    def pixels(self, picture: images.Source) -> Tensor:
        """A picture as the model sees it, (1, 3, S, S) in [0, 1]: squashed to its square.

        Raises:
            BadImage: if the picture cannot be read.
        """
        return self._eyes.pixels(picture)

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
