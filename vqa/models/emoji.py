"""Feel a sentence: an LSTM in both directions over its words, and one head a set of labels.

A word is its own vector plus the mean of those of its character n-grams. The states are pooled
twice, by attention (Yang et al., "Hierarchical Attention Networks", 2016) and by their maximum
(Conneau et al., "Supervised Learning of Universal Sentence Representations", 2017), beside the mean
of the words themselves. All heads share all of that, and differ in one linear layer. To its logits
every known word and pair of neighbours adds some of its own, as in a linear model: wide and deep
(Cheng et al. 2016). `training.tasks.linear_head` fits these.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from vqa.models.recurrent import LSTM
from vqa.preprocessing import tweet_tokenizer
from vqa.preprocessing.tweet_tokenizer import Token
from vqa.preprocessing.vocabulary import Vocab


@dataclass(frozen=True)
class EmojiConfig:
    """Everything that rebuilds a model of feelings without its weights."""

    num_words: int  # padding and unknown included
    heads: dict[str, int]  # how many labels each set has
    word_dim: int = 128  # of words and of character n-grams
    buckets: int = 32768  # character n-grams are hashed into so many
    num_ngrams: int = 0  # words and pairs of words that the linear part knows; 0: it has none
    hidden_dim: int = 160  # LSTM state, a direction
    dropout: float = 0.5  # on words, states and the heads' input
    word_dropout: float = 0.1  # share of the words that are not seen in training

    def __post_init__(self) -> None:
        if not self.heads or min(self.heads.values()) < 2:
            raise ValueError(f"each head needs two labels or more; they are {self.heads}")


@dataclass(frozen=True)
class Feeling:
    """How a text feels."""

    emoji: str  # for the label
    label: str
    probability: float  # calibrated, in 0..1
    top: tuple[tuple[str, float], ...]  # the likeliest labels, best first
    word_weights: tuple[tuple[str, float], ...]  # the text's words as written, weights sum to 1


class Phrases(NamedTuple):
    """Texts as numbers, padded on the right."""

    ids: Tensor  # (B, T) int64, of words
    forms: Tensor  # (B, T) int64, which of the U different spellings each word has
    grams: Tensor  # (G,) int64, the hashed n-grams of all spellings in a row
    starts: Tensor  # (U,) int64, where those of each spelling begin
    ngrams: Tensor  # (B, T, 2) int64, the linear part's rows of each word, and of it and the last
    lengths: Tensor  # (B,) int64, at least 1


class EmojiModel(nn.Module):
    """Feels texts; see `EmojiConfig`."""

    Config = EmojiConfig
    model_type = "emoji"
    known: Tensor  # (num_ngrams,) int64, their hashes in order

    def __init__(
        self, config: EmojiConfig, words: Vocab, labels: dict[str, tuple[str, ...]]
    ) -> None:
        super().__init__()
        found = {"words": len(words), **{name: len(each) for name, each in labels.items()}}
        wanted = {"words": config.num_words, **config.heads}
        if found != wanted:
            raise ValueError(f"the vocabulary has {found}, config says {wanted}")
        self.config, self.words, self.labels = config, words, labels
        width, hidden = config.word_dim, config.hidden_dim
        self.embedding = nn.Embedding(config.num_words, width, padding_idx=Vocab.PAD)
        self.spelling = nn.EmbeddingBag(config.buckets, width, mode="mean")
        for table in (self.embedding, self.spelling):
            nn.init.normal_(table.weight, std=0.1)
        with torch.no_grad():
            self.embedding.weight[Vocab.PAD] = 0
        self.wide_dim = sum(config.heads.values()) if config.num_ngrams else 0
        if config.num_ngrams:  # row 0 is for those that are not known
            self.register_buffer("known", torch.arange(config.num_ngrams))
            self.wide = nn.Embedding(config.num_ngrams + 1, self.wide_dim, padding_idx=0)
            nn.init.zeros_(self.wide.weight)
        self.lstm = LSTM(width, hidden, batch_first=True, bidirectional=True)
        self.importance = nn.Linear(2 * hidden, 1)
        self.heads = nn.ModuleDict(
            {name: nn.Linear(4 * hidden + width, size) for name, size in config.heads.items()}
        )
        self.temperatures = nn.ParameterDict(  # fitted on validation, not learnt
            {name: nn.Parameter(torch.ones(()), requires_grad=False) for name in config.heads}
        )
        self.dropout = nn.Dropout(config.dropout)

    @classmethod
    def from_parts(cls, config: dict[str, Any], vocab: dict[str, list[str]]) -> EmojiModel:
        """Build from the plain contents of config.json and vocab.json."""
        labels = {name: tuple(vocab[name]) for name in config["heads"]}
        return cls(EmojiConfig(**config), Vocab(tuple(vocab["words"])), labels)

    def vocabulary(self) -> dict[str, list[str]]:
        """The contents of vocab.json."""
        return {
            "words": list(self.words.words),
            **{name: list(each) for name, each in self.labels.items()},
        }

    def phrases(self, texts: Sequence[Sequence[Token]]) -> Phrases:
        """Number some texts, as `vqa.preprocessing.tweet_tokenizer.tokenize` cuts them.

        A text without tokens counts as one unknown word.
        """
        spelt = [
            [token.spelling for token in tokens] or [Vocab.SPECIAL[Vocab.UNK]] for tokens in texts
        ]
        longest = max(map(len, spelt), default=0)
        forms = {form: place for place, form in enumerate(dict.fromkeys(chain(*spelt)))}
        hashed = [tweet_tokenizer.grams(form, self.config.buckets) for form in forms]
        starts = torch.tensor([0, *map(len, hashed)]).cumsum(0)[:-1]

        def padded(rows: list[list[int]]) -> Tensor:
            return torch.tensor([row + [0] * (longest - len(row)) for row in rows])

        return Phrases(
            padded([self.words.encode(row) for row in spelt]),
            padded([[forms[form] for form in row] for row in spelt]),
            torch.tensor(list(chain(*hashed))),
            starts,
            self._rows(spelt, longest),
            torch.tensor([len(row) for row in spelt]),
        )

    def _rows(self, spelt: list[list[str]], longest: int) -> Tensor:
        rows = torch.zeros(len(spelt), longest, 2, dtype=torch.long)
        if not self.config.num_ngrams or not spelt:
            return rows
        hashed = torch.tensor(
            list(chain(*map(tweet_tokenizer.ngrams, spelt))), device=self.known.device
        )
        found = torch.searchsorted(self.known, hashed).clamp(max=len(self.known) - 1)
        lengths = torch.tensor([len(row) for row in spelt])
        inside = torch.arange(longest) < lengths.unsqueeze(1)
        rows[inside] = ((found + 1) * (self.known[found] == hashed)).cpu()
        return rows

    def embed(self, phrases: Phrases) -> Tensor:
        """Texts -> a vector a word, (B, T, D); 0 on padding. D is word_dim, and as much as all
        heads have labels."""
        spellings = self.spelling(phrases.grams, phrases.starts)
        vectors = self.embedding(phrases.ids) + embedding(phrases.forms, spellings)
        if self.wide_dim:
            vectors = torch.cat([vectors, self.wide(phrases.ngrams).sum(dim=2)], dim=2)
        known = phrases.ids != Vocab.PAD
        if self.training and self.config.word_dropout:
            known = known & (
                torch.rand(known.shape, device=known.device) >= self.config.word_dropout
            )
        return torch.as_tensor(vectors * known.unsqueeze(-1))

    def text_features(self, vectors: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Read texts.

        Args:
            vectors: (B, T, D), as `embed` returns them.
            lengths: (B,), of each text in words.

        Returns:
            What the heads are given, (B, 4 * hidden_dim + D), and the attention's weights of the
            words (B, T), which sum to 1.
        """
        width, whole = self.config.word_dim, bool((lengths == vectors.shape[1]).all())
        words = self.dropout(vectors[..., :width])
        states = self.dropout(self.lstm(words)[0] if whole else self._packed(words, lengths))
        scores = self.importance(states).squeeze(-1)
        highest = states
        if not whole:  # one text alone saves the time of this, and of the packing
            beyond = torch.arange(vectors.shape[1], device=vectors.device) >= lengths.unsqueeze(1)
            scores = scores.masked_fill(beyond, float("-inf"))
            highest = states.masked_fill(beyond.unsqueeze(-1), float("-inf"))
        weights = scores.softmax(dim=1)
        attended = torch.bmm(weights.unsqueeze(1), states).squeeze(1)
        count, total = lengths.unsqueeze(1), vectors.sum(dim=1)
        means = total[:, :width] / count, total[:, width:] / count.sqrt()
        return torch.cat([attended, highest.amax(dim=1), *means], dim=1), weights

    def _packed(self, words: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(words, lengths.cpu(), batch_first=True, enforce_sorted=False)
        states = pad_packed_sequence(self.lstm(packed)[0], True, total_length=words.shape[1])[0]
        return torch.as_tensor(states)

    def logits(self, seen: Tensor, head: str) -> Tensor:
        """What `text_features` returns first -> logits (B, labels) of a head, uncalibrated."""
        deep = seen[:, : seen.shape[1] - self.wide_dim]
        logits = torch.as_tensor(self.heads[head](self.dropout(deep)))
        if not self.wide_dim:
            return logits
        sizes = self.config.heads
        start = sum(list(sizes.values())[: list(sizes).index(head)])
        wide = seen[:, seen.shape[1] - self.wide_dim :]
        return logits + wide[:, start : start + sizes[head]]

    def forward(self, phrases: Phrases, head: str) -> tuple[Tensor, Tensor]:
        """Texts -> logits (B, labels) of a head, uncalibrated, and weights of the words (B, T)."""
        seen, weights = self.text_features(self.embed(phrases), phrases.lengths)
        return self.logits(seen, head), weights

    def probabilities(self, logits: Tensor, head: str) -> Tensor:
        """Logits (B, labels) -> calibrated probabilities, each row sums to 1."""
        return torch.as_tensor((logits / self.temperatures[head]).softmax(dim=-1))
