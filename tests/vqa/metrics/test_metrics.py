"""The metrics as evaluate uses them: combined, in several processes, and loaded from the Hub."""

import json
import os
import subprocess
import sys
import time
from contextlib import suppress

import evaluate
import helpers.hub_writes  # noqa: F401  # the Hub learns to write
import pytest
from gradio_client import Client
from helpers.paths import ROOT

from benchmarks.server import free_port
from vqa.errors import NotPublished
from vqa.hub.__main__ import main
from vqa.hub.metric_space import METRICS
from vqa.hub.publish import push_metric
from vqa.metrics.caption_scores import CaptionScores
from vqa.metrics.emoji_scores import EmojiScores
from vqa.metrics.gaze_scores import GazeScores
from vqa.metrics.vqa_accuracy import VqaAccuracy

KINDS = {
    "vqa_accuracy": VqaAccuracy,
    "caption_scores": CaptionScores,
    "gaze_scores": GazeScores,
    "emoji_scores": EmojiScores,
}
every = pytest.mark.parametrize("name", METRICS)
# One process of two: scores every second sample of each example.
SHARE = """
import json, sys
from importlib import import_module
number, found = int(sys.argv[1]), {}
for name, example in json.loads(sys.argv[3]).items():
    kind = getattr(import_module(f"vqa.metrics.{name}"), name.title().replace("_", ""))
    shared = {"num_process": 2, "process_id": number, "experiment_id": "shared"}
    metric = kind(cache_dir=sys.argv[2], **shared)
    share = {n: example.pop(n)[number::2] for n in ("predictions", "references")}
    metric.add_batch(**share)
    found[name] = metric.compute(**example)
print(json.dumps(found))
"""
LOAD = """
import json, sys, evaluate
found = {}
for name, example in json.loads(sys.argv[1]).items():
    found[name] = evaluate.load(f"org/our_{name}").compute(**example)
print(json.dumps(found))
"""


def alone(name, **example):
    return KINDS[name]().compute(**example)


def start(code, *arguments, cwd=ROOT, **environment):
    told = os.environ | {"PYTHONPATH": ""} | environment
    command, pipe = [sys.executable, *code, *map(str, arguments)], subprocess.PIPE
    return subprocess.Popen(command, cwd=cwd, env=told, stdout=pipe, stderr=pipe, text=True)


def test_every_metric_can_be_published():
    assert set(METRICS) == set(KINDS)
    for kind in KINDS.values():
        info = kind().info
        assert info.description
        assert info.citation
        assert set(info.features) == {"predictions", "references"}


@every
def test_batches_give_what_all_at_once_gives(name):
    example = dict(METRICS[name])
    metric = KINDS[name]()
    for said, given in zip(example.pop("predictions"), example.pop("references"), strict=True):
        metric.add_batch(predictions=[said], references=[given])
    assert metric.compute(**example) == alone(name, **METRICS[name])


def test_metrics_of_the_same_inputs_are_combined():
    example = METRICS["caption_scores"]
    both = evaluate.combine([VqaAccuracy(), CaptionScores()])
    for said, given in zip(example["predictions"], example["references"], strict=True):
        both.add_batch(predictions=[said], references=[given])
    assert both.compute() == alone("vqa_accuracy", **example) | alone("caption_scores", **example)


@every
def test_a_metric_is_combined_with_others_under_their_names(name):
    pair = evaluate.combine({"one": KINDS[name](), "other": KINDS[name]()}, force_prefix=True)
    found = alone(name, **METRICS[name])
    expected = {f"{part}_{key}": value for part in ("one", "other") for key, value in found.items()}
    assert pair.compute(**METRICS[name]) == expected


def all_alone():
    return {name: alone(name, **example) for name, example in METRICS.items()}


def test_two_processes_give_what_one_gives(tmp_path):
    examples = json.dumps(METRICS)
    both = [start(["-c", SHARE], i, tmp_path, examples) for i in (0, 1)]
    said = [process.communicate() for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    found, nothing = (json.loads(out) for out, _ in said)
    assert found == all_alone()
    assert nothing == dict.fromkeys(METRICS)


@pytest.fixture
def writer(hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_good")
    return hub


def files_of(server, name):
    repo = server.repos[f"spaces/{name}"]
    return {n: c for n, c in repo.commits[repo.refs["main"]].items() if n != ".gitattributes"}


def test_evaluate_loads_the_published_metrics_without_this_library(writer, tmp_path):
    for name in METRICS:
        main(["metric", name, f"org/our_{name}"])
    told = {"HF_ENDPOINT": writer.url, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "0"}
    told |= {"HF_UPDATE_DOWNLOAD_COUNTS": "0", "NO_PROXY": "127.0.0.1"}
    process = start(["-c", LOAD], json.dumps(METRICS), cwd=tmp_path, **told)
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert json.loads(out) == all_alone()


def test_a_metric_s_space_says_what_it_is_and_what_it_needs(writer):
    push_metric(ROOT, "emoji_scores", "org/f1")
    files = files_of(writer, "org/f1")
    assert set(files) == {
        "f1.py",
        "labels.py",
        "widget.py",
        "app.py",
        "requirements.txt",
        "README.md",
    }
    wanted = [line.partition(">")[0] for line in files["requirements.txt"].decode().split()]
    assert wanted == ["datasets", "evaluate", "numpy", "scikit-learn"]
    _, front, text = files["README.md"].decode().split("---\n", 2)
    assert "tags:\n- evaluate\n- metric\n" in front
    assert "sdk: gradio\n" in front
    assert 'evaluate.load("org/f1")' in text
    assert "TweetEval" in text
    push_metric(ROOT, "gaze_scores", "org/looks")
    names = {"looks.py", "fixations.py", "gaze_metrics.py"}
    assert names <= set(files_of(writer, "org/looks"))
    with pytest.raises(NotPublished, match="no metric is called taste; there are: vqa_accuracy"):
        push_metric(ROOT, "taste", "org/taste")


def test_the_page_of_a_metric_s_space_scores_what_is_pasted(writer, tmp_path):
    push_metric(ROOT, "vqa_accuracy", "org/vqa_accuracy")
    for name, content in files_of(writer, "org/vqa_accuracy").items():
        (tmp_path / name).write_bytes(content)
    port = free_port()
    told = {"GRADIO_SERVER_PORT": str(port), "HF_HOME": str(tmp_path / "home")}
    app = start(["app.py"], cwd=tmp_path, **told)
    try:
        client = open_page(f"http://127.0.0.1:{port}", app)
        boxes = ['["2"]', '[["2", "2", "3"]]', '{"answer_types": ["number"]}']
        found = client.predict(*boxes, api_name="/score")
        assert found == {"accuracy": 1.0, "per_answer_type": {"number": 1.0}}
        with pytest.raises(Exception, match="Give each of the 1 answers a type"):
            client.predict(*boxes[:2], '{"answer_types": []}', api_name="/score")
        assert client.predict(*boxes, api_name="/score") == found
        client.close()
    finally:
        app.kill()
        app.communicate()


def open_page(address, app):
    """As soon as it can be reached."""
    while app.poll() is None:
        with suppress(Exception):
            return Client(address, verbose=False)
        time.sleep(0.3)
    raise AssertionError(app.communicate()[1])
