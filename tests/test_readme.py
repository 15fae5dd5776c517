"""README says what the code and its measurements say."""

import json
import re

import pytest
from helpers.paths import ROOT

from benchmarks.tables import filled
from saliency import METHODS, Maps, MethodSpec
from saliency.registry import table

README = (ROOT / "README.md").read_text(encoding="utf-8")
RESULTS = json.loads((ROOT / "benchmarks/results.json").read_text(encoding="utf-8"))


def test_every_table_is_the_one_that_the_code_makes():
    tables = "answers captions gaze feelings methods faithfulness scaling latency caption_speed"
    assert re.findall(r"<!-- table: (\w+) -->", README) == [*tables.split(), "load", "speed"]
    assert filled(README) == README


def test_a_table_that_there_is_not_is_an_error():
    with pytest.raises(KeyError, match="weather"):
        filled("<!-- table: weather -->\n<!-- end -->")


def test_a_new_method_has_its_line_in_the_table(monkeypatch):
    def sunshine(scorer, pixels, targets) -> Maps: ...

    monkeypatch.setitem(METHODS, "sunshine", MethodSpec(sunshine, "Sunshine", True, "free"))
    assert table().splitlines()[-1] == "| Sunshine | `sunshine` | signed | - | free |"


def test_the_engine_adds_little_to_the_bare_network():
    ratios = RESULTS["latency"]["ratios"]
    assert ratios["first"] <= 1.3
    assert ratios["second"] <= 1.5
    assert ratios.get("gaze", 0) <= 1


def test_the_captions_a_second_that_were_measured_are_shown():
    measured = RESULTS["captions"]["captions"]
    assert f"writes {measured['per_second']} captions a second" in README
    assert measured["per_second"] >= 25


def test_two_processes_gain():
    tasks = RESULTS["scaling"]["tasks"]
    assert tasks.keys() == {"captions", "answers"}
    assert all(task["speedup"] >= 1.7 for task in tasks.values())


def test_the_page_bears_the_load():
    measured = RESULTS["load"]
    assert measured["clients"].keys() == {"1", "8", "32"}
    assert all(each["errors"] == 0 for each in measured["clients"].values())
    assert measured["clients"]["32"]["oldest"] <= 10
    assert measured["overhead"]["more"] <= 60
    assert measured["start"]["browser"] <= 2
    memory = measured["memory"]
    assert memory["requests"] >= 5000
    assert memory["at rest"] <= 1200
    assert memory["after"] - memory["at rest"] <= 100
    assert f"{memory['at rest']} MB at rest, and {memory['after']} MB" in README
    start = measured["start"]
    assert f"takes {measured['overhead']['more']} ms more than" in README
    assert f"typed in {start['browser']} s after" in README
    assert f"answers in {start['first byte']} s, and a question in {start['answer']} s" in README


def test_the_memory_stays_flat():
    soak = RESULTS["soak"]
    assert soak["minutes"] >= 20
    assert soak["errors"] == 0
    assert soak["grew"] <= 100
    assert f"clients there were {soak['requests']} requests and no error" in README
    assert f"the memory grew by {soak['grew']} MB" in README


def test_what_a_feeling_takes_is_shown():
    one, bulk = RESULTS["feelings"]["one"], RESULTS["feelings"]["bulk"]
    assert f"felt in {one['milliseconds']} ms on one thread, {one['network']} of" in README
    assert f"together at {bulk['per_second']:,} a second" in README
    assert one["network"] <= 2
    assert bulk["network"] > bulk["numbers"] > bulk["tokens"]  # the order in which they are told


def test_the_pictures_left_out_of_the_faithfulness_table_are_told():
    measured = RESULTS["faithfulness"]
    left_out = measured["answered alike on a flat picture"]
    assert f"over {measured['pictures']} pictures of the {measured['split']} split" in README
    assert f"{left_out} drawn before" in README


def test_the_space_s_settings_are_named():
    front = README.split("---")[1]
    settings = dict(re.findall(r"^(\w+): (.+)$", front, re.M))
    pinned = dict(re.findall(r"^([\w-]+)==([\w.]+)", (ROOT / "constraints.txt").read_text(), re.M))
    assert settings["sdk"] == "gradio"
    assert settings["sdk_version"] == pinned["gradio"]
    assert settings["app_file"] == "app.py"
    assert (ROOT / settings["app_file"]).exists()
    assert settings["license"] == "apache-2.0"
