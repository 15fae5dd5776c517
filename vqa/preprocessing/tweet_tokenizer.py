"""Informal text cut into tokens: tweets, chats, questions, with emoji, hashtags and names.

A token keeps its place in the text, so that a page can shade the words as they were written. Each
spelling is hashed into character n-grams besides (Bojanowski et al., "Enriching Word Vectors with
Subword Information", 2017), so that a word nobody has seen still looks like its relatives.
"""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

MAX_CHARACTERS = 10_000
GRAMS = (3, 4)  # shortest and longest character n-gram
LONGEST_WORD = 40  # characters of a spelling that count: "aaaa..." is no news after that

_PICTOGRAPHS = "\u2190-\u2bff\u3030\u303d\u3297\u3299\U0001f000-\U0001faff"
_TOKEN = re.compile(
    r"(?P<link>(?:https?://|www\.)\S+)"
    r"|(?P<user>@\w+)"
    r"|(?P<word>\#?[^\W_](?:\w|['\u2019](?=\w))*)"
    r"|(?P<emoticon>[:;=8xX][-o*'^]?[)(\[\]DPp/\\|3]+|<3+)"
    r"|(?P<flag>[\U0001f1e6-\U0001f1ff]{2})"
    rf"|(?P<emoji>[{_PICTOGRAPHS}]\ufe0f?[\U0001f3fb-\U0001f3ff]?"
    rf"(?:\u200d[{_PICTOGRAPHS}]\ufe0f?[\U0001f3fb-\U0001f3ff]?)*)"
    r"|(?P<marks>(?P<mark>[^\w\s])(?P=mark)*)"
)
_LONG = re.compile(r"(.)\1{2,}")
_INVISIBLE = {"Cc", "Cf", "Cs", "Mn", "Me"}


class Token(NamedTuple):
    """A word, an emoji, a name, a link or a run of one mark, and where it stands in its text."""

    start: int
    end: int
    spelling: str  # as the model knows it


def tokenize(text: str) -> list[Token]:
    """Cut a text into tokens.

    Spellings are in lower case, with runs of three letters or more cut to two ("sooo" is "soo"),
    names of users as "@user" and links as "http". What cannot be seen alone is no token: in the
    TweetEval emoji data a lone variation selector is left of an emoji that was taken out, and would
    tell the label.

    Args:
        text: anything; an empty text has no tokens.
    """
    tokens = []
    for found in _TOKEN.finditer(text):
        kind, written = str(found.lastgroup), found[0]
        if kind == "marks" and unicodedata.category(written[0]) in _INVISIBLE:
            continue
        tokens.append(Token(found.start(), found.end(), _spelling(kind, written)))
    return tokens


def _spelling(kind: str, written: str) -> str:
    match kind:
        case "link":
            return "http"
        case "user":
            return "@user"
        case "emoji":  # with or without the selector, and in any tone of skin, it is the same one
            return re.sub("[\ufe0f\U0001f3fb-\U0001f3ff]", "", written)
        case "word":
            folded = unicodedata.normalize("NFKC", written.replace("\u2019", "'")).lower()
            return _LONG.sub(r"\1\1", folded)
    return _LONG.sub(r"\1\1", written)


@lru_cache(maxsize=100_000)
def grams(spelling: str, buckets: int) -> tuple[int, ...]:
    """The character n-grams of a spelling and of its two ends, hashed.

    Args:
        spelling: of a token.
        buckets: how many numbers there are.

    Returns:
        At least one number below `buckets`, the same on every machine.
    """
    framed = f"<{spelling[:LONGEST_WORD]}>"
    shortest, longest = GRAMS
    return tuple(
        _hashed(framed[start : start + size]) % buckets
        for size in range(shortest, longest + 1)
        for start in range(max(1, len(framed) - size + 1))
    )


def ngrams(spellings: Sequence[str]) -> list[tuple[int, int]]:
    """Each spelling of a text hashed, and each with the one before it; the same on every machine.

    Args:
        spellings: of the text's tokens, in order.

    Returns:
        Two numbers of 32 bits a token.
    """
    befores = ["", *spellings]
    return [
        (_hashed(word), _hashed(f"{before} {word}"))
        for before, word in zip(befores, spellings, strict=False)
    ]


def _hashed(text: str) -> int:
    return zlib.crc32(text.encode("utf-8", "surrogatepass"))
