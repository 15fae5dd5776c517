"""Which classes of objects the words of a question name."""

from __future__ import annotations

from collections.abc import Sequence

from vqa.preprocessing.question_text import tokenize

ALSO = {  # other words for a class, beside its name and plural
    "person": "people persons human humans man men woman women boy boys girl girls child children "
    "kid kids guy guys lady ladies player players skier skiers surfer surfers rider riders",
    "bicycle": "bike bikes",
    "motorcycle": "motorbike motorbikes",
    "airplane": "plane planes aeroplane aeroplanes jet jets",
    "couch": "sofa sofas",
    "tv": "television televisions",
    "cell phone": "phone phones cellphone cellphones",
    "donut": "doughnut doughnuts",
    "refrigerator": "fridge fridges",
    "potted plant": "plant plants",
    "dining table": "table tables",
    "traffic light": "stoplight stoplights",
    "sports ball": "ball balls",
    "hot dog": "hotdog hotdogs",
    "sheep": "lamb lambs",
    "cow": "cattle",
    "knife": "knives",
    "mouse": "mice",
    "wine glass": "wineglass wineglasses",
    "teddy bear": "teddy teddies",
}


def word_index(names: Sequence[str]) -> dict[tuple[str, ...], int]:
    """Words that stand for a class -> its index, the classes' order as given."""
    index: dict[tuple[str, ...], int] = {}
    for label, name in enumerate(names):
        *first, last = name.split()
        plurals = (last, f"{last}s", f"{last}es", f"{last[:-1]}ies" if last.endswith("y") else last)
        for form in plurals:
            words = (*first, form)
            index[words] = label
        for word in ALSO.get(name, "").split():
            index[(word,)] = label
    return index


def named(question: str, index: dict[tuple[str, ...], int]) -> list[int]:
    """The classes that a question names, in its order; the longest match counts.

    Args:
        question: as typed: "how many hot dogs are there?".
        index: as of `word_index`.
    """
    tokens, found, start = tokenize(question), [], 0
    while start < len(tokens):
        for length in (2, 1):
            words = tuple(tokens[start : start + length])
            if len(words) == length and words in index:
                found.append(index[words])
                start += length - 1
                break
        start += 1
    return found


def counted(question: str, index: dict[tuple[str, ...], int]) -> int | None:
    """The class whose objects a question counts: "how many <name> ..."; None if it counts none."""
    tokens = tokenize(question)
    if tokens[:2] != ["how", "many"]:
        return None
    for length in (2, 1):
        words = tuple(tokens[2 : 2 + length])
        if len(words) == length and words in index:
            return index[words]
    return None
