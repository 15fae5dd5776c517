"""Pulling models with the real huggingface_hub client, from a small Hub on loopback."""

import os
import subprocess
import sys
import time
from contextlib import contextmanager

import huggingface_hub
import pytest
from helpers.hub_models import ID, MODEL, NEWER, content, fetched
from helpers.hub_server import Fault
from helpers.paths import ROOT
from huggingface_hub import constants

from saliency.types import Cancelled
from vqa.checkpoints.hub_download import pull
from vqa.checkpoints.storage import find
from vqa.errors import BadCheckpoint

PULL = f"""
import time
from vqa.checkpoints.hub_download import pull
start = time.monotonic()
print(pull({ID!r}), time.monotonic() - start)
"""


@pytest.fixture
def hub(hub):
    """A Hub with one model."""
    hub.create(ID).commit(MODEL)
    return hub


@contextmanager
def refused(*parts: str):
    """BadCheckpoint must be raised, soon, in one line that has all these parts."""
    start = time.monotonic()
    with pytest.raises(BadCheckpoint) as caught:
        yield
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message
    assert time.monotonic() - start < 5


def python(code, hub, home, **environment):
    """Another process; told of the Hub by its environment, as a user's is."""
    told = {"HF_ENDPOINT": hub.url, "HF_HOME": str(home), "HF_HUB_CACHE": str(home / "hub")}
    told |= {"HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"} | environment
    command, pipe = [sys.executable, "-c", code], subprocess.PIPE
    return subprocess.Popen(
        command, cwd=ROOT, env=os.environ | told, stdout=pipe, stderr=pipe, text=True
    )


def test_a_pull_brings_the_files_of_a_checkpoint_and_no_others(hub):
    hub.repos[ID].commit(MODEL | {"pytorch_model.bin": b"pickle", "old/config.json": b"{}"})
    assert content(pull(ID)) == content(find(ID)) == MODEL
    assert fetched(hub, "bin") + fetched(hub, "old/") == []


def test_a_second_pull_downloads_nothing_again(hub):
    first = pull(ID)
    hub.requests.clear()
    assert pull(ID) == first
    assert fetched(hub) == []


def test_a_revision_pins_an_older_commit_and_main_goes_on(hub):
    repo = hub.repos[ID]
    older = repo.refs["main"]
    repo.refs["v1.0"] = older
    repo.commit(NEWER)
    repo.commit(MODEL | {"README.md": b"a trial"}, branch="trial/1")
    assert content(pull(ID, revision=older)) == MODEL
    assert content(pull(ID, revision="v1.0")) == MODEL
    assert content(pull(ID, revision="trial/1"))["README.md"] == b"a trial"
    assert content(pull(ID)) == NEWER


@pytest.mark.parametrize("name", ["a/b/c", "org/", "org/a b", "-org/a", "org/a..b", "org/ü", ""])
def test_a_malformed_id_is_named_without_asking_the_hub(hub, name):
    with refused(repr(name), "is not a Hub id"):
        pull(name)
    assert hub.requests == []


def test_an_unknown_model_may_be_missing_or_private_and_the_way_to_give_a_token_is_told(hub):
    with refused("'org/none' is not on the Hub, or it is private", "hf auth login", "HF_TOKEN"):
        pull("org/none")


def test_a_private_model_needs_a_token_even_when_cached(hub, monkeypatch):
    hub.repos[ID].private = True
    monkeypatch.setenv("HF_TOKEN", hub.token)
    assert content(pull(ID)) == MODEL
    monkeypatch.setenv("HF_TOKEN", "hf_stale")
    with refused("401: Invalid credentials", "hf auth login"):
        pull(ID)
    monkeypatch.delenv("HF_TOKEN")
    with refused("or it is private", "HF_TOKEN"):
        pull(ID)


def test_a_gated_model_names_the_page_to_ask_for_access(hub):
    hub.repos[ID].gated = True
    with refused("gated", f"{hub.url}/{ID}", "HF_TOKEN"):
        pull(ID)


def test_a_disabled_model_is_refused_with_the_words_of_the_hub(hub):
    hub.faults.append(Fault("GET /api/models", status=403))
    with refused("refused by the Hub (403: out of order)"):
        pull(ID)


@pytest.mark.parametrize("revision", ["v9", "0" * 40, "a/b"])
def test_an_unknown_revision_is_named(hub, revision):
    with refused(f"'{ID}' has no branch, tag or commit '{revision}'"):
        pull(ID, revision=revision)


def test_a_repository_without_safetensors_names_what_it_has(hub):
    files = {"README.md": b"", "flax_model.msgpack": b"", "training_args.bin": b""}
    hub.repos[ID].commit(files | {"model-00001-of-00002.safetensors": b""})
    with refused("no model.safetensors", "README.md, flax_model.msgpack, model-00001-of-00002"):
        pull(ID)
    hub.repos[ID].commit({f"{n:02}.txt": b"" for n in range(20)})
    with refused("07.txt and 12 more"):
        pull(ID)
    hub.repos[ID].commit({})
    with refused("no files"):
        pull(ID)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.pkl", "last.ckpt"])
def test_pickle_weights_are_refused_and_not_even_fetched(hub, name):
    hub.repos[ID].commit({"config.json": b"{}", name: b"\x80\x04."})
    with refused(f"only pickle weights ({name})", "can run any code", "model.safetensors"):
        pull(ID)
    assert fetched(hub) == []


def test_a_model_larger_than_the_limit_is_refused_before_it_is_fetched_and_also_if_cached(hub):
    hub.repos[ID].commit(MODEL | {"notes.bin": b"not fetched, so not counted" * 100})
    total = sum(map(len, MODEL.values()))
    with refused("'org/model' is too large: its files have 0 MB and the limit is 0 MB"):
        pull(ID, most=total - 1)
    assert fetched(hub) == []
    assert content(pull(ID, most=total)) == MODEL
    hub.stop()
    assert content(pull(ID, most=total)) == MODEL
    with refused("too large"):
        pull(ID, most=total - 1)


def test_a_download_tells_how_far_it_is(hub):
    weights = MODEL | {"model.safetensors": b"x" * 30_000_000}
    hub.repos[ID].commit(weights)
    told = []
    pull(ID, progress=lambda *news: told.append(news))
    assert told == sorted(told)
    assert told[-1] == (sum(map(len, weights.values())),) * 2
    assert 0 < told[0][0] < told[-1][0]


def test_what_progress_raises_ends_a_download(hub, tmp_path):
    hub.repos[ID].commit(MODEL | {"model.safetensors": b"x" * 30_000_000})

    def stop(done, _total):
        if done > 2**20:
            raise Cancelled

    with pytest.raises(Cancelled):
        pull(ID, progress=stop)
    assert visible(tmp_path) == []
    pull(ID)
    assert len(visible(tmp_path)) == 1


def test_a_cache_that_cannot_be_written_is_named(hub, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "file" / "hub"))
    with refused("could not be downloaded to", str(tmp_path / "file")):
        pull(ID)


OUTAGES = [
    ("cannot be reached", None),  # off the network
    ("cannot be reached", {"pattern": "", "hold": True}),
    ("answered 503", {"pattern": "", "status": 503}),
    ("answered 429", {"pattern": "", "status": 429}),
    ("does not answer as a Hub does", {"pattern": "", "page": b"<html>Welcome to the hotel"}),
    ("answered 502", {"pattern": "GET /org/model/resolve", "status": 502}),  # in mid-pull
]


def break_down(hub, monkeypatch, fault):
    monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 0.3)
    if fault is None:
        hub.stop()
    else:
        hub.faults.append(Fault(**fault))


@pytest.mark.parametrize(("words", "fault"), OUTAGES)
def test_a_hub_that_is_down_with_nothing_cached_is_told(hub, monkeypatch, words, fault):
    break_down(hub, monkeypatch, fault)
    with refused(f"'{ID}'", words, "the cache has no complete copy of revision 'main'"):
        pull(ID)


@pytest.mark.parametrize(("words", "fault"), OUTAGES)
def test_a_hub_that_is_down_leaves_the_last_whole_copy(hub, monkeypatch, caplog, words, fault):
    pull(ID)
    hub.repos[ID].commit(NEWER)
    break_down(hub, monkeypatch, fault)
    start = time.monotonic()
    assert content(pull(ID)) == MODEL
    assert content(pull(ID)) == MODEL  # the first attempt has not spoilt the cache
    assert time.monotonic() - start < 5
    assert words in caplog.text


def test_a_pinned_commit_comes_from_the_cache_when_the_hub_is_down(hub):
    commit = hub.repos[ID].refs["main"]
    pull(ID, revision=commit)
    hub.stop()
    start = time.monotonic()
    assert content(pull(ID, revision=commit)) == MODEL
    with refused("no complete copy of revision 'ffff"):
        pull(ID, revision="f" * 40)
    assert time.monotonic() - start < 5


def test_offline_mode_asks_nobody(hub, monkeypatch):
    pull(ID)
    hub.requests.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert content(pull(ID)) == MODEL
    with refused("HF_HUB_OFFLINE is set", "no complete copy"):
        pull("org/other")
    assert hub.requests == []


def test_a_cache_with_another_program_s_single_file_is_no_copy_of_the_model(hub):
    huggingface_hub.hf_hub_download(ID, "config.json")
    hub.stop()
    with refused("no complete copy"):
        pull(ID)


def test_a_file_store_that_fails_is_told_from_a_missing_model(hub, tmp_path):
    pytest.importorskip("hf_xet")
    address = {"X-Xet-Hash": "a" * 64, "X-Xet-Refresh-Route": f"{hub.url}/xet-token"}
    access = {"X-Xet-Cas-Url": hub.url, "X-Xet-Access-Token": "t"}
    access |= {"X-Xet-Token-Expiration": "9999999999"}
    hub.faults.append(Fault("HEAD .*/model.safetensors", headers=address))
    hub.faults.append(Fault("GET /xet-token", page=b"{}", headers=access))
    with python(PULL, hub, tmp_path, HF_HUB_DISABLE_XET="0") as child:
        _, err = child.communicate(timeout=60)
    assert "BadCheckpoint: 'org/model': the Hub's file store failed" in err
    assert "no complete copy" in err


def test_offline_mode_of_the_environment_answers_at_once(hub, tmp_path):
    folder = pull(ID)
    hub.requests.clear()
    with python(PULL, hub, tmp_path, HF_HUB_OFFLINE="1") as child:
        out, err = child.communicate(timeout=60)
    path, seconds = out.split()
    assert (path, float(seconds) < 5, hub.requests) == (str(folder), True, []), err


def visible(tmp_path):
    return [path for path in tmp_path.rglob("model.safetensors") if path.exists()]


def test_half_a_file_is_refused_and_never_visible(hub, tmp_path):
    hub.faults.append(Fault("GET .*/model.safetensors", short=True, times=1))
    with refused("should be of size", "has size"):
        pull(ID)
    assert visible(tmp_path) == []
    assert content(pull(ID)) == MODEL


def test_a_connection_cut_in_the_middle_is_resumed(hub):
    hub.faults.append(Fault("GET .*/model.safetensors", cut=True, times=1))
    assert content(pull(ID)) == MODEL
    assert len(fetched(hub, "model.safetensors")) == 3  # HEAD, GET, and GET of the rest


def test_a_pull_killed_in_the_middle_shows_nothing_that_passes_for_a_model(hub, tmp_path):
    fault = Fault("GET .*/model.safetensors", hold=True, times=1)
    hub.faults.append(fault)
    with python(PULL, hub, tmp_path) as child:
        reached, seen = fault.held.wait(30), visible(tmp_path)
        child.kill()
        _, err = child.communicate()
    assert reached, err
    assert seen + visible(tmp_path) == []  # half-way, and afterwards
    fault.released.set()
    with pytest.MonkeyPatch.context() as offline, refused("no complete copy"):
        offline.setattr(constants, "HF_HUB_OFFLINE", True)
        pull(ID)
    assert content(pull(ID)) == MODEL
