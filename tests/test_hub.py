"""Pulling models with the real huggingface_hub client, from a small Hub on loopback."""

import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import huggingface_hub
import pytest
from hub_server import Fault, HubServer
from huggingface_hub import constants

from vqa.checkpoints import BadCheckpoint, find
from vqa.hub import FILES, pull

ROOT = Path(__file__).resolve().parent.parent
MODEL = {name: f"{name}, version 1 ".encode() * 50 for name in FILES}
NEWER = {name: data.replace(b"1", b"2") for name, data in MODEL.items()}
ID = "org/model"


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A Hub with one model, which the client takes for the only one; the cache is empty."""
    with HubServer() as server:
        for name, value in {
            "ENDPOINT": server.url,
            "HUGGINGFACE_CO_URL_TEMPLATE": server.url + "/{repo_id}/resolve/{revision}/{filename}",
            "HF_HUB_CACHE": str(tmp_path / "hub"),
            "HF_TOKEN_PATH": str(tmp_path / "token"),
            "HF_HUB_OFFLINE": False,
            "HF_HUB_DISABLE_TELEMETRY": True,
            "HF_HUB_DISABLE_XET": True,
        }.items():
            monkeypatch.setattr(constants, name, value)
        for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_OIDC_RESOURCE"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        server.create(ID).commit(MODEL)
        huggingface_hub.close_session()
        yield server
        huggingface_hub.close_session()


@contextmanager
def refused(*parts: str, within: float = 5):
    """BadCheckpoint must be raised, soon, in one line that has all these parts."""
    start = time.monotonic()
    with pytest.raises(BadCheckpoint) as caught:
        yield
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message
    assert time.monotonic() - start < within


def content(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def fetched(hub, part=""):
    """The files that were asked for."""
    return [request for request in hub.requests if "/resolve/" in request and part in request]


def python(code: str, hub: HubServer, home: Path, **environment: str) -> subprocess.Popen[str]:
    """Another process, told of the Hub by its environment, as a user's is."""
    told = {
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(home),
        "HF_HUB_CACHE": str(home / "hub"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_OFFLINE": "0",
    }
    return subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | told | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


# ------------------------------------------------------------------------------- what is pulled


def test_a_pull_brings_the_files_of_a_checkpoint_and_no_others(hub):
    hub.repos[ID].commit(MODEL | {"pytorch_model.bin": b"pickle", "old/config.json": b"{}"})
    assert content(pull(ID)) == MODEL
    assert not fetched(hub, "bin") + fetched(hub, "old/")


def test_a_hub_id_given_to_checkpoints_is_pulled(hub):
    assert content(find(ID)) == MODEL


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


def test_a_private_model_is_pulled_with_a_token(hub, monkeypatch):
    hub.repos[ID].private = True
    monkeypatch.setenv("HF_TOKEN", hub.token)
    assert content(pull(ID)) == MODEL


# ------------------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    "name", ["a/b/c", "org/", "org/a b", "-org/model", "org/a..b", "org/ü", ""]
)
def test_a_malformed_id_is_named_without_asking_the_hub(hub, name):
    with refused(repr(name), "is not a Hub id"):
        pull(name)
    assert hub.requests == []


def test_an_unknown_model_may_be_missing_or_private_and_the_way_to_give_a_token_is_told(hub):
    with refused("'org/none' is not on the Hub, or it is private", "hf auth login", "HF_TOKEN"):
        pull("org/none")


def test_a_private_model_without_a_token_is_refused_even_when_cached(hub):
    pull(ID)
    hub.repos[ID].private = True
    with refused("or it is private", "HF_TOKEN"):
        pull(ID)


def test_a_token_that_the_hub_does_not_know_is_told(hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_stale")
    with refused("401: Invalid credentials", "hf auth login"):
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


def test_an_empty_revision_is_refused_with_the_hub_up_and_down(hub):
    with refused(f"'{ID}'", "404"):
        pull(ID, revision="")
    hub.stop()
    with refused("no complete copy of revision"):
        pull(ID, revision="")


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


def test_a_cache_that_cannot_be_written_is_named(hub, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "file" / "hub"))
    with refused("could not be stored in", str(tmp_path / "file")):
        pull(ID)


# ------------------------------------------------------------------------- when the Hub is down


OUTAGES = [
    ("cannot be reached", None),  # off the network
    ("cannot be reached", Fault("", hold=True)),
    ("answered 503", Fault("", status=503)),
    ("answered 429", Fault("", status=429)),
    ("does not answer as a Hub does", Fault("", page=b"<html>Welcome to the hotel")),
    ("answered 502", Fault("GET /org/model/resolve", status=502)),  # in mid-pull
]


def break_down(hub, monkeypatch, fault):
    monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 0.3)
    if fault is None:
        hub.stop()
    else:
        hub.faults.append(fault.fresh())


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
    access = {
        "X-Xet-Cas-Url": hub.url,
        "X-Xet-Access-Token": "t",
        "X-Xet-Token-Expiration": "9" * 10,
    }
    hub.faults.append(Fault("HEAD .*/model.safetensors", headers=address))
    hub.faults.append(Fault("GET /xet-token", page=b"{}", headers=access))
    with python(
        f"from vqa.hub import pull; pull({ID!r})", hub, tmp_path, HF_HUB_DISABLE_XET="0"
    ) as child:
        _, err = child.communicate(timeout=60)
    assert "BadCheckpoint: 'org/model': the Hub's file store failed" in err
    assert "no complete copy" in err


def test_offline_mode_of_the_environment_answers_at_once(hub, tmp_path):
    folder = pull(ID)
    code = (
        "import sys, time; from vqa.hub import pull; light = 'huggingface_hub' not in sys.modules;"
        f"start = time.monotonic(); print(pull({ID!r})); print(light, time.monotonic() - start < 5)"
    )
    with python(code, hub, tmp_path, HF_HUB_OFFLINE="1") as child:
        out, err = child.communicate(timeout=60)
    assert out.splitlines() == [str(folder), "True True"], err


# -------------------------------------------------------------------------- never half a file


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


def test_a_file_is_visible_only_once_it_is_whole(hub, tmp_path):
    fault = Fault("GET .*/model.safetensors", hold=True, times=1)
    hub.faults.append(fault)
    worker = Thread(target=pull, args=(ID,))
    worker.start()
    assert fault.held.wait(10)
    assert visible(tmp_path) == []
    fault.released.set()
    worker.join(10)
    assert [path.read_bytes() for path in visible(tmp_path)] == [MODEL["model.safetensors"]]


def test_a_pull_killed_in_the_middle_leaves_nothing_that_passes_for_a_model(
    hub, monkeypatch, tmp_path
):
    fault = Fault("GET .*/model.safetensors", hold=True, times=1)
    hub.faults.append(fault)
    with python(f"from vqa.hub import pull; pull({ID!r})", hub, tmp_path) as child:
        reached = fault.held.wait(30)
        child.kill()
        _, err = child.communicate()
    assert reached, err
    fault.released.set()
    assert visible(tmp_path) == []
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with refused("no complete copy"):
        pull(ID)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    assert content(pull(ID)) == MODEL
