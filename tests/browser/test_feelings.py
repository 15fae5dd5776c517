"""The Feelings tab and the reactions in a real browser."""

from __future__ import annotations

import json
import re

import pytest
from helpers.emoji_data import FACES, MOODS, TEXTS, tiny_emoji, write
from helpers.tiny import tiny_answerer, tiny_captioner
from playwright.sync_api import expect

from vqa import checkpoints

pytest_plugins = ["helpers.browser"]

PHONE = {"width": 420, "height": 900}
MEASURED = {
    "face": {
        "split": "validation",
        "metrics": {"macro_f1": 61.24, "top5": 100.0, "n": 30},
        "labels": FACES,
        "confusion": [[12, 3], [6, 9]],
    }
}


@pytest.fixture(scope="module")
def address(serving, tmp_path_factory):
    """A page with a model of feelings, sentences and numbers."""
    folder = tmp_path_factory.mktemp("models")
    answerer = checkpoints.save(tiny_answerer(), folder / "vqa")
    captioner = checkpoints.save(tiny_captioner(), folder / "captioner")
    feelings = checkpoints.save(tiny_emoji(), folder / "emoji")
    sentences = f"face={write(folder / 'texts')}"
    (feelings / "metrics.json").write_text(json.dumps({"results": MEASURED}))
    with serving(answerer, [captioner], feelings, sentences) as url:
        yield url


@pytest.fixture
def tab(open_page, address):
    visit = open_page(address)
    yield visit
    assert visit.problems == []
    assert visit.strangers() == []


def write_in(tab, text):
    tab["#feel-text textarea"].fill(text)


@pytest.mark.parametrize("phone", [False, True])
def test_what_is_typed_is_felt_at_once(tab, phone):
    if phone:
        tab.page.set_viewport_size(PHONE)
    tab.page.get_by_role("tab", name="Feelings").click()
    expect(tab["#feel-empty"]).to_be_visible()
    write_in(tab, "I am so happy, today!")
    expect(tab["#feel-bars dt"]).to_have_count(2)
    expect(tab["#feel-face"]).to_have_text(tab["#feel-bars dt"].first.inner_text())
    expect(tab["#feel-empty"]).to_be_hidden()
    words = tab["#feel-words .score-token"]
    expect(words).to_have_text(["I", "am", "so", "happy", ",", "today", "!"])
    colours = {
        words.nth(i).evaluate("word => getComputedStyle(word).backgroundColor") for i in range(7)
    }
    assert len(colours) > 2
    expect(tab["#feel-line"]).to_contain_text("The pushes add up to the rise of its score")
    assert tab.page.evaluate("document.documentElement.scrollWidth") <= (420 if phone else 1440)
    before = tab["#feel-line"].inner_text()
    tab.page.get_by_label("Leave one out").check()
    expect(tab["#feel-line"]).to_contain_text("(Leave one out)")
    assert tab["#feel-line"].inner_text() != before
    write_in(tab, "")
    expect(tab["#feel-empty"]).to_be_visible()
    expect(tab["#feel-words"]).to_be_hidden()
    expect(tab["#feel-note"]).to_have_text("")


def test_another_label_and_another_set_of_labels(tab):
    tab.page.get_by_role("tab", name="Feelings").click()
    write_in(tab, "so sad today")
    second = tab["#feel-bars button"].nth(1)
    label = tab["#feel-bars dt"].nth(1).inner_text()
    second.click()
    expect(tab["#feel-face"]).to_have_text(label)
    expect(tab["#feel-line"]).to_contain_text(f"{label}: ")
    tab.page.get_by_label("mood").check()
    expect(tab["#feel-bars dt"].first).to_have_text(re.compile("|".join(MOODS)))


def test_neighbours_and_confusions_are_context(tab):
    tab.page.get_by_role("tab", name="Feelings").click()
    tab.page.get_by_role("button", name="I am so happy today!", exact=True).click()
    expect(tab["#feel-text textarea"]).to_have_value("I am so happy today!")
    tab.page.get_by_role("button", name="Training sentences read most alike").click()
    near = tab["#feel-near li"]
    expect(near).to_have_count(5)
    assert any(text in near.first.inner_text() for text, _ in TEXTS)
    tab.page.get_by_role("button", name="Which labels it takes for which").click()
    matrix = tab["#feel-matrix img"]
    expect(matrix).to_have_attribute("alt", "A row a right label, a column a given one")
    assert matrix.evaluate("image => image.naturalWidth") == 120
    expect(tab["#feel-worst"]).to_contain_text("macro-F1 61.2")
    expect(tab["#feel-worst"]).to_contain_text("😢 as 😀 (40%)")
    tab.page.get_by_label("mood").check()
    expect(tab["#feel-worst"]).to_contain_text("Nothing was measured of these labels")
    expect(matrix).to_have_count(0)


@pytest.mark.parametrize(
    "text",
    ["<img src=x onerror=alert(1)>", "![](http://evil.example/x.png)", "مرحبا 👩‍👩‍👧 \u202e"],
)
def test_odd_text_is_shown_as_it_is(tab, text):
    tab.page.get_by_role("tab", name="Feelings").click()
    write_in(tab, text)
    expect(tab["#feel-words"]).to_be_visible()
    assert tab["#feel-result img"].count() == tab["#feel-matrix img"].count()
    write_in(tab, "a" * 10_001)
    tab.says("#feel-note", "10,001 characters and the limit is 10,000")
    expect(tab["#feel-words"]).to_be_hidden()


def test_other_tabs_react_unless_told_not_to(tab):
    tab.choose("Cat")
    reaction = tab["#chat .bot-row"].last.locator(".message > .message:last-child .md")
    expect(reaction).to_have_text(re.compile(f"Feels like ({'|'.join(FACES)})"))
    tab.page.get_by_role("tab", name="Caption").click()
    tab["#caption-pictures button"].first.click()
    expect(tab["#caption-reaction p"]).to_be_visible()
    tab.page.get_by_role("tab", name="Feelings").click()
    tab.page.get_by_label("React with emoji in the other tabs").uncheck()
    tab.page.get_by_role("tab", name="Caption").click()
    expect(tab["#caption-reaction"]).to_be_hidden()
    tab.page.get_by_role("tab", name="Ask").click()
    expect(reaction).to_be_hidden()
