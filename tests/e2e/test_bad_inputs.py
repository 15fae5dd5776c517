"""What people will feed the running server, over HTTP: read, or refused in words; never a trace."""

from __future__ import annotations

import json
import re

import pytest
from helpers.emoji_data import FACES, tiny_emoji
from helpers.picture_files import RAMPS, READ, REFUSED, encode, quarters
from helpers.tiny import draw, tiny_answerer, tiny_captioner, tiny_gaze

from benchmarks.server import ROOT, Refused, Visitor, serving
from vqa import checkpoints

QUESTION = "what color is it?"
ARGUMENTS = {  # of each endpoint that takes a picture, after the picture
    "answer": (QUESTION,),
    "explain": (QUESTION, "grad_cam", ""),
    "caption": ("", 1, "LSTM"),
    "gaze": (),
}
FILES = [row for row in RAMPS if isinstance(RAMPS[row], bytes)]
TOO_LARGE = "over 10 MB"  # refused before it is a file
TRACE = re.compile(rf'Traceback|File "|\.py\b|{re.escape(str(ROOT))}|site-packages')


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The page with every model, served as a person starts it."""
    folder = tmp_path_factory.mktemp("models")
    models = {
        "vqa": tiny_answerer(),
        "captioner": tiny_captioner(),
        "gaze": tiny_gaze(),
        "emoji": tiny_emoji(),
    }
    flags = []
    for name, model in models.items():
        flags += [f"--{name}", str(checkpoints.save(model, folder / name))]
    with serving(*flags) as server:
        yield server


@pytest.fixture(scope="module")
def visitor(server):
    with Visitor(server.url) as visitor:
        yield visitor


@pytest.fixture(autouse=True)
def and_a_good_request_is_answered_afterwards(visitor):
    yield
    picture = visitor.upload(draw("red", "square"))
    assert visitor.call("answer", picture, QUESTION)[0]["answer"]


def refused(visitor, name, *data):
    """The message of a call that fails."""
    with pytest.raises(Refused) as caught:
        visitor.call(name, *data)
    said = str(caught.value)
    assert not TRACE.search(said)
    return said


@pytest.mark.parametrize("row", [*READ, *FILES])
def test_a_good_file_is_answered_about(visitor, row):
    picture = visitor.upload({**READ, **RAMPS}[row], "photo.jpg")
    (found,) = visitor.call("answer", picture, QUESTION)
    assert found["answer"] == found["top"][0][0]


@pytest.mark.parametrize("row", [row for row in REFUSED if row not in (TOO_LARGE, "empty")])
def test_a_bad_file_is_refused_in_words_by_every_endpoint(visitor, row):
    data, words = REFUSED[row]
    picture = visitor.upload(data)
    for name, arguments in ARGUMENTS.items():
        assert re.search(words, refused(visitor, name, picture, *arguments)), name


@pytest.mark.parametrize("megabytes", [10.5, 12, 40])
def test_a_file_that_is_too_large_is_refused_with_413(visitor, megabytes):
    with pytest.raises(Refused, match=r"maximum allowed size|10 MB") as caught:
        visitor.upload(bytes(int(megabytes * 2**20)))
    assert caught.value.status == 413


def test_a_body_that_does_not_say_its_size_is_refused_with_413(visitor):
    chunks = (b" " * 2**20 for _ in range(14))
    reply = visitor.http.post("call/answer", content=chunks)
    assert (reply.status_code, "11 MB" in reply.text) == (413, True)


def test_many_files_at_once_are_refused_with_413(visitor):
    files = [("files", (f"{number}.jpg", bytes(2**20))) for number in range(14)]
    assert visitor.http.post("upload", files=files).status_code == 413


@pytest.mark.parametrize("name", ["фото 写真.jpg", 'it\'s "it".jpg', "a" * 300, "../../x", "a.eps"])
def test_the_name_of_an_upload_does_not_matter(visitor, name):
    picture = visitor.upload(encode(quarters(), "JPEG"), name)
    assert visitor.call("answer", picture, QUESTION)[0]["answer"]


def test_an_rgba_upload_under_the_name_of_a_gif_is_answered(visitor):
    picture = visitor.upload(encode(quarters().convert("RGBA"), "PNG"), "a.gif")
    assert visitor.call("answer", picture, QUESTION)[0]["answer"]


@pytest.mark.parametrize("name", ARGUMENTS)
def test_a_missing_picture_is_asked_for(visitor, name):
    assert "There is no picture" in refused(visitor, name, None, *ARGUMENTS[name])


QUESTIONS = {
    "none": ("", "The question is empty"),
    "spaces": (" \n\t ", "The question is empty"),
    "null": (None, "The question is empty"),
    "100,000 characters": ("a" * 100_000, "100,000 characters and the limit is 1,000"),
}


@pytest.mark.parametrize("row", QUESTIONS)
def test_a_question_that_cannot_be_asked_is_refused_in_words(visitor, row):
    question, words = QUESTIONS[row]
    picture = visitor.upload(draw("red", "square"))
    for name in ("answer", "explain"):
        assert words in refused(visitor, name, picture, question, *ARGUMENTS[name][1:])


ODD = {
    "emoji": ("is it a \N{ZEBRA FACE}?", []),
    "right to left": ("ما هذا؟", ["ما", "هذا"]),
    "control characters": ("what\0 is\x07 it \x1b", []),
    "markdown picture": ("is it ![zebra](https://example.com/a.png)", ["zebra", "https"]),
    "script link": ("is it [what](javascript:alert(1))", ["javascript", "alert"]),
    "markup": ("is it <img src=y onerror=zap(1)> ${zap(1)} {{zap}}", ["img", "zap"]),
    "no known word": ("zebra xylophone", ["zebra", "xylophone"]),
}


@pytest.mark.parametrize("row", ODD)
def test_an_odd_question_is_answered_and_its_unknown_words_are_told(visitor, row):
    question, unknown = ODD[row]
    (found,) = visitor.call("answer", visitor.upload(draw("red", "square")), question)
    assert found["answer"]
    assert set(unknown) <= set(found["unknown"])


@pytest.mark.parametrize(
    ("text", "words"), [("", "no word"), (" \n", "no word"), ("a" * 100_000, "the limit is 10,000")]
)
def test_a_text_that_cannot_be_felt_is_refused_in_words(visitor, text, words):
    assert words in refused(visitor, "emoji", text, "face")


@pytest.mark.parametrize("text", ["\N{ZEBRA FACE}", "ما هذا؟", "so\0 happy\x1b", "<b>happy</b>"])
def test_an_odd_text_is_felt(visitor, text):
    assert visitor.call("emoji", text, "face")[0]["emoji"] in FACES


def test_what_people_send_is_no_news_to_the_operator(server):
    assert "Traceback" not in server.log()  # of all tests above; gradio traces what programs send


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("caption", ("a " * 50_000, 1, "LSTM"), "limit|too long|words"),
        ("caption", ("zebra", 1, "LSTM"), "zebra"),
        ("caption", ("", 1000, "LSTM"), "1000|maximum"),
        ("caption", ("", 1, "no such model"), "not in the list of choices"),
        ("explain", (QUESTION, "sunshine", ""), "not in the list of choices"),
        ("explain", (QUESTION, "grad_cam", "zebra"), '"zebra" is none of the 8 answers'),
    ],
)
def test_another_bad_argument_is_refused_in_words(visitor, name, arguments, words):
    picture = visitor.upload(draw("red", "square"))
    assert re.search(words, refused(visitor, name, picture, *arguments))


BODIES = {
    "no JSON": "{",
    "not an object": "[1]",
    "no data": "{}",
    "too few": '{"data": []}',
    "too many": json.dumps({"data": [None] * 99}),
    "numbers": '{"data": [1, 2]}',
    "a folder": json.dumps({"data": [{"path": "/etc"}, "what?"]}),
    "a file of the server": json.dumps({"data": [{"path": "/etc/passwd"}, "what?"]}),
    "an address": json.dumps({"data": [{"url": "http://127.0.0.1/a.png"}, "what?"]}),
    "half a character": json.dumps({"data": [None, "what is it \ud83d"]}),
    "deep": json.dumps({"data": [None, eval("[" * 90 + "]" * 90)]}),
}


@pytest.mark.parametrize("row", BODIES)
def test_a_malformed_call_is_refused_without_a_trace(visitor, row):
    reply = visitor.http.post("call/answer", content=BODIES[row])
    assert not TRACE.search(reply.text)
    if reply.is_success:
        with pytest.raises(Refused) as caught:
            visitor.result("answer", reply.json()["event_id"])
        assert not TRACE.search(str(caught.value))
