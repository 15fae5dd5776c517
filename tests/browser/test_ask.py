"""The conversation in a real browser: its turns, what follows them, and what is taken along."""

from __future__ import annotations

import io
import threading

import numpy as np
import pytest
from helpers.picture_files import gradient
from playwright.sync_api import expect

from vqa.engine import Engine

pytest_plugins = ["helpers.browser"]

ROOM = "document.documentElement.scrollWidth - window.innerWidth"


@pytest.fixture(params=[1440, 420])
def talk(request, visit):
    """The page as wide as a desk's, and as a phone's."""
    visit.page.set_viewport_size({"width": request.param, "height": 900})
    return visit


def questions(visit):
    return [text.strip() for text in visit["#chat .user-row"].all_inner_texts()]


def answer(visit, question, answers):
    """Ask, and wait until there are so many answers."""
    visit.ask(question)
    expect(visit["#chat .thumb"]).to_have_count(answers)
    expect(visit["#submit"]).to_be_visible()


def chip(visit, text):
    visit["#chat .option"].get_by_text(text, exact=True).click()


def test_turns_follow_each_other_and_the_evidence_follows_the_chosen_one(talk):
    talk.choose("Cat")
    first = talk.heat()
    answer(talk, "Is it a dog?", 2)
    assert questions(talk) == ["Cat", "What animal is this?", "Is it a dog?"]
    expect(talk["#answer"]).to_contain_text("Is it a dog?")
    expect(talk["#chat .chosen"]).to_contain_text(talk["#answer h2"].inner_text())
    second = talk.heat()
    assert second != first
    talk["#chat .bot-row"].nth(1).locator("[role=button]").focus()
    talk.page.keyboard.press("Enter")
    talk.wait_for_another_map(second)
    assert talk.heat() == first
    expect(talk["#answer"]).to_contain_text("What animal is this?")
    expect(talk["#chat .bot-row"].nth(1).locator("[role=button]")).to_have_attribute(
        "aria-pressed", "true"
    )
    for thumb in talk["#chat .thumb"].all():
        assert thumb.get_attribute("alt").startswith("Where the model looked: ")
    assert talk.page.evaluate(ROOM) <= 0


def test_an_edit_a_retry_and_an_undo(talk):
    talk.choose("Cat")
    answer(talk, "Is it a dog?", 2)
    edit = talk["#chat .message-buttons-right button[aria-label=Edit]"]
    edit.nth(1).click()
    talk["#chat textarea"].fill("What color is it?")
    talk["#chat button[aria-label=Submit]"].click()
    expect(talk["#chat .user-row"]).to_have_count(2)
    expect(talk["#chat .thumb"]).to_have_count(1)
    assert questions(talk) == ["Cat", "What color is it?"]
    expect(talk["#answer"]).to_contain_text("What color is it?")
    answer(talk, "Is it a dog?", 2)
    said = talk["#chat .bot-row"].last.inner_text()
    with talk.page.expect_response("**/queue/join?*"):  # until then the old answer stands there
        talk["#chat button[aria-label=Retry]"].click()
    expect(talk["#submit"]).to_be_visible()
    expect(talk["#chat .thumb"]).to_have_count(2)
    expect(talk["#chat .bot-row"].last).to_have_text(said, use_inner_text=True)
    talk["#chat button[aria-label=Undo]"].click()
    expect(talk["#chat .thumb"]).to_have_count(1)
    expect(talk["#question textarea"]).to_have_value("Is it a dog?")
    expect(talk["#answer"]).to_contain_text("What color is it?")
    talk["#chat button[aria-label=Clear]"].click()
    expect(talk["#chat .bot-row"]).to_have_count(0)
    expect(talk["#view .empty"]).to_be_visible()
    assert talk.page.evaluate(ROOM) <= 0


def test_a_new_picture_is_labelled_and_chips_lead_on(talk):
    talk.choose("Cat")
    talk.upload("mine.jpg", gradient("RGB", "JPEG"))
    expect(talk["#chat .user-row"].last).to_contain_text("New picture: My picture")
    expect(talk["#chat .user-row .picture"].last).to_have_attribute("alt", "The picture.")
    chip(talk, "Where would people look?")
    expect(talk["#chat .bot-row"].last).to_contain_text(
        "Asked the gaze model, because the question asks where people would look."
    )
    expect(talk["#view figcaption"]).to_contain_text("Where people would look: ")
    expect(talk["#why, #whatif"]).to_have_count(0)
    chip(talk, "What is in the picture?")
    expect(talk["#chat .bot-row"].last).to_contain_text("Asked the captioner, because")
    assert questions(talk)[-1] == "What is in the picture?"
    assert talk.page.evaluate(ROOM) <= 0


def test_the_chips_why_and_what_if_lead_to_their_sections(talk):
    talk.choose("Coffee")
    chip(talk, "Why?")
    expect(talk["#why-line p"]).to_be_visible()
    expect(talk["#why-top figure"]).to_have_count(3)
    expect(talk["#why-tools .scale img"]).to_have_js_property("naturalWidth", 96)
    chip(talk, "What if?")
    expect(talk["#whatif-board .board"]).to_be_focused()
    expect(talk["#whatif-board .board"]).to_be_in_viewport()
    assert talk.page.evaluate(ROOM) <= 0


def test_an_example_conversation_begins_with_one_press(talk):
    talk.page.get_by_role("button", name="Temple: What is in the picture?").click()
    expect(talk["#chat .thumb"]).to_have_count(1)
    assert questions(talk) == ["Temple", "What is in the picture?"]
    expect(talk["#picture img"]).to_be_visible()


def test_stop_ends_the_wait_and_gives_the_question_back(
    open_page, serving, tiny_checkpoint, monkeypatch
):
    asked, go = threading.Event(), threading.Event()
    quick = Engine.answer

    def slow(self, *args, **options):
        asked.set()
        go.wait(60)
        return quick(self, *args, **options)

    with serving(tiny_checkpoint) as address:
        visit = open_page(address)
        visit.choose("Cat")
        monkeypatch.setattr(Engine, "answer", slow)
        visit.ask("what color is it?")
        expect(visit["#chat .user-row"].last).to_have_text("what color is it?")
        assert asked.wait(30)
        visit["#stop"].click()
        go.set()
        visit.says("#note", "Stopped.")
        expect(visit["#question textarea"]).to_have_value("what color is it?")
        expect(visit["#chat .user-row"]).to_have_count(2)
        visit["#submit"].click()
        expect(visit["#chat .thumb"]).to_have_count(2)
        expect(visit["#note"]).to_have_text("")
        assert visit.problems == []


def test_maps_a_link_and_the_conversation_are_taken_along(visit, open_page):
    visit.choose("Cat")
    answer(visit, "Is <b>it</b> a dog & a cat?", 2)
    with visit.page.expect_download() as taken:
        visit["#keep a"].get_by_text("NPY").click()
    values = np.load(io.BytesIO(taken.value.path().read_bytes()), allow_pickle=False)
    assert values.ndim == 2
    assert values.sum() == pytest.approx(1, abs=1e-4)
    with visit.page.expect_download() as taken:
        visit["#keep a"].get_by_text("PNG").click()
    assert taken.value.suggested_filename == "map.png"
    with visit.page.expect_download() as taken:
        visit["#save"].click()
    page = taken.value.path().read_text(encoding="utf-8")
    assert page.count("<section>") == page.count("data:image/jpeg;base64,") == 3
    assert "Is &lt;b&gt;it&lt;/b&gt; a dog &amp; a cat?" in page
    visit["#keep button"].click()
    expect(visit["#keep .said"]).to_have_text("Link copied.")
    link = visit.page.evaluate("navigator.clipboard.readText()")
    linked = open_page(link)
    expect(linked["#question textarea"]).to_have_value("Is <b>it</b> a dog & a cat?")
    expect(linked["#picture img"]).to_be_visible()
    linked.says("#note", "This question came with a link: press Ask.")
    expect(linked["#chat .bot-row"]).to_have_count(0)
    linked["#submit"].click()
    expect(linked["#chat .thumb"]).to_have_count(1)
    assert linked.problems == []
    assert [address for address in linked.strangers() if not address.startswith(visit.url)] == []
