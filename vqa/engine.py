"""The engine: loaded models behind plain calls. A picture is encoded once, however often asked."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from saliency import faithfulness, overlay, panels, registry, tokens
from saliency.tokens import TokenExplanation
from saliency.types import CannotExplain, Explanation, Progress
from vqa.models import Answer, Caption, Feeling
from vqa.pipelines.answering import WhatIf
from vqa.pipelines.captioning import CaptionPipeline
from vqa.pipelines.emoji import EmojiPipeline
from vqa.pipelines.model_set import ModelSet
from vqa.preprocessing import images
from vqa.scorers.native import QuestionScorer

__all__ = ["METHODS", "CannotExplain", "Engine", "Explanation", "TokenExplanation", "in_words"]

METHODS = tuple(registry.METHODS)
OPACITY = 0.7  # of the hottest place, where a map is drawn


class Engine(ModelSet):
    """Answers questions about pictures, describes them, says where people would look; and why.

    It is safe to share between threads, and takes what a `ModelSet` takes.
    """

    def answer(self, picture: images.Source, question: str, *, k: int = 5) -> Answer:
        """Answer one question about a picture; see `AnswerPipeline.answer`."""
        return self.answer_pipeline.answer(picture, question, k=k)

    def answer_batch(
        self, pictures: Sequence[images.Source], questions: Sequence[Sequence[str]], *, k: int = 5
    ) -> list[list[Answer]]:
        """Answer many questions about many pictures; see `AnswerPipeline.answer_batch`."""
        return self.answer_pipeline.answer_batch(pictures, questions, k=k)

    def what_if(
        self, picture: images.Source, question: str, hidden: np.ndarray, *, k: int = 5
    ) -> WhatIf:
        """Hide a part of a picture, and ask again; see `AnswerPipeline.what_if`."""
        return self.answer_pipeline.what_if(picture, question, hidden, k=k)

    def gaze(self, picture: images.Source) -> np.ndarray:
        """Say where people would look, whatever they are asked.

        Args:
            picture: a path, bytes, file object, PIL picture or array.

        Returns:
            (S, S) float32 over the whole picture squashed to the gaze model's square; sums to 1.

        Raises:
            BadImage: if the picture cannot be read.
            ValueError: if the engine has no gaze model.
        """
        if (gaze_pipeline := self.gaze_pipeline) is None:
            raise ValueError("there is no gaze model: load the engine with one")
        return np.asarray(gaze_pipeline.maps([picture])[0])

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
        answer_pipeline, raw = self.answer_pipeline, images.read(picture)
        scorer = answer_pipeline.scorer(question, raw, k=k)
        targets = answer_pipeline.targets(scorer.answers, raw, question, answer, k)
        options |= {"seed": seed, "progress": progress}
        with answer_pipeline.lock:
            found = registry.explain(
                scorer, answer_pipeline.pixels(raw), targets, method, **options
            )
        return _labelled(found, scorer.answers)

    def caption(
        self, picture: images.Source, *, beam: int = 3, model: str | None = None, **options: Any
    ) -> Caption:
        """Describe one picture; see `CaptionPipeline.caption` for the options.

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
        return self.caption_pipeline(model).caption(picture, beam=beam, **options)

    def caption_pipeline(self, name: str | None = None) -> CaptionPipeline:
        """A captioner by its name; the first if none is given.

        Raises:
            ValueError: naming those that there are.
        """
        caption_pipelines = self.caption_pipelines
        if name is None and caption_pipelines:
            return next(iter(caption_pipelines.values()))
        if name not in caption_pipelines:
            have = ", ".join(caption_pipelines) or "none: load the engine with captioners"
            raise ValueError(f"there is no captioner {name!r}; there are: {have}")
        return caption_pipelines[name]

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
        caption_pipeline, raw = self.caption_pipeline(model), images.read(picture)
        scorer = caption_pipeline.scorer(
            caption_pipeline.caption(raw).words if caption is None else caption
        )
        targets = list(range(len(scorer.words)) if words is None else words)
        options |= {"seed": seed, "progress": progress}
        with caption_pipeline.lock:
            found = registry.explain(
                scorer, caption_pipeline.pixels(raw), targets, method, **options
            )
        return _labelled(found, scorer.words)

    def emoji(self, text: str, head: str | None = None, *, k: int = 5) -> Feeling:
        """Say how a text feels; see `EmojiPipeline.emoji`.

        Raises:
            ValueError: if the engine has no emoji model.
        """
        return self.loaded_emoji_pipeline().emoji(text, head, k=k)

    def explain_emoji(
        self,
        text: str,
        label: str | None = None,
        method: str = "integrated_gradients",
        *,
        head: str | None = None,
        **options: Any,
    ) -> TokenExplanation:
        """Say how far each word of a text pushes a label.

        Args:
            text: as `feel` takes it.
            label: which label to explain; None for the likeliest.
            method: a name in `saliency.tokens.TOKEN_METHODS`.
            head: which set of labels; None for the first.
            options: the method's own.

        Returns:
            A push a word, in the order of the feeling's `word_weights`.

        Raises:
            BadText: if the text has no word or is too long, or the label is none of the head's.
            ValueError: if there is no such head or method, or no emoji model.
        """
        emoji_pipeline = self.loaded_emoji_pipeline()
        scorer, vectors, target = emoji_pipeline.to_explain(text, head, label)
        with emoji_pipeline.lock:
            (found,) = tokens.explain_tokens(scorer, vectors, [target], method, **options)
        return found

    def loaded_emoji_pipeline(self) -> EmojiPipeline:
        """The emoji model.

        Raises:
            ValueError: if the engine has none.
        """
        if (emoji_pipeline := self.emoji_pipeline) is None:
            raise ValueError("there is no emoji model: load the engine with one")
        return emoji_pipeline

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
            What became of the answer, with `before` and `after` in words as its labels. A model
            that writes its answers chooses among those that it found for the whole picture.

        Raises:
            BadImage: if the picture cannot be read.
            BadText: if the question is empty or too long.
            NoEvidence: if the explanation has nothing above 0.
        """
        answer_pipeline, raw = self.answer_pipeline, images.read(picture)
        scorer, pixels = answer_pipeline.scorer(question, raw), answer_pipeline.pixels(raw)
        options: dict[str, Any] = {"fraction": fraction, "seed": seed, "progress": progress}
        with answer_pipeline.lock:
            found = faithfulness.counterfactual(scorer, pixels, explanation.map, **options)
        before, after = (scorer.answers[number] for number in (found.before, found.after))
        return dataclasses.replace(found, label_before=before, label_after=after)

    def draw(
        self, picture: images.Source, found: np.ndarray | Sequence[Explanation]
    ) -> Image.Image:
        """Draw what was found over its picture.

        Args:
            picture: a path, bytes, file object, PIL picture or array.
            found: a map at least 0, or explanations of one method: a single one, or several, which
                stand side by side on one scale, each under its label.

        Raises:
            BadImage: if the picture cannot be read.
        """
        base = images.load(picture)
        if isinstance(found, np.ndarray):
            return overlay.blend(base, found, OPACITY)
        if len(found) == 1:
            return found[0].overlay(base, OPACITY)
        maps, labels = [each.drawable for each in found], [each.label for each in found]
        return panels.top_panel(base, maps, labels, signed=found[0].signed)

    def scorer(self, question: str, picture: images.Source | None = None) -> QuestionScorer:
        """A question's answers as scores of the pixels; see `AnswerPipeline.scorer`."""
        return self.answer_pipeline.scorer(question, picture)

    def pixels(self, picture: images.Source) -> Tensor:
        """A picture as the answerer sees it, (1, 3, S, S); see `AnswerPipeline.pixels`."""
        return self.answer_pipeline.pixels(picture)


def _labelled(found: Sequence[Explanation], names: Sequence[str]) -> tuple[Explanation, ...]:
    return tuple(dataclasses.replace(each, label=names[each.target]) for each in found)


def in_words(found: np.ndarray | Explanation) -> str:
    """Where a map at least 0, or an explanation's, is hot; see `saliency.overlay.describe`."""
    if isinstance(found, np.ndarray):
        return overlay.describe(found)
    return overlay.describe(found.drawable, signed=found.signed)
