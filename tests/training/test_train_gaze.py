"""Training the gaze model for real, on dots that people looked at."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.paths import ROOT
from helpers.tiny import gaze_rows, tiny_gaze
from safetensors.torch import load_file
from transformers import (
    ConvNextImageProcessor,
    HfArgumentParser,
    ResNetConfig,
    ResNetModel,
)

from saliency import gaze_metrics
from saliency.fixations import count_map, density
from training.core.config import BadSettings
from training.data.augmentation import RandomCropFlip
from training.data.fixation_set import GazeSet
from training.tasks.gaze import TERMS, GazeLoss, GazeTask, at_size
from training.train_gaze import TrainConfig, train
from vqa import checkpoints
from vqa.data.image_dataset import open_rows
from vqa.errors import BadData
from vqa.models import GazeModel
from vqa.pipelines.gaze import GazePipeline

RECIPE = ROOT / "training/recipes/gaze-reference.txt"
pytestmark = pytest.mark.usefixtures("fresh_accelerator")


@pytest.fixture
def start(tmp_path):
    """A gaze model to go on from: its encoder is not the shipped one."""
    return checkpoints.save(tiny_gaze(), tmp_path / "start")


@pytest.fixture
def config(gaze_data, start, tmp_path):
    return TrainConfig(
        str(gaze_data),
        str(tmp_path / "gaze"),
        start=str(start),
        tune_epochs=2,
        batch_size=4,
        tune_lr=5e-3,
        encoder_lr=1e-3,
        dropout=0.0,
    )


def test_it_learns_to_look_at_the_dots_and_says_how_it_was_made(config, start):
    folder = train(replace(config, tune_epochs=30, ema=0.9, nss=0.0))
    pictures = [row["image"]["bytes"] for row in gaze_rows()]

    def mean_cc(name):
        maps = GazePipeline(checkpoints.load_as(GazeModel, name)).maps(pictures, size=(150, 200))
        truths = [density(looked(row)).numpy() for row in gaze_rows()]
        return np.mean([gaze_metrics.cc(m, t) for m, t in zip(maps, truths, strict=True)])

    assert mean_cc(start) < 0.3
    assert mean_cc(folder) > 0.7
    made = json.loads((folder / "metrics.json").read_text())["training"]
    assert made["config"]["tune_epochs"] == 30


def looked(row):
    return count_map([(f["x"], f["y"]) for f in row["fixations"]])


def test_a_stopped_training_goes_on_to_the_same_weights(config, tmp_path, monkeypatch):
    expected = load_file(train(config) / "model.safetensors")
    again = replace(config, output_dir=str(tmp_path / "again"), save_every=1)
    real, steps = GazeTask.batch, []

    def stop(task, samples):
        steps.append(len(samples))
        if len(steps) == 4:  # in the second epoch's last batch
            raise KeyboardInterrupt
        return real(task, samples)

    with monkeypatch.context() as patch:
        patch.setattr(GazeTask, "batch", stop)
        with pytest.raises(KeyboardInterrupt):
            train(again)
    found = load_file(train(again) / "model.safetensors")
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_the_reference_recipe_trains_and_saves(gaze_data, tmp_path):
    network = ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1], layer_type="basic"
    )
    ResNetModel(network).save_pretrained(tmp_path / "resnet")
    ConvNextImageProcessor().save_pretrained(tmp_path / "resnet")
    flags = ["--recipe", str(RECIPE), "--data", str(gaze_data), "--batch_size", "8"]
    flags += ["--encoder", str(tmp_path / "resnet"), "--output_dir", str(tmp_path / "gaze")]
    flags += ["--tune_epochs", "1", "--image_size", "128"]
    (config,) = HfArgumentParser(TrainConfig).parse_args_into_dataclasses(
        flags, args_file_flag="--recipe"
    )
    assert (config.optimizer, config.measure, config.bce, config.kl) == ("sgd", "ssim", 1, 0)
    model = checkpoints.load_as(GazeModel, train(config))
    assert model.config.output == "sigmoid"
    assert model.encoder.config.architecture["model_type"] == "resnet"
    (plain,) = HfArgumentParser(TrainConfig).parse_args_into_dataclasses(
        ["--recipe", str(RECIPE), "--data", "d", "--output_dir", "o"], args_file_flag="--recipe"
    )
    assert (plain.image_size, plain.batch_size, plain.tune_lr) == (512, 4, 1e-4)
    assert plain.encoder == "microsoft/resnet-50"


def test_fixations_move_with_the_picture(gaze_data):
    learnt = GazeSet(open_rows(gaze_data, "train", required="fixations"), 128, augment=True)
    batch = learnt.batch([(epoch, i) for epoch in range(4) for i in range(len(learnt))])
    views = {
        RandomCropFlip.draw((0, e, i), mirrors=True).mirrored for e in range(4) for i in range(8)
    }
    assert views == {False, True}
    for pixels, counts in zip(batch["pixels"], batch["counts"], strict=True):
        y, x = (counts == counts.max()).nonzero().float().mean(0).tolist()
        at = pixels[:, int(y / 150 * 128), int(x / 200 * 128)]
        assert at.min() > 0.9  # the dot is white, all else grey
    assert int(batch["count"]) == 32
    assert len(torch.unique(batch["counts"].flatten(1), dim=0)) > 16


@pytest.mark.parametrize("term", TERMS)
def test_each_term_of_the_loss_is_the_measure_it_names(gaze_data, term):
    rows = open_rows(gaze_data, "train", required="fixations")
    model = tiny_gaze(output="sigmoid" if term == "bce" else "softmax")
    batch = GazeSet(rows, 64).batch([(0, i) for i in range(3)])
    found = GazeLoss(model, {term: 2.0})(batch).item()
    with torch.no_grad():
        logits = model.logits(batch["pixels"])
    maps, counts = at_size(model.spread(logits)), batch["counts"]
    truth = density(counts)
    if term == "bce":
        peaks = truth / truth.amax((1, 2), keepdim=True)
        wanted = torch.nn.functional.interpolate(peaks[:, None], size=(64, 64), mode="bilinear")
        p = logits.sigmoid().double()
        t = wanted[:, 0].double()
        each = -(t * p.log() + (1 - t) * (1 - p).log()).mean((1, 2))
    else:
        pairs = zip(maps.numpy(), truth.numpy(), counts.numpy(), strict=True)
        of = {
            "kl": lambda m, t, c: gaze_metrics.kl(m, t),
            "cc": lambda m, t, c: 1 - gaze_metrics.cc(m, t),
            "nss": lambda m, t, c: -gaze_metrics.nss(m, c),
        }[term]
        each = torch.tensor([of(*pair) for pair in pairs])
    assert found == pytest.approx(2 * float(each.sum()), rel=1e-4)


def test_broken_pictures_are_left_out_and_named(gaze_data, capsys):
    rows = list(open_rows(gaze_data, "train", required="fixations"))
    rows[1] = replace(rows[1], image=b"no picture")
    rows[2] = replace(rows[2], fixations=())
    learnt = GazeSet(rows, 64)
    assert len(learnt) == 7
    batch = learnt.batch([(0, i) for i in range(7)])
    assert len(batch["pixels"]) == len(batch["counts"]) == int(batch["count"]) == 6
    assert f"skipped picture {rows[1].image_id}" in capsys.readouterr().err
    assert GazeLoss(tiny_gaze(), {"kl": 1.0})(learnt.batch([(0, 1)])) == 0


def test_settings_that_cannot_be_are_named(config, gaze_data):
    with pytest.raises(BadSettings, match="measure is 'auc'; it can be cc, nss, ssim"):
        replace(config, measure="auc")
    with pytest.raises(BadSettings, match="one of kl, cc, nss, bce must have a weight"):
        replace(config, kl=0.0, cc=0.0, nss=0.0)
    with pytest.raises(BadSettings, match="its own channels"):
        replace(config, channels=7)
    with pytest.raises(BadData, match="no splits of its own"):
        train(replace(config, data=str(gaze_data / "train.parquet")))
