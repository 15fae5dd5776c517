"""The Caption tab in a real browser."""

from __future__ import annotations

import pytest
from helpers.tiny import tiny_captioner
from helpers.toy_methods import Slow, broken, refusing
from playwright.sync_api import expect

from saliency import registry
from saliency.types import MethodSpec
from ui.presenters import captions
from vqa import checkpoints
from vqa.engine import Engine

pytest_plugins = ["helpers.browser"]

WORDS = "#caption-story .words button"
CHEAP = {"occlusion": {"window": 16, "stride": 16}}


@pytest.fixture(scope="module")
def slow():
    return Slow(pace=0.1)


@pytest.fixture(scope="module")
def explained():
    """The methods of all explanations that the page had made, in their order."""
    return []


@pytest.fixture(scope="module")
def captions_url(tiny_checkpoint, tmp_path_factory, serving, slow, explained):
    """The page with two untrained captioners, a method that never ends and one that fails."""
    folder, kept = tmp_path_factory.mktemp("captioners"), Engine.explain_caption
    captioners = [
        checkpoints.save(tiny_captioner(), folder / "one"),
        checkpoints.save(tiny_captioner(1, decoder="bilstm"), folder / "two"),
    ]

    def counted(engine, *arguments, **options):
        explained.append(options["method"])
        return kept(engine, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(captions, "LIVE", CHEAP)
        patch.setattr(Engine, "explain_caption", counted)
        patch.setitem(registry.METHODS, "slow", MethodSpec(slow, "Slow", False, "all of them"))
        patch.setitem(registry.METHODS, "broken", MethodSpec(broken, "Broken", False, "none"))
        patch.setitem(registry.METHODS, "no", MethodSpec(refusing, "Refusing", False, "none"))
        with serving(tiny_checkpoint, captioners) as address:
            yield address


@pytest.fixture
def visit(open_page, captions_url):
    """A fresh tab on the Caption tab; nothing may go wrong behind it."""
    visit = open_page(captions_url)
    visit.page.get_by_role("tab", name="Caption").click()
    expect(visit["#caption-story .empty"]).to_be_visible()
    yield visit
    assert visit.problems == []
    assert visit.strangers() == []


def choose(visit, example):
    """Press an example and wait for its caption."""
    before = visit["#caption-story .picture"].get_attribute("src") or ""
    visit["#caption-pictures"].get_by_role("button", name=example, exact=True).click()
    visit.page.wait_for_function(
        """before => (document.querySelector('#caption-story .picture').src || '') !== before""",
        arg=before,
    )


def choose_method(visit, label):
    visit["#caption-method input"].click()
    visit.page.get_by_role("option", name=label, exact=True).click()


def describe(visit, start):
    visit["#caption-start textarea"].fill(start)
    visit["#caption-submit"].click()


def heat(visit):
    return visit["#caption-story .heat"].get_attribute("src")


def chosen(visit):
    """The places of the words that are chosen."""
    pressed = "all => all.flatMap((b, i) => b.getAttribute('aria-pressed') === 'true' ? [i] : [])"
    return visit[WORDS].evaluate_all(pressed)


def test_an_example_is_described_at_once_word_by_word(visit):
    choose(visit, "Cat")
    said = visit[WORDS].all_inner_texts()
    assert len(said) >= 2
    expect(visit["#caption-story .whole"]).to_have_text(" ".join(said))
    delays = visit[WORDS].evaluate_all("all => all.map(b => getComputedStyle(b).animationDelay)")
    assert delays == [f"{round(0.08 * place, 2):g}s" for place in range(len(said))]
    label = visit[WORDS].first.get_attribute("aria-label")
    assert label.startswith(f"{said[0]}, ")
    assert label.endswith("% likely")
    assert label.endswith(visit[WORDS].first.get_attribute("title"))
    visit.page.emulate_media(reduced_motion="reduce")
    expect(visit[WORDS].first).to_have_css("animation-name", "none")


def test_words_and_opacity_change_the_map_without_asking_the_server(visit):
    choose(visit, "Coffee")
    assert len(chosen(visit)) == 1
    assert "of the mass in 10% of the area" in visit["#caption-story .heat"].get_attribute("alt")
    asked, maps = visit.asked(), []
    for place, word in enumerate(visit[WORDS].all_inner_texts()):
        visit[WORDS].nth(place).click()
        assert chosen(visit) == [place]
        line = visit["#caption-story .line"].inner_text()
        assert line.startswith(f'"{word}" ')
        assert "% at the picture" in line
        maps.append(heat(visit))
    assert len(set(maps)) > 1
    visit["#caption-tools input[type=range]"].fill("20")
    expect(visit["#caption-story .heat"]).to_have_css("opacity", "0.2")
    assert visit.asked() == asked


def test_the_keyboard_chooses_words_too(visit):
    choose(visit, "Coffee")
    visit[WORDS].first.focus()
    visit.page.keyboard.press("Enter")
    assert chosen(visit) == [0]
    visit.page.keyboard.press("ArrowRight")
    assert chosen(visit) == [1]
    expect(visit[WORDS].nth(1)).to_be_focused()
    visit.page.keyboard.press("ArrowLeft")
    visit.page.keyboard.press("ArrowLeft")
    assert chosen(visit) == [0]


def test_another_method_has_its_map_for_every_word_after_one_call(visit, explained):
    choose(visit, "Temple")
    visit[WORDS].nth(1).click()
    looked = heat(visit)
    explained.clear()
    choose_method(visit, "Occlusion")
    expect(visit["#caption-status .said"]).to_contain_text("Occlusion took ")
    expect(visit["#caption-tools"]).to_contain_text("for the word")
    assert chosen(visit) == [1]
    assert heat(visit) != looked
    asked = visit.asked()
    for place in range(visit[WORDS].count()):
        visit[WORDS].nth(place).click()
        expect(visit["#caption-story .line"]).to_contain_text(": Occlusion")
    assert visit.asked() == asked
    assert explained == ["occlusion"]
    visit[WORDS].nth(1).click()
    choose_method(visit, "Attention")
    expect(visit["#caption-story .line"]).to_contain_text("at the picture")
    expect(visit["#caption-tools"]).to_contain_text("less")
    assert heat(visit) == looked
    choose_method(visit, "Occlusion")
    expect(visit["#caption-story .line"]).to_contain_text(": Occlusion")
    assert explained == ["occlusion"]


def test_the_next_picture_is_explained_by_the_same_method(visit, explained):
    choose(visit, "Cat")
    choose_method(visit, "Grad-CAM")
    expect(visit["#caption-status .said"]).to_contain_text("Grad-CAM took ")
    explained.clear()
    choose(visit, "Rocket")
    expect(visit["#caption-status .said"]).to_contain_text("Grad-CAM took ")
    expect(visit["#caption-story .line"]).to_contain_text(": Grad-CAM")
    expect(visit["#caption-cancel"]).to_have_count(0)
    assert explained == ["grad_cam"]


def test_a_caption_begins_as_it_is_told_to(visit):
    choose(visit, "Cat")
    describe(visit, "There is a RED")
    expect(visit[WORDS].nth(3)).to_have_text("red")
    assert visit[WORDS].all_inner_texts()[:4] == ["there", "is", "a", "red"]
    expect(visit[f"{WORDS}.given"]).to_have_count(4)
    assert "given" in visit[WORDS].first.get_attribute("title")


def test_a_problem_is_said_in_words_and_takes_the_caption_away(visit):
    visit["#caption-submit"].click()
    visit.says("#caption-note", "There is no picture yet")
    choose(visit, "Cat")
    expect(visit["#caption-note p"]).to_have_count(0)
    describe(visit, "<b>zqx ${1}")
    visit.says("#caption-note", "The captioner does not know")
    visit.says("#caption-note", "zqx")
    expect(visit["#caption-note b"]).to_have_count(0)
    expect(visit["#caption-story .empty"]).to_be_visible()
    expect(visit["#caption-method"]).to_have_count(0)


def test_model_and_beam_are_a_choice(visit):
    choose(visit, "Coffee")
    first = visit["#caption-story .whole"].inner_text()
    expect(visit["#caption-others li"]).to_have_count(3)
    expect(visit["#caption-others li .text"].first).to_have_text(first)
    shares = visit["#caption-others .share"].all_inner_texts()
    assert 97 <= sum(int(share.strip("%<>")) for share in shares) <= 103
    visit["#caption-beam"].get_by_label("1").check()
    expect(visit["#caption-others .others"]).to_be_hidden()
    visit["#caption-beam"].get_by_label("5").check()
    expect(visit["#caption-others li"]).to_have_count(5)
    visit["#caption-model"].get_by_label("BiLSTM").check()
    expect(visit["#caption-story .whole"]).not_to_have_text(first)


def test_cancel_brings_the_old_maps_back(visit, slow):
    choose(visit, "Cat")
    looked = heat(visit)
    choose_method(visit, "Slow")
    expect(visit["#caption-status .now"]).to_contain_text(" of 10000")
    expect(visit["#caption-story .heat"]).to_be_hidden()
    expect(visit["#caption-cancel"]).to_be_focused()
    visit.page.keyboard.press("Enter")
    expect(visit["#caption-status .said"]).to_have_text("Stopped.")
    assert slow.ended.wait(20)
    expect(visit["#caption-story .heat"]).to_be_visible()
    assert heat(visit) == looked
    expect(visit["#caption-method input"]).to_have_value("Attention")
    expect(visit["#caption-method input"]).to_be_focused()
    expect(visit["#caption-cancel"]).to_have_count(0)


def test_another_question_stops_the_maps_and_has_its_own_made(visit, slow):
    choose(visit, "Cat")
    choose_method(visit, "Slow")
    expect(visit["#caption-status .now"]).to_contain_text(" of 10000")
    before = len(slow.runs)
    describe(visit, "a red")
    expect(visit[f"{WORDS}.given"]).to_have_count(2)
    assert slow.runs[before - 1].wait(20)
    expect(visit["#caption-status .now"]).to_contain_text(" of 10000")
    assert len(slow.runs) == before + 1
    visit["#caption-cancel"].click()
    expect(visit["#caption-status .said"]).to_have_text("Stopped.")
    assert slow.ended.wait(20)
    expect(visit["#caption-story .line"]).to_contain_text("at the picture")
    choose_method(visit, "Grad-CAM")
    expect(visit["#caption-status .said"]).to_contain_text("Grad-CAM took ")


def test_new_maps_wait_until_the_old_ones_are_given_up(visit, slow):
    choose(visit, "Cat")
    choose_method(visit, "Slow")
    expect(visit["#caption-status .now"]).to_contain_text(" of 10000")
    before = len(slow.runs)
    with visit.late_ends():
        describe(visit, "a red")
        expect(visit[f"{WORDS}.given"]).to_have_count(2)
        assert slow.runs[before - 1].wait(20)
        visit.page.wait_for_timeout(1000)
        assert len(slow.runs) == before
    expect(visit["#caption-status .now"]).to_contain_text(" of 10000")
    expect(visit["#caption-story .heat"]).to_be_hidden()
    visit["#caption-cancel"].click()
    expect(visit["#caption-status .said"]).to_have_text("Stopped.")
    assert slow.ended.wait(20)


def test_after_an_error_the_page_is_as_before(visit):
    choose(visit, "Cat")
    choose_method(visit, "Broken")
    expect(visit["#caption-status .said"]).to_have_text("Stopped.")
    expect(visit["#caption-method input"]).to_have_value("Attention")
    choose_method(visit, "Grad-CAM")
    expect(visit["#caption-status .said"]).to_contain_text("Grad-CAM took ")


def test_what_refuses_says_why_and_the_old_maps_come_back(visit):
    choose(visit, "Cat")
    looked = heat(visit)
    choose_method(visit, "Refusing")
    visit.says("#caption-note", "This picture is refused.")
    expect(visit["#caption-method input"]).to_have_value("Attention")
    expect(visit["#caption-cancel"]).to_have_count(0)
    expect(visit["#caption-story .heat"]).to_be_visible()
    assert heat(visit) == looked
    choose_method(visit, "Grad-CAM")
    expect(visit["#caption-status .said"]).to_contain_text("Grad-CAM took ")
    expect(visit["#caption-note p"]).to_have_count(0)


def test_ask_and_caption_are_apart_and_another_picture_clears_the_caption(visit):
    choose(visit, "Cat")
    visit.page.get_by_role("tab", name="Ask").click()
    expect(visit["#view .empty"]).to_be_visible()
    visit.choose("Coffee")
    visit.page.get_by_role("tab", name="Caption").click()
    expect(visit[WORDS].first).to_be_visible()
    visit["#caption-picture"].get_by_label("Remove Image").click()
    expect(visit["#caption-story .empty"]).to_be_visible()
    expect(visit["#caption-others .others"]).to_be_hidden()


def test_nothing_sticks_out_sideways(visit):
    room = "document.documentElement.scrollWidth - window.innerWidth"
    for width in (1440, 420):
        visit.page.set_viewport_size({"width": width, "height": 900})
        assert visit.page.evaluate(room) <= 0
        choose(visit, "Temple" if width == 420 else "Cat")
        assert visit.page.evaluate(room) <= 0
    choose_method(visit, "Occlusion")
    expect(visit["#caption-status .said"]).to_contain_text("Occlusion took ")
    assert visit.page.evaluate(room) <= 0
