"""Rows of every source, and one test for each row of data that is wrong."""

import json
import os
import pickle
import socket
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.paths import ROOT
from helpers.tiny import draw

from vqa.data.image_dataset import ImageRecord, Question, open_rows
from vqa.errors import BadData
from vqa.preprocessing.images import MAX_BYTES

PICTURE = draw("red", "square")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def question(text="what is it?", **fields):
    given = {"answer": "a square", "answers": ["a square", "red"], "answer_type": "other"}
    return {"question_id": "7", "question": text, **given, **fields}


def record(image_id=1, questions=None, **fields):
    image = {"bytes": PICTURE, "path": "1.png"}
    asked = [question()] if questions is None else questions
    return {"image": image, "image_id": image_id, "questions": asked, **fields}


def write(path, records, schema=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(records, schema=schema), path)
    return path


def write_folder(folder, entries, name="questions.jsonl"):
    folder.mkdir(exist_ok=True)
    (folder / name).write_text("\n".join(json.dumps(e) for e in entries), encoding="utf-8")
    (folder / "a.png").write_bytes(PICTURE)
    return folder


def test_a_parquet_row_keeps_its_ids_its_bytes_and_the_order_of_its_questions(tmp_path):
    asked = [question("what?"), question("why?", question_id="", answers=[])]
    rows = open_rows(write(tmp_path / "some.parquet", [record(133, asked), record(134)]))
    assert len(rows) == 2
    assert rows[0] == ImageRecord(
        image_id=133,
        image=PICTURE,
        questions=(
            Question("7", 0, "what?", "a square", ("a square", "red"), "other"),
            Question("", 1, "why?", "a square", (), "other"),
        ),
    )
    assert [row.image_id for row in rows] == [133, 134]
    assert rows[-1].image_id == 134
    with pytest.raises(IndexError):
        rows[2]


def test_a_word_as_image_id_stays_a_word(tmp_path):
    assert open_rows(write(tmp_path / "a.parquet", [record("image13")]))[0].image_id == "image13"


@pytest.mark.parametrize("name", ["validation.parquet", "data/validation-00000-of-00001.parquet"])
def test_a_folder_gives_the_split_that_is_asked_for(tmp_path, name):
    write(tmp_path / name, [record(1)])
    write(tmp_path / name.replace("validation", "train"), [record(2)])
    assert [row.image_id for row in open_rows(tmp_path)] == [1]
    assert [row.image_id for row in open_rows(str(tmp_path), "train")] == [2]


def test_shards_are_joined_in_order_and_an_empty_one_is_skipped(tmp_path):
    whole = pa.Table.from_pylist([record(1), record(2)])
    for i, shard in enumerate((whole.slice(0, 1), whole.slice(0, 0), whole.slice(1, 1))):
        pq.write_table(shard, tmp_path / f"validation-{i}.parquet")
    assert [row.image_id for row in open_rows(tmp_path)] == [1, 2]


def test_a_folder_with_pattern_characters_in_its_name_is_read(tmp_path):
    path = write(tmp_path / "my [1] d*ta?" / "validation.parquet", [record()])
    assert len(open_rows(path.parent)) == 1


def test_a_rewritten_file_is_read_anew(tmp_path):
    for image_id in (1, 2):
        path = write(tmp_path / "a.parquet", [record(image_id)])
        os.utime(path, (2e9, 1e9 + image_id))
        assert open_rows(path)[0].image_id == image_id


def test_the_columns_of_vqa_v2_are_known(tmp_path):
    flat = {
        "question_id": 262148000,
        "image_id": 262148,
        "question": "Where is he looking?",
        "multiple_choice_answer": "down",
        "answers": [{"answer": a, "answer_confidence": "yes"} for a in ("down", "at table")],
        "answer_type": "other",
        "image": {"bytes": PICTURE, "path": None},
    }
    row = open_rows(write(tmp_path / "validation.parquet", [flat]))[0]
    text = "Where is he looking?"
    expected = Question("262148000", 0, text, "down", ("down", "at table"), "other")
    assert row == ImageRecord(262148, PICTURE, (expected,))


def test_a_dataset_of_only_pictures_and_questions_is_numbered_by_place(tmp_path):
    flat = [{"image": {"bytes": PICTURE, "path": None}, "question": q} for q in ("a?", "b?")]
    rows = open_rows(write(tmp_path / "a.parquet", flat))
    assert [row.image_id for row in rows] == [0, 1]
    assert rows[1].questions == (Question("", 0, "b?", None, (), ""),)


@pytest.mark.parametrize("name", ["questions.jsonl", "metadata.jsonl"])
def test_an_image_folder_groups_its_questions_by_picture(tmp_path, name):
    entries = [
        {"file_name": "b.png", "question": "one?", "image_id": 5, "answer": "yes"},
        {"file_name": "a.png", "question": "two?", "answers": "no", "question_id": 3},
        {"file_name": "b.png", "question": "three?", "answer_type": "number"},
    ]
    folder = write_folder(tmp_path / "photos", entries, name)
    (folder / "b.png").write_bytes(b"not decoded here")
    first, second = open_rows(folder)
    asked = (Question("", 0, "one?", "yes", (), ""), Question("", 1, "three?", None, (), "number"))
    assert first == ImageRecord(5, b"not decoded here", asked)
    assert second == ImageRecord("a.png", PICTURE, (Question("3", 0, "two?", None, ("no",), ""),))


def test_an_image_folder_may_have_its_questions_in_one_json_list(tmp_path):
    (tmp_path / "a.png").write_bytes(PICTURE)
    (tmp_path / "questions.json").write_text('[\n{"file_name": "a.png", "question": "Où ?"}\n]')
    assert open_rows(tmp_path)[0].questions[0].text == "Où ?"


def test_an_image_folder_gives_the_split_that_is_asked_for(tmp_path):
    for split in ("train", "validation"):
        folder = write_folder(tmp_path / split, [{"file_name": "a.png", "question": f"{split}?"}])
        (folder / "a.png").write_bytes(split.encode())
    for split in ("train", "validation"):
        row = open_rows(tmp_path, split)[0]
        assert (row.questions[0].text, row.image) == (f"{split}?", split.encode())
    with pytest.raises(BadData, match=r"under test/\); it holds train, validation"):
        open_rows(tmp_path, "test")


def test_an_image_folder_without_splits_is_one_whole(tmp_path):
    folder = write_folder(tmp_path / "photos", [{"file_name": "a.png", "question": "?"}])
    (folder / "validation").mkdir()
    assert open_rows(folder, "validation")[0] == open_rows(folder, "train")[0]


def test_a_row_without_picture_has_empty_bytes(tmp_path):
    gone = {**record(2), "image": None}
    nameless = {**record(3), "image": {"bytes": None, "path": None}}
    rows = open_rows(write(tmp_path / "a.parquet", [record(1), gone, nameless]))
    assert [row.image for row in rows] == [PICTURE, b"", b""]
    folder = write_folder(tmp_path / "photos", [{"file_name": "gone.png", "question": "?"}])
    assert open_rows(folder)[0].image == b""


def test_a_file_far_too_big_for_a_picture_is_not_read_to_its_end(tmp_path):
    folder = write_folder(tmp_path / "photos", [{"file_name": "big.png", "question": "?"}])
    with (folder / "big.png").open("wb") as file:
        file.truncate(10 * MAX_BYTES)
    assert len(open_rows(folder)[0].image) == MAX_BYTES + 1


def test_rows_travel_to_the_workers_of_a_loader(tmp_path):
    rows = open_rows(write(tmp_path / "a.parquet", [record()]))
    assert pickle.loads(pickle.dumps(rows))[0] == rows[0]


def test_an_empty_split_is_named(tmp_path):
    schema = pa.Table.from_pylist([record()]).schema
    write(tmp_path / "validation.parquet", [], schema)
    with pytest.raises(BadData, match=r"split 'validation': empty"):
        open_rows(tmp_path)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "questions.jsonl").write_text("\n")
    with pytest.raises(BadData, match=r"questions\.jsonl: empty"):
        open_rows(tmp_path / "photos")


@pytest.mark.parametrize(("gone", "named"), [("image", "image"), ("questions", "question")])
def test_a_missing_column_is_named_with_those_present(tmp_path, gone, named):
    fields = record(captions=["x"])
    del fields[gone]
    rest = ", ".join(fields)
    with pytest.raises(BadData, match=f"has no '{named}'; it has {rest}"):
        open_rows(write(tmp_path / "a.parquet", [fields]))


def test_questions_that_are_bare_texts_are_named(tmp_path):
    with pytest.raises(BadData, match=r"'questions' must list {question, ...}; it lists Value"):
        open_rows(write(tmp_path / "a.parquet", [record(questions=["what?"])]))


def test_a_missing_field_of_a_questions_file_is_named_with_its_line(tmp_path):
    entries = [{"file_name": "a.png", "question": "?"}, {"file_name": "a.png", "text": "?"}]
    with pytest.raises(BadData, match="line 2, entry 1: has no 'question'; it has file_name, text"):
        open_rows(write_folder(tmp_path / "photos", entries))


@pytest.mark.parametrize(
    ("content", "message"), [('{"file', "line 1: not JSON"), ("7", "not an object with file_name")]
)
def test_a_line_that_is_no_entry_is_named(tmp_path, content, message):
    (tmp_path / "questions.jsonl").write_text(content)
    with pytest.raises(BadData, match=message):
        open_rows(tmp_path)


def test_missing_data_are_named(tmp_path):
    with pytest.raises(BadData, match="no such file or folder, and not a Hub dataset id"):
        open_rows(tmp_path / "nowhere.parquet")


def test_a_folder_without_questions_says_what_it_should_hold(tmp_path):
    write(tmp_path / "train.parquet", [record()])
    message = r"neither validation\.parquet .* nor a file that .*; it holds train\.parquet"
    with pytest.raises(BadData, match=message):
        open_rows(tmp_path)


def test_a_file_that_is_not_parquet_is_named(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"no parquet at all")
    with pytest.raises(BadData, match=r"a\.parquet: not a readable parquet file"):
        open_rows(tmp_path / "a.parquet")


def test_a_hub_that_is_offline_gives_one_line():
    with pytest.raises(BadData, match=r"some/thing: no such path; as a Hub dataset: \S") as caught:
        open_rows("some/thing")
    assert "\n" not in str(caught.value)


def test_local_data_ask_nothing_of_the_network(tmp_path, monkeypatch):
    def refuse(*_):
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    path = write(tmp_path / "a.parquet", [record()])
    assert len(open_rows(path)) == 1


def test_two_processes_may_open_the_same_new_file_at_once(tmp_path):
    path = write(tmp_path / "a.parquet", [record(i) for i in range(50)])
    code = (
        "import sys; from vqa.data.image_dataset import open_rows;"
        "print(len(open_rows(sys.argv[1])))"
    )
    command = [sys.executable, "-W", "error", "-c", code, str(path)]
    cache = {**os.environ, "HF_DATASETS_CACHE": str(tmp_path / "cache")}
    options = {"cwd": ROOT, "env": cache, "stdout": subprocess.PIPE}
    readers = [subprocess.Popen(command, **options) for _ in range(2)]
    assert [reader.communicate(timeout=200)[0].strip() for reader in readers] == [b"50", b"50"]


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"captions": ["A dog .", "", "two dogs"]}, ("A dog .", "two dogs")),
        ({"caption": "a dog"}, ("a dog",)),
        ({"caption": ["a dog", "two dogs"]}, ("a dog", "two dogs")),
        (
            {f"caption_{i}": f"dog {i}" for i in (3, 1, 0, 2, 4)},
            tuple(f"dog {i}" for i in range(5)),
        ),
        ({"caption_0": "a dog", "caption_1": None, "captions": ["dogs"]}, ("a dog", "dogs")),
        ({"caption": None}, ()),
        ({"captions": None}, ()),
    ],
)
def test_captions_are_read_from_one_column_of_lists_or_several_of_texts(
    tmp_path, columns, expected
):
    image = {"bytes": PICTURE, "path": None}
    records = [{"image": image, "image_id": "a", **columns}]
    if all(value is None for value in columns.values()):  # a column of nothing has no type
        records.append({"image": image, "image_id": "b", **dict.fromkeys(columns, "x")})
    rows = open_rows(write(tmp_path / "a.parquet", records), required="caption")
    assert rows[0] == ImageRecord("a", PICTURE, (), expected)


def test_questions_and_captions_of_one_picture_are_read_together(tmp_path):
    path = write(tmp_path / "a.parquet", [record(captions=["a square"], captioned_by="somebody")])
    for needs in ("question", "caption", "image"):
        (row,) = open_rows(path, required=needs)
        assert row.captions == ("a square",)
        assert row.questions[0].text == "what is it?"


@pytest.mark.parametrize("name", ["metadata.jsonl", "captions.jsonl"])
def test_an_image_folder_groups_its_captions_by_picture(tmp_path, name):
    entries = [
        {"file_name": "b.png", "caption": "one", "image_id": 5},
        {"file_name": "a.png", "caption_0": "two", "caption_1": "three"},
        {"file_name": "b.png", "captions": ["four", "five"], "question": "how many?"},
    ]
    folder = write_folder(tmp_path / "photos", entries, name)
    first, second = open_rows(folder, required="caption")
    asked = (Question("", 0, "how many?", None, (), ""),)
    assert first == ImageRecord(5, b"", asked, ("one", "four", "five"))
    assert second == ImageRecord("a.png", PICTURE, (), ("two", "three"))


@pytest.mark.parametrize("split", ["", "validation"])
def test_a_folder_of_nothing_but_pictures_is_enough_where_pictures_are_needed(tmp_path, split):
    folder = tmp_path / split
    folder.mkdir(exist_ok=True)
    for name in ("b.PNG", "a.jpg", "notes.txt"):
        (folder / name).write_bytes(name.encode())
    rows = open_rows(tmp_path, required="image")
    assert list(rows) == [ImageRecord("a.jpg", b"a.jpg", ()), ImageRecord("b.PNG", b"b.PNG", ())]
    for needs in ("question", "caption"):
        with pytest.raises(BadData, match="nor a file that describes pictures"):
            open_rows(tmp_path, required=needs)


def test_where_only_pictures_are_needed_no_other_column_is(tmp_path):
    image = {"bytes": PICTURE, "path": None}
    path = write(tmp_path / "a.parquet", [{"image": image, "label": 3}])
    assert list(open_rows(path, required="image")) == [ImageRecord(0, PICTURE, ())]
    folder = write_folder(tmp_path / "photos", [{"file_name": "a.png", "label": 3}])
    assert list(open_rows(folder, required="image")) == [ImageRecord("a.png", PICTURE, ())]
    path = write(tmp_path / "b.parquet", [{"label": 3}])
    with pytest.raises(BadData, match="has no 'image'; it has label"):
        open_rows(path, required="image")


def test_missing_captions_are_named_with_what_is_there(tmp_path):
    with pytest.raises(BadData, match="has no 'caption'; it has image, image_id, questions, title"):
        open_rows(write(tmp_path / "a.parquet", [record(title="x")]), required="caption")
    entries = [{"file_name": "a.png", "caption": "x"}, {"file_name": "a.png", "question": "?"}]
    message = "line 2, entry 1: has no 'caption'; it has file_name, question"
    with pytest.raises(BadData, match=message):
        open_rows(write_folder(tmp_path / "photos", entries, "captions.jsonl"), required="caption")


def test_questions_and_captions_of_one_folder_may_lie_in_files_of_their_own(tmp_path):
    folder = write_folder(tmp_path / "photos", [{"file_name": "a.png", "question": "why?"}])
    write_folder(folder, [{"file_name": "a.png", "caption": "a dog"}], "captions.jsonl")
    assert open_rows(folder)[0].questions[0].text == "why?"
    assert open_rows(folder, required="caption")[0].captions == ("a dog",)
