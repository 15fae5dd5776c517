"""Training the answerer for real, on tiny data: resume, two processes, bad pictures."""

import io
import json
import platform
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from helpers.tiny import TINY_ENCODER, tiny_answerer, tiny_rows
from helpers.together import ROOT, run_together
from helpers.trainings import SMALL, assert_moved_alike, flags_of, train_by_two_processes
from PIL import Image
from safetensors.torch import load_file

import training.tasks.answering
from training.core.config import BadSettings
from training.core.loop import OtherSettings
from training.core.precision import SLOW_BFLOAT16
from training.data import augmentation
from training.data.feature_cache import encode_rows
from training.data.question_set import QuestionSet, build_vocabularies, graded_answers
from training.train_vqa import TrainConfig, build, train
from vqa import checkpoints
from vqa.data.image_dataset import ImageRecord, Question, open_rows
from vqa.errors import BadData
from vqa.models import Answerer
from vqa.models.encoder import Encoder

pytestmark = pytest.mark.usefixtures("fresh_accelerator")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoder")
    network = Encoder(TINY_ENCODER).network
    for layer in network.modules():
        if isinstance(layer, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(layer.weight)
    network.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(
        '{"image_processor_type": "MobileNetV2ImageProcessor",'
        ' "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}'
    )
    return folder


@pytest.fixture
def config(tiny_data, encoder, tmp_path):
    return TrainConfig(
        data=str(tiny_data),
        output_dir=str(tmp_path / "run"),
        encoder=str(encoder),
        **SMALL,
        fused_dim=16,
        head_epochs=2,
        tune_epochs=2,
        save_every=1,
        cache_dir=str(tmp_path / "cache"),
    )


def row(question="what color is it?", answer="red", answers=(), image=None, number=0):
    image = tiny_rows()[0]["image"]["bytes"] if image is None else image
    return ImageRecord(number, image, (Question("", 0, question, answer, tuple(answers), ""),))


@pytest.mark.parametrize("bf16", [False, True])
def test_training_writes_a_checkpoint_that_says_how_it_was_made(config, bf16):
    folder = train(replace(config, bf16=bf16))
    model = checkpoints.load(folder)
    assert 0.3 < model.temperature.item() < 5.1
    made = json.loads((folder / "metrics.json").read_text())["training"]
    assert made["config"]["head_epochs"] == 2
    assert made["config"]["bf16"] is bf16
    assert made["cpu_hours"] >= 0
    assert "commit" in made
    assert "command" in made
    assert list((folder.parent / "run.state" / "logs").rglob("events.out.tfevents.*"))


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="AVX2 is of x86")
@pytest.mark.parametrize("processes", [1, 2])
def test_bfloat16_trains_without_avx512_and_says_that_it_is_slow(config, processes):
    short = replace(config, bf16=True, head_epochs=1, tune_epochs=1)
    command = ["-m", "training.train_vqa", *flags_of(short)]
    ended = run_together(*[command] * processes, ONEDNN_MAX_CPU_ISA="AVX2")
    assert [done.returncode for done in ended] == [0] * processes, ended[0].stderr[-3000:]
    assert sum(done.stdout.count(SLOW_BFLOAT16) for done in ended) == 1


@pytest.mark.parametrize("bf16", [False, True])
def test_interrupted_and_resumed_training_equals_uninterrupted(config, tmp_path, monkeypatch, bf16):
    config = replace(config, bf16=bf16)
    whole = load_file(train(config) / "model.safetensors")
    broken = replace(config, output_dir=str(tmp_path / "broken"))
    for stop_after in (3, 4):  # once with the encoder frozen, once end to end
        steps = []
        forward = training.tasks.answering.AnswerLoss.forward

        def failing(self, batch, steps=steps, forward=forward, stop_after=stop_after):
            steps.append(1)
            if len(steps) == stop_after:
                raise KeyboardInterrupt
            return forward(self, batch)

        with monkeypatch.context() as patch:
            patch.setattr(training.tasks.answering.AnswerLoss, "forward", failing)
            AcceleratorState._reset_state(reset_partial_state=True)
            with pytest.raises(KeyboardInterrupt):
                train(broken)
    AcceleratorState._reset_state(reset_partial_state=True)
    steps = []
    monkeypatch.setattr(
        training.tasks.answering.AnswerLoss,
        "forward",
        lambda self, batch: steps.append(1) or forward(self, batch),
    )
    resumed = load_file(train(broken) / "model.safetensors")
    assert len(steps) == 3  # of eight: it did not start anew
    assert whole.keys() == resumed.keys()
    for name, tensor in whole.items():
        assert torch.equal(tensor, resumed[name]), name


def test_two_processes_learn_what_one_does(config, tmp_path):
    # Dropout draws differ between processes; high rates make a wrong gradient show.
    one = replace(config, dropout=0.0, head_lr=0.02, tune_lr=0.02, encoder_lr=0.005)
    two = replace(one, output_dir=str(tmp_path / "two"))
    found = train_by_two_processes("training.train_vqa", two)
    expected = load_file(train(one) / "model.safetensors")
    torch.manual_seed(0)
    untrained = build(one, open_rows(one.data, "train")).state_dict()
    assert_moved_alike(found, expected, untrained)


def test_a_folder_named_twice_is_asked_twice_an_epoch(config):
    data = config.data
    train(replace(config, also=f"{data},{data}", head_epochs=1, tune_epochs=0))
    grids = (np.load(path, mmap_mode="r") for path in Path(config.cache_dir).glob("*.npy"))
    assert max(map(len, grids)) == 3 * len(open_rows(data, "train"))


def test_the_blind_ablation_trains_by_the_same_script(config):
    model = checkpoints.load(train(replace(config, blind=True)))
    assert model.config.blind


def test_batch_norm_can_be_trained_after_unfolding(config):
    name = "encoder.network.conv_stem.first_conv.normalization.num_batches_tracked"
    tuned = checkpoints.load(train(replace(config, train_batch_norm=True)))
    assert int(tuned.state_dict()[name]) in {2, 4}  # steps end to end, up to the best epoch


def test_a_picture_that_does_not_decode_is_skipped_counted_and_named(capsys, tmp_path):
    rows = [row(), row(image=b"no picture", number=77), row(image=b"", number=78)]
    model = tiny_answerer()
    pixels = QuestionSet(rows, model).batch([(0, 0), (0, 1), (0, 2)])
    assert pixels["pixels"].shape[0] == pixels["ids"].shape[0] == int(pixels["count"]) == 1
    error = capsys.readouterr().err
    assert "skipped picture 77: The file is" in error
    assert "skipped picture 78: The file is empty" in error
    assert len(QuestionSet(rows, model, cells=encode_rows(model, rows, tmp_path))) == 1
    assert "2 pictures are left out: [77, 78]" in capsys.readouterr().err


def test_a_batch_of_broken_pictures_alone_has_no_loss(capsys):
    model = tiny_answerer()
    batch = QuestionSet([row(image=b"no picture")], model).batch([(0, 0)])
    loss = training.tasks.answering.AnswerLoss(model)(batch)
    loss.backward()
    assert loss.item() == 0


def test_questions_without_a_known_answer_are_left_out():
    assert len(QuestionSet([row(answer="zebra"), row()], tiny_answerer())) == 1
    with pytest.raises(BadData, match="no question has an answer"):
        QuestionSet([row(answer="zebra")], tiny_answerer())


def test_the_temperature_makes_the_probability_shown_an_honest_forecast(monkeypatch):
    chance = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(20_000, 4, generator=chance)
    right = torch.bernoulli((logits / 2).softmax(1).amax(1), generator=chance)
    batch = {"targets": torch.eye(4)[logits.argmax(1)], "scores": right}
    monkeypatch.setattr(training.tasks.answering, "predict", lambda *_: [(batch, logits)])
    fitted = training.tasks.answering.fit_temperature(None, None, Accelerator(cpu=True))
    assert fitted == pytest.approx(2, rel=0.05)


def test_questions_without_a_known_answer_can_be_kept_to_calibrate():
    rows = [row(answer="zebra"), row(), row(answer=None)]  # nobody answered the last
    kept = QuestionSet(rows, tiny_answerer(), unlearnable=True)
    assert len(kept) == 2
    batch = kept.batch([(0, 0), (0, 1)])
    assert batch["scores"].tolist() == [0, 1]
    assert batch["targets"].sum(1).tolist() == [0, 1]


def test_a_resumed_run_names_the_commit_that_began_it(config, monkeypatch):
    folder = train(config)
    first = json.loads((folder / "metrics.json").read_text())["training"]
    AcceleratorState._reset_state(reset_partial_state=True)
    monkeypatch.setattr("training.core.provenance._commit", lambda: "a later one")
    train(config)
    assert json.loads((folder / "metrics.json").read_text())["training"] == first


def test_training_on_other_settings_does_not_pass_for_the_old_run(config):
    train(config)
    AcceleratorState._reset_state(reset_partial_state=True)
    with pytest.raises(OtherSettings, match="another head_lr"):
        train(replace(config, head_lr=1.0))


def test_data_without_splits_of_their_own_are_refused(config, tiny_data):
    with pytest.raises(BadData, match="no splits of its own"):
        train(replace(config, data=str(tiny_data / "train.parquet")))


def test_a_new_training_drops_the_numbers_and_the_card_of_the_old_weights(config):
    folder = Path(config.output_dir)
    folder.mkdir()
    (folder / "README.md").write_text("old card")
    (folder / "metrics.json").write_text('{"results": {"answer": 1}}')
    train(config)
    assert list(json.loads((folder / "metrics.json").read_text())) == ["training"]
    assert not (folder / "README.md").exists()


def test_pictures_are_encoded_as_in_use_also_by_a_model_that_learns(tmp_path):
    model, modes = tiny_answerer().train(), []
    model.encoder.network.register_forward_hook(lambda net, *_: modes.append(net.training))
    encode_rows(model, [row()], tmp_path)
    assert set(modes) == {False}
    assert model.training


def test_encoded_rows_are_found_again_and_equal_the_encoder(tmp_path):
    model = tiny_answerer()
    rows = [row(number=i) for i in range(3)]
    (cells,) = encode_rows(model, rows, tmp_path)
    (file,) = tmp_path.iterdir()
    stamp = file.stat().st_mtime_ns
    encode_rows(model, rows, tmp_path)
    assert file.stat().st_mtime_ns == stamp
    pixels = QuestionSet(rows, model).batch([(0, 0)])["pixels"]
    with torch.no_grad():
        expected = model.encode(pixels).cells
    torch.testing.assert_close(
        torch.from_numpy(cells[:1].astype(np.float32)), expected, rtol=2e-3, atol=2e-3
    )
    encode_rows(model, rows[:2], tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_further_views_are_cropped_and_mirrored_where_they_may_be(tmp_path):
    model = tiny_answerer()
    rows = [row(image=half_white(), number=i) for i in range(8)]
    mirrors = [place < 4 for place in range(8)]
    plain, first, second = encode_rows(model, rows, tmp_path, mirrors=mirrors, views=3)
    assert np.array_equal(plain[0], plain[7])
    assert not np.array_equal(first, second)
    (turned,) = encode_rows(model, [row(image=half_white(at=0))], tmp_path)
    mirrored = [
        bool(np.abs(turned[0] - view[place]).sum() < np.abs(plain[0] - view[place]).sum())
        for place in range(8)
        for view in (first, second)
    ]
    assert set(mirrored[:8]) == {False, True}
    assert set(mirrored[8:]) == {False}
    # An epoch sees one view of each picture, in turn.
    learnt = QuestionSet(rows, model, cells=[plain, first, second])
    seen = [learnt.batch([(epoch, 5)])["cells"][0].numpy() for epoch in range(4)]
    for epoch, view in enumerate((plain, first, second, plain)):
        assert np.array_equal(seen[epoch], view[5].astype(np.float32))


def half_white(at=32):
    picture = Image.new("RGB", (64, 64))
    picture.paste("white", (at, 0, at + 32, 64))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("answer", "answers", "graded"),
    [
        ("yes", ["yes"] * 10, {"yes": 1.0}),
        ("dog", ["dog"] * 8 + ["Cat."] * 2, {"dog": 1.0, "cat": 2 / 3}),
        ("Two", [], {"2": 1.0}),
        ("book", ["book", "pen"], {"book": 1.0, "pen": 1 / 3}),
        ("book", ["book", "pen", "Book"], {"book": 1.0, "pen": 1 / 3}),
        (None, [], {}),
    ],
)
def test_answers_are_graded(answer, answers, graded):
    assert graded_answers(Question("", 0, "", answer, tuple(answers), "")) == graded


def test_vocabularies_leave_out_what_is_rare():
    rows = [row(), row(), row("what is it?", "zebra")]
    words, answers = build_vocabularies(rows, 2, 2)
    assert answers == ("red",)
    assert set(words.words[2:]) == {"what", "color", "is", "it"}


def test_augmentation_is_a_function_of_seed_epoch_and_sample():
    pictures = QuestionSet([row(), row()], tiny_answerer(), augment=True, seed=5)
    first = pictures.batch([(0, 0), (0, 1), (1, 0)])["pixels"]
    again = pictures.batch([(1, 0), (0, 0)])["pixels"]
    assert torch.equal(first[0], again[1])
    assert torch.equal(first[2], again[0])
    assert not torch.equal(first[0], first[2])


@pytest.mark.parametrize(
    ("question", "mirrors"),
    [("what color is it?", True), ("what is on the left?", False), ("which is right?", False)],
)
def test_a_picture_is_not_mirrored_where_left_and_right_matter(question, mirrors, monkeypatch):
    monkeypatch.setattr(augmentation, "MIN_CROP", 1.0)
    half = Image.new("RGB", (64, 64))
    half.paste("white", (0, 0, 32, 64))
    samples = QuestionSet([row(question, image=_png(half))], tiny_answerer(), augment=True)
    corners = {samples.batch([(epoch, 0)])["pixels"][0, 0, 0, 0].item() for epoch in range(16)}
    assert corners == ({0.0, 1.0} if mirrors else {1.0})


def _png(picture):
    import io

    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def test_a_model_of_ours_can_give_its_encoder(config, tiny_checkpoint, tiny_data):
    start = checkpoints.load(tiny_checkpoint).encoder.state_dict()
    again = replace(config, encoder=str(tiny_checkpoint), stride=32)
    model = build(again, open_rows(tiny_data, "train"))
    assert model.encoder.grid_size == (2, 2)
    assert all(torch.equal(t, start[n]) for n, t in model.encoder.state_dict().items())


def test_two_networks_learn_side_by_side_with_what_they_read(config):
    settings = replace(config, stride=32, beside=config.encoder, finer="1,4", views=2, own_epochs=1)
    model = checkpoints.load_as(Answerer, train(settings))
    last = model.encoder.beside.channels
    assert model.encoder.widths[::2] == (last, last)
    assert model.encoder.finer_mean.abs().sum() > 0
    assert model.fuse_picture.in_features == 2 * model.encoder.channels


def test_an_encoder_keeps_what_it_reads_unless_told_otherwise(config, tiny_data, tmp_path):
    rows = open_rows(tiny_data, "train")
    first = build(replace(config, stride=32, beside=config.encoder, finer="1,4"), rows)
    ours = replace(config, encoder=str(checkpoints.save(first, tmp_path / "first")))
    again = build(replace(ours, stride=32), rows)
    assert again.encoder.config == first.encoder.config
    state = checkpoints.load(ours.encoder).encoder.state_dict()
    weights = {n: t for n, t in again.encoder.state_dict().items() if "finer" not in n}
    assert all(torch.equal(t, state[n]) for n, t in weights.items())
    other = build(replace(ours, finer="8"), rows).encoder.config
    assert (other.stride, other.beside.stride) == (16, 16)
    assert (other.finer, other.beside.finer) == ((8,), ())


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ({"finer": "4,x"}, "invalid literal"),
        ({"width": 7}, "no stage of stride 16 and width 7"),
        ({"start": "vqa", "finer": "4"}, "own .*finer: leave it out"),
    ],
)
def test_what_cannot_be_read_is_named(config, tiny_data, flag, said):
    with pytest.raises(BadSettings, match=said):
        build(replace(config, **flag), open_rows(tiny_data, "train"))


def test_every_setting_is_a_flag_with_help():
    done = subprocess.run(
        [sys.executable, "-m", "training.train_vqa", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in TrainConfig.__dataclass_fields__:
        assert f"--{name}" in done.stdout
