"""The detector of concepts: what it learns from, what it says to a question, that it learns."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from helpers.tiny import tiny_answerer, tiny_rows
from helpers.trainings import SMALL, assert_moved_alike, train_by_two_processes
from safetensors.torch import load_file

from training.core.config import BadSettings
from training.data.concept_set import ConceptSet, choose_concepts
from training.data.extra_annotations import PictureLabels
from training.tasks.concepts import ConceptLoss
from training.train_vqa import TrainConfig, _read, build, train
from ui.presenters import answers
from vqa import checkpoints
from vqa.engine import Engine
from vqa.errors import BadData
from vqa.models import Answerer
from vqa.models.concept_detector import ZSCORE_MAX, ZSCORE_MIN
from vqa.preprocessing.question_text import stem

pytestmark = pytest.mark.usefixtures("fresh_accelerator")


def detecting(*concepts, seed=0, **options):
    concepts = concepts or ("square", "shape", "circle")
    flags = {"num_concepts": len(concepts), "concept_dim": 8, "concepts": concepts}
    return tiny_answerer(seed, **flags, **options)


@pytest.mark.parametrize(
    ("word", "expected"),
    [("dogs", "dog"), ("dog", "dog"), ("grass", "grass"), ("bus", "bus"), ("is", "is")],
)
def test_the_s_of_a_plural_is_no_part_of_a_stem(word, expected):
    assert stem(word) == expected


def test_words_say_how_much_better_than_usual_they_fit():
    torch.manual_seed(1)
    model = detecting()
    cells = 3 * torch.randn(2, 16, model.encoder.channels)
    detector = model.detector
    detector.usual.copy_(torch.tensor([0.1, 0.2, 0.3]))
    detector.spread.copy_(torch.tensor([0.5, 2.0, 1.0]))
    asked = ["is", "it", "a", "square", "shapes", "<unk>"]
    ids = torch.tensor([[model.words.index[word] for word in asked]] * 2 + [[0] * len(asked)])
    with torch.no_grad():
        odds, found = detector(cells), detector.concept_zscores(cells, ids, torch.tensor([0, 1, 0]))
        each = detector.detect(torch.tanh(detector.project(cells)))
    torch.testing.assert_close(odds, each.exp().mean(1).log())  # the mean of the cells' odds
    expected = ((odds - detector.usual) / detector.spread).clamp(ZSCORE_MIN, ZSCORE_MAX)
    torch.testing.assert_close(found[:2, 3:5], expected[:, :2])  # square, shapes
    assert (found[:2, [0, 1, 2, 5]] == 0).all()
    assert (found[2] == 0).all()  # padding


def test_what_fits_changes_the_answer_by_the_words_that_name_it():
    model = detecting()
    blind = tiny_answerer()
    blind.load_state_dict(model.state_dict(), strict=False)
    pixels = torch.rand(1, 3, 64, 64)
    ids = {
        text: torch.tensor([model.question_ids(text)]) for text in ("is it a square", "how many")
    }
    with torch.no_grad():
        cells = model.encode(pixels).cells
        with_, without = (
            {text: each(cells, some, torch.tensor([0])).logits for text, some in ids.items()}
            for each in (model, blind)
        )
    assert (with_["is it a square"] - without["is it a square"]).abs().max() > 1e-4
    torch.testing.assert_close(with_["how many"], without["how many"])  # names nothing


def test_the_answer_names_what_fits(tiny_data):
    model = detecting()
    model.detector.usual.copy_(torch.tensor([-50.0, 0.0, 0.0]))
    engine = Engine(model)
    picture = tiny_rows()[0]["image"]["bytes"]
    found = engine.answer(picture, "is it a square, or many circles?")
    assert found.word_fits == (("square", ZSCORE_MAX),)  # it does not know the word circles
    fits = {
        (("square", ZSCORE_MAX),): 'This picture fits "square" better than most do.',
        (("dog", 2.0), ("cat", -1.5), ("sky", 0.2)): (
            'This picture fits "dog" better than most do, and "cat" worse.'
        ),
        (("cat", -2.0), ("dog", -1.0)): 'This picture fits "cat", "dog" worse than most do.',
        (("sky", 0.2),): "",
        (): "",
    }
    for some, said in fits.items():
        assert answers.fits(replace(found, word_fits=some)) == said


def seen(*said, objects=None):
    return PictureLabels(frozenset(said) or None, objects and frozenset(objects))


def test_concepts_are_what_captions_of_many_pictures_name():
    known = [seen("a", "dog", "ball"), seen("the", "dog", "2"), seen("2", "ball", "cat")]
    assert choose_concepts([*known, seen(objects={"cat"})], 2) == ("ball", "dog")
    assert choose_concepts(known, 1) == ("ball", "dog", "cat")
    with pytest.raises(BadData, match="a detector of concepts needs captions"):
        choose_concepts([seen(), seen(objects={"cat"})], 1)


def test_what_nobody_looked_for_is_unknown():
    known = [
        seen("dog", "ball"),
        seen(objects={"cat"}),
        seen("ball", objects={"dog"}),
        seen(),
        *[seen("dog")] * 20,
    ]
    cells = [np.zeros((len(known), 4, 8), np.float16)]
    cells[0][5] = np.nan  # a picture that does not decode
    rows = [None] * len(known)
    learnt, held = (
        ConceptSet(rows, known, ("dog", "cat", "ball"), cells=cells, held_out=out)
        for out in (False, True)
    )
    assert held.samples == [19]
    assert learnt.samples == [0, 1, 2, 4, *range(6, 19), *range(20, 24)]
    batch = learnt.batch([(0, i) for i in range(3)])
    assert batch["marks"].tolist() == [[1, 0, 1], [0, 1, -1], [1, 0, 1]]
    assert batch["cells"].shape == (3, 4, 8)
    assert float(batch["count"]) == 3
    assert float(learnt.batch([])["count"]) == 0
    usual = learnt.usual()
    assert usual[0] > 0 > usual[2]
    model = detecting("dog", "cat", "ball")
    model.detector.project = torch.nn.Linear(8, 8)
    with torch.no_grad():
        loss = ConceptLoss(model.detector)
        whole = loss(batch)
        batch["marks"][1] = -1  # nothing known
        logits = model.detector(batch["cells"])[[0, 2]]
        signs = 2 * batch["marks"][[0, 2]] - 1
        known = float(loss(batch))
        assert known == pytest.approx(-float((signs * logits).sigmoid().log().sum()))
    assert float(whole) > known


@pytest.fixture
def captioned(tiny_data, tmp_path):
    """The tiny data, each picture with a caption that names its colour, three times over."""
    folder = tmp_path / "captioned"
    folder.mkdir()
    for file in Path(tiny_data).glob("*.parquet"):
        table = pq.read_table(file)
        rows = table.to_pylist()
        for row in rows:
            row["captions"] = [f"a {row['questions'][0]['answer']} square"]
        if file.stem.startswith("train"):
            rows = rows * 3
        pq.write_table(table.from_pylist(rows), folder / file.name)
    return str(folder)


@pytest.fixture
def config(captioned, tiny_checkpoint, tmp_path):
    return TrainConfig(
        captioned,
        str(tmp_path / "run"),
        encoder=str(tiny_checkpoint),
        **{**SMALL, "batch_size": 8},
        fused_dim=16,
        concept_epochs=60,
        concept_min_count=1,
        concept_dim=16,
        head_lr=0.02,
        ema=0.5,
        head_epochs=1,
        tune_epochs=1,
        answer_min_count=1,
        word_min_count=1,
        cache_dir=str(tmp_path / "cache"),
    )


def test_a_detector_learns_first_and_then_stands_still(config, tmp_path):
    model = checkpoints.load_as(Answerer, train(config))
    after = checkpoints.load_as(Answerer, tmp_path / "run.state" / "concepts-best").detector
    for name, tensor in model.detector.named_parameters():
        torch.testing.assert_close(tensor, after.get_parameter(name), rtol=1e-3, atol=1e-3)
    colours = [row["questions"][0]["answer"] for row in tiny_rows()]
    pixels = torch.cat(
        [Engine(model).answer_pipeline.pixels(r["image"]["bytes"]) for r in tiny_rows()]
    )
    with torch.no_grad():
        odds = model.detector(model.encode(pixels).cells)
        fits = (odds - model.detector.usual) / model.detector.spread
    places = [model.concepts.index(colour) for colour in colours]
    said = [colours[int(row[places].argmax())] for row in fits]
    assert sum(a == b for a, b in zip(said, colours, strict=True)) >= len(colours) - 1


def test_two_processes_teach_the_detector_what_one_does(config, tmp_path):
    shared = {"dropout": 0.0, "concept_epochs": 4, "tune_epochs": 0}
    one = replace(config, **shared)
    two = replace(one, output_dir=str(tmp_path / "two"))
    found = train_by_two_processes("training.train_vqa", two)
    expected = load_file(train(one) / "model.safetensors")
    torch.manual_seed(0)
    untrained = build(one, _read(one)[0]).state_dict()
    assert_moved_alike(found, expected, untrained)


def test_what_a_detector_needs_is_asked_for(tmp_path):
    with pytest.raises(BadSettings, match="a blind answerer has no use for concepts"):
        TrainConfig("data", "out", encoder="e", blind=True, concept_epochs=1)
    with pytest.raises(ValueError, match="a blind answerer has no use for gaze or concepts"):
        detecting(blind=True)
    with pytest.raises(ValueError, match="the vocabulary has 0 concepts, the config says 2"):
        tiny_answerer(num_concepts=2)
