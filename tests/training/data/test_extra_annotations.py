"""More to learn answers from: further questions, questions made of captions, objects, gaze."""

import os
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from helpers.tiny import tiny_answerer, tiny_gaze
from helpers.together import ROOT
from helpers.trainings import SMALL
from safetensors.torch import load_file

from training.core.config import BadSettings
from training.data.extra_annotations import ANNOTATIONS, QUESTIONS, MoreQuestions, parse_weights
from training.data.question_generation import SOURCE, caption_questions, find_nouns
from training.data.question_set import QuestionSet, build_vocabularies
from training.tasks.answering import AnswerLoss
from training.tasks.object_loss import object_loss
from training.train_vqa import TrainConfig, train
from vqa import checkpoints
from vqa.data.image_dataset import ImageRecord, Question, open_rows
from vqa.errors import BadData
from vqa.models import Answerer
from vqa.preprocessing.ptb_tokenizer import ptb_tokenize

pytestmark = pytest.mark.usefixtures("fresh_accelerator")


def asked(*pictures, filler=20):
    """Questions on pictures, among others that make the words known as nouns."""
    others = [["a dog", "the man", "a ball", "a boat", "the horse"]] * filler
    tokens = [[ptb_tokenize(text) for text in texts] for texts in (*pictures, *others)]
    found = caption_questions(tokens)[: len(pictures)]
    return [{q.text: q.answer for q in questions} for questions in found]


def test_captions_are_asked_for_what_they_say():
    (found,) = asked(
        ["A brown dog is running on the beach .", "two men holding a red ball", "The dog is brown"]
    )
    expected = {
        "what color is the dog?": "brown",
        "what color is the ball?": "red",
        "how many men are there?": "2",
        "what is the dog doing?": "running",
        "is the dog running?": "yes",
    }
    assert expected.items() <= found.items()
    assert {found.get("is there a dog?"), found.get("is there a ball?")} == {"yes"}


def test_captions_are_asked_for_their_own_words():
    captions = ["two men riding a brown horse", "a dog on the left", "nothing to see"]
    found = {pair for questions in asked(*[captions] * 60) for pair in questions.items()}
    gaps = {
        (text, answer) for text, answer in found if len(text.split()) > 5
    }  # all others are short
    assert gaps == {
        ("how many men riding a brown horse?", "2"),
        ("two men doing what a brown horse?", "riding"),
        ("two men riding a what color horse?", "brown"),
        ("two men riding a brown what?", "horse"),
    }


def test_nothing_is_asked_where_captions_disagree():
    (found,) = asked(["a brown dog sleeping", "a black dog running", "two dogs", "three dogs"])
    assert "what color is the dog?" not in found
    assert "how many dogs are there?" not in found
    assert "what is the dog doing?" not in found


def test_no_is_the_answer_only_for_what_may_not_be_there():
    pictures = [["a puppy on a couch"]] * 40
    for found in asked(*pictures):
        absent = {text for text, answer in found.items() if answer == "no"}
        assert not absent & {"is there a dog?", "is there an animal?"}
    denied = {t for found in asked(*pictures) for t, answer in found.items() if answer == "no"}
    assert denied  # but something is


def test_yes_and_no_are_in_balance_and_marked():
    rng = np.random.default_rng(0)
    things = ["dog", "boat", "horse", "ball", "car", "kite"]
    texts = [[f"a {a} and a {b}"] for a, b in (rng.choice(things, 2) for _ in range(300))]
    found = caption_questions([[ptb_tokenize(t) for t in one] for one in texts])
    flat = [q for questions in found for q in questions]
    answers = Counter(q.answer for q in flat)
    assert abs(answers["yes"] - answers["no"]) < 0.1 * len(flat)
    about_dogs = Counter(q.answer for q in flat if q.text == "is there a dog?")
    assert about_dogs["yes"] > 30
    assert about_dogs["no"] > 30
    assert {q.source for q in flat} == {SOURCE}
    assert caption_questions([[ptb_tokenize(t) for t in one] for one in texts]) == found


def test_every_process_asks_the_same():
    """The order of sets, which differs between processes, is not to be seen."""
    code = (
        "from training.data.question_generation import caption_questions\n"
        "words = [f'a {c} {n} on the {p}'.split() for c in ('red', 'brown', 'white', 'black')"
        " for n in ('dog', 'ball', 'boat', 'horse', 'man') for p in ('beach', 'street', 'grass')]\n"
        "print([q.text for asked in caption_questions([[w] for w in words]) for q in asked])"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(found) == 1
    assert b"is there a" in found.pop()


def test_verbs_are_no_nouns():
    texts = ["a dog on it", "the dog jumps", "it is jumping", "they are jumping"]
    tokens = [[ptb_tokenize(text)] for text in texts]
    assert find_nouns(tokens * 10) == {"dog"}
    assert caption_questions([]) == []
    assert caption_questions([[]]) == [[]]


@pytest.fixture
def annotated(tiny_data, tmp_path):
    """The tiny data with questions of two sources, and captions and objects for one picture."""
    folder = shutil.copytree(tiny_data, tmp_path / "annotated")
    questions = [
        {"image_id": i, "question": "is it a square?", "answer": "yes", "source": source}
        for i, source in ((0, "pope"), (1, "pope"), (1, "vsr"))
    ]
    questions = [{**q, "answers": None, "answer_type": "yes/no"} for q in questions]
    pq.write_table(pa.Table.from_pylist(questions), folder / QUESTIONS)
    objects = [{"name": "square", "in_captions": False}, {"name": "orange", "in_captions": True}]
    note = {"image_id": 0, "captions": ["a red square"], "objects": objects}
    pq.write_table(pa.Table.from_pylist([note]), folder / ANNOTATIONS)
    return str(folder)


def test_further_questions_join_their_pictures_by_source(annotated):
    rows = open_rows(annotated, "train")
    more = MoreQuestions(rows, annotated, {"pope": 0.5})
    counts = {row.image_id: Counter(q.source for q in row.questions) for row in more}
    assert counts[0] == counts[1] == {"": 3, "pope": 1}
    assert counts[2] == {"": 3}
    both = MoreQuestions(rows, annotated, {"pope": 0.5, "vsr": 1.0})
    assert Counter(q.source for row in both for q in row.questions) == {"": 24, "pope": 2, "vsr": 1}
    with pytest.raises(BadData, match="has no questions of mme, but of pope, vsr"):
        MoreQuestions(rows, annotated, {"mme": 1.0})
    made = MoreQuestions([*rows] * 3, annotated, {SOURCE: 0.25})
    assert {q.source for row in made for q in row.questions} == {"", SOURCE}


@pytest.mark.parametrize("text", ["pope", "pope=", "pope=x", "=1", "pope=-1", "pope=nan"])
def test_weights_that_are_none_are_refused(text):
    with pytest.raises(ValueError, match="is no source=weight"):
        parse_weights(f"vsr=1,{text}")
    with pytest.raises(BadSettings, match="more: "):
        TrainConfig("data", "out", more=text)


def test_a_question_counts_by_the_weight_of_its_source(annotated):
    model = tiny_answerer()
    assert parse_weights("pope=0.5, vsr=0,") == {"pope": 0.5}
    rows = MoreQuestions(open_rows(annotated, "train"), annotated, {"pope": 2})
    batch = QuestionSet(rows, model, weights={"pope": 2}).batch([(0, 6), (0, 7)])  # pictures 1, 0
    assert batch["weights"].tolist() == [1, 1, 1, 2] * 2
    assert float(batch["count"]) == 10
    with torch.no_grad():
        whole = AnswerLoss(model)({**batch, "weights": torch.ones(8)})
        weighed = AnswerLoss(model)(batch)
        extra = AnswerLoss(model)({**batch, "weights": (batch["weights"] == 2).float()})
    assert float(weighed) == pytest.approx(float(whole + extra), rel=1e-5)
    # Without a weight they are not even there.
    assert len(QuestionSet(rows, model).batch([(0, 7)])["ids"]) == 3


def test_the_vocabularies_count_a_question_by_the_weight_of_its_source():
    sources = [("", "cat"), *[("pope", "dog")] * 3, ("vsr", "cow")]
    questions = [Question("", 0, f"a {a}?", a, (), "other", source) for source, a in sources]
    rows = [ImageRecord(0, b"", tuple(questions))]
    weights = {"pope": 0.5, "vsr": 0.25}
    words, answers = build_vocabularies(rows, 1, 1, weights)
    assert (words.words[2:], answers) == (("a", "dog", "cat"), ("dog", "cat"))
    assert build_vocabularies(rows, 1, 1)[1] == ("cat",)


def test_a_weight_below_1_is_the_share_of_the_epochs_that_ask_the_question(annotated):
    rows = MoreQuestions(open_rows(annotated, "train"), annotated, {"pope": 0.25})
    learnt = QuestionSet(rows, tiny_answerer(), weights={"pope": 0.25})
    counts = [len(learnt.batch([(epoch, 7)])["ids"]) for epoch in range(400)]
    assert set(counts) == {3, 4}
    assert np.mean(counts) == pytest.approx(3.25, abs=0.07)
    assert counts[:9] == [len(learnt.batch([(epoch, 7)])["ids"]) for epoch in range(9)]
    assert set(learnt.batch([(0, 6), (0, 7)])["weights"].tolist()) == {1}


def test_objects_are_an_auxiliary_loss(annotated):
    model = tiny_answerer()
    rows = MoreQuestions(open_rows(annotated, "train"), annotated, {})
    assert rows.objects() == [None] * 7 + [{"square"}]
    learnt = QuestionSet(rows, model, objects=rows.objects())
    batch = learnt.batch([(0, 6), (0, 7)])
    assert batch["objects"].tolist() == [[-1], [1]]
    objects = object_loss(model.encoder.channels, learnt.objects, 2.0)
    with torch.no_grad():
        cells = model.encode(batch["pixels"]).cells
        extra = AnswerLoss(model, objects)(batch) - AnswerLoss(model)(batch)
        expected = -2 * objects.say(cells[1].mean(0)).sigmoid().log()
    assert float(extra) == pytest.approx(float(expected), rel=1e-3)


@pytest.fixture
def config(annotated, tiny_checkpoint, tmp_path):
    return TrainConfig(
        annotated,
        str(tmp_path / "run"),
        encoder=str(tiny_checkpoint),
        **SMALL,
        fused_dim=16,
        head_epochs=1,
        tune_epochs=1,
        answer_min_count=1,
        word_min_count=1,
        cache_dir=str(tmp_path / "cache"),
    )


def test_all_of_it_trains_together(config, tiny_data, tmp_path):
    gaze = checkpoints.save(tiny_gaze(), tmp_path / "gaze")
    settings = replace(
        config,
        more=f"pope=0.5,{SOURCE}=0.25",
        captions=str(tiny_data),
        object_weight=0.5,
        concept_epochs=1,
        concept_min_count=1,
        gaze=str(gaze),
        gaze_size=32,
        fusion="gated",
    )
    model = checkpoints.load_as(Answerer, train(settings))
    assert model.config.gaze.encoder.image_size == 32
    kept = checkpoints.load(gaze).state_dict()
    found = model.gaze.state_dict()
    assert all(torch.equal(found[name], kept[name]) for name in kept)  # frozen
    assert model.gate.weight.abs().sum() > 0  # while the trust has been learnt


def test_at_the_end_only_the_data_set_s_own_questions_are_asked(annotated, tmp_path):
    start = checkpoints.save(tiny_answerer(), tmp_path / "start")
    shared = {"start": str(start), "batch_size": 4, "tune_epochs": 0}
    shared["cache_dir"] = str(tmp_path / "cache")
    runs = {
        "own": {"more": "pope=1", "head_epochs": 0, "own_epochs": 2, "own_lr": 0.01},
        "alone": {"head_epochs": 2, "head_lr": 0.01},
        "all": {"more": "pope=1", "head_epochs": 2, "head_lr": 0.01},
    }
    found = [
        load_file(
            train(TrainConfig(annotated, str(tmp_path / name), **flags, **shared))
            / "model.safetensors"
        )
        for name, flags in runs.items()
    ]
    own, alone, everything = (weights["classify.weight"] for weights in found)
    assert torch.equal(own, alone)
    assert not torch.equal(own, everything)


def test_gaze_may_learn_too(config, tmp_path):
    gaze = checkpoints.save(tiny_gaze(), tmp_path / "gaze")
    settings = replace(
        config, gaze=str(gaze), gaze_size=64, fusion="prior", tune_gaze=True, head_epochs=0
    )
    model = checkpoints.load_as(Answerer, train(settings))
    kept, found = checkpoints.load(gaze).state_dict(), model.gaze.state_dict()
    assert any(not torch.equal(found[name], kept[name]) for name in kept)


def test_the_control_learns_with_maps_of_other_pictures(config, tmp_path):
    gaze = checkpoints.save(tiny_gaze(), tmp_path / "gaze")
    settings = replace(config, gaze=str(gaze), gaze_size=64, fusion="gated", wrong_gaze=True)
    model = checkpoints.load_as(Answerer, train(replace(settings, tune_epochs=0)))
    assert len(model.controls.round(decimals=3).unique(dim=0)) == 8  # one a training picture
    torch.testing.assert_close(model.controls.sum(1), torch.ones(64), atol=1e-3, rtol=0)


def test_settings_of_more_that_do_not_go_together_are_named(config):
    with pytest.raises(BadSettings, match="gaze and a fusion other than none go together"):
        replace(config, fusion="gated")
    with pytest.raises(BadSettings, match="captions need a weight: --more captions"):
        replace(config, captions="somewhere")


def test_cached_cells_know_which_gaze_they_hold(config, tmp_path, capsys):
    for number, seed in enumerate((0, 1)):
        gaze = checkpoints.save(tiny_gaze(seed), tmp_path / f"gaze{seed}")
        run = replace(config, gaze=str(gaze), fusion="prior", tune_epochs=0)
        train(replace(run, output_dir=str(tmp_path / f"run{number}")))
    assert len(list((tmp_path / "cache").glob("*.npy"))) == 4
