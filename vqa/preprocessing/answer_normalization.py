"""Answers in the form that the official VQA evaluation compares.

The normalisation follows the official evaluation script of Antol et al., "VQA: Visual Question
Answering" (ICCV 2015), in the version that came with VQA v2.
"""

from __future__ import annotations

import re

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
