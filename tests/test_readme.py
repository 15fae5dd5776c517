"""README says what the code and its measurements say."""

import io
import json
import re

import pytest
from helpers.docs import API, PAGES, README
from helpers.paths import ROOT
from helpers.tiny import draw
from PIL import Image

from benchmarks.tables import filled
from saliency import METHODS, Maps, MethodSpec
from saliency.registry import table

RESULTS = json.loads((ROOT / "benchmarks/results.json").read_text(encoding="utf-8"))


def test_every_table_is_the_one_that_the_code_makes():
    assert filled(README) == README
    for text in PAGES.values():
        assert filled(text, "../") == text
    tables = re.findall(r"<!-- table: (\w+) -->", "".join((README, *PAGES.values())))
    expected = "answers captions gaze feelings methods faithfulness scaling latency caption_speed"
    assert sorted(tables) == sorted([*expected.split(), "load", "speed"])


def test_readme_is_the_door_and_no_house():
    assert README.count("\n") <= 150
    text = README.split("---\n", 2)[2]
    assert text.index("make run") < text.index("![") < text.index("## ")


def test_every_link_leads_somewhere():
    for path in (ROOT / "README.md", ROOT / "SECURITY.md", *(ROOT / "docs").glob("*.md")):
        for link in re.findall(r"\]\((?!https?:)([^)#]+)", path.read_text(encoding="utf-8")):
            assert (path.parent / link).exists(), f"{path.name}: {link}"


def test_a_table_that_there_is_not_is_an_error():
    with pytest.raises(KeyError, match="weather"):
        filled("<!-- table: weather -->\n<!-- end -->")


def test_a_new_method_has_its_line_in_the_table(monkeypatch):
    def sunshine(scorer, pixels, targets) -> Maps: ...

    monkeypatch.setitem(METHODS, "sunshine", MethodSpec(sunshine, "Sunshine", True, "free"))
    assert table().splitlines()[-1] == "| Sunshine | `sunshine` | signed | - | free |"


def test_the_figures_in_the_text_are_those_that_were_measured():
    text = PAGES["benchmarks"]
    assert f"writes {RESULTS['captions']['captions']['per_second']} captions a second" in text
    load, start, memory = (RESULTS["load"], *map(RESULTS["load"].get, ("start", "memory")))
    assert f"{memory['at rest']} MB at rest, and {memory['after']} MB" in text
    assert f"takes {load['overhead']['more']} ms more than" in text
    assert f"typed in {start['browser']} s after" in text
    assert f"answers in {start['first byte']} s, and a question in {start['answer']} s" in text
    soak = RESULTS["soak"]
    assert f"clients there were {soak['requests']} requests and no error" in text
    assert f"the memory grew by {soak['grew']} MB" in text
    one, bulk = RESULTS["feelings"]["one"], RESULTS["feelings"]["bulk"]
    assert f"felt in {one['milliseconds']} ms on one thread, {one['network']} of" in text
    assert f"together at {bulk['per_second']:,} a second" in text


def test_the_pictures_left_out_of_the_faithfulness_table_are_told():
    measured, text = RESULTS["faithfulness"], PAGES["explanations"]
    left_out = measured["answered alike on a flat picture"]
    assert f"over {measured['pictures']} pictures of the {measured['split']} split" in text
    assert f"{left_out} drawn before" in text


def test_the_space_s_settings_are_named():
    front = README.split("---")[1]
    settings = dict(re.findall(r"^(\w+): (.+)$", front, re.M))
    pinned = dict(re.findall(r"^([\w-]+)==([\w.]+)", (ROOT / "constraints.txt").read_text(), re.M))
    assert settings["sdk"] == "gradio"
    assert settings["sdk_version"] == pinned["gradio"]
    assert settings["app_file"] == "app.py"
    assert (ROOT / settings["app_file"]).exists()
    assert settings["license"] == "apache-2.0"


@pytest.mark.parametrize(
    "text", [README, API.partition("## At the command line")[0]], ids=["README", "api"]
)
def test_the_python_examples_run_as_they_stand(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.open(io.BytesIO(draw("red", "square", 300))).save("photo.jpg")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    exec(compile(code, "<example>", "exec"), {})
