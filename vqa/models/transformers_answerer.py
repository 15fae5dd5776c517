"""Answerers of transformers, ViLT and BLIP, behind our own `Answer` and as scorers.

ViLT (Kim et al. 2021) chooses among its labels. BLIP (Li et al. 2022) writes its answer; here the
answers that a beam search finds are scored by their log probability, as in its own ranking mode.

Both see the whole picture squashed to their square. Their image tokens pass through `features` as a
grid, just before the last layer that reads them, so that Grad-CAM has something to read.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqa import images
from vqa.models.answerer import Answer
from vqa.text import check

LONGEST = 10  # tokens of a written answer


class _Scorer(nn.Module, ABC):
    """Scores of the answers to one question, as a function of the picture; see `saliency.types`."""

    mean: Tensor
    std: Tensor
    ids: Tensor

    def __init__(
        self, network: nn.Module, ids: Tensor, mean: list[float], std: list[float]
    ) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("ids", ids, persistent=False)
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)
        self.features = nn.Identity()

    @property
    def feature_layer(self) -> nn.Module:
        """The image tokens as a grid."""
        return self.features

    def forward(self, pixels: Tensor) -> Tensor:
        """Pixels (B, 3, S, S) in [0, 1] -> scores (B, K)."""
        return self.look(pixels)[0]

    def attention(self, pixels: Tensor) -> Tensor:
        """Pixels (B, 3, S, S) -> (B, 1, h, w), each sums to 1: the mean of the heads."""
        found = self.look(pixels, attend=True)[1].clamp(min=0)
        return (found / found.sum((1, 2), keepdim=True)).unsqueeze(1)

    @abstractmethod
    def look(self, pixels: Tensor, *, attend: bool = False) -> tuple[Tensor, Tensor]:
        """Pixels -> scores (B, K), and if asked for attention (B, h, w) >= 0."""

    def _through(self, tokens: Tensor, height: int, width: int) -> Tensor:
        """Image tokens (B, N, D) by way of `features`."""
        grid = tokens.transpose(1, 2).reshape(len(tokens), -1, height, width)
        return torch.as_tensor(self.features(grid).flatten(2).transpose(1, 2))


class ViltScorer(_Scorer):
    """The logits of ViLT's labels."""

    def look(self, pixels: Tensor, *, attend: bool = False) -> tuple[Tensor, Tensor]:
        """As of `_Scorer`. ViLT's own forward shuffles the patches, so its parts are called."""
        network: Any = self.network
        vilt, count = network.vilt, len(pixels)
        embed = vilt.embeddings
        patches = embed.patch_embeddings((pixels - self.mean) / self.std)  # (B, D, h, w)
        height, width = patches.shape[2:]
        first, others = embed.position_embeddings.split([1, embed.patch_embeddings.num_patches], 1)
        side = round(others.shape[1] ** 0.5)
        places = others.transpose(1, 2).unflatten(2, (side, side))
        if (side, side) != (height, width):
            places = F.interpolate(places, (height, width), mode="bilinear", align_corners=True)
        seen = (patches + places).flatten(2).transpose(1, 2)
        seen = torch.cat([(embed.cls_token + first).expand(count, -1, -1), seen], dim=1)
        read = embed.text_embeddings(input_ids=self.ids.expand(count, -1))
        kinds = embed.token_type_embeddings.weight
        hidden, words = torch.cat([read + kinds[0], seen + kinds[1]], dim=1), read.shape[1]
        *layers, last = vilt.encoder.layer
        for layer in layers:
            hidden = layer(hidden)[0]
        grid = self._through(hidden[:, words + 1 :], height, width)
        hidden = torch.cat([hidden[:, : words + 1], grid], dim=1)
        hidden, *weights = last(hidden, None, attend)
        logits = network.classifier(vilt.pooler(vilt.layernorm(hidden)))
        if not attend:
            return logits, logits
        looked = weights[0].mean(1)[:, 0, words + 1 :]
        return logits, looked.unflatten(1, (height, width))


class BlipScorer(_Scorer):
    """The log probabilities of some answers that BLIP may write.

    Args:
        network: a `BlipForQuestionAnswering`.
        ids: of the question's tokens (1, T).
        answers: of the answers' tokens, each with its end, padded on the right with -100, (K, L).
        mean: of the channels of pixels in [0, 1].
        std: likewise.
    """

    answers: Tensor

    def __init__(
        self, network: nn.Module, ids: Tensor, answers: Tensor, mean: list[float], std: list[float]
    ) -> None:
        super().__init__(network, ids, mean, std)
        self.register_buffer("answers", answers, persistent=False)

    def probabilities(self, scores: Tensor) -> Tensor:
        """Log probabilities (B, K) -> probabilities of writing just these (B, K)."""
        return scores.exp()

    def look(self, pixels: Tensor, *, attend: bool = False) -> tuple[Tensor, Tensor]:
        """As of `_Scorer`; attention is that of the question's words to the image tokens."""
        network: Any = self.network
        question, looked = self.read(pixels, attend=attend)
        count, known = len(pixels), self.answers >= 0
        start = torch.full_like(self.answers[:, :1], network.decoder_start_token_id)
        begun = torch.cat([start, self.answers[:, :-1].clamp(min=0)], dim=1)
        each = len(self.answers)
        written = network.text_decoder(
            input_ids=begun.repeat(count, 1),
            encoder_hidden_states=question.repeat_interleave(each, 0),
            use_cache=False,
        ).logits.log_softmax(-1)
        picked = written.gather(2, self.answers.clamp(min=0).repeat(count, 1).unsqueeze(2))
        scores = (picked.squeeze(2) * known.repeat(count, 1)).sum(1).view(count, each)
        return scores, looked

    def read(self, pixels: Tensor, *, attend: bool = False) -> tuple[Tensor, Tensor]:
        """The question as read before the picture (B, T, D), and the attention (B, h, w)."""
        network: Any = self.network
        normal = (pixels - self.mean) / self.std
        tokens = network.vision_model(pixel_values=normal).last_hidden_state
        size = network.config.vision_config.patch_size
        height, width = (side // size for side in pixels.shape[2:])
        grid = self._through(tokens[:, 1:], height, width)
        seen = torch.cat([tokens[:, :1], grid], dim=1)
        found = network.text_encoder(
            input_ids=self.ids.expand(len(pixels), -1),
            encoder_hidden_states=seen,
            encoder_attention_mask=torch.ones(seen.shape[:2], device=seen.device),
            output_attentions=attend,
        )
        if not attend:
            return found.last_hidden_state, seen
        looked = found.cross_attentions[-1].mean((1, 2))[:, 1:]
        return found.last_hidden_state, looked.unflatten(1, (height, width))


class TransformersAnswerer:
    """Answers questions with a model of transformers; safe to share between threads.

    Args:
        network: a `ViltForQuestionAnswering` or `BlipForQuestionAnswering`.
        tokenizer: of its words.
        mean: of the channels of pixels in [0, 1], as it wants them.
        std: likewise.

    Raises:
        ValueError: if the network is neither.
    """

    def __init__(
        self, network: nn.Module, tokenizer: Any, mean: list[float], std: list[float]
    ) -> None:
        config: Any = network.config
        if config.model_type not in ("vilt", "blip"):
            raise ValueError(f"{config.model_type} is neither vilt nor blip")
        self.network: Any = network.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.mean, self.std = list(mean), list(std)
        self.written = config.model_type == "blip"
        self.size = int(getattr(config, "vision_config", config).image_size)
        self.lock = threading.RLock()

    @classmethod
    def from_pretrained(cls, source: str | Path) -> TransformersAnswerer:
        """A model of transformers, by its folder or Hub id; safetensors only.

        Raises:
            OSError: if there is no such folder or Hub id, or it has pickles only.
            ValueError: if it answers no questions, or is neither ViLT nor BLIP.
        """
        from transformers import (
            AutoImageProcessor,
            AutoModelForVisualQuestionAnswering,
            AutoTokenizer,
        )

        # Not eager attention tells no weights.
        options = {"dtype": torch.float32, "use_safetensors": True, "attn_implementation": "eager"}
        network = AutoModelForVisualQuestionAnswering.from_pretrained(source, **options)
        processor = AutoImageProcessor.from_pretrained(source)
        tokenizer = AutoTokenizer.from_pretrained(source)
        return cls(network, tokenizer, processor.image_mean, processor.image_std)

    def answer(self, picture: images.Source, question: str, *, k: int = 5) -> Answer:
        """Answer one question about a picture.

        Args:
            picture: a path, bytes, file object, PIL picture or array.
            question: in English.
            k: how many of the likeliest answers to return.

        Raises:
            BadImage: if the picture cannot be read.
            BadText: if the question is empty or too long.
        """
        pixels = self.pixels(picture)
        scorer, names = self.scorer(question, pixels, k=k)
        with self.lock, torch.inference_mode():
            scores = scorer(pixels)
            likely = scores.exp() if self.written else scores.softmax(dim=-1)
            best = likely[0].topk(min(k, likely.shape[1]))
            attention = scorer.attention(pixels)[0, 0]
        pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        top = tuple((names[i], p) for i, p in pairs)
        shown = np.asarray(attention, dtype=np.float32)
        return Answer(top[0][0], top[0][1], top, shown, word_weights=(), unknown=())

    def scorer(
        self, question: str, pixels: Tensor, *, k: int = 5
    ) -> tuple[ViltScorer | BlipScorer, list[str]]:
        """The answers to a question as scores of the pixels, for any tool of `saliency`.

        Args:
            question: in English.
            pixels: the picture (1, 3, S, S) in [0, 1]; BLIP's answers are those it finds for it.
            k: how many answers BLIP looks for.

        Returns:
            The scorer, and its answers in words.

        Raises:
            BadText: if the question is empty or too long.
        """
        ids = self.tokenizer(check(question), return_tensors="pt", truncation=True).input_ids
        if not self.written:
            labels = self.network.config.id2label
            vilt = ViltScorer(self.network, ids, self.mean, self.std)
            return vilt.eval(), [labels[number] for number in sorted(labels)]
        end = self.network.config.text_config.sep_token_id
        reader = BlipScorer(self.network, ids, ids, self.mean, self.std).eval()
        with self.lock, torch.no_grad():
            found = self._write(reader.read(pixels)[0], k, end)
        names: list[str] = []
        rows: list[list[int]] = []
        for row in found.tolist():
            said = row[1 : row.index(end, 1) if end in row[1:] else None]
            text = str(self.tokenizer.decode(said, skip_special_tokens=True)).strip()
            if text not in names:
                names.append(text)
                rows.append([*said, end])
        longest = max(map(len, rows))
        answers = torch.tensor([row + [-100] * (longest - len(row)) for row in rows])
        return BlipScorer(self.network, ids, answers, self.mean, self.std).eval(), names

    def _write(self, question: Tensor, k: int, end: int) -> Tensor:
        """The k likeliest answers' tokens (k, L), each after the start."""
        found = self.network.text_decoder.generate(
            input_ids=torch.full((1, 1), self.network.decoder_start_token_id),
            encoder_hidden_states=question,
            encoder_attention_mask=torch.ones(question.shape[:2], dtype=torch.long),
            eos_token_id=end,
            pad_token_id=self.network.config.text_config.pad_token_id,
            max_new_tokens=LONGEST,
            num_beams=k,
            num_return_sequences=k,
            do_sample=False,
        )
        return torch.as_tensor(found)

    def pixels(self, picture: images.Source) -> Tensor:
        """A picture as the model sees it, (1, 3, S, S) in [0, 1]: squashed to its square.

        Raises:
            BadImage: if the picture cannot be read.
        """
        return images.to_pixels(images.load(picture, min_side=self.size), self.size)
