"""Pushing models and the page with the real huggingface_hub client, to a small Hub on loopback."""

import json
import shutil
import subprocess

import helpers.hub_writes  # noqa: F401  # the Hub learns to write
import numpy as np
import pytest
import torch
from helpers.emoji_data import write
from helpers.hub_models import ID, MODEL, content
from helpers.hub_server import Fault
from helpers.paths import ROOT
from helpers.tiny import tiny_answerer

import app
from training.cards import example
from training.train_emoji import TrainConfig, train
from vqa import checkpoints
from vqa.checkpoints.hub_download import pull
from vqa.checkpoints.layout import HUB_FILES
from vqa.engine import Engine
from vqa.errors import BadCheckpoint, NotPublished
from vqa.hub import publish
from vqa.hub.__main__ import main
from vqa.hub.publish import push, push_space

NEW = "org/fresh"


@pytest.fixture
def model(tmp_path):
    """A folder ready to be pushed."""
    folder = checkpoints.save(tiny_answerer(), tmp_path / "vqa")
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n# A model\n")
    (folder / "metrics.json").write_text('{"results": {}}')
    (folder / "notes.txt").write_text("not for others")
    return folder


@pytest.fixture
def hub(hub):
    """A Hub with one model."""
    hub.create(ID).commit(MODEL)
    return hub


@pytest.fixture
def writer(hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_good")
    return hub


def files_of(server, name=NEW, branch="main"):
    repo = server.repos[name]
    return {n: c for n, c in repo.commits[repo.refs[branch]].items() if n != ".gitattributes"}


def sent(server, what):
    return [request for request in server.requests if what in request]


def test_what_is_pushed_is_what_is_pulled_byte_by_byte(writer, model):
    url = push(model, NEW)
    assert url.startswith(f"{writer.url}/{NEW}/commit/")
    found = content(pull(NEW))
    assert set(found) == {
        "config.json",
        "model.safetensors",
        "vocab.json",
        "metrics.json",
        "README.md",
    }
    assert found == {name: (model / name).read_bytes() for name in found}
    one, other = checkpoints.load(NEW), checkpoints.load(model)
    pixels, ids = torch.rand(1, 3, 64, 64), torch.tensor([[2, 3, 4]])
    owner = torch.zeros(1, dtype=torch.long)
    with torch.no_grad():
        answers = [m(m.encode(pixels).cells, ids, owner).logits for m in (one, other)]
    assert torch.equal(*answers)


def test_a_second_push_without_change_makes_no_commit_and_sends_no_weights(writer, model):
    first = push(model, NEW)
    before = len(writer.repos[NEW].commits)
    writer.requests.clear()
    assert push(model, NEW) == first
    assert len(writer.repos[NEW].commits) == before
    assert not sent(writer, "PUT")
    assert not sent(writer, "/commit/")


def test_only_what_changed_is_sent_and_the_old_revision_stays(writer, model):
    old = push(model, NEW).rpartition("/")[2]
    (model / "README.md").write_text("---\nlicense: apache-2.0\n---\n# Better\n")
    writer.requests.clear()
    push(model, NEW)
    assert not sent(writer, "PUT")
    assert b"Better" in files_of(writer)["README.md"]
    assert b"A model" in content(pull(NEW, revision=old))["README.md"]
    assert b"Better" in content(pull(NEW))["README.md"]


def test_the_shipped_model_on_the_hub_is_the_shipped_one(writer):
    shipped = checkpoints.SHIPPED / "vqa"
    push(shipped, NEW)
    files = [path for path in shipped.rglob("*") if path.is_file()]
    assert len(files) == len(HUB_FILES) + 2  # a picture, and what the Hub ranks
    assert files_of(writer) == {p.relative_to(shipped).as_posix(): p.read_bytes() for p in files}
    one, other = (Engine.load(n).answer(example.CAT.path, example.QUESTION) for n in ("vqa", NEW))
    assert one.top == other.top
    assert np.array_equal(one.attention, other.attention)


def test_what_told_of_other_weights_goes_and_what_is_not_ours_stays(writer, model):
    (model / "example.jpg").write_bytes(b"a picture")
    (model / ".eval_results").mkdir()
    (model / ".eval_results" / "a.yaml").write_text("- value: 1")
    push(model, NEW)
    others = {"LICENSE": b"of the owner"}
    writer.repos[NEW].commit(files_of(writer) | others)
    shutil.rmtree(model / ".eval_results")
    (model / "example.jpg").unlink()
    push(model, NEW)
    assert set(files_of(writer)) == {*HUB_FILES, "LICENSE"}


def test_a_branch_a_pull_request_and_a_private_repository(writer, model, monkeypatch):
    push(model, NEW, revision="try", private=True)
    assert writer.repos[NEW].private
    assert "model.safetensors" in files_of(writer, branch="try")
    assert "model.safetensors" not in files_of(writer)
    assert "/discussions/1" in push(model, NEW, pr=True)
    assert "model.safetensors" not in files_of(writer)
    assert "model.safetensors" in files_of(writer, branch="refs/pr/1")
    push(model, NEW, revision="try")  # it is there already
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(BadCheckpoint, match="not on the Hub, or it is private"):
        pull(NEW)


@pytest.mark.parametrize(
    ("step", "fault"),
    [
        ("POST /api/repos/create", {"status": 503}),
        ("POST /api/models/org/fresh/preupload", {"status": 500}),
        ("objects/batch", {"status": 429}),
        ("PUT /lfs/", {"status": 503}),
        ("PUT /lfs/", {"cut": True}),
        ("/verify", {"status": 500}),
        ("POST /api/models/org/fresh/commit", {"status": 503}),
        ("POST /api/models/org/fresh/commit", {"cut": True}),
    ],
)
def test_a_fault_at_any_step_is_got_over(writer, model, step, fault):
    writer.faults.append(Fault(step, times=1, **fault))
    push(model, NEW, wait=0.01)
    assert files_of(writer)["model.safetensors"] == (model / "model.safetensors").read_bytes()
    assert len(writer.repos[NEW].commits) == 2  # the empty one, and this one


@pytest.mark.parametrize("step", ["preupload", "POST /api/models/org/fresh/commit"])
def test_a_push_that_fails_for_good_leaves_the_last_one(writer, model, step, monkeypatch):
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    push(model, NEW)
    before = dict(files_of(writer))
    (model / "README.md").write_text("---\nlicense: mit\n---\n# Another\n")
    writer.faults.append(Fault(step, status=403))
    with pytest.raises(NotPublished, match="the Hub answered 403: out of order; give a token that"):
        push(model, NEW, wait=0.01)
    assert files_of(writer) == before
    writer.faults[:] = [Fault(step, status=503)]
    with pytest.raises(NotPublished, match=f"after {publish.ATTEMPTS} attempts: .* answered 503"):
        push(model, NEW, wait=0.01)
    assert files_of(writer) == before


def test_what_cannot_be_loaded_or_has_no_card_is_not_sent(writer, model, monkeypatch):
    weights = (model / "model.safetensors").read_bytes()
    (model / "model.safetensors").write_bytes(weights[:-10])
    with pytest.raises(BadCheckpoint, match="truncated"):
        push(model, NEW)
    (model / "model.safetensors").write_bytes(weights)
    (model / "README.md").unlink()
    with pytest.raises(NotPublished, match="has no card: python"):
        push(model, NEW)
    assert writer.requests == []
    (model / "README.md").write_text("# A card")
    with pytest.raises(NotPublished, match="not a Hub id"):
        push(model, "no/such/name")
    with pytest.raises(NotPublished, match="403: You don't have the rights"):
        push(model, "strangers/model")
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(NotPublished, match="give a token that may write"):
        push(model, NEW)


def test_the_command_pushes(writer, model, tmp_path):
    main(["push", str(model), NEW, "--private"])
    assert "model.safetensors" in files_of(writer)
    with pytest.raises(SystemExit, match=r"error: .* no model\.safetensors"):
        main(["push", str(tmp_path), NEW])


@pytest.mark.usefixtures("fresh_accelerator")
def test_a_training_may_end_on_the_hub(writer, tmp_path):
    data = write(tmp_path / "texts")
    sizes = {"word_dim": 8, "buckets": 31, "hidden_dim": 4, "epochs": 1, "measured": "mood"}
    config = TrainConfig(f"mood={data}", str(tmp_path / "emoji"), push_to_hub=NEW, **sizes)
    folder = train(config)
    assert files_of(writer) == {n: (folder / n).read_bytes() for n in HUB_FILES}
    assert "not measured yet" in (folder / "README.md").read_text()
    assert "1 epochs (AdamW" in (folder / "README.md").read_text()
    assert checkpoints.load(NEW).config == checkpoints.load(folder).config


def test_a_space_has_what_it_needs_and_no_more(writer, tmp_path):
    push_space(ROOT, "org/page", models={"vqa": "org/vqa", "captioner": "org/captioner"})
    files = files_of(writer, "spaces/org/page")
    tracked = subprocess.run(
        ["git", "ls-files", "app.py", "ui", "vqa", "saliency"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert set(tracked) <= set(files)
    assert not [name for name in files if name.startswith(("tests", "training", "docs", ".git/"))]
    assert not [name for name in files if name.startswith(("model_cards/vqa", "model_cards/capt"))]
    card = files["README.md"].decode()
    assert "preload_from_hub:\n- org/captioner config.json,model.safetensors" in card
    assert "sdk: gradio" in card
    assert json.loads(files["models.json"]) == {"vqa": "org/vqa", "captioner": "org/captioner"}
    with pytest.raises(NotPublished, match="no model is a taste; there are: vqa"):
        push_space(ROOT, "org/page", models={"taste": "org/x"})


def test_a_space_loads_the_models_it_names(tmp_path, monkeypatch):
    monkeypatch.setattr(app, "MODELS", tmp_path / "models.json")
    shipped = app.default_models()
    assert shipped["vqa"] == ["vqa"]
    assert "captioner" in shipped["captioner"]
    (tmp_path / "models.json").write_text('{"gaze": "org/gaze", "captioner": "org/words"}')
    assert app.default_models() == shipped | {"gaze": ["org/gaze"], "captioner": ["org/words"]}
