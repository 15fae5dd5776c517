"""The page in a real browser, served as a person starts it: `python app.py`."""

from __future__ import annotations

import pytest
from helpers.picture_files import gradient
from helpers.tiny import draw
from playwright.sync_api import expect

from ui.server import disk_quota

pytest_plugins = ["helpers.browser"]


def test_an_example_and_a_question_give_an_answer_and_another_map(visit):
    visit.choose("Cat")
    expect(visit["#answer h2"]).not_to_be_empty()
    first = visit.heat()
    visit.ask("what color is it?")
    visit.wait_for_another_map(first)
    expect(visit["#words"]).to_contain_text("color")


def test_the_guesses_are_sorted_and_their_bars_start_at_zero(visit):
    visit.choose("Coffee")
    expect(visit["#guesses meter"]).to_have_count(5)
    bars = visit["#guesses meter"].evaluate_all(
        "all => all.map(b => [b.value, b.getBoundingClientRect().left, b.offsetWidth])"
    )
    values, lefts, widths = map(list, zip(*bars, strict=True))
    assert values == sorted(values, reverse=True)
    assert len(set(lefts)) == 1
    assert widths[-1] == pytest.approx(widths[0] * values[-1] / values[0], abs=2)


def test_an_example_question_is_asked_at_once(visit):
    visit.choose("Flower")
    before = visit.heat()
    visit.page.get_by_role("button", name="What color is the flower?").click()
    visit.wait_for_another_map(before)
    expect(visit["#answer"]).to_contain_text("What color is the flower?")
    expect(visit["#question textarea"]).to_have_value("")


def test_the_opacity_slider_fades_the_map_without_asking_the_server(visit):
    visit.choose("Rocket")
    asked = visit.asked()
    visit["#view input[type=range]"].fill("20")
    expect(visit["#view .heat"]).to_have_css("opacity", "0.2")
    expect(visit["#view output"]).to_have_text("20%")
    assert visit.asked() == asked
    visit.choose("Temple")
    expect(visit["#view .heat"]).to_have_css("opacity", "0.2")


def test_the_map_is_told_in_words(visit):
    visit.choose("Astronaut")
    words = visit["#view .heat"].get_attribute("alt") or ""
    assert words.startswith("Where the model looked: ")
    expect(visit["#view figcaption"]).to_contain_text(words)


@pytest.mark.parametrize(
    ("example", "question", "words"),
    [
        (None, "What is this?", "There is no picture yet"),
        ("Cat", "  ", "The question is empty"),
        ("Cat", "a" * 100_000, "100,000 characters and the limit is 1,000"),
    ],
    ids=["no picture", "no question", "100,000 characters"],
)
def test_a_problem_is_said_in_words_and_leaves_the_conversation_alone(
    visit, example, question, words
):
    if example:
        visit.choose(example)
    turns = visit["#chat .bot-row"].count()
    visit.ask(question)
    visit.says("#note", words)
    expect(visit["#question textarea"]).to_have_value(question)
    expect(visit["#chat .bot-row"]).to_have_count(turns)


def test_a_text_file_named_jpg_is_refused_in_words(visit):
    visit.upload("notes.jpg", b"Dear diary, today I was a picture.\n")
    visit.says("#note", "The file is")
    visit.ask("What is this?")
    visit.says("#note", "The file is")
    expect(visit["#view .empty"]).to_be_visible()


def test_an_rgba_picture_under_the_name_of_a_gif_is_answered(visit):
    visit.upload("a.gif", gradient("RGBA", "PNG"))
    visit.invites()
    visit.ask("what color is it?")
    expect(visit["#chat .thumb"]).to_have_count(1)


def test_without_its_picture_no_more_is_asked_and_the_evidence_stays(visit):
    visit.choose("Cat")
    visit.page.get_by_label("Remove Image").click()
    visit.ask("what color is it?")
    visit.says("#note", "There is no picture yet")
    expect(visit["#view .heat"]).to_be_visible()
    visit.upload("mine.jpg", gradient("RGB", "JPEG"))
    expect(visit["#answer h2"]).to_have_text("My picture")
    expect(visit["#view .heat"]).to_have_count(0)
    expect(visit["#chat .option"].get_by_text("Where would people look?")).to_be_visible()


def test_a_photo_from_the_webcam_is_answered(visit):
    visit.page.get_by_label("Capture from camera").click()
    visit["#picture"].get_by_text("Click to Access Webcam").click()
    visit.page.wait_for_function("document.querySelector('#picture video')?.videoWidth > 0")
    visit["#picture"].get_by_label("capture photo").click()
    visit.invites()
    visit.ask("what color is it?")
    expect(visit["#chat .thumb"]).to_have_count(1)


def test_a_picture_from_the_clipboard_is_answered(visit):
    visit.page.evaluate(
        """() => {
            const canvas = new OffscreenCanvas(64, 48);
            canvas.getContext('2d').fillRect(0, 0, 32, 48);
            const blob = canvas.convertToBlob({type: 'image/png'});
            return navigator.clipboard.write([new ClipboardItem({'image/png': blob})]);
        }"""
    )
    visit.page.get_by_label("Paste from clipboard").click()
    visit.invites()
    visit.ask("what color is it?")
    expect(visit["#chat .thumb"]).to_have_count(1)


def test_markup_and_templates_in_a_question_stay_text(visit):
    visit.choose("Cat")
    markup = (
        "![zqx](https://example.com/a.png) <img src=y onerror=alert(1)> ${alert(1)} {{zqy}} "
        "[x](javascript:alert(1)) $$x^2$$ ```code``` &lt;b&gt;"
    )
    visit.ask(markup)
    asked = visit["#chat .user-row"].last
    expect(visit["#chat .thumb"]).to_have_count(2)
    assert asked.inner_text().replace("\u2060", "") == markup
    expect(visit["#chat .bot-row"].last).to_contain_text('"zqx"')
    expect(visit["#answer"]).to_contain_text("<img src=y onerror=alert(1)>")
    expect(visit["#chat .md img, #chat a, #chat code, #chat .katex"]).to_have_count(0)
    expect(visit["#answer img, #answer a, #note img, #words img, #view script"]).to_have_count(0)


def test_two_tabs_share_no_state(visit, open_page, url):
    visit.choose("Cat")
    other = open_page(url)
    expect(other["#view .empty"]).to_be_visible()
    expect(other["#chat .bot-row"]).to_have_count(0)
    mine = visit.heat()
    other.choose("Coffee")
    expect(visit["#answer"]).to_contain_text("What animal is this?")
    assert visit.heat() == mine
    assert other.problems + other.strangers() == []


@pytest.mark.parametrize("width", [420, 1440])
def test_nothing_sticks_out_sideways(visit, width):
    visit.page.set_viewport_size({"width": width, "height": 900})
    room = "document.documentElement.scrollWidth - window.innerWidth"
    assert visit.page.evaluate(room) <= 0
    visit.choose("Temple")
    assert visit.page.evaluate(room) <= 0


def test_an_upload_over_ten_megabytes_is_refused_in_words(open_page, url):
    visit = open_page(url)
    visit["#picture input[type=file]"].set_input_files(
        {"name": "big.jpg", "mimeType": "image/jpeg", "buffer": b"\xff" * (10 * 2**20 + 1)}
    )
    refusal = visit.page.get_by_text("File(s) exceed the maximum allowed size of 10.0 Mb")
    expect(refusal.first).to_be_visible()


def test_an_upload_for_which_there_is_no_room_is_refused_in_words(
    open_page, serving, tiny_checkpoint, monkeypatch
):
    monkeypatch.setattr(disk_quota, "LEDGER", disk_quota.Ledger(of_a_client=1))
    with serving(tiny_checkpoint) as address:
        visit = open_page(address)
        visit["#picture input[type=file]"].set_input_files(
            {"name": "red.png", "mimeType": "image/png", "buffer": draw("red", "square")}
        )
        expect(visit.page.get_by_text(disk_quota.CLIENT_FULL).first).to_be_visible()


def test_a_full_queue_is_told_in_words(open_page, serving, tiny_checkpoint):
    with serving(tiny_checkpoint, max_size=0) as address:
        visit = open_page(address)
        visit["#pictures button"].first.click()
        expect(visit.page.get_by_text("currently busy. Please try again")).to_be_visible()
        expect(visit["#question textarea"]).to_have_value("What animal is this?")
        expect(visit["#submit"]).to_be_visible()
