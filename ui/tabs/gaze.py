"""The Gaze tab: where people would look, against where the model looked for a question."""

from __future__ import annotations

from typing import Any, NamedTuple

import gradio as gr

from ui.components import maps, widgets
from ui.components.events import MODEL, PRIVATE
from ui.components.examples import EXAMPLES
from ui.presenters.answers import NO_PICTURE, picture_of, plain
from ui.presenters.gaze import compared, figure
from vqa.engine import Engine
from vqa.errors import BadImage, BadText

NO_GAZE = "The model that answers now has no gaze model: the one before had one of its own."


class Tab(NamedTuple):
    """The components that change with a picture or a question."""

    note: gr.Markdown
    empty: gr.Markdown
    people: gr.HTML
    model: gr.HTML
    line: gr.Markdown
    tools: gr.HTML


def build(engine: Engine) -> None:
    """Add the tab to the page under construction."""
    with gr.Row(equal_height=False, elem_id="gaze"):
        with gr.Column(scale=4, min_width=320):
            picture = widgets.picture("The picture that people would look at", "gaze-picture")
            pictures = widgets.examples("gaze-pictures")
            with gr.Row(elem_id="gaze-question-row"):
                question = gr.Textbox(
                    label="Question (may stay empty)",
                    placeholder="What is the man holding?",
                    max_lines=3,
                    scale=5,
                    min_width=200,
                    elem_id="gaze-question",
                )
                button = gr.Button(
                    "Look", variant="primary", scale=1, min_width=84, elem_id="gaze-submit"
                )
            note = gr.Markdown(elem_id="gaze-note", latex_delimiters=[])
        with gr.Column(scale=7, min_width=340, elem_id="gaze-result"):
            empty = gr.Markdown(
                "**Choose a picture**\n\nWhere people would look comes here. Ask a question too, "
                "and you see beside it where the model looked for that.",
                elem_id="gaze-empty",
            )
            with gr.Row(elem_id="gaze-maps"):
                with gr.Column(min_width=260):
                    people = maps.figure()
                with gr.Column(min_width=260):
                    model = maps.figure()
            line = gr.Markdown(elem_id="gaze-line", latex_delimiters=[])
            tools = maps.tools("gaze-tools", "the answer")
    tab = Tab(note, empty, people, model, line, tools)
    _look_in_the_page(engine, tab, picture, pictures, question, button)


def _look_in_the_page(engine: Engine, tab: Tab, *asking: Any) -> None:
    picture, pictures, question, button = asking

    def look(path: str | None, text: str) -> dict[Any, Any]:
        """New values for a picture and a question, or in words why there are none."""
        now = engine.snapshot()
        if now.gaze_pipeline is None:
            return cleared(tab, NO_GAZE)
        try:
            return shown(now, tab, path, text) if path else cleared(tab, NO_PICTURE)
        except (BadImage, BadText) as error:
            return cleared(tab, str(error))

    def choose(event: gr.SelectData) -> dict[Any, Any]:
        """New values once an example is chosen: its gaze map, beside the answer to its first
        question.
        """
        example = EXAMPLES[event.index]
        path, first = str(example.path), example.questions[0]
        return {picture: path, question: first} | look(path, first)

    def put(path: str | None) -> dict[Any, Any]:
        """New values once a visitor has put a picture there: its gaze map, without a question
        yet.
        """
        return {question: ""} | (look(path, "") if path else cleared(tab))

    waits = {"show_progress": "minimal", "show_progress_on": tab.people, **MODEL, **PRIVATE}
    gr.on([button.click, question.submit], look, [picture, question], list(tab), **waits)
    pictures.select(choose, None, [picture, question, *tab], **waits)
    gr.on([picture.upload, picture.clear], put, picture, [question, *tab], **waits)


def cleared(tab: Tab, note: str = "") -> dict[Any, Any]:
    """New values: no maps, and perhaps a note why."""
    gone = {tab.people: None, tab.model: None, tab.line: "", tab.tools: None}
    return gone | {tab.note: plain(note), tab.empty: gr.Markdown(visible=True)}


def shown(engine: Engine, tab: Tab, path: str, question: str) -> dict[Any, Any]:
    """New values: people's map, and with a question the model's beside it.

    Raises:
        BadImage: if the picture cannot be read.
        BadText: if the question cannot be asked.
    """
    asked = question.strip()
    found = engine.answer(path, question) if asked else None
    people, picture = engine.gaze(path), picture_of(path)
    return {
        tab.note: "",
        tab.empty: gr.Markdown(visible=False),
        tab.people: figure(picture, people, "Where people would look"),
        tab.model: found and figure(picture, found.attention, "Where the model looked"),
        tab.line: (found and compared(people, found)) or "",
        tab.tools: {"plain": True, "signed": False, "note": ""},
    }
