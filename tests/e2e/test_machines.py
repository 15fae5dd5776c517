"""Work that two machines share over TCP: split, with a worker killed, and done again."""

import re
import shlex
import shutil
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from helpers.emoji_data import write
from helpers.machines import KIND, Machines
from helpers.tiny import tiny_rows
from helpers.trainings import assert_moved_alike
from safetensors.torch import load_file

from training.train_emoji import TrainConfig, train
from vqa.batch import runner

LOST_AFTER = 10  # seconds; a worker on a busy machine may be silent for some


@pytest.fixture(params=[KIND])
def machines(tmp_path):
    with Machines(tmp_path) as both:
        yield both


def wait_for(machines, found):
    """Until a file is there; fails if they end before."""
    while not (found.is_dir() or (found.exists() and found.stat().st_size)):
        assert machines.at_work(), f"ended without {found.name}: {machines.end()}"
        time.sleep(0.005)


def answer(data, out, model):
    flags = {"data": data, "out": out, "model": model, "batch_size": 1, "lost_after": LOST_AFTER}
    return [
        "answer",
        *(str(word) for flag, value in flags.items() for word in (f"--{flag}", value)),
    ]


@pytest.fixture
def many(tmp_path):
    """Eighty pictures."""
    rows = [{**row, "image_id": f"{i}-{row['image_id']}"} for i in range(10) for row in tiny_rows()]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "many.parquet")
    return tmp_path / "many.parquet"


def test_a_lost_worker_is_told_and_a_rerun_ends_the_bulk_answers_as_one_process_does(
    machines, many, tiny_checkpoint, tmp_path
):
    one, out = tmp_path / "one.jsonl", tmp_path / "shared" / "preds.jsonl"
    runner.main(answer(many, one, tiny_checkpoint))
    flags = answer(many, out, tiny_checkpoint)
    machines.start("vqa.batch", *flags)
    parts = [out.with_name(f"preds.jsonl.part-{i}-of-2-by-1") for i in (0, 1)]
    wait_for(machines, parts[1])
    machines.kill_a_worker(1)
    statuses, said = machines.end()
    assert 0 not in statuses
    report = re.search(
        rf"error: process 1 of 2 is lost \(no sign of life for {LOST_AFTER} s\)\. At most (\d+) of "
        r"80 rows are left to do; run the same command again, .*: python -m (.+)",
        said[0],
    )
    assert report, said[0]
    done = [part.read_bytes().count(b"\n") // 3 for part in parts]  # three questions a picture
    assert done[0] == 40 > done[1]
    assert 80 - sum(done) <= int(report[1]) <= 40
    assert shlex.split(report[2]) == ["vqa.batch", *flags]

    alone = shutil.copytree(out.parent, tmp_path / "alone") / out.name
    machines.start("vqa.batch", *flags)
    statuses, said = machines.end()
    assert statuses == [0, 0], said
    assert out.read_bytes() == one.read_bytes()
    assert [path.name for path in out.parent.iterdir()] == [out.name]

    runner.main(answer(many, alone, tiny_checkpoint))  # one process goes on with both shares
    assert alone.read_bytes() == one.read_bytes()
    assert [path.name for path in alone.parent.iterdir()] == [alone.name]


@pytest.fixture
def config(tmp_path):
    data = write(tmp_path / "texts")
    return TrainConfig(
        f"face={data},mood={data}",
        str(tmp_path / "one"),
        epochs=8,
        lr=0.02,
        word_dim=16,
        buckets=211,
        hidden_dim=8,
        dropout=0.0,
        word_dropout=0.0,
        batch_size=8,
        ema=0.0,
        save_every=3,
        lost_after=LOST_AFTER,
        word_min_count=1,
        measured="face,mood",
    )


def start_training(machines, config, folder):
    settings = vars(config) | {"output_dir": str(folder)}
    flags = [word for n, v in settings.items() if v != "" for word in (f"--{n}", v)]
    machines.start("training.train_emoji", *flags)
    wait_for(machines, folder.with_name(f"{folder.name}.state") / "states" / "state")


@pytest.mark.usefixtures("fresh_accelerator")
def test_a_training_that_lost_a_worker_goes_on_to_the_weights_of_one_process(
    machines, config, tmp_path
):
    start_training(machines, config, tmp_path / "two")
    machines.kill_a_worker(1)
    statuses, said = machines.end()
    assert 0 not in statuses
    report = re.search(
        r"error: another process is lost \(.+\) at step (\d+) of 56 \(.+ goes on at (\d+)\); "
        "run the same command again, on every machine",
        said[0],
    )
    assert report, said[0]
    assert 56 > int(report[1]) >= int(report[2]) >= 3
    assert not (tmp_path / "two").exists()

    start_training(machines, config, tmp_path / "two")
    statuses, said = machines.end()
    assert statuses == [0, 0], said
    found = load_file(tmp_path / "two" / "model.safetensors")
    expected = load_file(train(config) / "model.safetensors")
    assert found.keys() == expected.keys()
    untrained = {name: torch.zeros_like(tensor).float() for name, tensor in expected.items()}
    assert_moved_alike(found, expected, untrained)


@pytest.mark.skipif(KIND != "two network namespaces", reason=f"there are only {KIND}, no cable")
def test_a_training_whose_network_is_gone_ends_on_both_sides(machines, config, tmp_path):
    start_training(machines, config, tmp_path / "two")
    machines.pull_the_cable()
    statuses, said = machines.end()
    assert 0 not in statuses
    assert f"error: process 1 of 2 is lost (no sign of life for {LOST_AFTER} s); run" in said[0]
    assert "error: process 0, or the network to it, is lost; run the same command" in said[1]
