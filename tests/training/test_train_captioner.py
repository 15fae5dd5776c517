"""Training the captioner for real, on tiny data: three stages, resume, two processes."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from accelerate.state import AcceleratorState
from helpers.tiny import draw
from helpers.trainings import SMALL, assert_moved_alike, train_by_two_processes
from safetensors.torch import load_file
from transformers import HfArgumentParser

import training.train_captioner
from training.core.config import BadSettings
from training.data.caption_set import read_corpus
from training.tasks.captioning import CaptionLoss, SelfCritical
from training.train_captioner import TrainConfig, build, train
from vqa import checkpoints
from vqa.engine import Engine
from vqa.errors import BadData
from vqa.models import Captioner
from vqa.models.captioner import END

pytestmark = pytest.mark.usefixtures("fresh_accelerator")


@pytest.fixture
def config(tiny_data, tiny_checkpoint, tmp_path):
    return TrainConfig(
        data=str(tiny_data),
        output_dir=str(tmp_path / "run"),
        encoder=str(tiny_checkpoint),
        **SMALL,
        max_words=10,
        word_min_count=1,
        head_epochs=2,
        tune_epochs=1,
        critical_epochs=1,
        critical_samples=3,
        save_every=1,
        cache_dir=str(tmp_path / "cache"),
    )


def steps_of(monkeypatch, *, stop_after=None):
    """Count the steps of every stage from now on; interrupt before the one after `stop_after`."""
    steps = []
    for learner in (CaptionLoss, SelfCritical):

        def forward(self, batch, learner=learner, forward=learner.forward):
            if len(steps) == stop_after:
                raise KeyboardInterrupt
            steps.append(learner.__name__)
            return forward(self, batch)

        monkeypatch.setattr(learner, "forward", forward)
    return steps


def again(config):
    AcceleratorState._reset_state(reset_partial_state=True)
    return train(config)


def test_three_stages_each_move_their_weights_and_write_how_it_was_made(config, tiny_checkpoint):
    folder = train(replace(config, bf16=True, decoder="bilstm", attention="soft", smoothing=0.2))
    model = checkpoints.load_as(Captioner, folder)
    assert (model.config.decoder, model.config.attention) == ("bilstm", "soft")
    assert END in model.words
    made = json.loads((folder / "metrics.json").read_text())["training"]
    assert made["config"]["critical_epochs"] == 1
    assert made["config"]["smoothing"] == 0.2
    assert made["cpu_hours"] >= 0
    assert {"commit", "command"} < set(made)
    state = folder.parent / "run.state"
    assert list((state / "logs").rglob("events.out.tfevents.*"))
    stages = ["head", "tune", "critical"]
    head, tune, critical = (checkpoints.load(state / f"{s}-best").state_dict() for s in stages)
    start = checkpoints.load(tiny_checkpoint).state_dict()
    start = {name: tensor for name, tensor in start.items() if name.startswith("encoder.")}
    assert moved(start, head) == set()
    assert moved(head, tune) == {"encoder", "decoder"}
    assert moved(tune, critical) == {"decoder"}
    assert moved(critical, model.state_dict()) == set()
    engine = Engine.load(tiny_checkpoint, [folder])
    assert len(engine.explain_caption(draw("red", "square"), "a red square", "attention")) == 3


def moved(before, after):
    """Which parts of a model have other matrices than before."""
    names = [n for n, tensor in before.items() if tensor.ndim > 1]
    changed = {n for n in names if not torch.equal(before[n], after[n])}
    return {"encoder" if name.startswith("encoder.") else "decoder" for name in changed}


def test_interrupted_and_resumed_training_equals_uninterrupted(config, tmp_path, monkeypatch):
    whole = load_file(train(config) / "model.safetensors")
    broken = replace(config, output_dir=str(tmp_path / "broken"))
    # Of four steps with the encoder frozen, two end to end and two self-critical: once in each.
    for stop_after in (3, 2, 2):
        with monkeypatch.context() as patch:
            steps_of(patch, stop_after=stop_after)
            with pytest.raises(KeyboardInterrupt):
                again(broken)
    with monkeypatch.context() as patch:
        steps = steps_of(patch)
        resumed = load_file(again(broken) / "model.safetensors")
    assert steps == ["SelfCritical"]  # the last of all: it did not start anew
    assert whole.keys() == resumed.keys()
    for name, tensor in whole.items():
        assert torch.equal(tensor, resumed[name]), name


def test_two_processes_learn_what_one_does(config, tmp_path):
    # Dropout and samples differ between processes: there is none, and those teach nothing here.
    one = replace(
        config,
        decoder="bilstm",
        dropout=0.0,
        batch_size=2,
        head_epochs=1,
        head_lr=0.02,
        tune_lr=0.02,
        encoder_lr=0.005,
        critical_lr=0.0,
    )
    two = replace(one, output_dir=str(tmp_path / "two"))
    found = train_by_two_processes("training.train_captioner", two)
    expected = load_file(train(one) / "model.safetensors")
    torch.manual_seed(0)
    untrained = build(one, read_corpus(one.data, "train")).state_dict()
    assert_moved_alike(found, expected, untrained)


def test_a_second_folder_is_trained_on_in_part(config, tiny_data, monkeypatch):
    sizes = []

    def note(stages, model, run, rows, **_):
        sizes.append((len(rows), [stage.epochs for stage in stages]))
        return model, 0.0

    monkeypatch.setattr(training.train_captioner, "run_stages", note)
    train(replace(config, also=str(tiny_data), also_share=0.25))
    assert sizes == [(10, [2, 1, 1])]


def test_a_training_may_go_on_from_a_captioner_of_ours_and_says_so(
    config, tiny_captioner_checkpoint, tmp_path, monkeypatch
):
    before = shutil.copytree(tiny_captioner_checkpoint, tmp_path / "before")
    (before / "metrics.json").write_text('{"training": {"commit": "an old one"}}')
    monkeypatch.setattr(training.train_captioner, "run_stages", lambda *args, **_: (args[1], 0.0))
    folder = train(TrainConfig(config.data, config.output_dir, start=str(before), dropout=0.25))
    went_on, started = (checkpoints.load_as(Captioner, each) for each in (folder, before))
    assert went_on.config == replace(started.config, dropout=0.25)
    assert went_on.words == started.words
    assert moved(started.state_dict(), went_on.state_dict()) == set()
    made = json.loads((folder / "metrics.json").read_text())["training"]
    assert made["started_from"] == {"commit": "an old one"}


def test_a_second_lstm_may_join_a_captioner_of_ours(config, tiny_captioner_checkpoint, tmp_path):
    settings = TrainConfig(config.data, config.output_dir, start=str(tiny_captioner_checkpoint))
    before = checkpoints.load_as(Captioner, tiny_captioner_checkpoint).state_dict()
    both = build(replace(settings, decoder="bilstm"), read_corpus(config.data, "train"))
    found = both.state_dict()
    assert both.config.decoder == "bilstm"
    assert all(torch.equal(found[name], before[name]) for name in before)
    assert {name.split(".")[1] for name in found if name not in before} == {"1"}
    kept = checkpoints.save(both, tmp_path / "both")
    again = build(replace(settings, start=str(kept)), read_corpus(config.data, "train"))
    assert again.config.decoder == "bilstm"


def test_a_smaller_lstm_backward_in_time_may_learn_alone(config, tiny_captioner_checkpoint):
    settings = {"head_epochs": 2, "tune_epochs": 0, "batch_size": 4, "cache_dir": config.cache_dir}
    settings |= {"start": str(tiny_captioner_checkpoint), "decoder": "bilstm", "backward_dim": 8}
    run = TrainConfig(config.data, config.output_dir, only_backward=True, **settings)
    before = build(run, read_corpus(config.data, "train")).state_dict()
    learnt = checkpoints.load_as(Captioner, train(run))
    assert [decoder.lstm.hidden_size for decoder in learnt.decoders] == [32, 8]
    after = learnt.state_dict()
    names = [name for name in before if not torch.equal(before[name], after[name])]
    assert len(names) > 5
    assert all(name.startswith("decoders.1.") for name in names)


def test_settings_that_do_not_go_together_are_named(config):
    with pytest.raises(BadSettings, match="only_backward needs decoder bilstm and no critical"):
        replace(config, only_backward=True)
    with pytest.raises(BadSettings, match="its own encoder, stride, image_size, word_dim"):
        replace(config, start="captioner")
    with pytest.raises(BadSettings, match="critical_samples must be 2 or more"):
        replace(config, critical_samples=1)


def test_captions_without_a_frequent_word_are_refused(config):
    with pytest.raises(BadData, match="no word is said 1000 times: lower word_min_count"):
        train(replace(config, word_min_count=1000))


def test_data_without_splits_of_their_own_are_refused(config, tiny_data):
    with pytest.raises(BadData, match="no splits of its own"):
        train(replace(config, data=str(tiny_data / "train.parquet")))


def test_every_setting_is_a_flag_with_help():
    text = HfArgumentParser(TrainConfig).format_help()
    for name in TrainConfig.__dataclass_fields__:
        assert f"--{name}" in text
