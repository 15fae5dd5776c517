"""A tiny model and a tiny data set that every test may use; both are real, and made in seconds."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
# Copies that `datasets` makes of the tests' parquet files do not belong in the user's cache.
_CACHE = tempfile.TemporaryDirectory(prefix="seewhy-datasets-")
os.environ["HF_DATASETS_CACHE"] = _CACHE.name

import pytest
import torch
from helpers.tiny import gaze_rows, tiny_answerer, tiny_captioner, tiny_rows

from vqa import checkpoints

torch.set_num_threads(1)


SLOW = ("e2e", "benchmarks", "training/test_train_", "vqa/runtime", "vqa/data/test_hub_streaming")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what drives the browser, and what starts processes or trains for long, by its place."""
    tests = Path(__file__).parent
    for item in items:
        place = item.path.relative_to(tests).as_posix()
        if place.startswith("browser/"):
            item.add_marker(pytest.mark.browser)
        if place.startswith(SLOW):
            item.add_marker(pytest.mark.slow)


@pytest.fixture
def fresh_accelerator():
    """Accelerate keeps its state in the class: every training begins without."""
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with train.parquet and validation.parquet, eight pictures each."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = tmp_path_factory.mktemp("data") / "tiny"
    folder.mkdir()
    rows = tiny_rows()
    for split, some in (("train", rows[::-1]), ("validation", rows)):
        pq.write_table(pa.Table.from_pylist(some), folder / f"{split}.parquet")
    return folder


@pytest.fixture(scope="session")
def gaze_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with train.parquet and validation.parquet of `gaze_rows`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = tmp_path_factory.mktemp("gaze") / "dots"
    folder.mkdir()
    rows = gaze_rows()
    for split, some in (("train", rows[::-1]), ("validation", rows)):
        pq.write_table(pa.Table.from_pylist(some), folder / f"{split}.parquet")
    return folder


@pytest.fixture(scope="session")
def tiny_captioner_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a saved, untrained captioner."""
    return checkpoints.save(tiny_captioner(), tmp_path_factory.mktemp("captioner") / "words")


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a saved, untrained answerer."""
    return checkpoints.save(tiny_answerer(), tmp_path_factory.mktemp("checkpoint") / "tiny")


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A Hub without any model, which the client takes for the only one; the cache is empty."""
    import huggingface_hub
    from helpers.hub_server import HubServer
    from huggingface_hub import constants

    with HubServer() as server:
        address = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_OIDC_RESOURCE"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        huggingface_hub.close_session()
        yield server
        huggingface_hub.close_session()
