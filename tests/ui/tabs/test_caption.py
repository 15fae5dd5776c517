"""The Caption tab without a browser."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import io
import json
import math
import re

import gradio as gr
import numpy as np
import pytest
from helpers.tiny import tiny_answerer, tiny_captioner
from PIL import Image

from app import create_demo, main
from saliency import registry
from saliency.types import Cancelled
from ui.components import events, examples
from ui.presenters import answers, captions
from ui.presenters.captions import CaptionRequest
from ui.tabs import caption
from vqa.engine import Engine
from vqa.errors import BadImage, BadText
from vqa.models import Caption

CAT = str(examples.EXAMPLES[0].path)


def engine_of(**captioners):
    return Engine(tiny_answerer(), captioners)


@pytest.fixture(scope="module")
def engine():
    both = {"one": tiny_captioner(), "two": tiny_captioner(1, decoder="bilstm")}
    return engine_of(**both, blind=tiny_captioner(2, attention="none"))


@pytest.fixture(scope="module")
def told(engine):
    return captions.describe(engine, CaptionRequest(CAT, "there is", "one", 3))


def built(engine):
    """The tab and the page that it is part of."""
    tabs = []

    async def build():  # without a running event loop, gradio makes some and leaves them open
        with pytest.MonkeyPatch.context() as patch:
            kept = caption._telling
            patch.setattr(caption, "_telling", lambda note: tabs.append(kept(note)) or tabs[0])
            return create_demo(engine)

    return asyncio.run(build()), tabs[0] if tabs else None


@pytest.fixture(scope="module")
def page(engine):
    return built(engine)


def a_caption(**changes):
    """Two words: the first looks half and everywhere, the second wholly and to the lower left."""
    attention = np.full((2, 7, 7), 0.5 / 49, dtype=np.float32)
    attention[1] = 0
    attention[1, 6, 0] = 1
    fields = {
        "text": "a dog",
        "words": ("a", "dog"),
        "word_probs": (0.995, 0.62),
        "attention": attention,
        "log_prob": math.log(0.3),
        "alternatives": (("a dog", math.log(0.3)), ("a cat", math.log(0.1))),
    }
    return Caption(**(fields | changes))


def decode(uri):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))


def maps_of(caption, label=""):
    picture = answers.shrink(Image.new("RGB", (40, 30)))
    return captions.drawn(picture, caption, captions.attention_maps(caption), label)


def test_a_caption_is_told_word_by_word():
    picture = answers.shrink(Image.new("RGB", (40, 30)))
    story = captions.telling(7, picture, a_caption(), given=1)
    assert (story["number"], story["statement"], story["picture"]) == (7, "a dog", picture.uri)
    assert [word["text"] for word in story["words"]] == ["a", "dog"]
    assert [word["probability"] for word in story["words"]] == [0.995, 0.62]
    assert [word["said"] for word in story["words"]] == [
        "a, given, >99% likely",
        "dog, 62% likely",
    ]
    assert story["waiting"]
    assert story["maps"] == []
    assert story["doubt"] == ""


def test_a_doubtful_caption_is_told_with_a_warning():
    picture = answers.shrink(Image.new("RGB", (40, 30)))
    story = captions.telling(7, picture, a_caption(unsure=True), given=0)
    assert story["doubt"] == "I am not sure what this shows: "
    assert story["statement"] == "I am not sure what this shows: a dog"


def test_the_word_that_looked_the_most_is_first():
    assert captions.looked_most(a_caption()) == 1
    assert captions.looked_most(a_caption(attention=a_caption().attention[::-1])) == 0
    assert captions.looked_most(a_caption(attention=None)) == 0


def test_where_all_words_look_alike_the_sharpest_is_first():
    attention = a_caption().attention.copy()
    attention[0] *= 2  # now both sum to 1, as with soft attention
    assert attention.sum() == pytest.approx(2)
    assert captions.looked_most(a_caption(attention=attention)) == 1


def test_maps_of_all_words_share_one_scale():
    faint, strong = (decode(each["heat"])[..., 3] for each in maps_of(a_caption()))
    assert strong.max() == 255
    assert 0 < faint.max() < 40


def test_a_map_says_how_much_its_word_looked_and_where():
    first, second = maps_of(a_caption())
    assert first["line"] == '"a" >99%: looked 50% at the picture'
    assert second["line"] == '"dog" 62%: looked 100% at the picture'
    assert first["words"].startswith("Spread over the whole picture")
    assert second["words"] == "Mostly lower left, 100% of the mass in 10% of the area."
    assert maps_of(a_caption(), "Attention")[1]["line"] == '"dog" 62%: Attention'


def test_a_word_that_cannot_be_has_a_map_too():
    assert len(maps_of(a_caption(word_probs=(0.0, 1.0)))) == 2


def test_captions_are_ranked_with_their_shares():
    assert captions.ranked(a_caption()) == [
        {"text": "a dog", "share": 0.75, "percent": "75%"},
        {"text": "a cat", "share": 0.25, "percent": "25%"},
    ]
    least = a_caption(alternatives=(("a", -2000.0), ("b", -3000.0)))
    assert [each["percent"] for each in captions.ranked(least)] == ["100%", "0%"]


def test_models_are_called_by_their_kind_and_by_name_only_where_it_takes_one(engine):
    called = [("LSTM, one", "one"), ("BiLSTM", "two"), ("LSTM, blind", "blind")]
    assert captions.labels(engine) == called
    one = engine_of(**{"/home/me/words": tiny_captioner()})
    assert captions.labels(one) == [("LSTM", "/home/me/words")]


def test_a_picture_is_described_with_a_map_a_word(told):
    assert told.caption.text.startswith("there is ")
    assert len(told.caption.alternatives) == 3
    given = [word["given"] for word in told.story["words"]]
    assert given == [True, True] + [False] * (len(given) - 2)
    assert len(told.story["maps"]) == len(given)
    assert told.story["method"] == "attention"
    assert not told.story["waiting"]
    for place, map in enumerate(told.story["maps"]):
        looked = f"{round(100 * told.caption.attention[place].sum())}%"
        assert map["line"].endswith(f": looked {looked} at the picture")


def test_the_same_words_again_are_another_story(engine, told):
    again = captions.describe(engine, CaptionRequest(CAT, "there is", "one", 3))
    assert again.caption.text == told.caption.text
    assert again.story["number"] != told.story["number"]


def test_no_start_is_an_empty_one(engine):
    assert captions.describe(engine, CaptionRequest(CAT, None, "two", 1)).caption.words


def test_a_start_that_the_model_does_not_know_is_named(engine):
    with pytest.raises(BadText, match="zebra"):
        captions.describe(engine, CaptionRequest(CAT, "a zebra", "two", 3))
    with pytest.raises(BadText, match="100,000 characters"):
        captions.describe(engine, CaptionRequest(CAT, "a" * 100_000, "two", 3))


def test_a_method_explains_all_words_in_one_call_and_once(engine, told, monkeypatch):
    calls, explain = [], engine.explain_caption

    def counted(*arguments, **options):
        calls.append(arguments)
        return explain(*arguments, **options)

    monkeypatch.setattr(engine, "explain_caption", counted)
    states = []
    captions.explain(engine, told, "occlusion", states.append)
    assert calls == [(CAT, told.caption.words)]
    bars = [state["status"]["done"] for state in states[:-1]]
    assert bars == sorted(bars)
    assert len(bars) > 2
    last = states[-1]
    assert last["status"]["said"].startswith("Occlusion took ")
    assert last["tools"] == {"plain": False, "signed": True, "note": ""}
    assert last["story"]["method"] == "occlusion"
    assert last["story"]["number"] == told.story["number"]
    assert len(last["story"]["maps"]) == len(told.caption.words)
    assert last["story"]["maps"][0]["line"].endswith(": Occlusion")
    for method in ("attention", "occlusion"):
        states.clear()
        captions.explain(engine, last["told"], method, states.append)
        assert [state["story"]["method"] for state in states] == [method]
        assert states[0]["story"]["maps"] == last["told"].made[method]
    assert len(calls) == 1


def test_who_does_not_want_to_know_any_more_stops_the_work(engine, told):
    def leave(state):
        if state["status"]["done"]:
            raise Cancelled

    with pytest.raises(Cancelled):
        captions.explain(engine, told, "occlusion", leave)
    assert engine.caption(CAT).words


def test_a_model_without_attention_waits_for_another_methods_maps(engine, page):
    blind = captions.describe(engine, CaptionRequest(CAT, "", "blind", 3))
    names = captions.methods(engine, blind)
    assert names == [name for name in registry.METHODS if name != "attention"]
    _, tab = page
    state = caption.told_in(tab, engine, blind, "attention")
    assert state[tab.method].value == names[0]
    assert state[tab.story]["waiting"]
    assert state[tab.told].story == state[tab.story]
    states = []
    captions.explain(engine, state[tab.told], names[0], states.append)
    assert not states[-1]["story"]["waiting"]


def test_a_picture_that_is_gone_is_told(engine, told):
    gone = dataclasses.replace(told, path=CAT + ".gone")
    with pytest.raises(BadImage):
        captions.explain(engine, gone, "grad_cam", lambda _state: None)
    with pytest.raises(BadImage):
        captions.describe(engine, CaptionRequest(gone.path, "", "two", 3))


def test_no_template_holds_what_the_model_said(engine, told, page):
    _, tab = page
    state = caption.told_in(tab, engine, told, "attention")
    compiled = 0
    for component, value in state.items():
        if not isinstance(component, gr.HTML):
            continue
        if re.search(r"\$\{|\{\{", component.html_template):
            said = json.dumps(value)
            assert not re.search("circle|square|there|left", said)
            compiled += 1
    assert compiled == 2  # the legends and the progress; the words are put in by scripts
    assert "there is" in json.dumps(state[tab.story])
    assert "there is" in json.dumps(state[tab.others])


def test_no_event_of_the_tab_is_public_and_all_work_waits_in_one_queue(page):
    demo, _ = page
    assert list(demo.get_api_info()["named_endpoints"]) == ["/answer", "/explain", "/caption"]
    assert demo.get_api_info()["unnamed_endpoints"] == {}
    model = [fn for fn in demo.fns.values() if fn.concurrency_id == events.MODEL["concurrency_id"]]
    assert len(model) == 12 + 5  # Ask's, and here: /caption, three ways to ask, one to explain


def test_without_a_captioner_there_is_no_tab(tiny_checkpoint):
    demo, tab = built(Engine.load(tiny_checkpoint))
    assert tab is None
    assert [b.label for b in demo.blocks.values() if isinstance(b, gr.Tab)] == ["Ask", "Models"]


def test_one_model_is_no_choice():
    demo, _ = built(engine_of(one=tiny_captioner()))
    (model,) = (b for b in demo.blocks.values() if b.elem_id == "caption-model")
    assert model.choices == [("LSTM", "one")]
    assert not model.visible


def test_captioners_are_named_at_the_start(tiny_checkpoint, tmp_path, monkeypatch):
    from app import SWITCHES

    for name, value in SWITCHES.items():
        monkeypatch.setenv(name, value)
    asked = ["--vqa", str(tiny_checkpoint), "--captioner", str(tmp_path / "nowhere")]
    with pytest.raises(SystemExit, match="nowhere"):
        main(asked)
