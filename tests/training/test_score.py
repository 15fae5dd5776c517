"""The numbers of `training.score`, counted by hand, and what is kept of them."""

import json
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from training.score import main


def asked(question, answer, kind, answers=()):
    fields = {"question_id": "", "question": question, "answer": answer, "answer_type": kind}
    return {**fields, "answers": list(answers)}


ROWS = [
    {
        "image": None,
        "image_id": 7,
        "questions": [
            asked("is it?", "yes", "yes/no"),
            asked("how many?", "2", "number", ["2"] * 2 + ["3"] * 8),
        ],
    },
    {"image": None, "image_id": 8, "questions": [asked("what?", "dog", "other")]},
    {"image": None, "image_id": 9, "questions": [asked("where?", "park", "knowledge")]},
]


def predicted(image_id, index, question, answer, probability=0.5):
    fields = {"image_id": image_id, "question_id": "", "index": index, "question": question}
    return {**fields, "answer": answer, "top": [[answer, probability]]}


LINES = [
    predicted(7, 0, "is it?", "Yes.", 1.0),
    predicted(7, 1, "how many?", "two", 0.25),
    predicted(8, 0, "what?", "a dog", 0.25),
    predicted(9, 0, "where?", "zoo", 0.25),
]


@pytest.fixture
def data(tmp_path):
    return write(tmp_path / "validation.parquet", ROWS).parent


def write(path, rows):
    image = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    schema = pa.Table.from_pylist(rows).schema
    schema = schema.set(schema.get_field_index("image"), pa.field("image", image))
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)
    return path


def score(data, lines, *options):
    predictions = data.parent / "preds.jsonl" if data.is_file() else data / "preds.jsonl"
    predictions.write_text("".join(json.dumps(line) + "\n" for line in lines))
    main(["answer", "--data", str(data), "--predictions", str(predictions), *options])


def kept(path, name="answer"):
    return json.loads(path.read_text())["results"][name]


def table(capsys):
    lines = (line.rsplit(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    return {key.strip(): float(value) for key, value in lines}


def test_the_groups_and_the_calibration_are_as_counted_by_hand(data, capsys):
    score(data, LINES)
    # Two people said "2": one of them left out, one match is left; another left out, two are.
    number = 100 * (2 * 1 / 3 + 8 * 2 / 3) / 10
    assert table(capsys) == {
        "all": round((100 + number + 100) / 4, 2),
        "yes/no": 100,
        "number": number,
        "other": 50,
        "not yes/no": round((number + 100) / 3, 2),
        "n": 4,
        "n_missing": 0,
        "calibration_error": round((number / 100 + 1 - 3 * 0.25) / 4 * 100, 2),
    }


def test_a_missing_prediction_is_wrong_counted_and_named(data, capsys):
    score(data, LINES[1:])
    printed = capsys.readouterr()
    assert "No prediction for 1:\n  picture 7, question 0\n" in printed.err
    assert "yes/no               0.000\n" in printed.out
    assert "n_missing                1\n" in printed.out


def test_the_order_of_the_lines_does_not_matter(data, capsys):
    score(data, LINES)
    straight = table(capsys)
    score(data, LINES[::-1])
    assert table(capsys) == straight


def test_a_group_without_questions_has_no_number(tmp_path, capsys):
    score(write(tmp_path / "a.parquet", ROWS[1:2]), LINES[2:3])
    assert list(table(capsys)) == [
        "all",
        "other",
        "not yes/no",
        "n",
        "n_missing",
        "calibration_error",
    ]


def test_rows_that_share_a_picture_are_told_apart_by_question_and_order(tmp_path, capsys):
    given = [("what?", "cat"), ("who?", "man"), ("what?", "dog"), ("why?", "fun")]
    flat = [{"image": None, "image_id": 1, "question": q, "answer": a} for q, a in given]
    lines = [predicted(1, 0, q, a) for q, a in given if q != "who?"]
    score(write(tmp_path / "a.parquet", flat), lines)
    assert table(capsys)["all"] == 75


def test_an_entry_says_where_its_numbers_come_from_and_leaves_the_rest(data, tmp_path):
    metrics = tmp_path / "new" / "metrics.json"
    score(data, LINES, "--metrics", str(metrics), "--seed", "3")
    score(data, LINES[1:], "--metrics", str(metrics), "--name", "blind")
    entry = kept(metrics)
    assert list(entry) == ["dataset", "split", "seed", "command", "commit", "metrics"]
    assert (entry["dataset"], entry["split"], entry["seed"]) == (data.name, "validation", 3)
    assert entry["metrics"]["yes/no"] == 100
    assert kept(metrics, "blind")["metrics"]["n_missing"] == 1
    assert kept(metrics, "blind")["seed"] is None
    everything = json.loads(metrics.read_text())
    metrics.write_text(json.dumps({"training": {"epochs": 1}, **everything}))
    score(data, LINES, "--metrics", str(metrics))
    assert json.loads(metrics.read_text())["training"] == {"epochs": 1}
    assert [path.name for path in metrics.parent.iterdir()] == ["metrics.json"]


def test_the_bare_command_writes_the_numbers_beside_the_predictions(data):
    score(data, LINES)
    assert kept(data / "preds.metrics.json")["metrics"]["n"] == 4


def test_an_entry_carries_the_training_behind_its_numbers(data, tmp_path):
    made = {"command": "python -m training.train_vqa --blind", "commit": "abc"}
    training = {**made, "cpu_hours": 1.5, "config": {"seed": 5, "blind": True}}
    (tmp_path / "metrics.json").write_text(json.dumps({"training": training}))
    score(data, LINES, "--model", str(tmp_path))
    entry = kept(data / "preds.metrics.json")
    assert entry["model"] == {**made, "seed": 5}
    assert entry["seed"] == 5
    score(data, LINES, "--model", str(tmp_path), "--seed", "0")
    assert kept(data / "preds.metrics.json")["seed"] == 0


@pytest.mark.parametrize("content", ["{", "[]", '{"training": {"command": "x"}}', None])
def test_a_model_that_does_not_tell_how_it_was_trained_is_named(data, tmp_path, content):
    model = tmp_path / "model"
    model.mkdir()
    if content:
        (model / "metrics.json").write_text(content)
    with pytest.raises(SystemExit, match=r"error: .*model/metrics\.json"):
        score(data, LINES, "--model", str(model))
    assert not (data / "preds.metrics.json").exists()


def test_the_command_that_is_kept_names_no_folder_of_this_machine(data, monkeypatch):
    predictions, metrics = data / "preds.jsonl", data / "metrics.json"
    predictions.write_text("".join(json.dumps(line) + "\n" for line in LINES))
    arguments = ["answer", "--data", data, "--predictions", predictions, "--metrics", metrics]
    monkeypatch.setattr(sys, "argv", ["score.py", *map(str, arguments)])
    main()
    recorded = kept(metrics)["command"]
    assert str(data.parent) not in recorded
    assert f"answer --data {'/'.join(data.parts[-2:])} " in recorded
    assert f"--predictions {data.name}/preds.jsonl --metrics {data.name}/" in recorded


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([{"image_id": 7}], "line 1: has no index, question, answer, top"),
        ([LINES[0], 5], "line 2: has no image_id, index"),
        ([{**LINES[0], "top": []}], "line 1: has no top"),
        ([{**LINES[0], "top": [["a"]]}], r"line 1: top cannot be \[\['a'\]\]"),
        ([{**LINES[0], "top": [["a", "b"]]}], "line 1: top cannot be"),
        ([{**LINES[0], "top": [["a", float("nan")]]}], "line 1: top cannot be"),
        ([LINES[0], {**LINES[1], "image_id": [7]}], r"line 2: image_id cannot be \[7\]"),
        ([{**LINES[0], "answer": 5}], "line 1: answer cannot be 5"),
        ([predicted(99, 0, "is it?", "yes")], "none of its lines is about a question"),
        ([], "none of its lines is about a question"),
    ],
)
def test_predictions_that_cannot_be_scored_are_named(data, lines, message):
    with pytest.raises(SystemExit, match=f"error: .*preds.jsonl.*{message}"):
        score(data, lines)


def test_predictions_of_other_questions_are_counted(data, capsys):
    score(data, [*LINES, predicted(99, 0, "is it?", "yes")])
    assert "1 predictions are about no question of these data" in capsys.readouterr().err


def test_an_odd_line_end_within_a_question_ends_no_line(tmp_path, capsys):
    flat = [{"image": None, "image_id": 1, "question": "a\u2028b?", "answer": "yes"}]
    data = write(tmp_path / "a.parquet", flat)
    line = json.dumps(predicted(1, 0, "a\u2028b?", "yes"), ensure_ascii=False)
    (tmp_path / "odd.jsonl").write_text(line, encoding="utf-8")
    main(["answer", "--data", str(data), "--predictions", str(tmp_path / "odd.jsonl")])
    assert table(capsys)["all"] == 100


def test_a_line_cut_short_is_named(data):
    (data / "cut.jsonl").write_text('{"image_id')
    arguments = ["answer", "--data", str(data), "--predictions", str(data / "cut.jsonl")]
    with pytest.raises(SystemExit, match=r"cut\.jsonl, line 1: not JSON"):
        main(arguments)


def test_a_question_without_an_answer_is_named(tmp_path):
    rows = [{"image": None, "image_id": 1, "question": "what?"}]
    with pytest.raises(SystemExit, match="picture 1, question 0: has no answer to compare with"):
        score(write(tmp_path / "a.parquet", rows), [predicted(1, 0, "what?", "dog")])


@pytest.mark.parametrize("content", ["{", "[]", '{"results": 5}'])
def test_a_file_that_is_no_metrics_json_is_left_alone(data, content):
    path = data / "metrics.json"
    path.write_text(content)
    with pytest.raises(SystemExit, match=r"metrics\.json: not a metrics\.json"):
        score(data, LINES, "--metrics", str(path))
    assert path.read_text() == content


def test_missing_predictions_are_one_line(data):
    arguments = ["answer", "--data", str(data), "--predictions", str(data / "none.jsonl")]
    with pytest.raises(SystemExit, match=r"error: .*none\.jsonl"):
        main(arguments)
