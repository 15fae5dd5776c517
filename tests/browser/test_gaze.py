"""The Gaze tab and the what-if tool in a real browser."""

from __future__ import annotations

import pytest
from helpers.tiny import draw, tiny_answerer, tiny_gaze
from playwright.sync_api import expect

from ui.sections import whatif
from vqa import checkpoints

pytest_plugins = ["helpers.browser"]

PHONE = {"width": 420, "height": 900}


@pytest.fixture(scope="module")
def address(serving, tmp_path_factory):
    """A page whose answerer has a gaze model of its own."""
    model = tiny_answerer(gaze=tiny_gaze().config, fusion="gated")
    folder = checkpoints.save(model, tmp_path_factory.mktemp("model") / "vqa")
    with serving(folder) as url:
        yield url


@pytest.fixture
def tab(open_page, address):
    visit = open_page(address)
    yield visit
    assert visit.problems == []
    assert visit.strangers() == []


def test_trust_in_gaze_stands_beside_the_answer(tab):
    tab.choose("Cat")
    expect(tab["#view figcaption"]).to_contain_text("Gaze trust 0.30: for this question the model")


@pytest.mark.parametrize("phone", [False, True])
def test_people_and_model_stand_side_by_side(tab, phone):
    if phone:
        tab.page.set_viewport_size(PHONE)
    tab.page.get_by_role("tab", name="Gaze").click()
    expect(tab["#gaze-empty"]).to_be_visible()
    tab["#gaze-pictures button"].nth(1).click()
    expect(tab["#gaze-maps .heat"]).to_have_count(2)
    expect(tab["#gaze-empty"]).to_be_hidden()
    captions = tab["#gaze-maps figcaption"]
    expect(captions.first).to_contain_text("Where people would look: ")
    expect(captions.last).to_contain_text("Where the model looked: ")
    expect(tab["#gaze-line"]).to_contain_text("of the looks in common")
    expect(tab["#gaze-maps .heat"].first).to_have_attribute("alt", captions.first.inner_text())
    assert tab.page.evaluate("document.documentElement.scrollWidth") <= (420 if phone else 1440)
    # Opacity is the browser's business.
    asked = tab.asked()
    tab["#gaze-tools input"].fill("20")
    opacity = "getComputedStyle(document.querySelector('#gaze-maps .heat')).opacity"
    assert tab.page.evaluate(opacity) == "0.2"
    assert tab.asked() == asked


def test_a_picture_alone_shows_people_and_a_bad_one_is_said_so(tab):
    tab.page.get_by_role("tab", name="Gaze").click()
    tab["#gaze-submit"].click()
    tab.says("#gaze-note", "There is no picture yet")
    files = tab["#gaze-picture input[type=file]"]
    red = {"name": "red.png", "mimeType": "image/png", "buffer": draw("red", "square")}
    files.set_input_files(red)
    expect(tab["#gaze-maps .heat"]).to_have_count(1)
    expect(tab["#gaze-line"]).to_have_text("")
    tab["#gaze-question textarea"].fill("what color is it?")
    tab["#gaze-submit"].click()
    expect(tab["#gaze-maps .heat"]).to_have_count(2)
    tab["#gaze-picture [aria-label='Clear'], #gaze-picture [aria-label='Remove Image']"].click()
    expect(tab["#gaze-empty"]).to_be_visible()
    expect(tab["#gaze-maps .heat"]).to_have_count(0)
    tab["#gaze-picture input[type=file]"].set_input_files({**red, "buffer": b"no picture"})
    tab.says("#gaze-note", "The file is")
    # A browser cannot draw it either, which is no fault of the page.
    tab.problems[:] = [p for p in tab.problems if "Failed to load resource" not in p]


def test_what_is_painted_over_is_hidden_and_asked_about_again(tab):
    expect(tab["#whatif"]).to_be_hidden()
    tab.choose("Cat")
    board, again = tab["#whatif-board .board"], tab["#whatif-board .again"]
    expect(board).to_be_visible()
    expect(again).to_be_disabled()
    paint(tab, (0.35, 0.35), (0.65, 0.35))
    marked = tab["#whatif-board .board .hidden"]
    expect(marked).to_have_count(4)
    again.click()
    expect(tab["#whatif-line"]).to_contain_text("Hiding 4% of the picture ")
    expect(tab["#whatif-before dt"]).to_have_count(5)
    expect(tab["#whatif-after dt"]).to_have_count(5)
    # Painting from a hidden square shows them again.
    paint(tab, (0.35, 0.35), (0.45, 0.35))
    expect(marked).to_have_count(2)
    tab["#whatif-board .clear"].click()
    expect(marked).to_have_count(0)
    expect(again).to_be_disabled()
    # Another picture begins anew.
    paint(tab, (0.35, 0.35), (0.45, 0.35))
    expect(marked).to_have_count(2)
    tab.choose("Coffee")
    expect(marked).to_have_count(0)
    expect(again).to_be_disabled()
    expect(tab["#whatif-line"]).to_have_text("")
    expect(tab["#whatif-answers"]).to_be_hidden()


def paint(tab, start, end):
    tab["#whatif-board .board"].scroll_into_view_if_needed()
    box = tab["#whatif-board .board"].bounding_box()
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in (start, end)]
    tab.page.mouse.move(*places[0])
    tab.page.mouse.down()
    tab.page.mouse.move(*places[1], steps=30)
    tab.page.mouse.up()


def test_the_board_works_by_keyboard(tab):
    tab.choose("Cat")
    tab["#whatif-board .board"].focus()
    for key in ("ArrowLeft", "ArrowUp", "Space", "ArrowRight", "Space", "Space"):
        tab.page.keyboard.press(key)
    middle = whatif.CELLS // 2 + 1
    expect(tab["#whatif-board .place"]).to_have_text(f"Row {middle - 1}, column {middle}: shown.")
    expect(tab["#whatif-board .board .hidden"]).to_have_count(1)
    tab.page.keyboard.press("Tab")
    tab.page.keyboard.press("Enter")
    expect(tab["#whatif-line"]).to_contain_text("Hiding 1% of the picture ")
