"""The Ask tab: a picture, a question, the answer, and where the model looked."""

from __future__ import annotations

from typing import Any, NamedTuple

import gradio as gr

from ui.answers import NO_PICTURE, Result, answer, as_data, nothing
from ui.examples import ANY_PICTURE, EXAMPLES
from ui.guards import as_uploaded
from ui.widgets import choices, map_view, texts
from vqa.engine import Engine
from vqa.images import BadImage
from vqa.text import BadText

# All calls of the model wait in one queue, and the page fetches nothing but through these.
_MODEL: dict[str, Any] = {"concurrency_id": "model"}
_PRIVATE: dict[str, Any] = {"api_visibility": "private"}


class Asking(NamedTuple):
    """The components to ask with."""

    picture: gr.Image
    pictures: gr.HTML
    question: gr.Textbox
    button: gr.Button
    questions: gr.HTML


def build(engine: Engine) -> None:
    """Add the tab to the page under construction."""
    with gr.Row(equal_height=False, elem_id="ask"):
        with gr.Column(scale=5, min_width=340):
            asking = _asking()
            note = gr.Markdown(elem_id="note", latex_delimiters=[])
            words = gr.HighlightedText(label="Words that counted", visible=False, elem_id="words")
        with gr.Column(scale=6, min_width=340, elem_id="result"):
            result = Result(
                note=note,
                words=words,
                answer=gr.Label(label="Answer", visible=False, elem_id="answer"),
                view=map_view(),
                guesses=gr.Label(
                    label="Five best guesses", show_heading=False, visible=False, elem_id="guesses"
                ),
            )
    _answer_in_the_page(engine, asking, result)
    _answer_programs(engine, asking)


def _asking() -> Asking:
    picture = gr.Image(
        type="filepath",
        image_mode=None,
        format="jpeg",
        sources=["upload", "clipboard", "webcam"],
        label="Picture",
        placeholder="Drop a picture here\nor click to choose one",
        height=330,
        buttons=[],
        elem_id="picture",
        alt_text="The picture you ask about",
    )
    thumbnails = [{"text": x.label, "thumbnail": x.thumbnail()} for x in EXAMPLES]
    pictures = choices("Example pictures", thumbnails, "pictures")
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
    questions = choices("Example questions", texts(ANY_PICTURE), "questions")
    return Asking(as_uploaded(picture), pictures, question, button, questions)


def _answer_in_the_page(engine: Engine, asking: Asking, result: Result) -> None:
    picture, pictures, question, button, questions = asking

    def ask(path: str | None, text: str) -> Result:
        return answer(engine, path, text)

    def choose_picture(event: gr.SelectData) -> tuple[Any, ...]:
        example = EXAMPLES[event.index]
        path, first = str(example.path), example.questions[0]
        return path, first, texts(example.questions), *ask(path, first)

    def choose_question(path: str | None, event: gr.SelectData) -> tuple[Any, ...]:
        return event.value, *ask(path, event.value)

    def replace_picture() -> tuple[Any, ...]:
        return texts(ANY_PICTURE), *nothing()

    waiting = {"show_progress": "minimal", "show_progress_on": result.view, **_MODEL, **_PRIVATE}
    asked = gr.on([button.click, question.submit], ask, [picture, question], [*result], **waiting)
    other_picture = pictures.select(
        choose_picture, None, [picture, question, questions, *result], **waiting
    )
    other_question = questions.select(choose_question, picture, [question, *result], **waiting)
    gr.on(
        [picture.input, picture.clear],
        replace_picture,
        None,
        [questions, *result],
        cancels=[asked, other_picture, other_question],
        queue=False,
        show_progress="hidden",
        **_PRIVATE,
    )


def _answer_programs(engine: Engine, asking: Asking) -> None:
    """The one public endpoint, /answer."""

    def respond(path: str | None, question: str) -> dict[str, Any]:
        """Answer a question about a picture, and say where the model looked."""
        if path is None:
            raise gr.Error(NO_PICTURE, print_exception=False)
        try:
            return as_data(engine.answer(path, question))
        except (BadImage, BadText) as error:
            raise gr.Error(str(error), print_exception=False) from error

    inputs, output = [asking.picture, asking.question], gr.JSON(visible=False)
    gr.on([], respond, inputs, output, api_name="answer", **_MODEL)
