"""Data sets of the Hub as they are there: their columns, their names, their splits; over HTTP."""

import io
import json

import datasets
import pytest
from helpers.emoji_data import BAD, FACES, TEXTS
from helpers.hub_models import run
from helpers.hub_server import HubServer
from helpers.tiny import COLOURS, gaze_rows, tiny_rows

from vqa import checkpoints

TINY = {"image_size": 64, "batch_size": 4, "tune_epochs": 0, "head_epochs": 1, "save_every": 9}
SMALL = TINY | {"stride": 16, "word_dim": 16, "hidden_dim": 16, "attention_dim": 16}
SPLITS = ("train", "validation")
READ = """
import json
from vqa.data.image_dataset import open_rows
rows = open_rows("lmms-lab/VQAv2", "testdev", streaming=True)
asked = [rows[place].questions[0] for place in range(len(rows))]
print(json.dumps([[q.text, q.answer, q.answers] for q in asked]))
"""


def parquet(rows, features):
    file = io.BytesIO()
    datasets.Dataset.from_list(rows, datasets.Features(features)).to_parquet(file)
    return file.getvalue()


def flickr8k():
    """`jxie/flickr8k`: five columns of captions, and no ids."""
    text = datasets.Value("string")
    features = {"image": datasets.Image()} | {f"caption_{i}": text for i in range(5)}
    rows = []
    for row in tiny_rows():
        said = [*row["captions"], "A shape .", "Something on grey .", "A picture ."]
        rows.append({"image": row["image"]} | {f"caption_{i}": c for i, c in enumerate(said)})
    return {
        "data/train-00000-of-00002-2f8f6bfa852eac4b.parquet": parquet(rows[2:5], features),
        "data/train-00001-of-00002-2173151d8cd6c7fb.parquet": parquet(rows[5:], features),
        "data/validation-00000-of-00001-7025a2b596f14b7b.parquet": parquet(rows[:2], features),
    }


def vqa_v2():
    """`lmms-lab/VQAv2`: a question a row; no train split, and in testdev no answers."""
    text, number = datasets.Value("string"), datasets.Value("int64")
    given = {"answer": text, "answer_confidence": text, "answer_id": number}
    features = {
        "question_type": text,
        "multiple_choice_answer": text,
        "answers": [given],
        "image_id": number,
        "answer_type": text,
        "question_id": number,
        "question": text,
        "image": datasets.Image(),
    }
    rows = []
    for row in tiny_rows():
        asked = row["questions"][0]
        people = [
            {"answer": said, "answer_confidence": "yes", "answer_id": i}
            for i, said in enumerate(asked["answers"], 1)
        ]
        kept = {n: asked[n] for n in ("question", "answer_type")}
        told = {"question_type": "what color", "multiple_choice_answer": asked["answer"]}
        number = {"question_id": 1000 * row["image_id"], "image_id": row["image_id"]}
        rows.append({"image": row["image"], "answers": people} | kept | told | number)
    hidden = {"multiple_choice_answer": None, "answers": None, "answer_type": None}
    return {
        "data/validation-00000-of-00068.parquet": parquet(rows[::2] + rows[1::2], features),
        "data/testdev-00000-of-00036.parquet": parquet([r | hidden for r in rows], features),
    }


def card_of(default="", **configurations):
    """The README of a data set with several configurations, each with its splits."""
    lines = ["---", "configs:"]
    for name, splits in configurations.items():
        lines += [f"- config_name: {name}", "  data_files:"]
        for split in splits:
            lines += [f"  - split: {split}", f"    path: {name}/{split}-*"]
        lines += ["  default: true"] * (name == default)
    return "\n".join([*lines, "---", ""]).encode()


def tweet_eval():
    """`cardiffnlp/tweet_eval`: a configuration a task, each with the names of its labels."""
    files = {"README.md": card_of(emoji=SPLITS, emotion=SPLITS)}
    for name, names in (("emoji", FACES), ("emotion", ["joy", "sadness"])):
        features = {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=names)}
        rows = [{"text": text, "label": label} for text, label in TEXTS]
        files[f"{name}/train-00000-of-00001.parquet"] = parquet(rows[1:], features)
        files[f"{name}/validation-00000-of-00001.parquet"] = parquet(rows[:9], features)
    return files


def go_emotions():
    """`google-research-datasets/go_emotions`: labels in lists; `simplified` is the default."""
    card, names = card_of("simplified", raw=["train"], simplified=SPLITS), ["optimism", "grief"]
    labels = datasets.Sequence(datasets.ClassLabel(names=names))
    features = {"text": datasets.Value("string"), "labels": labels, "id": datasets.Value("string")}
    rows = [{"text": text, "labels": [label], "id": f"e{label}"} for text, label in TEXTS]
    files = {"README.md": card}
    files["simplified/train-00000-of-00001.parquet"] = parquet(rows[1:], features)
    files["simplified/validation-00000-of-00001.parquet"] = parquet(rows[:9], features)
    raw = {"text": datasets.Value("string"), "grief": datasets.Value("int32")}
    unlabelled = [{"text": text, "grief": label} for text, label in TEXTS]
    files["raw/train-00000-of-00001.parquet"] = parquet(unlabelled, raw)
    return files


def looks():
    """Any set of pictures with fixations."""
    point = {"x": datasets.Value("float64"), "y": datasets.Value("float64")}
    text = datasets.Value("string")
    features = {"image": datasets.Image(), "image_id": text, "fixations": [point]}
    rows = gaze_rows()
    for row in rows:
        row["fixations"] = [{n: looked[n] for n in point} for looked in row["fixations"]]
    return {
        "data/train-00000-of-00001.parquet": parquet(rows[2:], features),
        "data/validation-00000-of-00001.parquet": parquet(rows[:2], features),
    }


@pytest.fixture
def hub():
    with HubServer() as server:
        yield server


def train(hub, tmp_path, script, **flags):
    """The model that a training script makes of data of the Hub, and what is kept of how."""
    flags |= {"output_dir": tmp_path / "run"}
    if "head_epochs" in flags:
        flags["cache_dir"] = tmp_path / "cache"
    words = [word for name, value in flags.items() for word in (f"--{name}", value)]
    done = run(hub, tmp_path, "-m", f"training.train_{script}", *words)
    assert done.returncode == 0, done.stderr[-3000:]
    made = json.loads((tmp_path / "run" / "metrics.json").read_text())["training"]
    return checkpoints.load(tmp_path / "run"), made["config"]


def test_flickr8k_trains_a_captioner(hub, tiny_checkpoint, tmp_path):
    hub.create("datasets/jxie/flickr8k").commit(flickr8k())
    sizes = SMALL | {"word_min_count": 1, "max_words": 8}
    model, made = train(
        hub, tmp_path, "captioner", data="jxie/flickr8k", encoder=tiny_checkpoint, **sizes
    )
    assert made["data"] == "jxie/flickr8k"
    known = set(model.words.words)
    assert {"something", "picture", "circle"} <= known  # of several columns, and of both files
    assert "red" not in known  # of validation alone


def test_vqa_v2_has_no_train_split_and_its_halves_train_an_answerer(hub, tiny_checkpoint, tmp_path):
    hub.create("datasets/lmms-lab/VQAv2").commit(vqa_v2())
    flags = {"data": "lmms-lab/VQAv2", "encoder": tiny_checkpoint, "fused_dim": 16, **SMALL}
    words = [word for name, value in flags.items() for word in (f"--{name}", value)]
    refused = ["-m", "training.train_vqa", *words, "--output_dir", tmp_path / "none"]
    said = run(hub, tmp_path, *refused).stderr.splitlines()[-1]
    assert said.startswith('error: lmms-lab/VQAv2: no such path; as a Hub dataset: Unknown split "')
    assert "validation" in said
    flags |= {"train_split": "validation[:50%]", "validation_split": "validation[50%:]"}
    model, made = train(hub, tmp_path, "vqa", **flags, answer_min_count=1, word_min_count=1)
    assert sorted(model.answers) == sorted(COLOURS)
    assert "color" in model.words.words
    assert made["train_split"] == "validation[:50%]"


def test_vqa_v2_is_streamed_and_its_hidden_answers_are_none(hub, tmp_path):
    hub.create("datasets/lmms-lab/VQAv2").commit(vqa_v2())
    done = run(hub, tmp_path, "-c", READ)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [["what color is it?", None, []]] * 8
    read = READ.replace("testdev", "validation").replace("streaming=True", "streaming=False")
    copied = json.loads(run(hub, tmp_path, "-c", read).stdout)
    assert copied[0] == ["what color is it?", "red", ["red"] * 10]
    streamed = run(hub, tmp_path, "-c", READ.replace("testdev", "validation")).stdout
    assert json.loads(streamed) == copied


def test_tweet_eval_and_go_emotions_train_a_model_of_feelings(hub, tmp_path):
    hub.create("datasets/cardiffnlp/tweet_eval").commit(tweet_eval())
    hub.create("datasets/google-research-datasets/go_emotions").commit(go_emotions())
    data = "emoji=cardiffnlp/tweet_eval,emotion=cardiffnlp/tweet_eval,"
    data += "goemotions=google-research-datasets/go_emotions"
    sizes = {"word_dim": 8, "buckets": 31, "linear_min_count": 1, "hidden_dim": 4, "epochs": 1}
    model, made = train(hub, tmp_path, "emoji", data=data, word_min_count=1, **sizes)
    assert made["data"] == data
    assert model.labels == {
        "emoji": tuple(FACES),
        "emotion": ("joy", "sadness"),
        "goemotions": ("optimism", "grief"),
    }
    assert set(BAD) <= set(model.words.words)


def test_pictures_with_fixations_train_a_gaze_model(hub, tiny_checkpoint, tmp_path):
    hub.create("datasets/org/looks").commit(looks())
    sizes = {"image_size": 64, "channels": 8, "finest": 16, "tune_epochs": 1, "batch_size": 4}
    _, made = train(hub, tmp_path, "gaze", data="org/looks", encoder=tiny_checkpoint, **sizes)
    assert made["data"] == "org/looks"
