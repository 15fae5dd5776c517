"""The cards: their examples run, their pictures show the model, the Hub can read their numbers."""

import json
import re
import shutil

import huggingface_hub
import numpy as np
import pytest
import yaml
from helpers.emoji_data import tiny_emoji
from PIL import Image

from training import card
from training.cards import example
from training.cards.recipe import lineage
from vqa import checkpoints
from vqa.hub.publish import CARD, EVALUATED, EXAMPLE, PICTURES
from vqa.models import EmojiModel
from vqa.tasks import BY_MODEL_TYPE

FOLDERS = sorted(p.parent for p in checkpoints.SHIPPED.glob("*/model.safetensors"))
SEEING = [folder for folder in FOLDERS if checkpoints.type_of(folder) in example.EXAMPLES]
shipped = pytest.mark.parametrize("folder", FOLDERS, ids=[folder.name for folder in FOLDERS])
MADE = {"command": "python -m training.train_emoji", "commit": "0" * 40}
RECIPE = {"data": "emoji=a", "epochs": 1, "lr": 0.1, "batch_size": 8, "smoothing": 0.0, "ema": 0.9}


def card_of(folder):
    return (folder / CARD).read_text(encoding="utf-8")


@pytest.fixture
def run_examples(monkeypatch, capsys):
    """A function: what the Python in a card prints, run in a folder where photo.jpg is."""

    def run_examples(text, folder):
        code = "\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))
        with Image.open(example.CAT.path) as photo:
            photo.convert("RGB").save(folder / "photo.jpg")
        monkeypatch.chdir(folder)
        capsys.readouterr()
        exec(code, {})
        return code, capsys.readouterr().out

    return run_examples


@shipped
def test_the_example_of_a_card_runs(folder, tmp_path, run_examples):
    code, said = run_examples(card_of(folder), tmp_path)
    assert f'"{folder.name}"' in code
    assert len(said.splitlines()) >= code.count("print(")


@shipped
def test_the_pictures_of_a_card_are_there_small_and_told_in_words(folder):
    shown = re.findall(r"!\[(.+)\]\((.+)\)", card_of(folder))
    assert shown
    for words, name in shown:
        assert len(words.split()) > 10
        assert name in PICTURES
        assert 0 < (folder / name).stat().st_size < 150_000


@pytest.mark.parametrize("folder", SEEING, ids=[folder.name for folder in SEEING])
def test_a_card_shows_what_the_model_does_with_a_photo(folder):
    kept = folder / EXAMPLE
    fresh = example.draw(folder)
    with Image.open(kept) as picture:
        assert picture.size == fresh.picture.size
        shift = np.abs(np.asarray(picture, float) - np.asarray(fresh.picture, float))
    assert shift.mean() < 4  # what JPEG loses
    words, link = re.search(r"!\[(.+)\]\((.+)\)", card_of(folder)).groups()
    assert (words, link) == (fresh.words, EXAMPLE)
    assert fresh.credit in card_of(folder)


@shipped
def test_the_hub_reads_the_number_that_a_model_is_judged_by(folder):
    written = {f.name: f.read_text() for f in (folder / EVALUATED).glob("*")}
    assert written == card.evaluated(folder)
    front = huggingface_hub.ModelCard(card_of(folder)).data
    task = BY_MODEL_TYPE[checkpoints.type_of(folder)]
    (key, name), *_ = task.metrics.items()
    value = checkpoints.read_metrics(folder)[task.key]["metrics"][key]
    assert (front.eval_results[0].metric_name, front.eval_results[0].metric_value) == (name, value)
    read = [huggingface_hub.parse_eval_result_entries(yaml.safe_load(t)) for t in written.values()]
    assert [(e.dataset_id, e.value) for (e,) in read] == [(d, value) for d in front.datasets or ()][
        :1
    ]


@shipped
def test_the_cost_of_all_its_trainings_is_told(folder):
    runs, told = [json.loads((folder / "metrics.json").read_text())["training"]], []
    while runs:
        run = runs.pop()
        if run and run not in told:
            told.append(run)
            runs += [run.get("started_from"), *run.get("averaged_with", ())]
    hours = sum(run["cpu_hours"] for run in told)
    assert f"\n{round(hours, 2)} CPU hours for all trainings above" in card_of(folder)


@pytest.fixture
def feelings(tmp_path):
    """A folder `emoji` with an untrained model of feelings, and numbers as if it were measured."""
    tiny = tiny_emoji()
    labels = {"emoji": tiny.labels["face"], "emotion": tiny.labels["mood"]}
    settings = vars(tiny.config) | {"heads": {"emoji": 2, "emotion": 2}}
    model = EmojiModel(type(tiny.config)(**settings), tiny.words, labels)
    folder = checkpoints.save(model, tmp_path / "emoji")
    recipe = RECIPE | {"word_dropout": 0.1, "power": 0.7, "seed": 0}
    scores = {"macro_f1": 31.5, "accuracy": 40.0, "top5": 70.0, "n": 500}
    told = MADE | {"dataset": "tweeteval", "split": "validation"}
    results = {
        "emoji": told | {"metrics": scores},
        "negations, emoji": told | {"metrics": {"n": 3, "changed": 50.0}},
    }
    metrics = {"training": MADE | {"cpu_hours": 0.25, "config": recipe}, "results": results}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    return folder


def test_a_recipe_tells_how_often_a_folder_was_asked():
    config = {"data": "d/a", "also": "d/b,d/c,d/b", "own_epochs": 1, "own_lr": 0.1}
    config |= {"head_epochs": 0, "tune_epochs": 0, "batch_size": 8, "ema": 0.9, "start": "x"}
    (made,) = lineage({"config": config})
    assert "on the train split of a and of b (2 times) and of c." in made["recipe"]
    (made,) = lineage({"config": config | {"own_epochs": 0}})
    assert made["recipe"].startswith("The temperature alone")


def test_the_card_of_a_model_of_feelings_runs_and_is_read(feelings, tmp_path, run_examples):
    card.write(feelings)
    _, said = run_examples(card_of(feelings), tmp_path)
    assert len(said.splitlines()) == 2
    assert "\n0.25 CPU hours for all trainings above" in card_of(feelings)
    (entry,) = yaml.safe_load((feelings / EVALUATED / "tweet_eval.yaml").read_text())
    assert entry["dataset"] == {"id": "cardiffnlp/tweet_eval", "task_id": "emoji"}
    assert entry["value"] == 31.5
    assert not (feelings / EXAMPLE).exists()  # it sees no pictures


def test_a_card_drops_the_picture_and_the_numbers_that_it_has_no_longer(feelings, run_examples):
    card.write(feelings)
    shutil.copy(example.CAT.path, feelings / EXAMPLE)
    metrics = json.loads((feelings / "metrics.json").read_text())
    (feelings / "metrics.json").write_text(json.dumps(metrics | {"results": {}}))
    card.write(feelings)
    assert "not measured yet" in card_of(feelings)
    assert not (feelings / EXAMPLE).exists()
    assert not (feelings / EVALUATED).exists()
    _, said = run_examples(card_of(feelings), feelings.parent)
    assert said == ""
