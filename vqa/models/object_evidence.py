"""What an object head found of the things that a question names, as evidence for its answer.

It takes part in four ways, each weighed by the question: attention is drawn to where the named
things are; how surely they are there joins the attended picture, and moves "yes" and "no"; and
their number moves the answers that are numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from vqa.models.object_words import word_index
from vqa.models.question_encoder import EncodedQuestions
from vqa.preprocessing.vocabulary import Vocab

FLOOR = 0.05  # added to the number of objects in a cell before its logarithm: none is ruled out
MAX_LOGIT = 4.0  # how surely a thing is there or not, at most
MAX_NUMBER = 20  # higher numbers are never counted
FARTHEST = -8.0  # log-likelihood of a number, at least, beside the likeliest


class Evidence(NamedTuple):
    """What is known of the named things, one row a question."""

    prior: Tensor  # (Q, N), added to the scores of the attention
    presence: Tensor  # (Q, T), by how much a named thing's log-odds exceed the threshold; else 0
    features: Tensor  # (Q, fused_dim), joins the attended picture
    logits: Tensor  # (Q, A), added to those of the answers


class ObjectEvidence(nn.Module):
    """Numbers of objects in cells -> what they say to questions.

    Args:
        words: the question vocabulary.
        names: of the K classes of objects.
        answers: in the order of the logits.
        hidden_dim: of a question's vector.
        fused_dim: where question and attended picture meet.
    """

    of_word: Tensor
    of_pair: Tensor
    numbers: Tensor
    sides: Tensor
    how_many: Tensor

    def __init__(
        self,
        words: Vocab,
        names: Sequence[str],
        answers: Sequence[str],
        hidden_dim: int,
        fused_dim: int,
    ) -> None:
        super().__init__()
        self.attend = nn.Linear(hidden_dim, 1)
        self.fuse = nn.Linear(hidden_dim, fused_dim, bias=False)
        self.confirm = nn.Linear(hidden_dim, 1)
        self.count = nn.Linear(hidden_dim, 1)
        for gate, start in ((self.attend, 0.3), (self.confirm, 0.0), (self.count, 0.5)):
            nn.init.zeros_(gate.weight)
            nn.init.constant_(gate.bias, start)
        # Deviation of a count from the truth, and how it grows with the count; then what it adds
        # that as many objects are above the threshold.
        self.spread = nn.Parameter(torch.tensor([0.5, 0.3, 0.5]))
        singles, pairs = _numbered(words, names)
        self._keep("of_word", torch.tensor(singles))
        self._keep("of_pair", torch.tensor(pairs).view(-1, 3))
        found = [int(a) if a.isdecimal() and int(a) <= MAX_NUMBER else -1 for a in answers]
        self._keep("numbers", torch.tensor(found))
        sides = {"yes": 1.0, "no": -1.0}
        self._keep("sides", torch.tensor([sides.get(answer, 0.0) for answer in answers]))
        self._keep("how_many", torch.tensor([words.index.get(w, -1) for w in ("how", "many")]))

    def _keep(self, name: str, values: Tensor) -> None:
        self.register_buffer(name, values, persistent=False)

    def named(self, ids: Tensor) -> Tensor:
        """Word numbers (Q, T) -> the class of objects that each word names, -1 for none.

        A name of two words counts at its second.
        """
        classes = torch.as_tensor(self.of_word[ids])
        for first, second, label in self.of_pair.tolist():
            both = (ids[:, :-1] == first) & (ids[:, 1:] == second)
            classes[:, 1:] = torch.where(both, label, classes[:, 1:])
            classes[:, :-1] = torch.where(both, -1, classes[:, :-1])
        return classes

    def counted(self, ids: Tensor) -> Tensor:
        """The class (Q,) whose objects a question counts: the first that is named after "how many";
        -1 where it counts none."""
        classes = self.named(ids)
        first = (classes >= 0).float().argmax(dim=1, keepdim=True)
        label = classes.gather(1, first).squeeze(1)
        begins = torch.eq(ids[:, :2], self.how_many[: ids.shape[1]]).all(dim=1)
        return torch.where(begins & (ids.shape[1] > 2), label, -1)

    def forward(
        self, counts: Tensor, thresholds: Tensor, read: EncodedQuestions, owner: Tensor
    ) -> Evidence:
        """Look up what questions name.

        Args:
            counts: (B, N, 2 K), as `ObjectHead.per_cell` returns them.
            thresholds: (K,), the scores in 0..1 from which on an object counts.
            read: Q questions.
            owner: (Q,) int64, which picture each question is about.
        """
        expected, above = counts.float().chunk(2, dim=-1)  # (B, N, K) each
        classes = self.named(read.ids)
        is_named, labels = classes >= 0, classes.clamp(min=0)  # (Q, T)
        here = expected[owner.unsqueeze(1), :, labels]  # (Q, T, N)
        here = here * is_named.unsqueeze(-1)
        prior = torch.log(here.amax(dim=1) + FLOOR) - torch.log(here.new_tensor(FLOOR))
        share = here.amax(dim=2).clamp(0.01, 0.99)
        presence = torch.logit(share) - torch.logit(thresholds)[labels]
        presence = torch.where(is_named, presence.clamp(-MAX_LOGIT, MAX_LOGIT), 0.0)
        weighed = (presence.unsqueeze(-1) * read.words).sum(dim=1)
        logits = self._confirmed(presence, is_named, read)
        logits = logits + self._counts(expected, above, read, owner)
        return Evidence(self.attend(read.vector) * prior, presence, self.fuse(weighed), logits)

    def _confirmed(self, presence: Tensor, is_named: Tensor, read: EncodedQuestions) -> Tensor:
        """What moves "yes" and "no", (Q, A): the named thing that is there least surely."""
        least = presence.masked_fill(~is_named, MAX_LOGIT).amin(dim=1)
        least = torch.where(is_named.any(dim=1), least, 0.0)
        return torch.as_tensor(self.confirm(read.vector) * least.unsqueeze(-1) * self.sides)

    def _counts(
        self, expected: Tensor, above: Tensor, read: EncodedQuestions, owner: Tensor
    ) -> Tensor:
        """What moves the numbers, (Q, A): 0 for the likeliest, less for all others."""
        label = self.counted(read.ids)
        soft, hard = (part.sum(dim=1)[owner, label.clamp(min=0)] for part in (expected, above))
        constant, slope, bonus = self.spread
        deviation = constant.abs() + slope.abs() * soft + 0.1  # (Q,)
        distance = (self.numbers - soft.unsqueeze(-1)) / deviation.unsqueeze(-1)  # (Q, A)
        fits = bonus * (self.numbers == hard.unsqueeze(-1)) - distance.square() / 2
        is_number = self.numbers >= 0
        fits = fits - fits.masked_fill(~is_number, FARTHEST).amax(dim=1, keepdim=True)
        gain = self.count(read.vector)
        moved = gain * fits.clamp(min=FARTHEST)
        return torch.where(is_number & (label >= 0).unsqueeze(-1), moved, 0.0)


def _numbered(words: Vocab, names: Sequence[str]) -> tuple[list[int], list[list[int]]]:
    """The class that each word of the vocabulary names, -1 for none; and the names of two words,
    as the numbers of both and of the class."""
    index = word_index(names)
    singles = [index.get((word,), -1) for word in words.words]
    pairs = [
        [*words.encode(list(name)), label]
        for name, label in index.items()
        if len(name) == 2 and all(word in words for word in name)
    ]
    return singles, pairs
