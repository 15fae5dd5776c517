"""A vocabulary: the words that a model knows, each with its index."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import ClassVar

from vqa.errors import BadVocab


@dataclass(frozen=True)
class Vocab:
    """The words a model knows, each by its place.

    Attributes:
        words: `<pad>`, `<unk>`, then the words, none twice.

    Raises:
        BadVocab: if the words are not that.
    """

    words: tuple[str, ...]

    PAD: ClassVar[int] = 0
    UNK: ClassVar[int] = 1
    SPECIAL: ClassVar[tuple[str, str]] = ("<pad>", "<unk>")

    def __post_init__(self) -> None:
        for word in self.words:
            if not isinstance(word, str):
                raise BadVocab(f"A vocabulary holds words only, and this is none: {word!r}.")
        for place, special in enumerate(self.SPECIAL):
            if self.words[place : place + 1] != (special,):
                raise BadVocab(f"A vocabulary has {special} at place {place}; this one has not.")
        if len(self.index) != len(self.words):
            word, count = Counter(self.words).most_common(1)[0]
            raise BadVocab(f"A vocabulary has each word once; this one has {word!r} {count} times.")

    @cached_property
    def index(self) -> dict[str, int]:
        """The place of each word."""
        return {word: place for place, word in enumerate(self.words)}

    @classmethod
    def build(cls, token_lists: Iterable[Sequence[str]], min_count: int = 1) -> Vocab:
        """Collect the words of many texts, the most frequent first and equals by alphabet.

        Args:
            token_lists: the tokens of each text.
            min_count: leave out words seen less often than this.

        Returns:
            The vocabulary, the same whatever the order of the texts.
        """
        counts = Counter(chain.from_iterable(token_lists))
        ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        kept = (word for word, n in ranked if n >= min_count and word not in cls.SPECIAL)
        return cls((*cls.SPECIAL, *kept))

    def encode(self, tokens: Sequence[str]) -> list[int]:
        """Give the place of each token, `UNK` for those not known."""
        return [self.index.get(token, self.UNK) for token in tokens]

    def __len__(self) -> int:
        return len(self.words)

    def __contains__(self, word: object) -> bool:
        return word in self.index
