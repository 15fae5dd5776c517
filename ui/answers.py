"""An answer as values of the page's components, and every problem as words."""

from __future__ import annotations

import re
import weakref
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr
from PIL import Image

from saliency import overlay
from ui.examples import data_uri
from vqa.engine import Engine
from vqa.images import BadImage, load
from vqa.models import Answer
from vqa.responder import Responder
from vqa.text import BadText

REPLACED = "Another model was loaded since: ask again."
NO_PICTURE = "There is no picture yet: choose one of the examples, or add your own."
_PICTURE_SIDE = 960  # pixels of the longer side, as shown
_DARKEST = 0.6  # shade of a word
_MINDED = 0.1  # a gaze trust this near 0 changes the attention by less than people would notice
HEAT_SIDE = 192  # the browser enlarges the map to the picture
_SHOWN = 16  # pictures kept as shown, a few hundred kB each: people ask more than one question


class Asked(NamedTuple):
    """What was asked, and answered how."""

    path: str  # of the picture
    question: str
    top: tuple[tuple[str, float], ...]  # the likeliest answers, best first
    by: weakref.ref[Responder]  # by whom; it goes when another takes its place


class Result(NamedTuple):
    """The components, or their new values, that together show one answer."""

    note: Any
    words: Any
    reaction: Any  # the emoji that the question is answered with
    answer: Any
    view: Any
    guesses: Any
    asked: Any  # `Asked`, remembered on the server; None if there is no answer


class Shown(NamedTuple):
    """A picture as the page shows it."""

    uri: str
    size: tuple[int, int]  # pixels: width, height


def answer(engine: Engine, path: str | None, question: str) -> Result:
    """Answer in the page, or say in words why not.

    Args:
        engine: the loaded model.
        path: the picture's file, None if there is none yet.
        question: as typed.

    Returns:
        New values of the components. A problem is a note, and takes the last answer away.
    """
    if path is None:
        return nothing(NO_PICTURE)
    try:
        found = engine.answer(path, question)
        picture = picture_of(path)
    except (BadImage, BadText) as error:
        return nothing(str(error))
    return Result(
        plain(unknown_words(found)),
        gr.HighlightedText(shades(found), visible=bool(found.word_weights)),
        reaction(engine, question),
        gr.Label(found.text, visible=True),
        layers(picture, found),
        gr.Label(dict(found.top), visible=True),
        Asked(path, question, found.top, weakref.ref(engine.responder)),
    )


def nothing(note: str = "") -> Result:
    """No answer, and perhaps a note why."""
    hidden = gr.Label(None, visible=False)
    words = gr.HighlightedText(None, visible=False)
    return Result(plain(note), words, "", hidden, None, hidden, None)


def reaction(engine: Engine, text: str) -> str:
    """The emoji that a text is answered with, as Markdown; empty without a model of feelings."""
    return f"Feels like {plain(engine.feel(text).emoji)}" if engine.feeler else ""


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


def layers(picture: Shown, found: Answer) -> dict[str, str]:
    """The value of `maps.view`: picture and map as data URIs, and the map in words."""
    heat = overlay.heat(found.attention, scaled(picture.size, HEAT_SIDE))
    return {
        "picture": picture.uri,
        "alt": "The picture",
        "heat": data_uri(heat, "PNG", compress_level=1),
        "words": f"Where the model looked: {overlay.describe(found.attention)}.",
        "trust": trusts(found.gaze_trust),
    }


def trusts(trust: float | None) -> str:
    """How far a question has the model follow people's gaze, in words; empty without gaze."""
    if trust is None:
        return ""
    follows = "hardly minds where people would look"
    if abs(trust) >= _MINDED:
        follows = f"looks {'where' if trust > 0 else 'away from where'} people would look"
    return f"Gaze trust {trust:.2f}: for this question the model {follows}."


def shades(found: Answer) -> list[tuple[str, float]]:
    """The question's words, shaded by weight: the heaviest most, and still readable."""
    heaviest = max((weight for _, weight in found.word_weights), default=0) or 1
    return [(word, _DARKEST * weight / heaviest) for word, weight in found.word_weights]


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
