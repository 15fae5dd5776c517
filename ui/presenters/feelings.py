"""The work behind the Feelings tab: how a text feels, and why, as what the page shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from saliency.tokens import TOKEN_METHODS, TokenExplanation
from ui.components.examples import data_uri
from ui.presenters.answers import plain
from ui.presenters.explanations import percent
from vqa.checkpoints import read_metrics
from vqa.emoji_labels import emoji_of
from vqa.engine import Engine
from vqa.errors import BadCheckpoint
from vqa.metrics import confusion_plot
from vqa.models import Feeling
from vqa.pipelines.nearest_texts import Neighbours
from vqa.tasks import EMOJI

HEADS = {  # name -> as the page calls it
    "emoji": "20 emoji",
    "emotion": "4 emotions",
    "goemotions": "28 feelings",
    "emojify": "5 little emoji",
}
_DARKEST = 0.6  # shade of a word
_NEGLIGIBLE = 0.05  # of the strongest push: less is none
_MOST_DRAWN = 100  # labels of a picture of confusions
_MAX_NEIGHBOUR_CHARACTERS = 140  # characters of a neighbour that are shown


def labelled(name: str) -> str:
    """A label as the page shows it: its emoji, and the word if it is one."""
    emoji = emoji_of(name)
    return name if emoji == name else f"{emoji} {name}"


def bars(found: Feeling) -> dict[str, float]:
    """A value of `gr.Label`: the likeliest labels and their probabilities."""
    return {labelled(name): p for name, p in found.top}


def shades(
    text: str, found: Feeling, why: TokenExplanation
) -> list[tuple[str, str | float | None]]:
    """A value of `gr.HighlightedText`: the text, its words shaded by push, for above 0."""
    strongest = float(np.abs(why.pushes).max()) or 1.0
    shown: list[tuple[str, str | float | None]] = []
    place = 0
    for (word, _), push in zip(found.word_weights, why.pushes, strict=True):
        start = text.index(word, place)
        if between := text[place:start].strip():
            shown.append((between, None))
        shown.append((word, _DARKEST * float(push) / strongest))
        place = start + len(word)
    return shown


def summary_sentence(found: Feeling, why: TokenExplanation, label: str) -> str:
    """Which words speak for a label and which against it, as Markdown."""
    order = np.argsort(-why.pushes)
    strongest = float(np.abs(why.pushes).max()) or 1.0
    words = [word for word, _ in found.word_weights]
    most, least = int(order[0]), int(order[-1])
    parts = []
    if why.pushes[most] > _NEGLIGIBLE * strongest:
        parts.append(f"**{plain(words[most])}** speaks most for it")
    if why.pushes[least] < -_NEGLIGIBLE * strongest:
        parts.append(f"**{plain(words[least])}** most against it")
    method = TOKEN_METHODS[why.method][1]
    line = f"{plain(labelled(label))}: {', '.join(parts) or 'no word counts'} ({method})."
    if (error := why.details.get("completeness_error")) is not None:
        line += f" The pushes add up to the rise of its score, but for {error:.1%} of it."
    return line


def near(neighbours: Neighbours, text: str) -> str:
    """The sentences read most alike, as a Markdown list."""
    lines = [
        f"- {plain(each.emoji)} {plain(_short(each.text))} *({percent(each.likeness)} alike)*"
        for each in neighbours.nearest(text)
    ]
    return "\n".join(lines)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return (
        line
        if len(line) <= _MAX_NEIGHBOUR_CHARACTERS
        else line[:_MAX_NEIGHBOUR_CHARACTERS].rstrip() + " ..."
    )


def confusions(engine: Engine, head: str) -> tuple[dict[str, str] | None, str]:
    """What was measured of a head: its confusions as a picture, and the worst in words.

    Args:
        engine: with a model of feelings.
        head: one of the model's.

    Returns:
        A value of `widgets.drawn`, None if nothing was measured; and Markdown.
    """
    (part,) = (part for part in engine.parts if part.task is EMOJI)
    try:
        entry = read_metrics(part.folder)[head] if part.folder else {}
        matrix, labels = entry["confusion"], entry["labels"]
        if len(labels) > _MOST_DRAWN:
            raise ValueError("too many labels")
        picture = confusion_plot.draw(matrix, labels)
        return {"uri": data_uri(picture, "PNG")}, _worst(entry, matrix, labels)
    except (BadCheckpoint, LookupError, TypeError, ValueError):  # the file may be anybody's
        return None, "Nothing was measured of these labels."


def _worst(entry: Mapping[str, Any], matrix: list[list[int]], labels: list[str]) -> str:
    worst = ", ".join(
        f"{plain(labelled(right))} as {plain(labelled(given))} ({percent(share)})"
        for right, given, share in confusion_plot.most(matrix, labels)
    )
    f1, top5 = (entry["metrics"][key] for key in ("macro_f1", "top5"))
    return (
        f"On {entry['metrics']['n']:,} sentences of the {plain(entry['split'])} split: macro-F1 "
        f"{f1:.1f}, a right label among the best five for {top5:.0f}%. Taken wrongly most often: "
        f"{worst}."
    )
