"""The section "Why?" in a real browser."""

from __future__ import annotations

import pytest
from helpers.toy_methods import Slow, broken
from playwright.sync_api import expect

from saliency import registry
from saliency.types import MethodSpec
from ui.presenters import why
from ui.server import fair_queue

pytest_plugins = ["helpers.browser"]


CHEAP = {
    "smoothgrad": {"samples": 4},
    "integrated_gradients": {"steps": 4},
    "occlusion": {"window": 16, "stride": 16},
    "lime": {"samples": 32},
}


@pytest.fixture(scope="module")
def slow():
    return Slow(pace=0.02)


@pytest.fixture(scope="module")
def tiny_url(tiny_checkpoint, serving, slow):
    """The page with an untrained model, all methods, one that never ends and one that fails."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(why, "LIVE", CHEAP)
        patch.setitem(registry.METHODS, "slow", MethodSpec(slow, "Slow", False, "all of them"))
        patch.setitem(registry.METHODS, "broken", MethodSpec(broken, "Broken", False, "none"))
        with serving(tiny_checkpoint) as address:
            yield address


@pytest.fixture
def tiny(open_page, tiny_url):
    """A fresh tab on that page."""
    visit = open_page(tiny_url)
    yield visit
    assert visit.problems == []
    assert visit.strangers() == []


def choose_method(visit, label):
    visit["#why-method input"].click()
    visit.page.get_by_role("option", name=label, exact=True).click()


def explain(visit):
    visit["#why-explain"].click()
    expect(visit["#why-explain"]).to_be_disabled()
    expect(visit["#why-explain"]).to_be_enabled()
    expect(visit["#why-line p"]).to_be_visible()


def start_slow(visit):
    visit.choose("Cat")
    choose_method(visit, "Slow")
    visit["#why-explain"].focus()
    visit.page.keyboard.press("Enter")
    expect(visit["#why-status .now"]).to_contain_text(" of 10000")


def test_an_explanation_gives_three_maps_and_the_line(visit):
    visit.choose("Coffee")
    expect(visit["#why-heading"]).to_have_text(f"Why {visit['#answer h2'].inner_text()}?")
    explain(visit)
    expect(visit["#why-top figure"]).to_have_count(3)
    expect(visit["#why-top .heat, #why-top .nothing"]).to_have_count(3)
    guesses = visit["#guesses dt"].all_inner_texts()
    assert visit["#why-top strong"].all_inner_texts() == guesses[:3]
    for map in visit["#why-top .heat"].all():
        assert "of the mass in 10% of the area" in map.get_attribute("alt")
    expect(visit["#why-line"]).to_contain_text("Covering the marked 10%")
    expect(visit["#why-line"]).to_contain_text("a random 10%")
    expect(visit["#why-test img"]).to_have_count(1)
    expect(visit["#why-status"]).to_contain_text("Grad-CAM took ")
    expect(visit["#why-cancel"]).to_have_count(0)


def test_a_signed_method_has_two_hues_and_their_legend(tiny):
    tiny.choose("Coffee")
    explain(tiny)
    expect(tiny["#why-tools"]).to_contain_text("less")
    choose_method(tiny, "Occlusion")
    explain(tiny)
    expect(tiny["#why-tools"]).to_contain_text("for the answer")
    expect(tiny["#why-tools"]).not_to_contain_text("less")
    expect(tiny["#why-top .heat"]).to_have_count(3)


def test_a_visitor_who_goes_on_at_once_is_not_called_back(tiny):
    tiny.choose("Coffee")
    explain(tiny)
    tiny["#why-method input"].focus()
    tiny.page.wait_for_timeout(300)  # the focus goes back to the button after 100 ms
    expect(tiny["#why-method input"]).to_be_focused()


def test_the_slider_fades_the_maps_of_the_section_without_asking_the_server(visit):
    visit.choose("Rocket")
    explain(visit)
    asked = visit.asked()
    visit["#why-tools input[type=range]"].fill("20")
    expect(visit["#why-top .heat"].first).to_have_css("opacity", "0.2")
    expect(visit["#view .heat"]).to_have_css("opacity", "0.7")
    assert visit.asked() == asked


@pytest.mark.parametrize("width", [420, 1440])
def test_no_explanation_sticks_out_sideways(tiny, width, monkeypatch):
    monkeypatch.delitem(registry.METHODS, "slow")
    monkeypatch.delitem(registry.METHODS, "broken")
    tiny.page.set_viewport_size({"width": width, "height": 900})
    room = "document.documentElement.scrollWidth - window.innerWidth"
    tiny.choose("Temple")
    explain(tiny)
    assert tiny.page.evaluate(room) <= 0
    tiny["#why-compare"].click()
    expect(tiny["#why-status .said"]).to_contain_text("methods compared.")
    assert tiny.page.evaluate(room) <= 0


def test_comparing_shows_a_card_a_method_in_their_order(tiny, monkeypatch):
    monkeypatch.delitem(registry.METHODS, "slow")
    monkeypatch.delitem(registry.METHODS, "broken")
    tiny.choose("Cat")
    tiny["#why-compare"].click()
    expect(tiny["#why-status .said"]).to_contain_text("methods compared.")
    labels = [spec.label for spec in registry.METHODS.values()]
    assert tiny["#why-cards li strong"].all_inner_texts() == labels
    expect(tiny["#why-cards .waiting"]).to_have_count(0)
    expect(tiny["#why-cards .heat, #why-cards .nothing"]).to_have_count(len(labels))
    for card in tiny["#why-cards li"].all():
        assert card.locator(".verdict").inner_text()
    expect(tiny["#why-line"]).to_contain_text("methods")


def test_cancel_stops_the_work_and_gives_the_page_back(tiny, slow):
    start_slow(tiny)
    expect(tiny["#why-explain"]).to_be_disabled()
    expect(tiny["#why-cancel"]).to_be_focused()
    tiny.page.keyboard.press("Enter")
    expect(tiny["#why-status .said"]).to_have_text("Stopped.")
    assert slow.ended.is_set()
    expect(tiny["#why-cancel"]).to_have_count(0)
    expect(tiny["#why-top"]).to_have_count(0)
    expect(tiny["#why-explain"]).to_be_focused()
    before = tiny.heat()
    tiny.ask("is it a square?")
    tiny.wait_for_another_map(before)
    choose_method(tiny, "Grad-CAM")
    explain(tiny)


def test_another_question_stops_the_explanation_and_takes_it_away(tiny, slow):
    start_slow(tiny)
    before = tiny.heat()
    tiny.ask("is it a square?")
    tiny.wait_for_another_map(before)
    assert slow.ended.is_set()
    expect(tiny["#why-top"]).to_have_count(0)
    expect(tiny["#why-cancel"]).to_have_count(0)
    expect(tiny["#why-explain"]).to_be_enabled()
    choose_method(tiny, "Grad-CAM")
    explain(tiny)


def test_nothing_new_begins_before_the_old_explanation_is_given_up(tiny, slow):
    start_slow(tiny)
    before = tiny.heat()
    with tiny.late_ends():
        tiny.ask("is it a square?")
        tiny.wait_for_another_map(before)
        assert slow.ended.is_set()
        expect(tiny["#why-explain"]).to_be_disabled()
    expect(tiny["#why-explain"]).to_be_enabled()
    expect(tiny["#why-cancel"]).to_have_count(0)
    choose_method(tiny, "Slow")
    tiny["#why-explain"].click()
    expect(tiny["#why-status .now"]).to_contain_text(" of 10000")
    tiny["#why-cancel"].click()
    expect(tiny["#why-status .said"]).to_have_text("Stopped.")


def test_leaving_the_page_stops_the_explanation(tiny, slow, open_page, tiny_url):
    leaver = open_page(tiny_url)
    start_slow(leaver)
    leaver.page.close()
    tiny.choose("Coffee")
    assert slow.ended.wait(20)


def test_who_waits_for_another_can_cancel_too(tiny, slow, open_page, tiny_url):
    other = open_page(tiny_url)
    tiny.choose("Coffee")
    start_slow(other)
    tiny["#why-explain"].click()
    expect(tiny["#why-status .now"]).to_contain_text("Waits for its turn")
    tiny["#why-cancel"].click()
    expect(tiny["#why-status .said"]).to_have_text("Stopped.")
    assert not slow.ended.is_set()
    other.page.close()
    assert slow.ended.wait(20)


def test_after_an_error_the_page_is_as_before(tiny):
    tiny.choose("Cat")
    choose_method(tiny, "Broken")
    tiny["#why-explain"].click()
    expect(tiny["#why-status .said"]).to_have_text("Stopped.")
    expect(tiny["#why-explain"]).to_be_enabled()
    expect(tiny["#why-cancel"]).to_have_count(0)
    choose_method(tiny, "Grad-CAM")
    explain(tiny)


def test_who_has_slow_calls_waiting_already_is_told_so(open_page, tiny_url, monkeypatch):
    visit = open_page(tiny_url)
    visit.page.set_extra_http_headers({"X-Forwarded-For": "203.0.113.1"})
    visit.choose("Cat")
    monkeypatch.setattr(fair_queue, "MOST_SLOW", 0)
    visit["#why-explain"].click()
    expect(visit.page.get_by_text(fair_queue.TOO_MANY_SLOW).first).to_be_visible()
    expect(visit["#why-explain"]).to_be_enabled()
    monkeypatch.undo()
    explain(visit)
