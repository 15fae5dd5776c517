"""The command for one picture, run in this process where nothing depends on a fresh one."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys

import numpy as np
import pytest
from helpers.docs import API
from helpers.emoji_data import tiny_emoji
from helpers.paths import ROOT
from helpers.tiny import draw, tiny_gaze
from PIL import Image

from saliency import METHODS
from vqa import checkpoints
from vqa.__main__ import COMMANDS, main
from vqa.engine import Engine

QUESTION = "what color is it?"
LINE = re.compile(r"^\.venv/bin/python -m vqa (.+)$", re.M)
EXAMPLES = LINE.findall(API)


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    path.write_bytes(draw("red", "square", 300))
    return path


@pytest.fixture(scope="module")
def models(tmp_path_factory, tiny_checkpoint, tiny_captioner_checkpoint):
    """A folder a command, with its model."""
    folder = tmp_path_factory.mktemp("models")
    return {
        "answer": tiny_checkpoint,
        "caption": tiny_captioner_checkpoint,
        "gaze": checkpoints.save(tiny_gaze(), folder / "gaze"),
        "emoji": checkpoints.save(tiny_emoji(), folder / "emoji"),
    }


@pytest.fixture
def run(models, capsys):
    """A function that runs a command on its tiny model and returns what it prints."""

    def run(command, *arguments):
        main([command, *map(str, arguments), "--model", str(models[command])])
        out, error = capsys.readouterr()
        assert error == ""
        assert out.count("\n") == 1
        return out.rstrip("\n")

    return run


def picture(path):
    return np.asarray(Image.open(path).convert("RGB"), dtype=float)


def test_an_answer_is_one_line_and_all_of_it_is_json(run, photo, models):
    found = Engine.load(models["answer"]).answer(photo, QUESTION)
    assert run("answer", photo, QUESTION) == f"{found.text} ({found.probability:.0%})"
    data = json.loads(run("answer", photo, QUESTION, "--json"))
    assert data["top"] == [list(guess) for guess in found.top]
    assert data["attention"] == found.attention.tolist()
    assert "why" not in data


def test_words_that_are_not_known_are_named(run, photo):
    assert run("answer", photo, "what zebra?").endswith("; words that it does not know: zebra")


@pytest.mark.parametrize("method", [None, "occlusion", "attention"])
def test_why_writes_the_explanation_of_the_answer(run, photo, models, tmp_path, method):
    chosen = ["--method", method] if method else []
    out = tmp_path / "why.png"
    line = run("answer", photo, QUESTION, "--why", out, *chosen)
    (why,) = Engine.load(models["answer"]).explain(photo, QUESTION, method=method or "grad_cam")
    assert np.array_equal(picture(out), np.asarray(why.overlay(Image.open(photo)), dtype=float))
    assert "; why: " in line
    data = json.loads(run("answer", photo, QUESTION, "--why", out, *chosen, "--json"))["why"]
    assert (data["method"], data["label"]) == (why.method, why.label)


def test_every_method_can_be_chosen(capsys):
    with pytest.raises(SystemExit):
        main(["answer", "--help"])
    assert "{" + ",".join(METHODS) + "}" in capsys.readouterr().out


def test_a_caption_is_one_line_and_its_words_are_drawn(run, photo, models, tmp_path):
    out = tmp_path / "words.jpg"
    data = json.loads(run("caption", photo, "--json", "--why", out))
    assert run("caption", photo) == data["caption"]
    assert [why["label"] for why in data["why"]] == [word for word, _ in data["words"]]
    with Image.open(out) as drawn:
        assert drawn.format == "JPEG"
        assert drawn.width > 4 * 300  # pictures side by side


def test_gaze_is_told_and_drawn(run, photo, tmp_path):
    out = tmp_path / "gaze.png"
    data = json.loads(run("gaze", photo, "--json", "--why", out))
    assert run("gaze", photo) == data["looked"]
    assert np.shape(data["map"]) == (14, 14)
    assert picture(out).shape == picture(photo).shape
    assert np.abs(picture(out) - picture(photo)).mean() > 2


def test_a_sentence_is_felt(run, models):
    engine = Engine.load(models["answer"], emoji=models["emoji"])
    found = engine.emoji("I am happy", "mood")
    line = run("emoji", "I am happy", "--head", "mood")
    assert line == f"{found.emoji} {found.label} ({found.probability:.0%})"
    face = engine.emoji("I am happy")
    assert run("emoji", "I am happy") == f"{face.emoji} ({face.probability:.0%})"
    words = json.loads(run("emoji", "I am happy", "--json"))["words"]
    assert [word for word, _ in words] == ["I", "am", "happy"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["answer", "gone.jpg", QUESTION], "The picture cannot be read"),
        (["answer", "PHOTO", " "], "The question is empty"),
        (["answer", "PHOTO", "a" * 100_000], "100,000 characters and the limit is 1,000"),
        (["answer", "PHOTO", QUESTION, "--why", "no/such/folder/why.png"], "no/such/folder"),
        (["answer", "PHOTO", QUESTION, "--model", "nowhere"], "'nowhere' is no folder"),
        (["caption", "PHOTO", "--model", "MODEL"], "holds a Answerer, no captioner"),
        (["gaze", __file__], "The file is a text file"),
        (["emoji", "a" * 100_000], "100,000 characters"),
        (["emoji", ""], "There is no word in the text"),
        (["emoji", "hello", "--head", "tail"], "there is no head 'tail'; there are: face, mood"),
    ],
)
def test_what_is_wrong_is_one_line_and_status_1(arguments, said, models, photo, capsys):
    named = {"PHOTO": str(photo), "MODEL": str(models["answer"])}
    arguments = [named.get(word, word) for word in arguments]
    if "--model" not in arguments:
        arguments += ["--model", str(models[arguments[0]])]
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert re.fullmatch(f"error: .*{re.escape(said)}.*", end.value.code)  # one line: . is no \n
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "wrong", [["--method", "lime"], ["--why", "why.gif"], ["--why", "a.png", "--method", "zap"]]
)
def test_a_wrong_flag_is_a_matter_of_usage(wrong, photo, capsys):
    with pytest.raises(SystemExit) as end:
        main(["answer", str(photo), QUESTION, *wrong])
    assert end.value.code == 2
    assert "error: " in capsys.readouterr().err


def test_a_fresh_process_ends_with_one_line_and_status_1(models):
    command = [sys.executable, "-m", "vqa", "gaze", "gone.jpg", "--model", str(models["gaze"])]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(r"error: The picture cannot be read .*\n", done.stderr)


def test_a_command_loads_its_own_model_alone(run, photo, monkeypatch, tmp_path):
    monkeypatch.setattr("vqa.checkpoints.storage.SHIPPED", tmp_path)  # none ships
    assert run("gaze", photo)
    assert run("caption", photo)
    assert run("emoji", "hello")


def test_a_model_that_does_not_ship_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr("vqa.checkpoints.storage.SHIPPED", tmp_path)
    with pytest.raises(SystemExit, match="error: 'emoji' is no folder, no shipped model"):
        main(["emoji", "hello"])


@pytest.mark.parametrize("line", EXAMPLES, ids=lambda line: line.split()[0])
def test_the_examples_of_the_readme_run(line, run, photo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.open(photo).save("photo.jpg")
    command, *arguments = shlex.split(line)
    assert run(command, *arguments)
    if "--why" in arguments:
        Image.open(arguments[arguments.index("--why") + 1]).verify()


def test_the_readme_has_an_example_of_every_command():
    assert [line.split()[0] for line in EXAMPLES] == list(COMMANDS)
