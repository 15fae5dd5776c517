"""Read a question: an LSTM over its words, and how much each of them matters."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from vqa.models.recurrent import LSTM
from vqa.preprocessing.vocabulary import Vocab


class EncodedQuestions(NamedTuple):
    """Questions that are read, one row each."""

    vector: Tensor  # (Q, H)
    weights: Tensor  # (Q, T), how much each word matters: sums to 1, 0 on padding
    words: Tensor  # (Q, T, H), what each word adds to the vector
    ids: Tensor  # (Q, T) int64

    def expand(self, count: int) -> EncodedQuestions:
        """One question, so many times."""
        return EncodedQuestions(*(part.expand(count, *part.shape[1:]) for part in self))


class QuestionEncoder(nn.Module):
    """Words -> one vector, as the attention-weighted mean of an LSTM's states."""

    def __init__(self, num_words: int, word_dim: int, hidden_dim: int, dropout: float) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_words, word_dim, padding_idx=Vocab.PAD)
        self.lstm = LSTM(word_dim, hidden_dim, batch_first=True)
        self.importance = nn.Linear(word_dim + hidden_dim, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, ids: Tensor) -> EncodedQuestions:
        """Encode questions.

        Args:
            ids: (Q, T) int64 word numbers, padded on the right with `Vocab.PAD`; no row is all
                padding.

        Returns:
            The questions, with vectors of hidden_dim.
        """
        words = torch.tanh(self.dropout(self.embedding(ids)))
        states, _ = self.lstm(words)  # a state never depends on the padding to its right
        scores = self.importance(torch.cat([words, states], dim=-1)).squeeze(-1)
        weights = scores.masked_fill(ids == Vocab.PAD, float("-inf")).softmax(dim=1)
        added = weights.unsqueeze(-1) * states
        return EncodedQuestions(self.dropout(added.sum(dim=1)), weights, added, ids)
