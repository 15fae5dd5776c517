"""The Ask tab: a picture, a question, the answer, where the model looked, and why."""

from __future__ import annotations

from typing import Any, NamedTuple

import gradio as gr

from ui import maps, whatif, why, widgets
from ui.answers import Result, answer, nothing
from ui.examples import ANY_PICTURE, EXAMPLES
from ui.follow import Values
from ui.guards import MODEL, PRIVATE
from ui.widgets import texts
from vqa.engine import Engine


class Asking(NamedTuple):
    """The components to ask with."""

    picture: gr.Image
    pictures: gr.HTML
    question: gr.Textbox
    button: gr.Button
    questions: gr.HTML


def build(engine: Engine) -> Values:
    """Add the tab to the page under construction; returns what follows the models."""
    with gr.Row(equal_height=False, elem_id="ask"):
        with gr.Column(scale=5, min_width=340):
            asking = _asking()
            note = gr.Markdown(elem_id="note", latex_delimiters=[])
            words = gr.HighlightedText(label="Words that counted", visible=False, elem_id="words")
            reaction = widgets.reaction("reaction")
        with gr.Column(scale=6, min_width=340, elem_id="result"):
            result = Result(
                note=note,
                words=words,
                reaction=reaction,
                answer=gr.Label(label="Answer", visible=False, elem_id="answer"),
                view=maps.view(),
                guesses=gr.Label(
                    label="Five best guesses", show_heading=False, visible=False, elem_id="guesses"
                ),
                asked=gr.State(),
            )
    reasons, hiding = why.build(engine), whatif.build()
    whatif.listen(engine, hiding, result.asked)
    _answer_in_the_page(engine, asking, result, reasons, hiding)
    return lambda: why.menu(reasons, engine.now(), "")


def _asking() -> Asking:
    picture = widgets.picture("The picture you ask about", "picture")
    pictures = widgets.examples("pictures")
    with gr.Row(elem_id="question-row"):
        question = gr.Textbox(
            label="Question",
            placeholder="What is the man holding?",
            max_lines=3,
            scale=5,
            min_width=200,
            elem_id="question",
        )
        button = gr.Button("Ask", variant="primary", scale=1, min_width=84, elem_id="submit")
    questions = widgets.choices("Example questions", texts(ANY_PICTURE), "questions")
    return Asking(picture, pictures, question, button, questions)


def _answer_in_the_page(
    engine: Engine, asking: Asking, result: Result, reasons: why.Why, hiding: whatif.WhatIf
) -> None:
    picture, pictures, question, button, questions = asking
    empty = why.cleared(reasons, None) | whatif.cleared(hiding, None)
    shown = [*result, *empty, reasons.method]

    def show(found: Result) -> dict[Any, Any]:
        values = dict(zip(result, found, strict=True))
        asked = found.asked
        return values | why.cleared(reasons, asked) | whatif.cleared(hiding, asked)

    def ask(path: str | None, text: str, method: str) -> dict[Any, Any]:
        now = engine.now()
        return show(answer(now, path, text)) | why.menu(reasons, now, method)

    def choose_picture(method: str, event: gr.SelectData) -> dict[Any, Any]:
        example = EXAMPLES[event.index]
        path, first = str(example.path), example.questions[0]
        chosen = {picture: path, question: first, questions: texts(example.questions)}
        return chosen | ask(path, first, method)

    def choose_question(path: str | None, method: str, event: gr.SelectData) -> dict[Any, Any]:
        return {question: event.value} | ask(path, event.value, method)

    def replace_picture() -> dict[Any, Any]:
        return {questions: texts(ANY_PICTURE)} | show(nothing())

    explained = why.listen(engine, reasons, result.asked)
    asks, chooses = [button.click, question.submit], [pictures.select, questions.select]
    replaces = [picture.input, picture.clear]
    # Before anything else that these do, or the answer would wait for the explanation.
    gr.on([*asks, *chooses, *replaces], None, cancels=explained, **PRIVATE)

    waiting = {"show_progress": "minimal", "show_progress_on": result.view, **MODEL, **PRIVATE}
    method = reasons.method
    asked = gr.on(asks, ask, [picture, question, method], shown, **waiting)
    other_picture = pictures.select(
        choose_picture, method, [picture, question, questions, *shown], **waiting
    )
    other_question = questions.select(
        choose_question, [picture, method], [question, *shown], **waiting
    )
    gr.on(
        replaces,
        replace_picture,
        None,
        [questions, *shown],
        cancels=[asked, other_picture, other_question],
        queue=False,
        show_progress="hidden",
        **PRIVATE,
    )
