"""Describe a picture word by word: one LSTM, or two in both directions of time, over a CNN's grid.

Show and Tell (Vinyals et al. 2015) without attention, soft attention in the spirit of Show, Attend
and Tell (Xu et al. 2015), and adaptive attention (Lu et al., "Knowing When to Look", 2017), whose
sentinel lets a word be said without looking. As there, attention follows the LSTM's state and does
not feed back into it: so all words of a caption are trained in one call. Both attentions compare
by a product. The two directions are scored together as in Wang et al. 2016.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqa.errors import BadText
from vqa.models.decoding import State
from vqa.models.encoder import Encoder, EncoderConfig, Grid
from vqa.models.recurrent import LSTM
from vqa.preprocessing.ptb_tokenizer import ptb_tokenize
from vqa.preprocessing.question_text import MAX_CHARACTERS
from vqa.preprocessing.vocabulary import Vocab

END = "<end>"  # begins and ends every caption, in both directions
ATTENTION = ("none", "soft", "adaptive")
DECODERS = ("lstm", "bilstm")
UNSURE = "I am not sure what this shows: "  # begins what is told to people, where `Caption.unsure`


@dataclass(frozen=True)
class CaptionerConfig:
    """Everything that rebuilds a captioner without its weights."""

    encoder: EncoderConfig
    num_words: int  # padding, unknown and end included
    attention: str = "adaptive"  # none | soft | adaptive
    decoder: str = "lstm"  # lstm | bilstm: forward and backward in time
    word_dim: int = 384  # word embedding
    hidden_dim: int = 512  # LSTM state
    backward_dim: int = 0  # that of the LSTM backward in time; 0: the same
    attention_dim: int = 512  # where state and grid cell meet
    tied: bool = True  # words are read and said with the same embedding
    dropout: float = 0.5  # on cells, words, states and what the words are read from
    max_words: int = 20  # of a caption
    length_power: float = 1.0  # captions are ranked by log p / length ** length_power
    unsure_below: float = 0.0  # mean probability of its words under which a caption is doubtful

    def __post_init__(self) -> None:
        for name, value, known in (
            ("attention", self.attention, ATTENTION),
            ("decoder", self.decoder, DECODERS),
        ):
            if value not in known:
                raise ValueError(f"{name} is {value!r}; it can be {', '.join(known)}")


@dataclass(frozen=True)
class Caption:
    """What the model says about one picture, and on what grounds."""

    text: str
    words: tuple[str, ...]
    word_probs: tuple[float, ...]  # of each word given those before it (and after, if two LSTMs)
    attention: np.ndarray | None  # (T, h, w) float32: a word's sums to how much it looked, 0..1
    log_prob: float  # natural, over the words and the end (unless cut at max_words before it)
    alternatives: tuple[tuple[str, float], ...] = ()  # all found, this one first, with log_prob
    unsure: bool = False  # its words are so improbable that most such captions were wrong

    @property
    def statement(self) -> str:
        """The caption as it is told to people: with a warning before it where it is doubtful."""
        return f"{UNSURE}{self.text}" if self.unsure else self.text


class ProjectedImage(NamedTuple):
    """Pictures as the decoders see them."""

    cells: Tensor  # (B, N, d)
    summary: Tensor  # (B, d)


class CaptionerOutput(NamedTuple):
    """One row a caption, one entry a word and one for the end."""

    logits: Tensor  # (R, T, V)
    attention: Tensor | None  # (R, T, N), each sums to at most 1


class Decoder(nn.Module):
    """One LSTM over the words, in one direction of time, that looks at the grid."""

    def __init__(self, config: CaptionerConfig, hidden_dim: int) -> None:
        super().__init__()
        self.config = config
        d, h = config.attention_dim, hidden_dim
        self.lstm = LSTM(config.word_dim + d, h, batch_first=True)
        self.first = nn.Linear(d, 2 * h)  # the state before the first word
        attends = config.attention != "none"
        self.query = nn.Linear(h, d) if attends else None
        self.sentinel = nn.Linear(h, d) if config.attention == "adaptive" else None
        self.merge = nn.Linear(h + d if attends else h, config.word_dim)
        self.dropout = nn.Dropout(config.dropout)
        self.rectify = nn.ReLU()

    def start(self, summary: Tensor) -> State:
        """Summaries (B, d) -> hidden and cell state before the first word, (B, H) each."""
        hidden, cell = torch.tanh(self.first(summary)).chunk(2, dim=-1)
        return hidden, cell

    def forward(
        self, words: Tensor, image: ProjectedImage, owner: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Read whole captions at once.

        Args:
            words: embedded, (R, T, word_dim).
            image: the pictures.
            owner: (R,) int64, which picture each caption is about.

        Returns:
            What each next word is read from (R, T, word_dim), and the attention (R, T, N).
        """
        summary = image.summary[owner]
        hidden, cell = (part.unsqueeze(0).contiguous() for part in self.start(summary))
        inputs = torch.cat([words, summary.unsqueeze(1).expand(-1, words.shape[1], -1)], dim=2)
        states, _ = self.lstm(inputs, (hidden, cell))
        return self.attend(self.dropout(states), image.cells[owner])

    def attend(self, states: Tensor, cells: Tensor) -> tuple[Tensor, Tensor | None]:
        """States (R, T, H) that look at cells (R, N, d): what the words are read from, where."""
        if self.query is None:
            return torch.tanh(self.merge(states)), None
        query = self.query(states) / self.config.attention_dim**0.5  # (R, T, d)
        scores = query @ cells.transpose(1, 2)  # (R, T, N)
        if self.sentinel is None:
            attention = scores.softmax(dim=-1)
            seen = attention @ cells
        else:
            known = self.rectify(self.sentinel(states))  # what needs no image, (R, T, d)
            blind = (query * known).sum(-1, keepdim=True)
            shares = torch.cat([scores, blind], dim=-1).softmax(dim=-1)
            attention = shares[..., :-1]
            seen = attention @ cells + shares[..., -1:] * known
        return torch.tanh(self.merge(torch.cat([states, seen], dim=-1))), attention


class Captioner(nn.Module):
    """Describes pictures; see `CaptionerConfig`."""

    Config = CaptionerConfig
    model_type = "captioner"

    def __init__(self, config: CaptionerConfig, words: Vocab) -> None:
        super().__init__()
        if len(words) != config.num_words:
            raise ValueError(
                f"the vocabulary has {len(words)} words, the config says {config.num_words}"
            )
        if END not in words:
            raise ValueError(f"the vocabulary has no {END}")
        self.config, self.words, self.end = config, words, words.index[END]
        self.encoder = Encoder(config.encoder)
        d = config.attention_dim
        self.see_cells = nn.Linear(self.encoder.channels, d)
        self.see_all = nn.Linear(self.encoder.channels, d)
        self.embedding = nn.Embedding(config.num_words, config.word_dim)
        nn.init.normal_(self.embedding.weight, std=config.word_dim**-0.5)
        sizes = [config.hidden_dim]
        if config.decoder == "bilstm":
            sizes.append(config.backward_dim or config.hidden_dim)
        self.decoders = nn.ModuleList(Decoder(config, size) for size in sizes)
        self.say = nn.Linear(config.word_dim, config.num_words)
        if config.tied:
            del self.say.weight
        self.dropout = nn.Dropout(config.dropout)
        self.rectify = nn.ReLU()

    @classmethod
    def from_parts(cls, config: dict[str, Any], vocab: dict[str, list[str]]) -> Captioner:
        """Build from the plain contents of config.json and vocab.json."""
        encoder = EncoderConfig.from_plain(config["encoder"])
        return cls(CaptionerConfig(**{**config, "encoder": encoder}), Vocab(tuple(vocab["words"])))

    def vocabulary(self) -> dict[str, list[str]]:
        """The contents of vocab.json."""
        return {"words": list(self.words.words)}

    def start_ids(self, text: str) -> list[int]:
        """Word numbers of what a caption begins with; none for an empty text.

        Raises:
            BadText: if it leaves no room for more words, or has one that the model does not know.
        """
        if len(text) > MAX_CHARACTERS:
            raise BadText(f"The start has {len(text):,} characters: the limit is {MAX_CHARACTERS}.")
        tokens = ptb_tokenize(text)
        if len(tokens) >= self.config.max_words:
            raise BadText(
                f"The start has {len(tokens)} words, and a caption at most "
                f"{self.config.max_words}: give it a shorter one."
            )
        return self.ids(tokens)

    def ids(self, tokens: Sequence[str]) -> list[int]:
        """Word numbers of tokens.

        Raises:
            BadText: naming those that the model does not know.
        """
        special = {*Vocab.SPECIAL, END}
        unknown = sorted({t for t in tokens if t in special or t not in self.words})
        if unknown:
            raise BadText(f"The captioner does not know {', '.join(unknown)}: use other words.")
        return self.words.encode(tokens)

    def encode(self, pixels: Tensor) -> Grid:
        """Pixels (B, 3, S, S) in [0, 1] -> cells (B, N, C), each of length `CELL_LENGTH`."""
        grid: Grid = self.encoder(pixels)
        return grid.normalised(self.encoder.widths)

    def project_image(self, cells: Tensor) -> ProjectedImage:
        """Cells (B, N, C), as `encode` returns them -> what the decoders see."""
        seen = self.dropout(self.rectify(self.see_cells(cells)))
        return ProjectedImage(seen, self.dropout(self.rectify(self.see_all(cells.mean(dim=1)))))

    def forward(
        self, image: ProjectedImage, ids: Tensor, owner: Tensor, direction: int = 0
    ) -> CaptionerOutput:
        """Score every word of given captions, all at once.

        Args:
            image: the pictures.
            ids: (R, T) int64, captions without the end, padded on the right with `Vocab.PAD`; for
                direction 1, reversed.
            owner: (R,) int64, which picture each caption is about.
            direction: 0 forward in time, 1 backward.

        Returns:
            Logits (R, T + 1, V), of the words and the end, and the attention (R, T + 1, N).
        """
        hidden_states, attention = self.hidden_states(image, ids, owner, direction)
        return CaptionerOutput(self.logits(hidden_states), attention)

    def hidden_states(
        self, image: ProjectedImage, ids: Tensor, owner: Tensor, direction: int = 0
    ) -> tuple[Tensor, Tensor | None]:
        """Run the decoder up to the logits: what each word is predicted from (R, T + 1,
        word_dim), and attention.
        """
        begun = torch.cat([torch.full_like(ids[:, :1], self.end), ids], dim=1)
        hidden_states, attention = self.decoders[direction](self.embed(begun), image, owner)
        return self.dropout(hidden_states), attention

    def embed(self, ids: Tensor) -> Tensor:
        """Word numbers (...) -> (..., word_dim)."""
        scaled = self.embedding(ids) * self.config.word_dim**0.5
        return torch.as_tensor(self.dropout(scaled))

    def logits(self, hidden_states: Tensor) -> Tensor:
        """What a word is read from (..., word_dim) -> (..., V)."""
        weight = self.embedding.weight if self.config.tied else self.say.weight
        return F.linear(hidden_states, weight, self.say.bias)

    def special_token_mask(self) -> Tensor:
        """What to add to logits so that padding and unknown are never said, (V,)."""
        added = torch.zeros(self.config.num_words, device=self.say.bias.device)
        added[[Vocab.PAD, Vocab.UNK]] = -torch.inf
        return added

    def stepper(self, image: ProjectedImage, direction: int = 0) -> LstmStepper:
        """For `vqa.models.decoding`."""
        return LstmStepper(self, image, direction)


def mirror(lengths: Tensor, size: int) -> Tensor:
    """Places (R, size) that turn rows of these lengths (R,) around; padding stays where it is."""
    places = torch.arange(size, device=lengths.device)
    ends = lengths.unsqueeze(1)
    return torch.where(places < ends, ends - 1 - places, places)


def reverse(ids: Tensor) -> Tensor:
    """Captions (R, T), padded on the right, from their last word to their first."""
    return ids.gather(1, mirror((ids != Vocab.PAD).sum(1), ids.shape[1]))


class LstmStepper:
    """A captioner's LSTM word by word: `nn.LSTM` called for single steps is eight times slower."""

    def __init__(self, model: Captioner, image: ProjectedImage, direction: int) -> None:
        self.model, self.image = model, image
        self.decoder = cast(Decoder, model.decoders[direction])
        w_input, w_state, *biases = self.decoder.lstm.all_weights[0]
        split = model.config.word_dim
        self.from_word, self.from_state = w_input[:, :split].t(), w_state.t()
        # What the picture gives to the gates is the same at every step.
        self.from_picture = F.linear(image.summary, w_input[:, split:], biases[0] + biases[1])
        self.special_token_mask = model.special_token_mask()

    def start(self, width: int) -> State:
        """Hidden and cell, (B, width, H) each."""
        hidden, cell = self.decoder.start(self.image.summary)
        return hidden.unsqueeze(1).expand(-1, width, -1), cell.unsqueeze(1).expand(-1, width, -1)

    def step(self, words: Tensor, state: State) -> tuple[Tensor, State]:
        """Words (B, K) -> logits (B, K, V) of the next, and the state after them."""
        hidden, cell = state
        gates = self.from_picture.unsqueeze(1) + self.model.embed(words) @ self.from_word
        enter, forget, content, leave = (gates + hidden @ self.from_state).chunk(4, dim=-1)
        cell = forget.sigmoid() * cell + enter.sigmoid() * content.tanh()
        hidden = leave.sigmoid() * cell.tanh()
        merged, _ = self.decoder.attend(hidden, self.image.cells)
        return self.model.logits(merged) + self.special_token_mask, (hidden, cell)
