"""The evidence beside a conversation: what speaks for the chosen turn."""

from __future__ import annotations

from typing import Any, NamedTuple

import gradio as gr

from saliency import overlay
from ui.components import maps
from ui.components.examples import data_uri
from ui.presenters.answers import HEAT_SIDE, picture_of, plain, scaled
from ui.presenters.conversation import PICTURE, Evidence, Turn
from ui.sections import export
from vqa.errors import BadImage

LOOKS = "The picture, without a map: the first answer brings one."


class Panel(NamedTuple):
    """The components."""

    heading: gr.Markdown
    view: gr.HTML
    top: gr.Label
    words: gr.HighlightedText
    line: gr.Markdown
    keep: gr.HTML
    asked: gr.State  # `Asked`, which the sections below go by; None if there is nothing to explain


def build() -> Panel:
    """Add the panel to the page under construction."""
    return Panel(
        heading=gr.Markdown(elem_id="answer", latex_delimiters=[]),
        view=maps.view(),
        top=gr.Label(show_heading=False, visible=False, elem_id="guesses"),
        words=gr.HighlightedText(label="Words that counted", visible=False, elem_id="words"),
        line=gr.Markdown(elem_id="gaze-against", latex_delimiters=[]),
        keep=export.keeping(),
        asked=gr.State(),
    )


def values(panel: Panel, turn: Turn | None) -> dict[Any, Any]:
    """New values of the components for a turn; None for none."""
    grounds = turn.grounds if turn else None
    view = layers(turn) if turn else None
    return {
        panel.heading: heading(turn) if turn else "",
        panel.view: view,
        panel.top: _guesses(grounds),
        panel.words: gr.update(
            value=list(grounds.shades) if grounds else None,
            visible=bool(grounds and grounds.shades),
        ),
        panel.line: grounds.line if grounds else "",
        panel.keep: export.kept(turn),
        panel.asked: grounds.asked if grounds and view else None,
    }


def _guesses(grounds: Evidence | None) -> Any:
    if not (grounds and grounds.top):
        return gr.update(value=None, visible=False)
    return gr.update(value=dict(grounds.top), label=grounds.heading, visible=True)


def heading(turn: Turn) -> str:
    """What the panel is about, as Markdown."""
    if turn.kind == PICTURE:
        return f"## {plain(turn.question)}"
    sure = f" · {plain(turn.sure)}" if turn.sure else ""
    return f"## {plain(turn.said)}\n{plain(turn.question)}{sure}"


def layers(turn: Turn) -> dict[str, str] | None:
    """The value of `maps.view`: picture and map as data URIs, and the map in words.

    None if the picture is gone.
    """
    try:
        picture = picture_of(turn.path)
    except BadImage:
        return None
    value = {"picture": picture.uri, "alt": "The picture", "heat": "", "words": LOOKS, "trust": ""}
    if turn.grounds is None:
        return value
    heat = overlay.heat(turn.grounds.map, scaled(picture.size, HEAT_SIDE))
    return value | {
        "heat": data_uri(heat, "PNG", compress_level=1),
        "words": turn.grounds.words,
        "trust": turn.grounds.trust,
    }
