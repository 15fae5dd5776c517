"""The Ask tab: one conversation about pictures, and beside it the evidence for what was said."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import gradio as gr

from ui.components import widgets
from ui.components.events import MODEL, PRIVATE
from ui.components.examples import EXAMPLES
from ui.components.model_updates import Values
from ui.presenters.answers import NO_PICTURE, plain
from ui.presenters.conversation import PICTURE, Conversation, Pending, continue_conversation
from ui.sections import chat, evidence_panel, export, whatif, why
from ui.sections.chat import WHAT_IF, WHY
from ui.sections.evidence_panel import Panel
from vqa.engine import Engine
from vqa.errors import BadImage, BadText
from vqa.preprocessing import question_text

BUSY = "The last answer is still on its way: wait for it, or press Stop."
STOPPED = "Stopped."


class Asking(NamedTuple):
    """The components of the conversation."""

    picture: gr.Image
    pictures: gr.HTML
    chat: gr.Chatbot
    aid: gr.HTML
    note: gr.Markdown
    question: gr.Textbox
    ask: gr.Button
    stop: gr.Button
    save: gr.Button
    saver: gr.HTML
    path: gr.State  # of the picture that the next question is about; None for none
    talk: gr.State  # `Conversation`


class Tab(NamedTuple):
    """All of the tab."""

    asking: Asking
    panel: Panel
    why: why.Why
    whatif: whatif.WhatIf


def build(engine: Engine) -> Values:
    """Add the tab to the page under construction; returns what follows the models."""
    with gr.Row(equal_height=False, elem_id="ask"):
        with gr.Column(scale=5, min_width=340, elem_id="talk"):
            asking = _asking()
        with gr.Column(scale=7, min_width=340, elem_id="result"):
            tab = Tab(asking, evidence_panel.build(), why.build(engine), whatif.build())
    whatif.listen(engine, tab.whatif, tab.panel.asked)
    _talk_in_the_page(engine, tab)
    return lambda: why.menu(tab.why, engine.snapshot(), "")


def _asking() -> Asking:
    with gr.Row(elem_id="picture-row"):
        with gr.Column(min_width=140):
            picture = widgets.picture("The picture you ask about", "picture", 176)
        with gr.Column(min_width=190):
            pictures = widgets.examples("pictures")
    log, aid = chat.chatbot(), chat.aid()
    note = gr.Markdown(elem_id="note", latex_delimiters=[])
    with gr.Row(elem_id="question-row"):
        question = gr.Textbox(
            label="Question",
            placeholder="What is the man holding?",
            max_lines=3,
            scale=5,
            min_width=200,
            elem_id="question",
        )
        wide: dict[str, Any] = {"scale": 1, "min_width": 84}
        ask = gr.Button("Ask", variant="primary", elem_id="submit", **wide)
        stop = gr.Button("Stop", visible=False, elem_id="stop", **wide)
    save = gr.Button("Save the conversation", size="sm", interactive=False, elem_id="save")
    parts = picture, pictures, log, aid, note, question, ask, stop, save, export.saver()
    return Asking(*parts, gr.State(), gr.State(Conversation()))


def shown(tab: Tab, talk: Conversation, note: str = "") -> dict[Any, Any]:
    """New values of the conversation, not of the evidence.

    Args:
        tab: the components.
        talk: the conversation.
        note: what is to be said about it, as Markdown; empty if nothing but what it says itself.
    """
    asking, busy = tab.asking, talk.pending is not None
    return {
        asking.talk: talk,
        asking.chat: chat.messages(talk),
        asking.note: note or chat.note(talk),
        asking.ask: gr.update(visible=not busy),
        asking.stop: gr.update(visible=busy),
        asking.save: gr.update(interactive=bool(talk.turns)),
    }


def evidence_of(tab: Tab, talk: Conversation, go: str = "") -> dict[Any, Any]:
    """New values of all that shows the evidence for the chosen turn; `go` as of `chat.pointing`."""
    values = evidence_panel.values(tab.panel, talk.turn)
    asked = values[tab.panel.asked]
    pointing = {tab.asking.aid: chat.pointing(talk, go)}
    return values | pointing | why.cleared(tab.why, asked) | whatif.cleared(tab.whatif, asked)


def pend(tab: Tab, talk: Conversation, path: str | None, question: str) -> dict[Any, Any]:
    """New values: something is asked about a picture, or a note says why not."""
    if talk.pending is not None:
        return {tab.asking.note: BUSY}
    if path is None:
        return {tab.asking.note: plain(NO_PICTURE)}
    try:
        pending = Pending(path, question_text.clean_question(question))
    except BadText as error:
        return {tab.asking.note: plain(str(error))}
    return shown(tab, replace(talk, pending=pending)) | {tab.asking.question: ""}


def put(tab: Tab, path: str) -> dict[Any, Any]:
    """New values: the next question is about this picture, and the visitor sees it."""
    return {tab.asking.path: path, tab.asking.picture: path}


def again(
    tab: Tab, talk: Conversation, path: str | None, place: int, question: str | None = None
) -> dict[Any, Any]:
    """New values: a turn is made anew, with another question if one is given; later ones go."""
    turn = talk.turns[place] if 0 <= place < len(talk.turns) else None
    if talk.pending or turn is None or (turn.kind == PICTURE and question is not None):
        return shown(tab, talk, BUSY if talk.pending else "")
    try:
        asked = (
            "" if turn.kind == PICTURE else question_text.clean_question(question or turn.question)
        )
    except BadText as error:
        return shown(tab, talk, plain(str(error)))
    before = talk.until(place, Pending(turn.path, asked))
    moved = {} if path == turn.path else put(tab, turn.path)
    return shown(tab, before) | evidence_of(tab, before) | moved


def settled(tab: Tab, talk: Conversation, note: str) -> dict[Any, Any]:
    """New values: nothing is pending any more, and its question is in the box again."""
    if talk.pending is None:
        return {tab.asking.talk: talk}
    return shown(tab, replace(talk, pending=None), note) | {
        tab.asking.question: talk.pending.question
    }


def begins(tab: Tab) -> list[tuple[list[Any], Any, list[Any]]]:
    """All ways to ask: what triggers one, what it does first, and with which inputs."""
    asking = tab.asking

    def ask(talk: Conversation, path: str | None, question: str) -> dict[Any, Any]:
        return pend(tab, talk, path, question)

    def begin(talk: Conversation, path: str, question: str) -> dict[Any, Any]:
        return pend(tab, talk, path, question) | ({} if talk.pending else put(tab, path))

    def choose_picture(talk: Conversation, event: gr.SelectData) -> dict[Any, Any]:
        example = EXAMPLES[event.index]
        return begin(talk, str(example.path), example.questions[0])

    def choose_example(talk: Conversation, event: gr.SelectData) -> dict[Any, Any]:
        return begin(talk, *chat.example(event.index))

    def put_picture(talk: Conversation, path: str | None) -> dict[Any, Any]:
        begun = talk if path is None or talk.pending else replace(talk, pending=Pending(path, ""))
        return shown(tab, begun) | {asking.path: path}

    def choose_chip(talk: Conversation, event: gr.SelectData) -> dict[Any, Any]:
        if event.value not in (WHY, WHAT_IF):
            return pend(tab, talk, talk.path, event.value)
        newest = replace(talk, chosen=len(talk.turns) - 1)
        go = {WHY: "why", WHAT_IF: "whatif"}[event.value]
        return shown(tab, newest) | evidence_of(tab, newest, go)

    def retry(talk: Conversation, path: str | None) -> dict[Any, Any]:
        return again(tab, talk, path, len(talk.turns) - 1)

    def edit(talk: Conversation, path: str | None, event: gr.EditData) -> dict[Any, Any]:
        place = chat.place_of(event.index, talk)
        return again(tab, talk, path, -1 if place is None else place, str(event.value))

    talk, path = asking.talk, asking.path
    return [
        ([asking.ask.click, asking.question.submit], ask, [talk, path, asking.question]),
        ([asking.pictures.select], choose_picture, [talk]),
        ([asking.chat.example_select], choose_example, [talk]),
        ([asking.picture.input, asking.picture.clear], put_picture, [talk, asking.picture]),
        ([asking.chat.option_select], choose_chip, [talk]),
        ([asking.chat.retry], retry, [talk, path]),
        ([asking.chat.edit], edit, [talk, path]),
    ]


def _talk_in_the_page(engine: Engine, tab: Tab) -> None:
    asking, talk = tab.asking, tab.asking.talk
    parts = [*shown(tab, Conversation()), *evidence_of(tab, Conversation())]
    outputs = [asking.path, asking.question, tab.why.method, *parts]

    def answer(talk: Conversation, method: str) -> dict[Any, Any]:
        """New values: what was pending is answered. One state, for gradio sends a generator's last
        one twice, and the second could come after what the visitor did meanwhile."""
        if talk.pending is None:  # nothing was asked: a note may say why, and has to stay
            return {asking.note: gr.skip()}
        now = engine.snapshot()
        menu = why.menu(tab.why, now, method)
        try:
            newest = continue_conversation(now, talk)
        except (BadImage, BadText) as error:
            return menu | settled(tab, talk, plain(str(error)))
        return menu | shown(tab, newest) | evidence_of(tab, newest)

    explained = why.listen(engine, tab.why, tab.panel.asked)
    quick = {"queue": False, "show_progress": "hidden", **PRIVATE}
    slow = {"show_progress": "hidden", **MODEL, **PRIVATE}
    slow["trigger_mode"] = "multiple"  # the browser may not have seen yet that the last one is over
    answers = []
    for triggers, begin, inputs in begins(tab):
        # Before anything else that these do, or the answer would wait for the explanation.
        gr.on(triggers, None, cancels=explained, **PRIVATE)
        # A picture that is put there is no output, or its camera would look for an upload.
        moved = [] if begin.__name__ in ("ask", "put_picture", "choose_chip") else [asking.picture]
        begun = gr.on(triggers, begin, inputs, [*moved, *outputs], **quick)
        answers.append(begun.success(answer, [talk, tab.why.method], outputs, **slow))
    for event in answers:  # an error or a cancel is a failure
        event.failure(lambda talk: settled(tab, talk, STOPPED), talk, outputs, **quick)
    asking.stop.click(None, cancels=answers, **PRIVATE)
    _look_back(tab, explained, [asking.picture, *outputs], quick)


def _look_back(tab: Tab, explained: list[Any], outputs: list[Any], quick: dict[str, Any]) -> None:
    """What asks no model: another turn is chosen, the last or all are taken back."""
    asking, talk = tab.asking, tab.asking.talk

    def select(talk: Conversation, event: gr.SelectData) -> dict[Any, Any]:
        place = chat.place_of(event.index, talk)
        if place is None or talk.pending:  # it would take the answer back that is on its way
            return {asking.note: gr.skip()}
        chosen = replace(talk, chosen=place)
        return {asking.talk: chosen} | evidence_of(tab, chosen, "result")

    def undo(talk: Conversation, path: str | None) -> dict[Any, Any]:
        if talk.pending or not talk.turns:
            return shown(tab, talk, BUSY if talk.pending else "")
        last, before = talk.turns[-1], talk.until(len(talk.turns) - 1)
        asked = "" if last.kind == PICTURE else last.question
        moved = put(tab, before.path) if before.path and before.path != path else {}
        return shown(tab, before) | evidence_of(tab, before) | moved | {asking.question: asked}

    def clear(talk: Conversation) -> dict[Any, Any]:
        if talk.pending:
            return shown(tab, talk, BUSY)
        return shown(tab, Conversation()) | evidence_of(tab, Conversation())

    def open_link(talk: Conversation, event: gr.SelectData) -> dict[Any, Any]:
        path, asked, note = export.opened(event.value)
        brought = put(tab, path) if path else {}
        return brought | shown(tab, talk, plain(note)) | {asking.question: asked}

    for trigger, act, inputs in (
        (asking.chat.select, select, [talk]),
        (asking.chat.undo, undo, [talk, asking.path]),
        (asking.chat.clear, clear, [talk]),
    ):
        gr.on([trigger], None, cancels=explained, **PRIVATE)
        gr.on([trigger], act, inputs, outputs, **quick)
    asking.aid.select(open_link, talk, outputs, **quick)
    asking.save.click(export.saved, talk, asking.saver, **quick)
