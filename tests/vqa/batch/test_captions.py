"""Bulk captions, and the numbers that `training.score caption` makes of them."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.tiny import draw, tiny_captioner, tiny_rows
from helpers.together import run_together

from training import score
from vqa import checkpoints
from vqa.batch import runner
from vqa.pipelines.captioning import CaptionPipeline


def flags(data, out, model, *options):
    given = ["caption", "--data", data, "--out", out, "--model", model, "--batch_size", "3"]
    return [*map(str, given), *options]


def caption(data, out, model, *options):
    runner.main(flags(data, out, model, *options))
    return out.read_bytes()


@pytest.fixture(scope="module")
def whole(tiny_data, tiny_captioner_checkpoint, tmp_path_factory):
    """What an uninterrupted run of one process writes, three rows at a time."""
    out = tmp_path_factory.mktemp("whole") / "preds.jsonl"
    return caption(tiny_data, out, tiny_captioner_checkpoint)


@pytest.mark.parametrize("beam", [1, 3])
def test_each_picture_has_the_line_that_the_engine_gives_it(
    tiny_data, tiny_captioner_checkpoint, tmp_path, beam
):
    out = tmp_path / "preds.jsonl"
    content = caption(tiny_data, out, tiny_captioner_checkpoint, "--beam", str(beam))
    lines = [json.loads(line) for line in content.splitlines()]
    assert [line["image_id"] for line in lines] == list(range(8))
    model = checkpoints.load(tiny_captioner_checkpoint)
    for line, row in zip(lines, tiny_rows(), strict=True):
        assert list(line) == ["image_id", "caption", "log_prob", "unsure", "words"]
        expected = CaptionPipeline(model).caption(row["image"]["bytes"], beam=beam)
        assert line["caption"] == expected.text == " ".join(word for word, _ in line["words"])
        assert line["log_prob"] == pytest.approx(expected.log_prob, abs=1e-3)
        assert [p for _, p in line["words"]] == pytest.approx(expected.word_probs, abs=1e-4)


@pytest.mark.parametrize("part", [0.3, 0.77, 1.0])
def test_an_interrupted_file_is_continued_to_the_same_bytes(
    whole, tiny_data, tiny_captioner_checkpoint, tmp_path, part
):
    out = tmp_path / "preds.jsonl"
    out.write_bytes(whole[: int(len(whole) * part)])
    assert caption(tiny_data, out, tiny_captioner_checkpoint) == whole


def test_another_model_does_not_go_on_with_the_file(whole, tiny_data, tmp_path):
    out = tmp_path / "preds.jsonl"
    out.write_bytes(whole[: len(whole) // 2])
    other = checkpoints.save(tiny_captioner(seed=1), tmp_path / "other")
    with pytest.raises(SystemExit, match="another model wrote"):
        caption(tiny_data, out, other)


def test_two_processes_write_what_one_does(whole, tiny_data, tiny_captioner_checkpoint, tmp_path):
    out = tmp_path / "preds.jsonl"
    command = ["-m", "vqa.batch", *flags(tiny_data, out, tiny_captioner_checkpoint)]
    ended = run_together(command, command)
    assert [done.returncode for done in ended] == [0, 0], [done.stderr for done in ended]
    assert out.read_bytes() == whole


def test_a_folder_of_pictures_needs_nothing_beside(tiny_captioner_checkpoint, tmp_path, capsys):
    pictures = tmp_path / "photos"
    pictures.mkdir()
    for name, colour in (("b.png", "red"), ("a.PNG", "blue")):
        (pictures / name).write_bytes(draw(colour, "circle"))
    (pictures / "c.jpg").write_bytes(b"no picture")
    (pictures / "notes.txt").write_text("no picture either")
    content = caption(pictures, tmp_path / "preds.jsonl", tiny_captioner_checkpoint)
    assert [json.loads(line)["image_id"] for line in content.splitlines()] == ["a.PNG", "b.png"]
    assert "Skipped 1:\n  picture c.jpg" in capsys.readouterr().err


@pytest.mark.parametrize("beam", ["0", "21", "x"])
def test_a_beam_out_of_range_is_refused(tiny_data, tiny_captioner_checkpoint, tmp_path, beam):
    with pytest.raises(SystemExit):
        caption(tiny_data, tmp_path / "out", tiny_captioner_checkpoint, "--beam", beam)


def test_an_answerer_describes_nothing(tiny_data, tiny_checkpoint, tmp_path):
    with pytest.raises(SystemExit, match="holds a Answerer, no captioner"):
        caption(tiny_data, tmp_path / "out", tiny_checkpoint)


# Scores


PEOPLE = {1: ["a dog runs", "the dog is running"], 2: ["two men sit", "men on a bench"], 3: []}


@pytest.fixture
def data(tmp_path):
    image = {"bytes": b"-", "path": ""}
    rows = [{"image": image, "image_id": i, "captions": said} for i, said in PEOPLE.items()]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "validation.parquet")
    return tmp_path


def scored(data, captions):
    lines = [{"image_id": i, "caption": text} for i, text in captions.items()]
    predictions = data / "preds.jsonl"
    predictions.write_text("".join(json.dumps(line) + "\n" for line in lines))
    score.main(["caption", "--data", str(data), "--predictions", str(predictions)])
    return json.loads((data / "preds.metrics.json").read_text())["results"]["caption"]["metrics"]


def test_captions_of_people_score_full_marks(data):
    found = scored(data, {1: "A dog runs.", 2: "men on a bench"})
    assert found["bleu1"] == found["bleu2"] == found["bleu3"] == found["rouge_l"] == 100
    assert found["cider"] > 100
    assert (found["words"], found["n"], found["n_missing"]) == (6, 2, 0)
    assert (found["most_frequent"], found["mean_words"]) == (50, 3.5)


def test_things_that_nobody_mentions_are_made_up(data):
    assert scored(data, {1: "a dog on a bench", 2: "a man on a bench"})["chair_i"] == 25
    assert scored(data, {1: "dogs", 2: "people"})["chair_i"] == 0
    assert scored(data, {1: "it is red", 2: "so it is"})["chair_i"] == 0


def test_one_caption_for_all_shows(data):
    found = scored(data, {1: "a dog", 2: "a dog"})
    assert (found["most_frequent"], found["words"]) == (100, 2)


def test_a_picture_without_a_caption_counts_and_is_named(data, capsys):
    found = scored(data, {1: "a dog runs"})
    assert (found["n"], found["n_missing"]) == (2, 1)
    assert found["bleu1"] < 100
    assert "No prediction for 1:\n  picture 2" in capsys.readouterr().err


def test_captions_of_other_pictures_are_no_predictions(data):
    with pytest.raises(SystemExit, match="none of its lines is about a picture"):
        scored(data, {8: "a dog"})


def test_a_row_a_caption_is_one_picture(data):
    image = {"bytes": b"-", "path": ""}
    rows = [{"image": image, "image_id": 1, "caption": said} for said in PEOPLE[1]]
    pq.write_table(pa.Table.from_pylist(rows), data / "validation.parquet")
    assert scored(data, {1: "the dog is running"})["n"] == 1
