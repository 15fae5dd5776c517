"""Which words fit a picture: a detector of visual concepts, learnt from captions.

After Fang et al., "From Captions to Visual Concepts and Back" (CVPR 2015): a word fits a picture if
it fits one of its cells. A question's words are looked up in it, so that "is this a kitchen?" is
read beside how much of a kitchen there is to see.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vqa.preprocessing.question_text import stem
from vqa.preprocessing.vocabulary import Vocab

ZSCORE_MIN, ZSCORE_MAX = -4.0, 6.0  # standard deviations: a word speaks no quieter and no louder


class ConceptDetector(nn.Module):
    """Cells -> how well each concept fits, and what that says to the words of questions.

    Args:
        channels: of a cell; further entries, such as the gaze, are not read.
        dim: of the space where cells and concepts meet.
        words: the question vocabulary.
        concepts: as `stem` gives them; a word whose stem is none of them says nothing.
        dropout: on cells and their projections.
    """

    usual: Tensor
    spread: Tensor
    of_word: Tensor

    def __init__(
        self, channels: int, dim: int, words: Vocab, concepts: Sequence[str], dropout: float
    ) -> None:
        super().__init__()
        self.project = nn.Linear(channels, dim)
        self.detect = nn.Linear(dim, len(concepts))
        self.dropout = nn.Dropout(dropout)
        self.register_buffer("usual", torch.zeros(len(concepts)))  # log-odds in other pictures,
        self.register_buffer("spread", torch.ones(len(concepts)))  # and their standard deviation
        places = {concept: place for place, concept in enumerate(concepts)}
        found = [places.get(stem(word), -1) for word in words.words]
        self.register_buffer("of_word", torch.tensor(found), persistent=False)

    def forward(self, cells: Tensor) -> Tensor:
        """Cells (B, N, C) -> log-odds (B, W) that each concept is in the picture."""
        return _any_cell(self.detect(self._meet(cells)), dim=1)

    def concept_zscores(self, cells: Tensor, ids: Tensor, owner: Tensor) -> Tensor:
        """How much better the words of questions fit their picture than they usually do.

        Args:
            cells: (B, N, C).
            ids: (Q, T) int64 word numbers.
            owner: (Q,) int64, which picture each question is about.

        Returns:
            (Q, T), the log-odds above the usual ones in standard deviations; 0 for words that are
            no concepts.
        """
        places = self.of_word[ids]  # (Q, T)
        known = places.clamp(min=0)
        # Only of the words asked about: a product (Q, T, N), not one with all concepts.
        scores = self.detect.weight[known] @ self._meet(cells)[owner].transpose(1, 2)
        odds = _any_cell(scores, dim=2) + self.detect.bias[known]
        found = (odds - self.usual[known]) / self.spread[known]
        return torch.where(places < 0, 0.0, found.clamp(ZSCORE_MIN, ZSCORE_MAX))

    def _meet(self, cells: Tensor) -> Tensor:
        cells = cells[..., : self.project.in_features]
        met: Tensor = self.dropout(torch.tanh(self.project(self.dropout(cells))))
        return met


def _any_cell(scores: Tensor, dim: int) -> Tensor:
    """A soft maximum over the cells: the logarithm of the mean of their odds."""
    return torch.logsumexp(scores.float(), dim) - math.log(scores.shape[dim])
