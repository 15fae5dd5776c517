"""Scorers: what our models and others say, as plain functions of the pixels that can be explained.

A scorer maps pixels (B, 3, H, W) in [0, 1] to raw scores (B, K), one a target, and names the module
that Grad-CAM reads; see `saliency.types`. The models themselves know nothing of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from vqa.errors import BadText
from vqa.models import Answerer, Captioner, EmojiModel, caption_search
from vqa.models.encoder import Grid, dry_run
from vqa.models.outputs import AnswererOutput
from vqa.preprocessing.ptb_tokenizer import ptb_tokenize


class QuestionScorer(nn.Module):
    """Scores of the answers to one question, as a function of the picture."""

    answers: Sequence[str]  # in words, one a score


class AnswerScorer(QuestionScorer):
    """The logits of every answer to one question, as a function of the picture.

    Raises:
        BadText: if the question is empty or too long.
    """

    ids: Tensor

    def __init__(self, answerer: Answerer, question: str) -> None:
        super().__init__()
        self.answerer, self.answers = answerer, answerer.answers
        ids = torch.tensor([answerer.question_ids(question)], device=answerer.temperature.device)
        self.register_buffer("ids", ids, persistent=False)

    @property
    def feature_layer(self) -> nn.Module:
        """The encoder's last feature maps."""
        return self.answerer.encoder.features

    def forward(self, pixels: Tensor) -> Tensor:
        """Pixels (B, 3, S, S) in [0, 1] -> logits (B, A), uncalibrated."""
        return self._look(pixels)[1].logits

    def attention(self, pixels: Tensor) -> Tensor:
        """Pixels (B, 3, S, S) -> (B, 1, h, w), each sums to 1: the mean of the glimpses."""
        grid, found = self._look(pixels)
        return found.attention.mean(dim=1).view(-1, 1, grid.height, grid.width)

    def probabilities(self, scores: Tensor) -> Tensor:
        """Logits (B, A) -> calibrated probabilities (B, A)."""
        return self.answerer.probabilities(scores)

    def _look(self, pixels: Tensor) -> tuple[Grid, AnswererOutput]:
        with torch.no_grad():  # the question does not depend on the pixels
            read = self.answerer.question(self.ids)
        grid, count = self.answerer.encode(pixels), len(pixels)
        owner = torch.arange(count, device=pixels.device)
        return grid, self.answerer.score_encoded(grid.cells, read.expand(count), owner)


class CaptionScorer(nn.Module):
    """How likely each word of a caption is, as a function of the picture: one score a word.

    A score is the natural logarithm of the word's probability given the words before it; with two
    LSTMs, the mean of that and of the one given the words after it.

    Args:
        captioner: whose opinion is asked.
        caption: a text, or its tokens.

    Raises:
        BadText: if it is empty, too long or has a word that the model does not know.
    """

    ids: Tensor

    def __init__(self, captioner: Captioner, caption: str | Sequence[str]) -> None:
        super().__init__()
        self.captioner = captioner
        tokens = ptb_tokenize(caption) if isinstance(caption, str) else list(caption)
        most = captioner.config.max_words
        if not 1 <= len(tokens) <= most:
            raise BadText(f"The caption has {len(tokens)} words; it can have 1 to {most}.")
        self.words = tuple(tokens)
        ids = torch.tensor([captioner.ids(tokens)], device=captioner.say.bias.device)
        self.register_buffer("ids", ids, persistent=False)

    @property
    def feature_layer(self) -> nn.Module:
        """The encoder's last feature maps."""
        return self.captioner.encoder.features

    @property
    def attention(self) -> Callable[[Tensor], Tensor] | None:
        """Pixels (B, 3, S, S) -> (B, T, h, w), how much each word looked where; None if never."""
        return None if self.captioner.config.attention == "none" else self._attention

    def forward(self, pixels: Tensor) -> Tensor:
        """Pixels (B, 3, S, S) in [0, 1] -> log probabilities (B, T), a word each."""
        return self._score(pixels)[1].log_probs[:, :-1]  # the last is the end's

    def probabilities(self, scores: Tensor) -> Tensor:
        """Log probabilities (B, T) -> probabilities (B, T)."""
        return scores.exp()

    def _attention(self, pixels: Tensor) -> Tensor:
        grid, scored = self._score(pixels)
        maps = torch.as_tensor(scored.attention)[:, :-1]
        return maps.reshape(*maps.shape[:2], grid.height, grid.width)

    def _score(self, pixels: Tensor) -> tuple[Grid, caption_search.Scored]:
        grid, count = self.captioner.encode(pixels), len(pixels)
        owner = torch.arange(count, device=pixels.device)
        look = self.captioner.project_image(grid.cells)
        return grid, caption_search.score(self.captioner, look, self.ids.expand(count, -1), owner)


class ClassScorer(nn.Module):
    """The logits of any image classifier, from pixels in [0, 1].

    Args:
        network: normalised pixels (B, 3, H, W) -> logits (B, K), or a transformers output that has
            them as `.logits`.
        mean: what the network wants subtracted from each channel of pixels in [0, 1].
        std: and what it then wants them divided by.
        labels: the K classes in words, where they are known.
        feature_layer: the module that Grad-CAM reads; by default the last one that returns feature
            maps, or none if the network goes on with tokens from there (vision transformers).
        image_size: side in pixels of the square pictures it was made for.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        *,
        mean: Sequence[float] = (0.0, 0.0, 0.0),
        std: Sequence[float] = (1.0, 1.0, 1.0),
        labels: Sequence[str] = (),
        feature_layer: nn.Module | None = None,
        image_size: int = 224,
    ) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)
        self.labels = tuple(labels)
        self.image_size = image_size
        self.feature_layer = feature_layer or self._last_feature_layer()

    @classmethod
    def from_pretrained(cls, source: str | Path) -> ClassScorer:
        """Any image classifier of transformers, in eval mode.

        Args:
            source: a local folder in the transformers layout, or a Hub id.

        Raises:
            OSError: if there is no such folder or Hub id (transformers' own message).
        """
        from transformers import AutoImageProcessor, AutoModelForImageClassification

        network = AutoModelForImageClassification.from_pretrained(source, dtype=torch.float32)
        processor = AutoImageProcessor.from_pretrained(source)
        crop = getattr(processor, "crop_size", None) or processor.size
        names = network.config.id2label
        return cls(
            network.eval().to(memory_format=torch.channels_last),  # what convolutions like best
            mean=processor.image_mean,
            std=processor.image_std,
            labels=[names[number] for number in sorted(names)],
            image_size=int(crop.get("height") or crop["shortest_edge"]),
        )

    def forward(self, pixels: Tensor) -> Tensor:
        """Pixels (B, 3, H, W) in [0, 1] -> logits (B, K)."""
        output = self.network((pixels - self.mean) / self.std)
        return torch.as_tensor(getattr(output, "logits", output))

    def _last_feature_layer(self) -> nn.Module | None:
        last: list[nn.Module | None] = [None]

        def note(module: nn.Module, _inputs: object, output: object) -> None:
            if not isinstance(output, Tensor):
                return
            if output.ndim == 4 and min(output.shape[2:]) > 1:
                last[0] = module
            elif output.ndim == 3:  # tokens: what went before is not where the network decides
                last[0] = None

        flat = torch.zeros(1, 3, self.image_size, self.image_size, device=self.mean.device)
        dry_run(self, flat, self.network.modules(), note)
        return last[0]


class EmojiScorer(nn.Module):
    """A head's logits, as a function of the vectors of a text's words; see `saliency.tokens`."""

    def __init__(self, model: EmojiModel, head: str) -> None:
        super().__init__()
        self.model, self.head = model, head

    def forward(self, vectors: Tensor) -> Tensor:
        """Vectors (B, T, D) of texts of one length -> logits (B, labels), uncalibrated."""
        lengths = torch.full((len(vectors),), vectors.shape[1], device=vectors.device)
        return self.model.logits(self.model.text_features(vectors, lengths)[0], self.head)
