"""The page's parts without a browser."""

from __future__ import annotations

import base64
import io
import re
import subprocess
import sys
from pathlib import Path

import gradio as gr
import httpx
import numpy as np
import pytest
from gradio.data_classes import ImageData
from helpers.paths import ROOT
from helpers.serving import served
from PIL import Image

from app import SWITCHES, main
from ui.components import events, examples
from ui.presenters import answers
from ui.presenters.conversation import Evidence, Turn
from ui.sections import evidence_panel
from ui.server import security
from vqa.engine import Engine
from vqa.models import Answer
from vqa.preprocessing import question_text
from vqa.preprocessing.images import load


@pytest.fixture(scope="module")
def engine(tiny_checkpoint):
    return Engine.load(tiny_checkpoint)


@pytest.fixture(scope="module")
def demo(engine, tmp_path_factory):
    """The page, served."""
    with served(engine, tmp_path_factory.mktemp("uploads")) as demo:
        yield demo


def an_answer(**changes):
    attention = np.zeros((7, 7), dtype=np.float32)
    attention[6, 0] = 1
    fields = {
        "text": "frisbee",
        "probability": 0.5,
        "top": (("frisbee", 0.5), ("ball", 0.25)),
        "attention": attention,
        "word_weights": (("what", 0.25), ("zebra", 0.75)),
        "unknown": (),
    }
    return Answer(**(fields | changes))


def map_on(picture, tmp_path):
    path = tmp_path / "a.png"
    picture.save(path)
    found = an_answer()
    grounds = Evidence(found.attention, "Where the model looked", top=found.top)
    return evidence_panel.layers(Turn("answerer", str(path), "what?", found.text, grounds=grounds))


def decode(uri):
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))


@pytest.mark.parametrize("example", examples.EXAMPLES, ids=lambda example: example.label)
def test_every_example_is_installed_and_has_questions_that_can_be_asked(example):
    assert min(load(example.path).size) >= 300
    assert len(example.questions) == 3
    for question in example.questions:
        assert question_text.clean_question(question) == question
    assert decode(example.thumbnail()).size == (160, 120)


def test_finding_the_examples_imports_none_of_their_packages():
    code = (
        "import sys; from ui.components.examples import EXAMPLES;"
        "[x.thumbnail() for x in EXAMPLES];"
        "print(sorted({'skimage', 'sklearn', 'gradio', 'torch'} & set(sys.modules)))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "[]"


def test_importing_the_app_imports_nothing_heavy():
    code = "import sys, app; print(sorted({'gradio', 'torch', 'PIL'} & set(sys.modules)))"
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "[]"


def test_a_model_that_is_not_there_ends_the_app_in_one_line(tmp_path, monkeypatch):
    for name, value in SWITCHES.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as stop:
        main(["--vqa", str(tmp_path / "nowhere")])
    assert "nowhere" in str(stop.value)


def test_the_map_lies_on_the_picture_and_is_told_in_words(tmp_path):
    layers = map_on(Image.new("RGB", (2000, 1000), "white"), tmp_path)
    picture, heat = decode(layers["picture"]), decode(layers["heat"])
    assert picture.format == "JPEG"
    assert picture.size == (960, 480)
    assert heat.mode == "RGBA"
    assert heat.size == (192, 96)
    assert layers["words"] == (
        "Where the model looked: mostly lower left, 100% of the mass in 10% of the area."
    )


@pytest.mark.parametrize("size", [(5000, 120), (120, 5000)])
def test_the_thinnest_picture_has_a_map(size, tmp_path):
    layers = map_on(Image.new("RGB", size), tmp_path)
    assert min(decode(layers["heat"]).size) >= 1


def test_nothing_that_the_user_or_the_model_said_goes_into_html(tmp_path):
    layers = map_on(Image.new("RGB", (40, 30)), tmp_path)
    uri = re.compile(r"data:image/(jpeg|png);base64,[A-Za-z0-9+/=]+")
    assert set(layers) == {"picture", "alt", "heat", "words", "trust"}
    assert layers["trust"] == ""
    assert uri.fullmatch(layers["picture"])
    assert uri.fullmatch(layers["heat"])
    assert not re.search("frisbee|ball|zebra", layers["words"])


def test_words_are_shaded_by_weight_and_stay_readable():
    assert answers.shades(an_answer()) == [("what", pytest.approx(0.2)), ("zebra", 0.6)]


def test_unknown_words_are_named():
    assert answers.unknown_words(an_answer()) == ""
    one = answers.unknown_words(an_answer(unknown=("zebra",)))
    assert one == 'I do not know the word "zebra".'
    every = answers.unknown_words(an_answer(unknown=("what", "zebra")))
    assert every.startswith('I do not know the words "what", "zebra".')
    assert "guess" in every


def test_a_note_is_shown_letter_by_letter():
    marks = "".join(map(chr, range(33, 127)))
    escaped = answers.plain(marks)
    assert re.sub(r"\\(.)", r"\1", escaped) == marks
    assert not re.search(r"(?<!\\)(?:\\\\)*[*_`<\[!&$]", escaped)


def test_without_further_models_two_endpoints_are_public(demo):
    assert list(demo.get_api_info()["named_endpoints"]) == ["/answer", "/explain"]
    assert demo.get_api_info()["unnamed_endpoints"] == {}


def test_no_call_gets_around_the_queue(demo):
    question = {"data": [None, "what is it?"]}
    reply = httpx.post(demo.local_url + "gradio_api/run/answer", json=question)
    assert reply.status_code >= 400


def test_the_server_refuses_more_than_ten_megabytes(demo):
    files = {"files": ("big.jpg", b"\xff" * (10 * 2**20 + 1))}
    assert httpx.post(demo.local_url + "gradio_api/upload", files=files).status_code == 413


def test_every_answer_carries_the_content_policy(demo):
    for path in ("", "config", "no/such/page"):
        policy = httpx.get(demo.local_url + path).headers["Content-Security-Policy"]
        assert "default-src 'self'" in policy
        assert "http" not in policy.partition("frame-ancestors")[0]


def test_calls_wait_in_one_queue_with_an_end(demo):
    assert demo._queue.max_size == 64
    model = [fn for fn in demo.fns.values() if fn.concurrency_id == "model"]
    assert len(model) == 12  # /answer, /explain, seven ways to ask, two to explain, and what if
    assert demo.api_open is False


def test_an_upload_is_handed_over_unopened(tmp_path):
    picture = events.as_uploaded(gr.Image(type="filepath", image_mode=None))
    bomb = ImageData(path=str(tmp_path / "bomb"), orig_name="a.gif")
    assert picture.preprocess(bomb) == str(tmp_path / "bomb")
    assert picture.preprocess(ImageData(url="data:image/png;base64,AAAA")) is None
    assert picture.preprocess(None) is None


def test_launch_keeps_to_the_limits():
    settings = security.launch_settings()
    assert settings["max_file_size"] == "10mb"
    assert settings["show_error"] is False
    assert all(Path(path).is_file() for path in settings["allowed_paths"])
