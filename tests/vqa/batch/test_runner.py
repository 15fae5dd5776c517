"""Bulk answers: the same file whether run at once, interrupted, or by two processes."""

import json
import subprocess
import sys
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.paths import ROOT
from helpers.tiny import draw, tiny_answerer, tiny_rows
from helpers.together import run_together

from vqa import checkpoints
from vqa.batch.runner import main
from vqa.engine import Engine


def answer(data, out, model, *options):
    main(["answer", "--data", str(data), "--out", str(out), "--model", str(model), *options])
    return out.read_bytes()


def words(data, out, model):
    return ["answer", "--data", data, "--out", out, "--model", model, "--batch_size", "3"]


def write(path, rows):
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


@pytest.fixture(scope="module")
def whole(tiny_data, tiny_checkpoint, tmp_path_factory):
    """What an uninterrupted run of one process writes, three rows at a time."""
    out = tmp_path_factory.mktemp("whole") / "preds.jsonl"
    return answer(tiny_data, out, tiny_checkpoint, "--batch_size", "3")


def test_each_question_has_a_line_in_the_order_of_the_data(whole):
    lines = [json.loads(line) for line in whole.splitlines()]
    keys = ["image_id", "question_id", "index", "question", "answer", "top"]
    assert [list(line) for line in lines] == [keys] * 24
    assert [(line["image_id"], line["index"]) for line in lines] == [
        (picture, place) for picture in range(8) for place in range(3)
    ]
    assert [line["question_id"] for line in lines[:3]] == ["0-0", "", "0-2"]
    for line in lines:
        texts, probabilities = zip(*line["top"], strict=True)
        assert len(texts) == 5
        assert line["answer"] == texts[0]
        assert all(p == round(p, 6) for p in probabilities)
        assert list(probabilities) == sorted(probabilities, reverse=True)


def test_a_batch_answers_as_the_engine_does_one_by_one(whole, tiny_checkpoint):
    engine = Engine.load(tiny_checkpoint)
    rows = {row["image_id"]: row["image"]["bytes"] for row in tiny_rows()}
    for line in map(json.loads, whole.splitlines()):
        expected = engine.answer(rows[line["image_id"]], line["question"])
        assert line["answer"] == expected.text
        assert [p for _, p in line["top"]] == pytest.approx([p for _, p in expected.top], abs=2e-6)


@pytest.mark.parametrize("part", [0.0, 0.3, 0.4, 0.77, 0.99, 1.0])
def test_an_interrupted_file_is_continued_to_the_same_bytes(
    whole, tiny_data, tiny_checkpoint, tmp_path, part
):
    out = tmp_path / "preds.jsonl"
    out.write_bytes(whole[: int(len(whole) * part)])
    assert answer(tiny_data, out, tiny_checkpoint, "--batch_size", "3") == whole


def test_a_file_cut_at_the_end_of_a_line_is_continued_to_the_same_bytes(
    whole, tiny_data, tiny_checkpoint, tmp_path
):
    out = tmp_path / "preds.jsonl"
    lines = whole.splitlines(keepends=True)
    for kept in (1, 8, 9, 10):
        out.write_bytes(b"".join(lines[:kept]))
        assert answer(tiny_data, out, tiny_checkpoint, "--batch_size", "3") == whole


def test_a_killed_run_is_continued_to_the_same_bytes(whole, tiny_data, tiny_checkpoint, tmp_path):
    out = tmp_path / "preds.jsonl"
    command = [sys.executable, "-m", "vqa.batch", *map(str, words(tiny_data, out, tiny_checkpoint))]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE)
    while process.poll() is None and not (out.exists() and out.stat().st_size):
        time.sleep(0.001)
    process.kill()
    process.communicate()
    assert whole.startswith(out.read_bytes())
    assert answer(tiny_data, out, tiny_checkpoint, "--batch_size", "3") == whole


def test_two_processes_write_what_one_does_and_use_the_parts_that_are_there(
    whole, tiny_data, tiny_checkpoint, tmp_path
):
    out = tmp_path / "preds.jsonl"
    (tmp_path / "preds.jsonl.part-0-of-2-by-3").write_bytes(whole[:1000])
    command = ["-m", "vqa.batch", *words(tiny_data, out, tiny_checkpoint)]
    ended = run_together(command, command)
    assert [done.returncode for done in ended] == [0, 0], [done.stderr for done in ended]
    assert out.read_bytes() == whole
    assert list(tmp_path.iterdir()) == [out]


def test_what_cannot_be_answered_is_skipped_counted_and_named(tiny_checkpoint, tmp_path, capsys):
    good, broken, gone = tiny_rows()[:3]
    broken["image"]["bytes"] = draw("red", "circle")[:100]
    gone["image"] = None
    good["questions"][1]["question"] = " "
    good["questions"][2]["question"] = "why " * 1000
    data = write(tmp_path / "a.parquet", [broken, good, gone])
    out = tmp_path / "preds.jsonl"
    whole = answer(data, out, tiny_checkpoint, "--batch_size", "1")
    assert [json.loads(line)["index"] for line in whole.splitlines()] == [0]
    report = capsys.readouterr().err
    assert "Skipped 4:" in report
    for name in (
        "picture 1: ",
        "picture 0, question 1: ",
        "picture 0, question 2: ",
        "picture 2: ",
    ):
        assert f"\n  {name}" in report
    assert answer(data, out, tiny_checkpoint, "--batch_size", "1") == whole
    assert "Skipped 4:" in capsys.readouterr().err


def test_rows_with_the_same_picture_are_answered_each_in_its_place(tiny_checkpoint, tmp_path):
    flat = [
        {"image": row["image"], "image_id": row["image_id"], "question": asked["question"]}
        for asked in tiny_rows()[0]["questions"]
        for row in tiny_rows()[:2]
    ]
    lines = answer(write(tmp_path / "a.parquet", flat), tmp_path / "preds.jsonl", tiny_checkpoint)
    read = [json.loads(line) for line in lines.splitlines()]
    assert [(line["image_id"], line["question"]) for line in read] == [
        (row["image_id"], row["question"]) for row in flat
    ]


def test_an_image_folder_is_answered_as_a_table_of_the_same_is(whole, tiny_checkpoint, tmp_path):
    entries = []
    for row in tiny_rows():
        (tmp_path / row["image"]["path"]).write_bytes(row["image"]["bytes"])
        named = {"file_name": row["image"]["path"], "image_id": row["image_id"]}
        entries += [{**named, **asked} for asked in row["questions"]]
    (tmp_path / "questions.jsonl").write_text("\n".join(map(json.dumps, entries)))
    out = tmp_path / "preds.jsonl"
    assert answer(tmp_path, out, tiny_checkpoint, "--batch_size", "3") == whole


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b'{"image_id": 7, "question_id": "", "index": 0, "question": "?"}\n', "about picture 0"),
        (b"some notes\n", "does not hold predictions"),
        (b"my only note", "does not hold predictions"),
        (b"[1, 2]\n", "does not hold predictions"),
    ],
)
def test_a_file_that_is_not_of_these_data_is_left_alone(
    tiny_data, tiny_checkpoint, tmp_path, content, why
):
    out = tmp_path / "preds.jsonl"
    out.write_bytes(content)
    with pytest.raises(SystemExit, match=f"cannot be continued, .*{why}: delete it"):
        answer(tiny_data, out, tiny_checkpoint)
    assert out.read_bytes() == content


def test_a_file_longer_than_the_data_is_left_alone(whole, tiny_checkpoint, tmp_path):
    out = tmp_path / "preds.jsonl"
    out.write_bytes(whole)
    with pytest.raises(SystemExit, match="line 4 comes after the last of the data"):
        answer(write(tmp_path / "a.parquet", tiny_rows()[:1]), out, tiny_checkpoint)
    assert out.read_bytes() == whole


def test_a_file_of_another_model_is_left_alone(whole, tiny_data, tmp_path):
    out = tmp_path / "preds.jsonl"
    out.write_bytes(whole)
    other = checkpoints.save(tiny_answerer(seed=1), tmp_path / "other")
    with pytest.raises(SystemExit, match="another model wrote"):
        answer(tiny_data, out, other)
    assert out.read_bytes() == whole


def test_data_or_a_model_that_is_not_there_is_one_line(tiny_data, tiny_checkpoint, tmp_path):
    out = tmp_path / "preds.jsonl"
    with pytest.raises(SystemExit, match=r"error: .*nowhere: no such file"):
        answer(tmp_path / "nowhere", out, tiny_checkpoint)
    with pytest.raises(SystemExit, match=r"error: .*nowhere"):
        answer(tiny_data, out, tmp_path / "nowhere")
    assert not out.exists()


def test_a_batch_size_of_nothing_is_refused(capsys):
    with pytest.raises(SystemExit):
        main(["answer", "--data", "x", "--out", "y", "--batch_size", "0"])
    assert "0 is not a positive whole number" in capsys.readouterr().err
