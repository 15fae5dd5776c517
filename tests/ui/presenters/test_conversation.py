"""A conversation without a browser: its turns, as messages, as evidence, and to take along."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import re
from dataclasses import replace
from urllib.parse import parse_qsl

import gradio as gr
import numpy as np
import pytest
from helpers.emoji_data import FACES, tiny_emoji
from helpers.tiny import tiny_answerer, tiny_captioner, tiny_gaze
from PIL import Image

from ui.components import examples
from ui.presenters import answers, conversation
from ui.presenters.conversation import MAX_TURNS, PICTURE, Conversation, Pending
from ui.presenters.router import ANSWERER, CAPTIONER, FEELINGS, GAZE
from ui.sections import chat, evidence_panel, export, whatif, why
from ui.tabs import ask
from vqa.engine import Engine
from vqa.errors import BadImage
from vqa.preprocessing import images, question_text

CAT, COFFEE = (str(example.path) for example in examples.EXAMPLES[:2])
MARKUP = "<img src=zqx onerror=alert(1)> [zqx](javascript:alert(1)) $$zqx$$ ```zqx``` &lt; ${zqx}"


@pytest.fixture(scope="module")
def engine():
    """One of each model, untrained."""
    return Engine(tiny_answerer(), {"captioner": tiny_captioner()}, tiny_gaze(), tiny_emoji())


@pytest.fixture(scope="module")
def alone():
    """A model that answers, and none else."""
    return Engine(tiny_answerer())


@pytest.fixture(scope="module")
def tab(engine):
    async def build():  # without a running event loop, gradio makes some and leaves them open
        with gr.Blocks():
            parts = ask._asking(), evidence_panel.build(), why.build(engine), whatif.build()
            return ask.Tab(*parts)

    return asyncio.run(build())


def asked(engine, path, *questions, talk=None):
    """The talk after some questions."""
    talk = talk or Conversation()
    for question in questions:
        talk = conversation.continue_conversation(
            engine, replace(talk, pending=Pending(path, question))
        )
    return talk


def kinds(talk):
    return [turn.kind for turn in talk.turns]


def decode(uri):
    return base64.b64decode(uri.partition(",")[2])


def test_a_new_picture_is_a_turn_before_its_answer(engine):
    talk = asked(engine, CAT, "is it a square?")
    assert kinds(talk) == [PICTURE, ANSWERER]
    assert talk.pending is None
    assert talk.turn.question == "is it a square?"
    assert conversation.continue_conversation(engine, talk) is talk


def test_a_second_question_is_about_the_same_picture_and_another_picture_is_labelled(engine):
    talk = asked(engine, CAT, "is it a square?", "what color is it?")
    assert kinds(talk) == [PICTURE, ANSWERER, ANSWERER]
    talk = asked(engine, COFFEE, "is it a square?", talk=talk)
    assert kinds(talk) == [PICTURE, ANSWERER, ANSWERER, PICTURE, ANSWERER]
    labels = [
        message["content"][-1] for message in chat.messages(talk) if message["role"] == "user"
    ]
    assert labels[0] == "Cat"
    assert labels[3] == "New picture: Coffee"


@pytest.mark.parametrize(
    ("question", "kind", "title"),
    [
        ("what color is it?", ANSWERER, "Where the model looked"),
        ("Describe it", CAPTIONER, "Where the captioner looked"),
        ("Where would people look?", GAZE, "Where people would look"),
        ("How does it feel?", FEELINGS, "Where the captioner looked"),
    ],
)
def test_every_model_answers_with_a_map_and_says_which_rule_chose_it(engine, question, kind, title):
    turn = asked(engine, CAT, question).turn
    assert turn.kind == kind
    assert turn.said
    assert turn.alt.startswith(title)
    assert evidence_panel.layers(turn)["words"] == turn.alt
    assert Image.open(io.BytesIO(decode(turn.thumb))).size == (240, 160)
    assert any("because" in note for note in turn.notes) == (kind != ANSWERER)
    assert (turn.grounds.asked is not None) == (kind == ANSWERER)
    assert bool(turn.grounds.line) == (kind == ANSWERER)
    assert turn.reaction.removeprefix("Feels like ") in FACES


def test_what_is_not_loaded_is_named_and_the_answerer_asked(alone):
    talk = asked(alone, CAT, "Where would people look?")
    assert talk.turn.kind == ANSWERER
    assert "the gaze model is not loaded" in talk.turn.notes[-1]
    assert talk.turn.grounds.line == ""
    assert talk.turn.reaction == ""


def test_a_picture_of_ones_own_is_described_and_invites_questions(engine, alone, tmp_path):
    path = str(tmp_path / "mine.png")
    Image.new("RGB", (60, 40), "red").save(path)
    talk = asked(engine, path, "")
    assert kinds(talk) == [PICTURE]
    assert talk.turns[0].question == "My picture"
    assert talk.turns[0].said.startswith("I see ")
    assert "Where would people look?" in talk.open
    assert asked(alone, path, "").open == examples.ANY_PICTURE[1:]


def test_the_chips_are_what_nobody_asked_yet(engine):
    talk = asked(engine, CAT, "what animal is this?")
    chips = chat.messages(talk)[-1]["options"]
    assert [chip["value"] for chip in chips[:2]] == [chat.WHY, chat.WHAT_IF]
    assert "What animal is this?" not in chat.chips_of(talk)
    talk = asked(engine, CAT, chips[2]["value"], talk=talk)
    assert chips[2]["value"] not in chat.chips_of(talk)
    assert chat.messages(talk)[1]["options"] == []


def test_at_most_so_many_turns_are_kept_and_it_is_said(engine):
    talk = asked(engine, CAT, "what color is it?")
    assert chat.note(talk) == ""
    for _ in range(MAX_TURNS):
        talk = talk.add(talk.turns[-1])
    assert len(talk.turns) == MAX_TURNS
    assert talk.turn is talk.turns[-1]
    assert chat.note(talk) == "Only the last 30 turns are kept."
    weight = sum(len(turn.thumb) + turn.grounds.map.nbytes for turn in talk.turns)
    assert weight < MAX_TURNS * 40_000


def test_nothing_that_a_visitor_or_a_model_said_is_markup():
    engine = Engine(tiny_answerer(), {"captioner": tiny_captioner()}, tiny_gaze())
    engine.answerer.answers = tuple(f"{MARKUP} {place}" for place in range(8))
    talk = asked(engine, CAT, MARKUP)
    pieces = [each for message in chat.messages(talk) for each in message["content"]]
    assert sum("zqx" in str(piece) for piece in pieces) == 3  # question, answer, unknown words
    for piece in pieces:
        if isinstance(piece, dict):
            assert not re.search(r"zqx|\$|alert", json.dumps(piece).replace("${value}", ""))
        else:
            assert not re.search(r"<[a-z/!]|&[a-z#]", piece)
    heading = evidence_panel.heading(talk.turn)
    assert not re.search(r"(?<!\\)[<\[`$&]", heading)


@pytest.mark.parametrize("question", [MARKUP, "a < b & c", "what color is it?"])
def test_an_edited_message_comes_back_as_it_was_typed(question):
    assert question_text.clean_question(
        chat.safe(question_text.clean_question(question))
    ) == question_text.clean_question(question)


def test_an_edit_takes_the_later_turns_with_it(engine, tab):
    talk = asked(engine, CAT, "is it a square?", "what color is it?")
    talk = asked(engine, COFFEE, "is it a square?", talk=talk)
    values = ask.again(tab, talk, COFFEE, 1, "how many shapes are there?")
    before = values[tab.asking.talk]
    assert kinds(before) == [PICTURE]
    assert before.pending == Pending(CAT, "how many shapes are there?")
    assert values[tab.asking.picture] == values[tab.asking.path] == CAT
    after = conversation.continue_conversation(engine, before)
    assert [turn.question for turn in after.turns] == ["Cat", "how many shapes are there?"]
    assert chat.WHY in chat.chips_of(after)


@pytest.mark.parametrize(("place", "edited"), [(0, "another name"), (1, "  "), (7, "what is it?")])
def test_what_cannot_be_edited_stays_as_it_is(engine, tab, place, edited):
    talk = asked(engine, CAT, "is it a square?")
    values = ask.again(tab, talk, CAT, place, edited)
    assert values[tab.asking.talk] is talk
    assert ("question is empty" in values[tab.asking.note]) == (edited == "  ")


def test_what_is_being_asked_is_shown_with_room_for_its_answer():
    shown = chat.messages(Conversation(pending=Pending(CAT, "what is it?")))
    assert [message["content"] for message in shown] == ["what is it?", chat.WAITS]
    shown = chat.messages(Conversation(pending=Pending(CAT, "")))
    assert [message["content"] for message in shown] == ["New picture", chat.WAITS]


def test_while_one_question_is_answered_another_waits(tab):
    busy = Conversation(pending=Pending(CAT, "what is it?"))
    assert ask.pend(tab, busy, CAT, "and this?")[tab.asking.note] == ask.BUSY
    assert ask.again(tab, busy, CAT, 0)[tab.asking.note] == ask.BUSY


def test_what_was_stopped_is_in_the_box_again(tab):
    busy = Conversation(pending=Pending(CAT, "what is it?"))
    values = ask.settled(tab, busy, ask.STOPPED)
    assert values[tab.asking.question] == "what is it?"
    assert values[tab.asking.talk].pending is None
    assert values[tab.asking.note] == ask.STOPPED


@pytest.mark.parametrize(
    ("path", "question", "said"),
    [
        (None, "what is it?", "There is no picture yet"),
        (CAT, "  ", "The question is empty"),
        (CAT, None, "The question is empty"),
        (CAT, "a" * 1001, "1,001 characters"),
    ],
)
def test_what_cannot_be_asked_is_said_in_words(tab, path, question, said):
    note = ask.pend(tab, Conversation(), path, question)[tab.asking.note]
    assert said in note.replace("\\", "")


def test_a_bad_or_deleted_picture_is_named(engine, tmp_path):
    (tmp_path / "a.jpg").write_text("no picture")
    for name in ("a.jpg", "gone.jpg"):
        with pytest.raises(BadImage):
            asked(engine, str(tmp_path / name), "what is it?")


def test_the_evidence_of_a_picture_that_is_gone_is_what_is_left(engine, tab, tmp_path):
    path = tmp_path / "a.png"
    Image.new("RGB", (90, 60), "red").save(path)
    talk = asked(engine, str(path), "what color is it?")
    path.unlink()
    values = ask.evidence_of(tab, talk)
    assert values[tab.panel.view] is None
    assert values[tab.panel.asked] is None
    assert values[tab.panel.heading]


def test_a_picture_is_decoded_for_its_first_question_only(alone, tmp_path, monkeypatch):
    decoded = []

    def counted(source, **options):
        decoded.append(source)
        return images_load(source, **options)

    images_load = images.load
    monkeypatch.setattr(answers, "load", counted)
    monkeypatch.setattr(images, "load", counted)  # the engine's
    path = tmp_path / "a.png"
    Image.new("RGB", (90, 60), "red").save(path)
    first = asked(alone, str(path), "what color is it?")
    before = evidence_panel.layers(first.turn)
    assert len(decoded) == 3  # for the model, as large as the page shows it, and small
    second = asked(alone, str(path), "is it a square?", talk=first)
    after = evidence_panel.layers(second.turn)
    assert len(decoded) == 3
    assert after["picture"] == before["picture"]
    assert after["heat"] != before["heat"]


def test_a_replaced_picture_is_shown_anew(alone, tmp_path):
    path = tmp_path / "a.png"
    for place, colour in enumerate(((255, 0, 0), (0, 0, 255))):
        Image.new("RGB", (90, 60), colour).save(path)
        os.utime(path, (2e9, 2e9 + place))
        turn = asked(alone, str(path), "what color is it?").turn
        shown = Image.open(io.BytesIO(decode(evidence_panel.layers(turn)["picture"])))
        assert np.abs(np.subtract(shown.getpixel((45, 30)), colour)).max() < 5


def test_peoples_gaze_is_asked_for_once_a_picture(engine, monkeypatch):
    seen = []
    gaze = Engine.gaze
    monkeypatch.setattr(Engine, "gaze", lambda self, path: seen.append(path) or gaze(self, path))
    talk = asked(engine, CAT, "what color is it?", "is it a square?", "Where would people look?")
    assert seen == [CAT]
    assert talk.turn.people.map.sum() == pytest.approx(1, abs=1e-5)


def test_the_map_can_be_taken_along_as_it_is_and_as_a_picture(engine):
    talk = asked(engine, CAT, "what color is it?")
    assert export.kept(talk.turns[0]) is None
    kept = export.kept(talk.turn)
    found = np.load(io.BytesIO(decode(kept["npy"])), allow_pickle=False)
    assert np.array_equal(found, talk.turn.grounds.map)
    drawn = Image.open(io.BytesIO(decode(kept["png"])))
    assert (drawn.mode, drawn.size, drawn.format) == ("L", (384, 255), "PNG")


def test_a_link_brings_the_question_and_an_example_back(engine):
    talk = asked(engine, CAT, "is a & b = c?")
    link = dict(parse_qsl(export.query(talk.turn).removeprefix("?")))
    assert link == {"question": "is a & b = c?", "picture": "Cat"}
    assert export.opened(link) == (CAT, "is a & b = c?", export.FROM_LINK)


def test_a_link_never_carries_a_visitors_picture(engine, tmp_path):
    path = str(tmp_path / "secret.png")
    Image.new("RGB", (60, 40), "red").save(path)
    kept = export.kept(asked(engine, path, "what color is it?").turn)
    assert kept["own"]
    assert kept["query"] == "?question=what+color+is+it%3F"


@pytest.mark.parametrize(
    ("link", "path", "question", "note"),
    [
        ({"question": "a" * 1001, "picture": "Cat"}, CAT, "", "1,001 characters"),
        ({"question": "what\x00is\u202eit?"}, None, "whatisit?", "press Ask"),
        ({"picture": "../../etc/passwd", "question": "x"}, None, "", "not among the examples"),
        ({"picture": "Cat"}, CAT, "", ""),
        ({}, None, "", ""),
        ("nonsense", None, "", ""),
        ({"question": ["x"], "picture": {}}, None, "['x']", "press Ask"),
    ],
)
def test_what_a_link_brings_is_checked(link, path, question, note):
    found = export.opened(link)
    assert found[:2] == (path, question)
    assert note in found[2]


def test_the_saved_page_has_every_turn_and_no_markup_of_anyones(engine):
    talk = asked(engine, CAT, "what color is it?", MARKUP, "Where would people look?")
    page = export.page(talk)
    assert page.count("<section>") == page.count("<img ") == len(talk.turns)
    assert page.count('src="data:image/jpeg;base64,') == len(talk.turns)
    for turn in talk.turns[1:]:
        assert f"{turn.said}" in page
    assert "&lt;img src=zqx onerror=alert(1)&gt;" in page
    assert not re.search(r"<(script|a|img src=zqx)", page)
    assert "default-src 'none'" in page
    assert not re.search(r"https?://", page)
