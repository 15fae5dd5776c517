"""Training an answerer that knows where people look."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.tiny import tiny_answerer, tiny_gaze, tiny_rows
from helpers.trainings import SMALL
from PIL import Image

from training.data.augmentation import RandomCropFlip
from training.data.question_set import QuestionSet
from training.train_vqa import TrainConfig, train
from vqa import checkpoints
from vqa.data.image_dataset import open_rows
from vqa.models import Answerer

pytestmark = pytest.mark.usefixtures("fresh_accelerator")


@pytest.fixture
def config(tiny_data, tiny_checkpoint, tmp_path):
    return TrainConfig(
        data=str(tiny_data),
        output_dir=str(tmp_path / "run"),
        encoder=str(tiny_checkpoint),
        gaze=str(checkpoints.save(tiny_gaze(), tmp_path / "gaze")),
        gaze_size=64,
        fusion="gated",
        **SMALL,
        fused_dim=16,
        head_epochs=1,
        tune_epochs=1,
        cache_dir=str(tmp_path / "cache"),
    )


@pytest.mark.parametrize("tuned", [False, True])
def test_the_gaze_model_learns_only_if_it_shall(config, tuned, monkeypatch):
    original, seen = Answerer.gaze_on_grid, []

    def counting(self, pixels, *args, **kwargs):
        seen.append(self.training)
        return original(self, pixels, *args, **kwargs)

    monkeypatch.setattr(Answerer, "gaze_on_grid", counting)
    made = checkpoints.load(train(replace(config, tune_gaze=tuned)))
    before = checkpoints.load(config.gaze).state_dict()
    same = all(torch.equal(t, before[name]) for name, t in made.gaze.state_dict().items())
    assert same is not tuned
    assert any(seen) is tuned  # frozen, it is not asked again in every step


def test_where_people_look_moves_with_the_picture():
    values = np.random.default_rng(0).random((7, 7), np.float32)
    picture = Image.fromarray(np.kron(values, np.ones((32, 32), np.float32)))
    views = [RandomCropFlip.draw((0, number), mirrors=True) for number in range(8)]
    assert {view.mirrored for view in views} == {True, False}
    for view in views:
        shown = np.asarray(view.of(picture).resize((7, 7), Image.Resampling.BOX))
        assert np.corrcoef(view.of_map(values).ravel(), shown.ravel())[0, 1] > 0.9
    assert np.array_equal(RandomCropFlip(False, 0, 0, 1, 1).of_map(values), values)
    assert np.array_equal(RandomCropFlip(True, 0, 0, 1, 1).of_map(values), values[:, ::-1])


def test_known_looks_come_in_the_batch_as_the_pictures_show_them(tiny_data):
    rows = open_rows(tiny_data, "train")
    looks = np.zeros((len(rows), 4, 4), np.float16)
    looks[:, :, 0] = 1  # all at the left edge
    still = QuestionSet(rows, tiny_answerer(), looks=looks).batch([(0, 0), (0, 1)])["looks"]
    assert torch.equal(still, torch.tensor([[0.25, 0, 0, 0] * 4] * 2))
    moving = QuestionSet(rows, tiny_answerer(), looks=looks, augment=True)
    for epoch in range(6):
        batch = moving.batch([(epoch, i) for i in range(8)])["looks"].view(-1, 4, 4)
        assert torch.allclose(batch.sum((1, 2)), torch.ones(len(batch)))
        for (place, asked), found in zip(moving.samples[:8], batch, strict=True):
            mirrored = moving.view(place, epoch, all(q.mirrors for q in asked)).mirrored
            assert (found[:, -1] > found[:, 0]).all() == mirrored
    assert len(tiny_rows()) >= 8


def test_the_model_says_itself_where_people_look_if_nobody_does():
    model = tiny_answerer(gaze=tiny_gaze().config, fusion="gated")
    pixels = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        own = model.encode(pixels).cells
        even = torch.full_like(own[..., -1], 1 / own.shape[1])
        told = model.encode(pixels, even).cells
    assert torch.equal(told[..., :-1], own[..., :-1])
    assert torch.equal(told[..., -1], even)
    assert not torch.equal(own[..., -1], even)
