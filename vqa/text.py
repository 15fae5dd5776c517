"""Questions cleaned and cut into tokens, a vocabulary, and answers in the form VQA compares.

The answer normalisation follows the official evaluation of Antol et al., "VQA: Visual Question
Answering" (ICCV 2015), in the version that came with VQA v2.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import ClassVar

MAX_CHARACTERS = 1000

# Joiners shape Persian and Hindi letters and hold family emoji together: the one invisible kind
# worth showing again. Tokens lose them too.
_JOINERS = "\N{ZERO WIDTH NON-JOINER}\N{ZERO WIDTH JOINER}"
_INVISIBLE = {"Cc", "Cf", "Cs"}  # control, format (zero width, direction overrides), half a pair
_APOSTROPHES = str.maketrans(dict.fromkeys("\u2018\u2019\u02bc\uff07`", "'"))
_TOKEN = re.compile(r"\d+(?:[.,]\d+)+|[^\W_]+|'(?:s|t|re|ve|ll|d|m)\b")


class BadText(ValueError):
    """A question that cannot be asked; the message says why and what to do."""


class BadVocab(ValueError):
    """A vocabulary that cannot be used; the message names what is wrong with it."""


def check(text: str | None) -> str:
    """Return a question fit to be asked and shown.

    Markup and links are text like any other; whoever shows them must not render them.

    Args:
        text: what somebody typed; None if nothing was asked at all.

    Returns:
        One line without control or zero-width characters, which gives at least one token.

    Raises:
        BadText: if nothing is left, or it is longer than `MAX_CHARACTERS`.
    """
    text = (text or "").strip()
    if len(text) > MAX_CHARACTERS:
        raise BadText(
            f"The question has {len(text):,} characters and the limit is {MAX_CHARACTERS:,}: "
            "ask a shorter one."
        )
    shown = (c for c in text if c in _JOINERS or c.isspace() or not _is_invisible(c))
    line = " ".join("".join(shown).split())
    if not tokenize(line):
        raise BadText('The question is empty: type one, such as "What is the man holding?".')
    return line


def _is_invisible(character: str) -> bool:
    return unicodedata.category(character) in _INVISIBLE


def tokenize(text: str) -> list[str]:
    """Split a question into lower-case words and numbers, without accents or punctuation.

    Clitics stand alone: "What's that?" gives `what`, `'s`, `that`.

    Args:
        text: a question, as `check` returns it or raw.

    Returns:
        The tokens in order. A text without any word is its own token, so that only a blank text
        gives none.
    """
    plain = _fold(text)
    return _TOKEN.findall(plain) or plain.split()


def stem(word: str) -> str:
    """A word without the s of a plural: `dogs` and `dog` are one, and so are `tennis` and `tenni`.

    It is for comparing, not for showing.
    """
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


def _fold(text: str) -> str:
    """Lower case without accents, marks or invisible characters; curly apostrophes straight."""
    letters = unicodedata.normalize("NFKD", text.translate(_APOSTROPHES)).lower()
    kept = (c for c in letters if c.isspace() or unicodedata.category(c)[0] not in "CM")
    return unicodedata.normalize("NFC", "".join(kept))


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


_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_COMMA_IN_NUMBER = re.compile(r"\d,\d")
_PERIOD = re.compile(r"\.(?!\d)")
_ARTICLES = {"a", "an", "the"}
_COUNTS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_NUMBERS = {"none": "0"} | {word: str(number) for number, word in enumerate(_COUNTS)}

# The official table lists each contraction with one of its apostrophes forgotten ("dont",
# "couldn'tve", "couldnt've"). These are its endings, and the words it has them for.
_ENDINGS = {
    "n't": "ai are ca could did does do had has have is might must need ought sha should was were "
    "wo would",
    "n't've": "could had might should would",
    "'ve": "could might must not should they we what where who would you",
    "'d": "he how it someone something there they where who you",
    "'d've": "he it she somebody someone something there they we who you",
    "'s": "he how somebody someone that there what when where who why",
    "'ll": "how it somebody someone something they what who why you",
    "'re": "there they what why you",
    "": "'ow's'at 'twas ma'am o'clock y'all y'all'll y'all'd've",
}
_CONTRACTIONS = {
    form[: mark.start()] + form[mark.end() :]: form
    for ending, stems in _ENDINGS.items()
    for form in (stem + ending for stem in stems.split())
    for mark in re.finditer("'", form)
}
_CONTRACTIONS["somebody'd"] = "somebodyd"  # the one entry that goes the other way


def normalize_answer(text: str) -> str:
    """Bring an answer into the form in which the official VQA evaluation compares answers.

    Args:
        text: an answer, by a person or a model.

    Returns:
        Lower-case words and digits without articles; it may be empty.
    """
    line = text.replace("\n", " ").replace("\t", " ").strip()
    words = _strip_punctuation(line).lower().split()
    numbered = (_NUMBERS.get(word, word) for word in words)
    return " ".join(_CONTRACTIONS.get(word, word) for word in numbered if word not in _ARTICLES)


def _strip_punctuation(text: str) -> str:
    """Delete marks beside a space, and all marks of a text with a 1,000; others become a space."""
    delete_all = _COMMA_IN_NUMBER.search(text) is not None
    stripped = text
    for mark in _PUNCTUATION:
        beside_space = f"{mark} " in text or f" {mark}" in text
        stripped = stripped.replace(mark, "" if delete_all or beside_space else " ")
    # The official script hands over a flag where a count belongs: later periods stay.
    return _PERIOD.sub("", stripped, count=int(re.UNICODE))
