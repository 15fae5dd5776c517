"""Training the object model for real, on coloured shapes."""

import importlib
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.tiny import tiny_objects, tiny_rows
from helpers.trainings import SMALL
from safetensors.torch import load_file

from training import card, train_vqa
from training.data.augmentation import RandomCropFlip
from training.data.extra_annotations import PictureLabels
from training.pseudo_boxes import write_boxes
from training.score_objects import ScoreConfig, count_questions, score
from training.tasks.objects import (
    UNSURE,
    ObjectLoss,
    ObjectSet,
    ObjectTask,
    box_targets,
    boxes_in_view,
    giou_of_sides,
)
from training.train_objects import TrainConfig, train
from vqa import checkpoints
from vqa.data.image_dataset import open_rows
from vqa.models import ObjectModel
from vqa.models.boxes import Boxes
from vqa.models.concept_detector import ConceptDetector
from vqa.preprocessing.vocabulary import Vocab

pytestmark = pytest.mark.usefixtures("fresh_accelerator")
SHAPE = (0.25, 0.25, 0.75, 0.75)  # where `draw` puts it


def shape_boxes(label=0):
    corners = np.array([SHAPE], np.float32)
    return Boxes(corners, np.array([label]), np.array([0.9], np.float32))


@pytest.fixture
def folder(tiny_data, tmp_path, monkeypatch):
    """Boxes of the tiny pictures; one picture in two is in the fold."""
    write_boxes(
        open_rows(tiny_data, "train", required="image"),
        tmp_path / "boxes/tiny",
        lambda _: shape_boxes(),
    )
    monkeypatch.setattr("training.tasks.objects.in_tune_fold", lambda name: int(name) % 2 == 0)
    return tmp_path / "boxes"


@pytest.fixture
def config(tiny_data, folder, tmp_path):
    start = checkpoints.save(tiny_objects(), tmp_path / "start")
    return TrainConfig(
        str(tiny_data),
        str(tmp_path / "objects"),
        start=str(start),
        boxes=str(folder),
        batch_size=4,
        tune_epochs=2,
        concept_min_count=1,
    )


def learnt_set(tiny_data, model, **options):
    rows = open_rows(tiny_data, "train", required="image")
    boxes = {str(row.image_id): shape_boxes() for row in rows}
    nothing = [None] * len(rows)
    seen = [PictureLabels(frozenset(row.captions[0].lower().split()), None) for row in rows]
    return ObjectSet(
        rows, model, boxes, nothing, seen, concepts=("red", "circle"), held=False, **options
    )


def loss_of(model):
    detector = ConceptDetector(
        model.encoder.widths[0], 8, Vocab(Vocab.SPECIAL), ("red", "circle"), 0.0
    )
    return ObjectLoss(model, detector, {"centres": 1.0, "sides": 1.0, "concepts": 0.1})


def test_one_batch_is_learnt_by_heart(tiny_data, folder):
    model = tiny_objects()
    torch.manual_seed(0)  # of the detector in the loss
    learner = loss_of(model)
    data = learnt_set(tiny_data, model)
    batch = data.batch([(0, i) for i in range(len(data))])
    assert batch["concepts"].sum() == 1 + 4  # one is red, all are circles
    optimizer = torch.optim.Adam(learner.parameters(), lr=3e-3)
    losses = []
    for _ in range(200):
        loss = learner(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]
    for found in model.eval().find(batch["pixels"]):
        assert found.labels[0] == 0
        np.testing.assert_allclose(found.corners[0], SHAPE, atol=0.08)


def test_it_trains_resumes_and_says_how_it_was_made(config, tmp_path, monkeypatch):
    expected = load_file(train(config) / "model.safetensors")
    made = json.loads((tmp_path / "objects/metrics.json").read_text())["training"]
    assert made["config"]["tune_epochs"] == 2
    again = replace(config, output_dir=str(tmp_path / "again"), save_every=1)
    real, steps = ObjectTask.batch, []

    def stop(task, samples):
        steps.append(samples)
        if len(steps) == 2:
            raise KeyboardInterrupt
        return real(task, samples)

    with monkeypatch.context() as patch:
        patch.setattr(ObjectTask, "batch", stop)
        with pytest.raises(KeyboardInterrupt):
            train(again)
    found = load_file(train(again) / "model.safetensors")
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_its_scores_are_recorded(config, tiny_data, folder, tmp_path):
    model = train(config)
    score(ScoreConfig(str(model), str(folder), str(tiny_data)))
    found = json.loads((model / "metrics.json").read_text())["results"]["objects"]
    assert found["split"] == "tune fold"
    assert found["metrics"]["n"] == 4
    assert {"f1", "ap50", "count", "teacher_count"} <= set(found["metrics"])


def test_questions_that_count_a_thing_are_found(tiny_data):
    rows = open_rows(tiny_data, "train")
    found = list(count_questions(rows, ["square", "shape"]))
    assert found[0] == (str(rows[0].image_id), 1, 1)
    assert len(found) == len(tiny_rows())


def test_targets_lie_where_the_boxes_are():
    two = Boxes(
        np.array([SHAPE, (0, 0, 0.25, 0.25)], np.float32), np.array([1, 0]), np.ones(2, np.float32)
    )
    centres, sides, weights = box_targets(two, np.array([True, False]), 2, 16)
    assert centres[1, 8, 8] == 1
    assert centres[0].max() == pytest.approx(UNSURE)
    assert 0 < centres[1, 8, 9] < 1
    assert weights.sum() == pytest.approx(1)  # of the sure one alone
    x, y = 8.5 / 16, 8.5 / 16
    np.testing.assert_allclose(sides[:, 8, 8], [x - 0.25, y - 0.25, 0.75 - x, 0.75 - y], rtol=1e-5)
    assert (sides[:, weights > 0] > 0).all()


def test_boxes_move_with_the_view():
    view = RandomCropFlip(True, 0.5, 0.0, 0.5, 1.0)
    boxes, sure = boxes_in_view(shape_boxes(), np.array([True]), view)
    np.testing.assert_allclose(boxes.corners, [[0, 0.25, 0.5, 0.75]])
    assert sure.tolist() == [True]
    boxes, sure = boxes_in_view(shape_boxes(), np.array([True]), replace(view, left=0.6, width=0.4))
    assert sure.tolist() == [False]  # less than MIN_VISIBLE of it
    boxes, sure = boxes_in_view(shape_boxes(), np.array([True]), replace(view, left=0.8, width=0.2))
    assert len(boxes.scores) == len(sure) == 0


def test_giou_is_one_for_the_same_box_and_below_zero_far_away():
    same = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    torch.testing.assert_close(giou_of_sides(same, same), torch.ones(1))
    half = torch.tensor([[1.0, 2.0, 1.0, 4.0]])
    torch.testing.assert_close(giou_of_sides(same, half), torch.tensor([0.5]))
    one, other = torch.tensor([[1.0, 1.0, 0.0, 0.0]]), torch.tensor([[0.0, 0.0, 1.0, 1.0]])
    torch.testing.assert_close(giou_of_sides(one, other), torch.tensor([-0.5]))


def test_the_model_that_is_trained_can_be_loaded_as_any_other(config):
    model = checkpoints.load_as(ObjectModel, train(config))
    assert model.thresholds.shape == (3,)


def test_the_card_tells_how_it_was_made_and_how_good_it_is(config, tiny_data, folder):
    model = train(replace(config, start="", encoder=config.start, stride=32, image_size=64))
    score(ScoreConfig(str(model), str(folder), str(tiny_data)))
    text = card.render(model)
    assert "2 epochs end to end from start" in text
    assert "On the tune fold of 4 training pictures" in text.replace("\n", " ")
    assert "| **this model** |" in text


@pytest.mark.parametrize("module", ["vqa", "captioner", "gaze"])
def test_every_training_can_choose_on_the_fold(module, tiny_data, gaze_data, tmp_path, monkeypatch):
    in_fold = {"0", "1", "2", "dot0.png", "dot1.png", "dot2.png"}
    monkeypatch.setattr("training.data.tune_fold.in_tune_fold", lambda name: str(name) in in_fold)
    script = importlib.import_module(f"training.train_{module}")
    data = gaze_data if module == "gaze" else tiny_data
    splits = {"train_splits": "train"} if module == "gaze" else {}
    config = script.TrainConfig(str(data), str(tmp_path / "out"), tune_fold=True, **splits)
    parts = [getattr(part, "rows", part) for part in script._read(config)]
    learnt, held = ({str(row.image_id) for row in part} for part in parts)
    assert [len(part) for part in parts] == [5, 3]
    assert held < in_fold
    assert not held & learnt


def test_an_answerer_learns_with_an_object_head(config, tiny_data, tmp_path):
    objects = checkpoints.load_as(ObjectModel, train(config))
    answerer = checkpoints.load(
        train_vqa.train(
            train_vqa.TrainConfig(
                data=str(tiny_data),
                output_dir=str(tmp_path / "answerer"),
                encoder=config.output_dir,
                objects=config.output_dir,
                **SMALL | {"stride": 32},
                fused_dim=16,
                head_epochs=1,
                tune_epochs=1,
                cache_dir=str(tmp_path / "cache"),
            )
        )
    )
    assert answerer.objects.names == objects.names
    kept = objects.state_dict()
    for name, tensor in answerer.objects.state_dict().items():
        assert torch.equal(tensor, kept[name])  # the head is not taught by questions
    assert answerer.config.num_objects == 3
    assert answerer.evidence.fuse.weight.isfinite().all()
