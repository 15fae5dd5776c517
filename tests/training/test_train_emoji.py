"""Texts in bulk, scored; and training on them, for real."""

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from helpers.emoji_data import FACES, MOODS, TEXTS, tiny_emoji, write
from helpers.trainings import assert_moved_alike, train_by_two_processes
from safetensors.torch import load_file
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score

from training import score
from training.core.config import BadSettings
from training.data.text_set import TextSet
from training.tasks.emoji import EmojiLoss
from training.train_emoji import TrainConfig, train
from vqa import checkpoints
from vqa.batch import runner
from vqa.batch.tasks import Feelings
from vqa.data.text_dataset import open_texts
from vqa.emoji_labels import emoji_of
from vqa.errors import BadData
from vqa.metrics.confusion_plot import draw, most
from vqa.metrics.emoji_scores import EmojiScores
from vqa.metrics.functional.labels import label_scores as measure
from vqa.metrics.functional.labels import macro_f1
from vqa.models import EmojiModel
from vqa.models.emoji import Phrases
from vqa.pipelines.emoji import EmojiPipeline
from vqa.pipelines.nearest_texts import Neighbours, open_sentences, read


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write(tmp_path_factory.mktemp("texts") / "feelings")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return checkpoints.save(tiny_emoji(), tmp_path_factory.mktemp("model") / "emoji")


@pytest.fixture
def config(data, tmp_path):
    return TrainConfig(
        f"face={data},mood={data}",
        str(tmp_path / "emoji"),
        epochs=2,
        lr=0.02,
        word_dim=16,
        buckets=211,
        hidden_dim=8,
        dropout=0.1,
        batch_size=8,
        ema=0.9,
        word_min_count=1,
        measured="face,mood",
    )


def bulk(data, out, model, *options):
    flags = ["emoji", "--data", data, "--out", out, "--model", model, *options]
    runner.main([*map(str, flags)])


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_texts_are_found_by_split_and_name(data, tmp_path):
    texts = open_texts(data, "train", "face")
    assert texts.names == tuple(FACES)
    assert (texts[0].text, texts[0].labels) == (TEXTS[-1][0], (TEXTS[-1][1],))
    assert open_texts(data, "validation", "mood")[1].labels == (0,)
    file = open_texts(data / "mood-train.parquet", name="mood")
    assert (len(file), file.names) == (len(TEXTS), tuple(MOODS))
    assert open_texts(data / "mood-train.parquet").names == ()
    with pytest.raises(BadData, match=r"neither test.parquet nor face-test.parquet; it holds face"):
        open_texts(data, "test", "face")
    with pytest.raises(BadData, match="no such file or folder"):
        open_texts(tmp_path / "nowhere")
    table = pa.Table.from_pylist([{"sentence": "hello"}])
    pq.write_table(table, tmp_path / "validation.parquet")
    with pytest.raises(BadData, match="has no 'text'; it has sentence"):
        open_texts(tmp_path)
    pq.write_table(pa.Table.from_pylist([{"text": "a"}, {"text": None}]), tmp_path / "x.parquet")
    assert list(open_texts(tmp_path / "x.parquet")) == [("a", ()), ("", ())]
    pq.write_table(pa.Table.from_pylist([{"text": "a", "label": 2}]), tmp_path / "y.parquet")
    (tmp_path / "labels.json").write_text('["good", "bad"]')
    with pytest.raises(BadData, match="has the label 2, but only 2 have names"):
        open_texts(tmp_path / "y.parquet")


@pytest.mark.parametrize("several", [False, True])
def test_scores_are_scikit_learns(several):
    random = np.random.default_rng(0)
    count, labels = 200, 6
    guesses = [random.permutation(labels)[:5].tolist() for _ in range(count)]
    best = [guess[0] for guess in guesses]
    right = [random.permutation(labels)[: 1 + several * (i % 2)].tolist() for i in range(count)]
    found = measure(guesses, right, labels)
    truth = np.array([[label in labels_ for label in range(labels)] for labels_ in right])
    given = np.eye(labels, dtype=bool)[best]
    assert found["macro_f1"] == pytest.approx(f1_score(truth, given, average="macro"))
    assert found["macro_f1"] == macro_f1(best, truth)
    if not several:
        single = [label for (label,) in right]
        assert found["accuracy"] == accuracy_score(single, best)
        assert found["confusion"] == confusion_matrix(single, best).tolist()
        expected = np.mean([one in guess for one, guess in zip(single, guesses, strict=True)])
        assert found["top5"] == expected
    assert np.sum(found["confusion"]) == count
    metric = EmojiScores()
    for start in (0, 100):
        part = slice(start, start + 100)
        metric.add_batch(predictions=guesses[part], references=right[part])
    assert metric.compute(num_labels=labels) == found


def test_neighbours_are_read_alike(data):
    emoji_pipeline = EmojiPipeline(tiny_emoji())
    near = Neighbours(emoji_pipeline, open_sentences(f"face={data},mood={data}"))
    assert len(near.rows) == 2 * len(TEXTS)
    text = "i am happy now"
    found = near.nearest(text, 3)
    assert [each.likeness for each in found] == sorted((e.likeness for e in found), reverse=True)
    (one,) = read(emoji_pipeline, [text])
    others = read(emoji_pipeline, [each for each, _ in near.rows])
    assert found[0].likeness == pytest.approx(float((others @ one).max()), abs=1e-3)
    assert {each.emoji for each in found} <= {*FACES, *map(emoji_of, MOODS)}
    assert near.nearest(TEXTS[0][0])[0].text != TEXTS[0][0]
    with pytest.raises(BadData, match="must be like emoji=FOLDER"):
        open_sentences(str(data))


def test_neighbours_can_be_read_by_another_model(data):
    other, sentences = EmojiPipeline(tiny_emoji(1)), open_sentences(f"face={data}")
    near = Neighbours(EmojiPipeline(tiny_emoji()), sentences)
    before = near.nearest("i am happy now")
    near.read_by(other)
    assert near.nearest("i am happy now") == Neighbours(other, sentences).nearest("i am happy now")
    assert near.nearest("i am happy now") != before


def test_scores_need_labels_that_there_are():
    assert macro_f1([0, 0], np.eye(3, dtype=bool)[[0, 0]]) == pytest.approx(1 / 3)
    with pytest.raises(ValueError, match="as many labels as predictions"):
        measure([[0]], [], 2)
    with pytest.raises(ValueError, match=r"from 0 to 1, not \[2\]"):
        measure([[2]], [[0]], 2)


def test_a_line_a_text_in_their_order(data, checkpoint, tmp_path):
    out = tmp_path / "preds.jsonl"
    bulk(data, out, checkpoint, "--head", "mood", "--batch_size", 7)
    found = lines(out)
    assert [line["text"] for line in found] == [text for text, _ in TEXTS]
    emoji_pipeline = EmojiPipeline(tiny_emoji())
    for line in found:
        assert list(line) == ["text", "label", "name", "emoji", "top"]
        feeling = emoji_pipeline.emoji(line["text"], "mood")
        assert (line["name"], line["emoji"]) == (feeling.label, feeling.emoji)
        assert MOODS[line["label"]] == line["name"] == line["top"][0][0]
        assert line["top"][0][1] == pytest.approx(feeling.probability, abs=2e-3)  # fp16 weights


def test_an_interrupted_file_goes_on_and_a_strange_one_is_left_alone(
    data, checkpoint, tmp_path, monkeypatch
):
    whole, cut = tmp_path / "whole.jsonl", tmp_path / "cut.jsonl"
    flags = ("--head", "face", "--batch_size", 4)
    bulk(data, whole, checkpoint, *flags)
    content = whole.read_bytes()
    cut.write_bytes(content[: len(content) // 2])
    calls, real = [], Feelings.fill_records
    monkeypatch.setattr(Feelings, "fill_records", lambda *given: (calls.append(1), real(*given)))
    bulk(data, cut, checkpoint, *flags)
    assert cut.read_bytes() == content
    assert 0 < len(calls) < len(TEXTS) / 4
    cut.write_bytes(b'{"text": "something else"}\n')
    with pytest.raises(SystemExit, match="line 1 is not about the text there"):
        bulk(data, cut, checkpoint, *flags)
    cut.write_bytes(content.replace(b'"label": ', b'"label": 7'))
    with pytest.raises(SystemExit, match="another model wrote the line of so angry today"):
        bulk(data, cut, checkpoint, *flags)
    with pytest.raises(SystemExit, match="no head 'rage'; there are: face, mood"):
        bulk(data / "mood-train.parquet", tmp_path / "new.jsonl", checkpoint, "--head", "rage")


def test_predictions_are_scored_and_drawn(data, checkpoint, tmp_path, capsys):
    out, picture = tmp_path / "preds.jsonl", tmp_path / "confusion.png"
    bulk(data, out, checkpoint, "--head", "mood")
    options = ["--data", str(data), "--predictions", str(out), "--model", str(checkpoint)]
    made = {"training": {"command": "c", "commit": "c", "config": {"seed": 3}}}
    (checkpoint / "metrics.json").write_text(json.dumps(made))
    score.main(["emoji", *options, "--head", "mood", "--picture", str(picture)])
    entry = json.loads(out.with_suffix(".metrics.json").read_text())["results"]["mood"]
    given = [line["label"] for line in lines(out)]
    right = [label for _, label in TEXTS]
    assert entry["metrics"] == {
        "macro_f1": round(100 * f1_score(right, given, average="macro"), 2),
        "accuracy": round(100 * accuracy_score(right, given), 2),
        "top5": 100.0,
        "n": len(TEXTS),
    }
    assert entry["confusion"] == confusion_matrix(right, given).tolist()
    assert (entry["labels"], entry["seed"]) == (MOODS, 3)
    assert "macro_f1" in capsys.readouterr().out
    assert picture.stat().st_size > 500
    with pytest.raises(SystemExit, match="not the texts of these data, in order"):
        score.main(["emoji", *options, "--head", "mood", "--split", "train"])
    with pytest.raises(SystemExit, match="no head 'rage'"):
        score.main(["emoji", *options, "--head", "rage"])


def test_the_confusions_are_drawn_where_they_are():
    assert most([[9, 1], [0, 10]], MOODS, 1) == [("joy", "sadness", 0.1)]
    picture = draw([[9, 1], [0, 10]], ["joy", "❤"])
    cell = picture.width // 3
    shade = {
        (row, column): picture.getpixel((int((column + 1.5) * cell), int((row + 1.5) * cell)))[0]
        for row in range(2)
        for column in range(2)
    }
    assert shade[1, 1] < shade[0, 0] < shade[0, 1] < shade[1, 0] == 255
    icons = [picture.crop((i * cell, 0, (i + 1) * cell, cell)) for i in (1, 2)]
    assert all(len(icon.getcolors(4096)) > 50 for icon in icons)  # the font has them


@pytest.mark.usefixtures("fresh_accelerator")
def test_it_learns_to_feel_and_says_how_it_was_made(config):
    folder = train(replace(config, epochs=12))
    emoji_pipeline = EmojiPipeline(checkpoints.load_as(EmojiModel, folder))
    for head in ("face", "mood"):
        found = emoji_pipeline.feel_batch([text for text, _ in TEXTS], head)
        labels = emoji_pipeline.model.labels[head]
        assert [labels.index(each.label) for each in found] == [label for _, label in TEXTS]
    assert emoji_pipeline.emoji("happyyy!!!", "mood").label == "joy"  # by its characters
    made = json.loads((folder / "metrics.json").read_text())["training"]
    assert made["config"]["epochs"] == 12
    assert made["cpu_hours"] >= 0


@pytest.mark.usefixtures("fresh_accelerator")
def test_a_stopped_training_goes_on_to_the_same_weights(config, tmp_path, monkeypatch):
    expected = load_file(train(config) / "model.safetensors")
    again = replace(config, output_dir=str(tmp_path / "again"), save_every=1)
    real, steps = TextSet.batch, []

    def stop(texts, picks):
        steps.append(len(picks))
        if len(steps) == 11:  # in the second epoch
            raise KeyboardInterrupt
        return real(texts, picks)

    with monkeypatch.context() as patch:
        patch.setattr(TextSet, "batch", stop)
        with pytest.raises(KeyboardInterrupt):
            train(again)
    found = load_file(train(again) / "model.safetensors")
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.usefixtures("fresh_accelerator")
def test_two_processes_learn_what_one_does(config, tmp_path):
    plain = replace(config, dropout=0.0, word_dropout=0.0, ema=0.0, epochs=1)
    expected = load_file(train(plain) / "model.safetensors")
    other = replace(plain, output_dir=str(tmp_path / "two"))
    found = train_by_two_processes("training.train_emoji", other)
    untrained = {name: torch.zeros_like(t).float() for name, t in expected.items()}
    assert_moved_alike(found, expected, untrained)


def test_a_small_set_comes_around_more_often(data):
    texts = {"face": open_texts(data, "train", "face"), "mood": open_texts(data, "train", "mood")}
    texts["mood"] = replace(texts["mood"], rows=texts["mood"].rows[:3])
    model = tiny_emoji()
    asis = TextSet(texts, model)
    assert asis.counts.tolist() == [30, 3]
    even = TextSet(texts, model, power=0.0)
    assert abs(even.counts[0] - even.counts[1]) <= 1
    batch = even.batch([(0, i) for i in range(len(even))])
    assert batch["heads"].bincount().tolist() == even.counts.tolist()
    assert torch.equal(batch["targets"].sum(1), torch.ones(len(even)))
    other = even.batch([(1, i) for i in range(len(even))])
    assert not torch.equal(batch["ids"], other["ids"])


def test_the_loss_is_the_weighted_cross_entropy(data):
    model = tiny_emoji()
    texts = {head: open_texts(data, "train", head) for head in ("face", "mood")}
    texts["face"] = replace(texts["face"], rows=texts["face"].rows[:20])  # 15 of one, 5 of another
    learnt = TextSet(texts, model)
    batch = learnt.batch([(0, i) for i in range(len(learnt))])
    model.requires_grad_(False)
    found = EmojiLoss(model, learnt, smoothing=0.1)(batch)
    expected = 0.0
    phrases = Phrases(*(batch[name] for name in Phrases._fields))
    for number, head in enumerate(("face", "mood")):
        counts = np.bincount([row.labels[0] for row in texts[head]])
        weights = 1 / np.sqrt(counts)
        weights /= (weights * counts).sum() / counts.sum()
        logits, _ = model(phrases, head)
        for row in (batch["heads"] == number).nonzero().flatten().tolist():
            label = int(batch["targets"][row].argmax())
            likely = logits[row].log_softmax(0)
            smooth = 0.9 * likely[label] + 0.1 * likely.mean()
            expected -= weights[label] * float(smooth)
    assert float(found) == pytest.approx(expected, rel=1e-4)


def test_settings_that_cannot_be_are_named(config, data, fresh_accelerator):
    with pytest.raises(BadData, match="must be like emoji=FOLDER"):
        train(replace(config, data=str(data), output_dir=config.output_dir + "3"))
    with pytest.raises(BadSettings, match="leave start out"):
        replace(config, start="emoji")
    with pytest.raises(BadSettings, match="measured is 'rage'; there are: face, mood"):
        train(replace(config, measured="rage"))
    strange = f"face={data / 'face-train.parquet'}"
    with pytest.raises(BadData, match="no splits of its own"):
        train(replace(config, data=strange, output_dir=config.output_dir + "2"))
