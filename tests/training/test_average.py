"""Averages of models."""

import json

import pytest
import torch
from helpers.tiny import tiny_captioner, tiny_gaze

from training.average import average
from training.cards.recipe import lineage
from training.core.config import BadSettings
from vqa import checkpoints

RECIPE = {"data": "d", "also": "", "batch_size": 8, "ema": 0.9, "seed": 7}
RECIPE |= {"head_epochs": 1, "head_lr": 0.1, "tune_epochs": 0, "start": "x"}


@pytest.fixture
def pair(tmp_path):
    folders = []
    for seed in (0, 1):
        folders.append(checkpoints.save(tiny_captioner(seed), tmp_path / f"model{seed}"))
        made = {"training": {"command": f"train {seed}", "commit": "abc", "config": {"seed": 7}}}
        (folders[-1] / "metrics.json").write_text(json.dumps(made))
    return folders


def test_an_average_lies_between_its_models_and_says_so(pair, tmp_path):
    folder = average(pair[0], [pair[1]], 0.25, tmp_path / "between")
    one, other, found = (checkpoints.load(each).state_dict() for each in (*pair, folder))
    for name, tensor in found.items():
        if tensor.is_floating_point():
            expected = 0.75 * one[name] + 0.25 * other[name]
            torch.testing.assert_close(tensor, expected, atol=1e-3, rtol=1e-3)
    made = json.loads((folder / "metrics.json").read_text())["training"]
    assert made["config"]["weight"] == 0.25
    assert made["config"]["seed"] == 7
    assert made["started_from"]["command"] == "train 1"


def test_the_mean_of_several_is_averaged_and_all_their_trainings_are_told(pair, tmp_path):
    third = checkpoints.save(tiny_captioner(2), tmp_path / "model2")
    made = json.loads((pair[1] / "metrics.json").read_text())["training"]
    start, config = {"command": "start", "config": RECIPE}, {"config": RECIPE}
    for folder, command in ((pair[1], "train 1"), (third, "train 2")):
        run = made | config | {"command": command, "started_from": start}
        (folder / "metrics.json").write_text(json.dumps({"training": run}))
    folder = average(pair[0], [pair[1], third], 0.75, tmp_path / "soup")
    states = [checkpoints.load(each).state_dict() for each in (*pair, third)]
    for name, tensor in checkpoints.load(folder).state_dict().items():
        if tensor.is_floating_point():
            first, one, other = (state[name] for state in states)
            expected = 0.25 * first + 0.375 * (one + other)
            torch.testing.assert_close(tensor, expected, atol=1e-3, rtol=1e-3)
    told = lineage(json.loads((folder / "metrics.json").read_text())["training"])
    assert [run["command"] for run in told[:-1]] == ["start", "train 1", "train 2"]
    assert "0.25 of model0, 0.75 of the mean of model1 and model2." in told[-1]["recipe"]


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_the_ends_are_the_models_themselves(pair, tmp_path, weight):
    folder = average(pair[0], [pair[1]], weight, tmp_path / "between")
    found, expected = (checkpoints.load(f).state_dict() for f in (folder, pair[int(weight)]))
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_what_cannot_be_averaged_is_refused(pair, tmp_path):
    with pytest.raises(BadSettings, match=r"weight must be between 0 and 1, it is 1\.5"):
        average(pair[0], [pair[1]], 1.5, tmp_path / "out")
    gaze = checkpoints.save(tiny_gaze(), tmp_path / "gaze")
    with pytest.raises(BadSettings, match="are not of one kind and shape"):
        average(pair[0], [pair[1], gaze], 0.5, tmp_path / "out")
    vocab = json.loads((pair[1] / "vocab.json").read_text())
    vocab["words"][2], vocab["words"][3] = vocab["words"][3], vocab["words"][2]
    (pair[1] / "vocab.json").write_text(json.dumps(vocab))
    with pytest.raises(BadSettings, match="do not know the same words"):
        average(pair[0], [pair[1]], 0.5, tmp_path / "out")
    (pair[0] / "metrics.json").unlink()
    with pytest.raises(checkpoints.BadCheckpoint, match="does not tell how the model was trained"):
        average(pair[0], [pair[0]], 0.5, tmp_path / "out")
    assert not (tmp_path / "out").exists()
