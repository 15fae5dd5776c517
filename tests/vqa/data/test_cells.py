"""One cell as a text, texts, a label or fixations, however a data set stores it."""

import json
import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vqa.data import cells
from vqa.data.image_dataset import open_rows
from vqa.data.text_dataset import open_texts
from vqa.errors import BadData


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("red", "red"),
        (2, "2"),
        (2.0, "2"),
        (2.5, "2.5"),
        (True, "yes"),
        (False, "no"),
        (None, ""),
        (math.nan, ""),
        (np.float64(3.0), "3"),
        (np.bool_(True), "yes"),
        (np.str_("red"), "red"),
    ],
)
def test_a_value_of_another_type_is_the_text_that_a_person_would_write(value, expected):
    assert cells.text(value, "row 0") == expected


@pytest.mark.parametrize("value", [["red"], {"a": 1}, b"red", {"red"}, math.inf, object()])
def test_what_is_no_text_is_refused_by_its_row_and_column(value):
    with pytest.raises(BadData, match="row 3, question: must be a text, and is"):
        cells.text(value, "row 3, question")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, ()),
        (math.nan, ()),
        ("red", ("red",)),
        (2.0, ("2",)),
        (["red", None, "", math.nan, 2], ("red", "2")),
        (np.array(["red", "blue"]), ("red", "blue")),
        ([{"answer": "red", "answer_id": 1}, {"answer": None}], ("red",)),
        ({"answer": ["red", "blue"], "answer_id": [1, 2]}, ("red", "blue")),
        ({"text": ["a dog"]}, ("a dog",)),
        ({"caption": "a dog"}, ("a dog",)),
        ([{"raw": "a dog", "tokens": ["a", "dog"]}], ("a dog",)),
        (("red",), ("red",)),
    ],
)
def test_texts_are_read_from_every_way_to_store_them(value, expected):
    assert cells.texts(value, "row 0") == expected


@pytest.mark.parametrize("value", [[["red"]], {"answer_id": [1]}, [{"id": 1}], [b"red"]])
def test_entries_that_are_no_texts_are_refused(value):
    with pytest.raises(BadData, match="row 0"):
        cells.texts(value, "row 0")


def test_a_record_of_lists_is_a_list_of_records():
    assert cells.records({"x": [1, 2], "y": [3, 4]}, "r") == [{"x": 1, "y": 3}, {"x": 2, "y": 4}]
    assert cells.records(None, "r") == []
    assert cells.records([{"x": 1}], "r") == [{"x": 1}]
    for bad in ({"x": [1], "y": [1, 2]}, {"x": 1}, "text", [1, 2], 3):
        with pytest.raises(BadData, match="row 5"):
            cells.records(bad, "row 5")


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0, 0), (3, 3), (3.0, 3), (np.int64(2), 2), (True, 1), (-1, None), (None, None), (-1.0, None)],
)
def test_a_label_is_a_whole_number_or_missing(value, expected):
    assert cells.label(value, "row 0") == expected


@pytest.mark.parametrize("value", [-2, 0.9, "joy", "3", [1], {"label": 1}, math.inf])
def test_what_is_no_label_is_refused(value):
    with pytest.raises(BadData, match="row 4: a label must be a whole number from 0"):
        cells.label(value, "row 4")


@pytest.mark.parametrize(
    ("point", "reason"),
    [
        ({"x": 120, "y": 80}, "x = 120, y = 80, and both must be shares"),
        ({"x": 0.5, "y": -0.1}, "both must be shares"),
        ({"x": math.nan, "y": 0.1}, "both must be shares"),
        ({"x": math.inf, "y": 0.1}, "both must be shares"),
        ({"x": "0.5", "y": 0.1}, "must have the numbers x and y"),
        ({"x": None, "y": 0.1}, "must have the numbers x and y"),
        ({"x": 0.5}, "must have the numbers x and y"),
    ],
)
def test_the_first_fixation_that_is_none_is_named(point, reason):
    good = {"x": 0.5, "y": 1.0}
    assert cells.fixations([good], "row 1") == ((0.5, 1.0),)
    assert cells.fixations({"x": [0.5], "y": [1.0]}, "row 1") == ((0.5, 1.0),)
    with pytest.raises(BadData, match=f"row 1, point 2: .*{reason}"):
        cells.fixations([good, point, point], "row 1")


def parquet(path, rows, **columns):
    image = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    table = pa.table(
        {"image": pa.array([{"bytes": b"-", "path": ""}] * rows, image)}
        | {name: pa.array(values) for name, values in columns.items()}
    )
    pq.write_table(table, path)
    return path


def test_answers_with_nulls_are_what_people_answered(tmp_path):
    answers = [["red"] * 6 + [None] * 4]
    file = parquet(tmp_path / "a.parquet", 1, question=["what color?"], answers=answers)
    (question,) = open_rows(file)[0].questions
    assert question.answers == ("red",) * 6
    assert question.answer is None


def test_answers_stored_as_a_record_of_lists_are_the_answers(tmp_path):
    answers = [{"answer": ["red", "red"], "answer_id": [1, 2]}]
    file = parquet(tmp_path / "a.parquet", 1, question=["what color?"], answers=answers)
    assert open_rows(file)[0].questions[0].answers == ("red", "red")


def test_questions_stored_as_a_record_of_lists_are_the_questions(tmp_path):
    questions = [{"question": ["what?", "how many?"], "answer": ["dog", "2"]}]
    file = parquet(tmp_path / "q.parquet", 1, questions=questions)
    asked = open_rows(file)[0].questions
    assert [(q.text, q.answer) for q in asked] == [("what?", "dog"), ("how many?", "2")]


@pytest.mark.parametrize(
    ("column", "expected"), [([2.0], "2"), ([True], "yes"), ([False], "no"), ([7], "7")]
)
def test_answers_of_another_type_are_words(tmp_path, column, expected):
    file = parquet(tmp_path / "a.parquet", 1, question=["how many?"], answer=column)
    assert open_rows(file)[0].questions[0].answer == expected


def test_a_list_where_a_question_belongs_is_refused_with_its_row(tmp_path):
    file = parquet(tmp_path / "q.parquet", 2, question=[["what?"], ["who?"]])
    rows = open_rows(file)
    with pytest.raises(BadData, match="row 1, question: must be a text"):
        rows[1]


def test_columns_of_captions_come_in_the_order_of_their_numbers(tmp_path):
    names = ["caption_0", "caption_1", "caption_10", "caption_2"]
    file = parquet(tmp_path / "c.parquet", 1, **{name: [name] for name in names})
    captions = open_rows(file, required="caption")[0].captions
    assert captions == ("caption_0", "caption_1", "caption_2", "caption_10")


def test_fixations_in_pixels_are_refused(tmp_path):
    file = parquet(tmp_path / "g.parquet", 1, fixations=[[{"x": 120.0, "y": 40.0}]])
    with pytest.raises(BadData, match="row 0, fixations, point 1: x = 120"):
        open_rows(file, required="fixations")[0]


def test_entries_of_a_folder_are_read_alike(tmp_path):
    (tmp_path / "a.png").write_bytes(b"-")
    entry = {"file_name": "a.png", "question": "how many?", "answer": 2.0, "answers": [True, None]}
    (tmp_path / "questions.jsonl").write_text(json.dumps(entry))
    (question,) = open_rows(tmp_path)[0].questions
    assert (question.answer, question.answers) == ("2", ("yes",))


def test_rows_without_a_label_are_known_as_such(tmp_path):
    table = pa.table({"text": ["a", "b", None, "d"], "label": [0, -1, 1, None]})
    pq.write_table(table, tmp_path / "validation.parquet")
    rows = open_texts(tmp_path)
    assert [row.labels for row in rows] == [(0,), (), (1,), ()]
    assert rows[2].text == ""


@pytest.mark.parametrize("label", [[0.9, 1.0], ["joy", "fear"]])
def test_labels_that_are_no_numbers_are_refused_with_their_row(tmp_path, label):
    pq.write_table(pa.table({"text": ["a", "b"], "label": label}), tmp_path / "validation.parquet")
    with pytest.raises(BadData, match=r"row 0, label: a label must be a whole number"):
        open_texts(tmp_path)
