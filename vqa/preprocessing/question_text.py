"""Questions cleaned and cut into tokens, a vocabulary, and answers in the form VQA compares.

The answer normalisation follows the official evaluation of Antol et al., "VQA: Visual Question
Answering" (ICCV 2015), in the version that came with VQA v2.
"""

from __future__ import annotations

import re
import unicodedata

from vqa.errors import BadText

MAX_CHARACTERS = 1000

# Joiners shape Persian and Hindi letters and hold family emoji together: the one invisible kind
# worth showing again. Tokens lose them too.
_JOINERS = "\N{ZERO WIDTH NON-JOINER}\N{ZERO WIDTH JOINER}"
_INVISIBLE = {"Cc", "Cf", "Cs"}  # control, format (zero width, direction overrides), half a pair
_APOSTROPHES = str.maketrans(dict.fromkeys("\u2018\u2019\u02bc\uff07`", "'"))
_TOKEN = re.compile(r"\d+(?:[.,]\d+)+|[^\W_]+|'(?:s|t|re|ve|ll|d|m)\b")


def clean_question(text: str | None) -> str:
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
        text: a question, as `clean_question` returns it or raw.

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
