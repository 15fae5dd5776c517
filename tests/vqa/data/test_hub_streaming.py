"""Datasets read where they are, over HTTP from a small Hub on loopback."""

import io
import json
import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.hub_models import run
from helpers.hub_server import HubServer
from helpers.tiny import tiny_rows

from training import score
from vqa.batch import runner
from vqa.data.hub_streaming import Stream
from vqa.data.image_dataset import open_rows
from vqa.errors import BadData

# Opens a dataset and tells of the rows whose places it is given.
READ = """
import json, sys
from vqa.data.image_dataset import open_rows
rows = open_rows("org/shapes", sys.argv[1], required=sys.argv[2], streaming=True)
found = [rows[place] for place in map(int, sys.argv[3:])]
print(json.dumps([len(rows), [[row.image_id, row.image.hex()] for row in found]]))
"""


def rows():
    """Those of `tiny_data`, with pictures of 100 kB: a footer is fetched with what is before it."""
    chance = np.random.default_rng(0)
    found = tiny_rows()
    for row in found:
        row["image"]["bytes"] += chance.bytes(100_000)
    return found


def parquet(rows, **options):
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), file, **options)
    return file.getvalue()


@pytest.fixture
def hub():
    """A Hub with a dataset: eight pictures in two files, and in groups of two."""
    first, second = rows()[:4], rows()[4:]
    with HubServer() as server:
        server.create("datasets/org/shapes").commit(
            {
                "data/validation-00000-of-00002.parquet": parquet(first, row_group_size=2),
                "data/validation-00001-of-00002.parquet": parquet(second, row_group_size=2),
                "data/train-00000-of-00001.parquet": parquet([{"text": "no picture"}]),
            }
        )
        yield server


def read(hub, tmp_path, *arguments):
    done = run(hub, tmp_path, "-c", READ, *arguments)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def fetched(hub):
    """How often each file's content was asked for."""
    paths = [asked.rpartition("/")[2] for asked in hub.requests if asked.startswith("GET /data")]
    return {path[:16]: paths.count(path) for path in paths}


def test_a_row_is_fetched_from_the_file_that_has_it_and_no_other(hub, tmp_path):
    count, found = read(hub, tmp_path, "validation", "question", 6, 7, 5)
    expected = rows()
    assert count == 8
    assert found == [[i, expected[i]["image"]["bytes"].hex()] for i in (6, 7, 5)]
    asked = fetched(hub)
    assert asked["validation-00001"] > asked["validation-00000"]  # of which only the footer
    assert "train-00000-of-0" not in asked


def test_streamed_answers_are_those_of_a_copy(hub, tiny_data, tiny_checkpoint, tmp_path):
    flags = ["answer", "--model", tiny_checkpoint, "--batch_size", 3, "--out"]
    out, copied = tmp_path / "streamed.jsonl", tmp_path / "copied.jsonl"
    streamed = ["-m", "vqa.batch", *flags, out, "--data", "org/shapes", "--streaming"]
    done = run(hub, tmp_path, *streamed)
    assert done.returncode == 0, done.stderr
    runner.main([*map(str, flags), str(copied), "--data", str(tiny_data)])
    assert out.read_bytes() == copied.read_bytes()
    flags = ["answer", "--predictions", out, "--data", "org/shapes", "--streaming"]
    done = run(hub, tmp_path, "-m", "training.score", *flags)
    assert done.returncode == 0, done.stderr
    score.main(["answer", "--predictions", str(copied), "--data", str(tiny_data)])
    streamed, expected = (
        json.loads(file.with_suffix(".metrics.json").read_text())["results"]["answer"]["metrics"]
        for file in (out, copied)
    )
    assert streamed == expected


def test_what_cannot_be_streamed_is_one_line(hub, tmp_path, tiny_data):
    with pytest.raises(BadData, match="only a dataset on the Hub can be streamed"):
        open_rows(tiny_data, streaming=True)
    for split, why in [("train", "has no 'image'; it has text"), ("test", "splits: train, val")]:
        done = run(hub, tmp_path, "-c", READ, split, "question")
        assert why in done.stderr.splitlines()[-1]


def test_a_row_that_cannot_be_fetched_is_named(tmp_path):
    file = tmp_path / "a.parquet"
    file.write_bytes(parquet(rows(), row_group_size=2))
    stream = Stream([pq.ParquetFile(file)], lambda dataset: dataset)
    assert stream[1]["image_id"] == 1
    os.truncate(file, 1000)
    assert stream[0]["image_id"] == 0  # it is here
    with pytest.raises(BadData, match="row 5 cannot be fetched: "):
        stream[5]
