"""An answer as values of the page's components, and every problem as words."""

from __future__ import annotations

import re
import weakref
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from ui.components.examples import data_uri
from vqa.engine import Engine
from vqa.models import Answer
from vqa.pipelines.answering import AnswerPipeline
from vqa.preprocessing.images import load

REPLACED = "Another model was loaded since: ask again."
NO_PICTURE = "There is no picture yet: choose one of the examples, or add your own."
_PICTURE_SIDE = 960  # pixels of the longer side, as shown
DARKEST = 0.6  # shade of a word
_LIKELY = 0.3  # of a text without a feeling, the likeliest emoji is about 0.2 likely
_FITS = 1.0  # standard deviations of how well a word fits pictures
_MINDED = 0.1  # a gaze trust this near 0 changes the attention by less than people would notice
HEAT_SIDE = 192  # the browser enlarges the map to the picture
_SHOWN = 24  # pictures kept as shown, a few hundred kB each: people ask more than one question


class Asked(NamedTuple):
    """What was asked, and answered how."""

    path: str  # of the picture
    question: str
    top: tuple[tuple[str, float], ...]  # the likeliest answers, best first
    by: weakref.ref[AnswerPipeline]  # by whom; it goes when another takes its place


class Shown(NamedTuple):
    """A picture as the page shows it."""

    uri: str
    size: tuple[int, int]  # pixels: width, height


def reaction(engine: Engine, text: str) -> str:
    """The emoji that a text is answered with, in words; empty if none is likely, or no model."""
    found = engine.emoji(text) if engine.emoji_pipeline else None
    return f"Feels like {found.emoji}" if found and found.probability >= _LIKELY else ""


def picture_of(path: str, side: int = _PICTURE_SIDE) -> Shown:
    """A picture for the page, its longer side at most so many pixels.

    Raises:
        BadImage: if it cannot be read, or is gone.
    """
    return _shown(path, _version(path), side)


def _version(path: str) -> tuple[int, int] | None:
    """Another when the file was replaced; None if it is gone, which `load` says in words."""
    try:
        status = Path(path).stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


@lru_cache(maxsize=_SHOWN)
def _shown(path: str, version: tuple[int, int] | None, side: int) -> Shown:
    # The version only tells files of one name apart.
    return shrink(load(path, min_side=side // 2), side)


def shrink(picture: Image.Image, side: int = _PICTURE_SIDE) -> Shown:
    """Encode a picture for the page, no larger than it is shown."""
    small = picture.copy()
    small.thumbnail((side, side))
    return Shown(data_uri(small, "JPEG", quality=85), small.size)


def scaled(size: tuple[int, int], side: int) -> tuple[int, int]:
    """A picture's size with its longer side made so long, in pixels."""
    scale = side / max(size)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def trusts(trust: float | None) -> str:
    """How far a question has the model follow people's gaze, in words; empty without gaze."""
    if trust is None:
        return ""
    follows = "hardly minds where people would look"
    if abs(trust) >= _MINDED:
        follows = f"looks {'where' if trust > 0 else 'away from where'} people would look"
    return f"Gaze trust {trust:.2f}: for this question the model {follows}."


def fits(found: Answer) -> str:
    """Which words of the question fit the picture better or worse than others; empty if none."""
    by_word = dict(found.word_fits)
    better = ", ".join(f'"{word}"' for word, fit in by_word.items() if fit >= _FITS)
    worse = ", ".join(f'"{word}"' for word, fit in by_word.items() if fit <= -_FITS)
    if better and worse:
        return f"This picture fits {better} better than most do, and {worse} worse."
    how = "better" if better else "worse"
    return f"This picture fits {better or worse} {how} than most do." if better or worse else ""


def shades(found: Answer) -> list[tuple[str, float]]:
    """The question's words, shaded by weight: the heaviest most, and still readable."""
    heaviest = max((weight for _, weight in found.word_weights), default=0) or 1
    return [(word, DARKEST * weight / heaviest) for word, weight in found.word_weights]


def unknown_words(found: Answer) -> str:
    """Say which words of the question the model had to ignore; empty if it knew all."""
    if not found.unknown:
        return ""
    quoted = ", ".join(f'"{word}"' for word in found.unknown)
    said = f"I do not know the word{'s' * (len(found.unknown) > 1)} {quoted}."
    if len(found.unknown) == len({word for word, _ in found.word_weights}):
        said += " Without a word that I know, the answer is a guess."
    return said


def plain(text: str) -> str:
    """Text as Markdown that shows exactly that text: every mark that could mean more is escaped."""
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", text)
