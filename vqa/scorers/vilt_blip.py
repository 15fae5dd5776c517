"""Scorers of transformers' ViLT and BLIP: the answers to a question as a function of the pixels.

ViLT (Kim et al. 2021) chooses among its labels. BLIP (Li et al. 2022) writes its answer; here the
answers that a beam search found are scored by their log probability, as in its own ranking mode.

Both see the whole picture squashed to their square. Their image tokens pass through `features` as a
grid, just before the last layer that reads them, so that Grad-CAM has something to read.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqa.scorers.native import QuestionScorer


class Lens(NamedTuple):
    """What a network wants of its pixels in [0, 1]: less the mean, by the std, a channel each."""

    mean: Sequence[float]
    std: Sequence[float]


class PictureScorer(QuestionScorer, ABC):
    """Scores by a network of transformers; see `saliency.types`.

    Args:
        network: in eval mode.
        lens: of its pixels.
        ids: of the question's tokens (1, T).
        answers: in words.
    """

    mean: Tensor
    std: Tensor
    ids: Tensor

    def __init__(self, network: nn.Module, lens: Lens, ids: Tensor, answers: Sequence[str]) -> None:
        super().__init__()
        self.network, self.answers = network, answers
        mean, std = lens
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
        return self.scores_and_attention(pixels)[0]

    def attention(self, pixels: Tensor) -> Tensor:
        """Pixels (B, 3, S, S) -> (B, 1, h, w), each sums to 1: the mean of the heads."""
        found = self.scores_and_attention(pixels, attend=True)[1].clamp(min=0)
        return (found / found.sum((1, 2), keepdim=True)).unsqueeze(1)

    @abstractmethod
    def scores_and_attention(
        self, pixels: Tensor, *, attend: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Pixels -> scores (B, K), and if asked for attention (B, h, w) >= 0."""

    def _through(self, tokens: Tensor, height: int, width: int) -> Tensor:
        """Image tokens (B, N, D) by way of `features`."""
        grid = tokens.transpose(1, 2).reshape(len(tokens), -1, height, width)
        return torch.as_tensor(self.features(grid).flatten(2).transpose(1, 2))


class ViltScorer(PictureScorer):
    """The logits of ViLT's labels."""

    def scores_and_attention(
        self, pixels: Tensor, *, attend: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Run the network's parts by hand, for its own forward shuffles the patches."""
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
        question = embed.text_embeddings(input_ids=self.ids.expand(count, -1))
        kinds = embed.token_type_embeddings.weight
        hidden, words = (
            torch.cat([question + kinds[0], seen + kinds[1]], dim=1),
            question.shape[1],
        )
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


class BlipScorer(PictureScorer):
    """The log probabilities of some answers that BLIP may write.

    Args:
        network: a `BlipForQuestionAnswering`.
        lens: of its pixels.
        ids: of the question's tokens (1, T).
        answers: in words.
        tokens: of the answers, each with its end, padded on the right with -100, (K, L).
    """

    tokens: Tensor

    def __init__(
        self, network: nn.Module, lens: Lens, ids: Tensor, answers: Sequence[str], tokens: Tensor
    ) -> None:
        super().__init__(network, lens, ids, answers)
        self.register_buffer("tokens", tokens, persistent=False)

    def probabilities(self, scores: Tensor) -> Tensor:
        """Log probabilities (B, K) -> probabilities of writing just these (B, K)."""
        return scores.exp()

    def scores_and_attention(
        self, pixels: Tensor, *, attend: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Run the network; attention is that of the question's words to the image tokens."""
        network: Any = self.network
        question, looked = self.encode_question(pixels, attend=attend)
        count, known = len(pixels), self.tokens >= 0
        start = torch.full_like(self.tokens[:, :1], network.decoder_start_token_id)
        begun = torch.cat([start, self.tokens[:, :-1].clamp(min=0)], dim=1)
        each = len(self.tokens)
        written = network.text_decoder(
            input_ids=begun.repeat(count, 1),
            encoder_hidden_states=question.repeat_interleave(each, 0),
            use_cache=False,
        ).logits.log_softmax(-1)
        picked = written.gather(2, self.tokens.clamp(min=0).repeat(count, 1).unsqueeze(2))
        scores = (picked.squeeze(2) * known.repeat(count, 1)).sum(1).view(count, each)
        return scores, looked

    def encode_question(self, pixels: Tensor, *, attend: bool = False) -> tuple[Tensor, Tensor]:
        """The question as read before the picture (B, T, D), and the attention (B, h, w)."""
        network: Any = self.network
        normal = (pixels - self.mean) / self.std
        patches = network.vision_model(pixel_values=normal).last_hidden_state
        size = network.config.vision_config.patch_size
        height, width = (side // size for side in pixels.shape[2:])
        grid = self._through(patches[:, 1:], height, width)
        seen = torch.cat([patches[:, :1], grid], dim=1)
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
