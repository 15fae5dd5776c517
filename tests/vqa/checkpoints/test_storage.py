"""Saving and strict loading: what is saved comes back bit for bit, each bad checkpoint is named."""

import json
import resource
import shutil
import signal
from pathlib import Path

import pytest
import torch
from helpers.tiny import tiny_answerer
from safetensors.torch import load_file, save_file

from vqa import checkpoints
from vqa.errors import BadCheckpoint


@pytest.fixture
def folder(tiny_checkpoint, tmp_path):
    return shutil.copytree(tiny_checkpoint, tmp_path / "model")


def edit_config(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    config.update(changes)
    kept = {name: value for name, value in config.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(kept))


def edit_weights(folder, edit):
    tensors = load_file(folder / "model.safetensors")
    edit(tensors)
    save_file(tensors, folder / "model.safetensors")


def logits(model):
    torch.manual_seed(0)
    with torch.no_grad():
        cells = model.encode(torch.rand(2, 3, 64, 64)).cells
        ids = torch.tensor([model.question_ids("what color is it?")] * 2)
        return model(cells, ids, torch.tensor([0, 1])).logits


def test_saved_and_loaded_logits_are_bit_equal(tmp_path):
    model = tiny_answerer()
    checkpoints.to_storage_precision(model)
    loaded = checkpoints.load(checkpoints.save(model, tmp_path / "model"))
    assert torch.equal(logits(model), logits(loaded))
    assert not loaded.training
    assert all(p.dtype == torch.float32 for p in loaded.parameters())


def test_matrices_are_stored_in_fp16_and_statistics_in_fp32(folder):
    for name, tensor in load_file(folder / "model.safetensors").items():
        if tensor.is_floating_point():
            assert tensor.dtype == (torch.float16 if tensor.ndim > 1 else torch.float32), name


def test_saving_again_keeps_the_card_and_the_numbers(folder):
    (folder / "README.md").write_text("card")
    checkpoints.save(tiny_answerer(seed=3), folder)
    assert (folder / "README.md").read_text() == "card"
    assert torch.equal(checkpoints.load(folder).classify.bias, tiny_answerer(seed=3).classify.bias)


def test_a_full_disk_leaves_the_old_checkpoint_whole(folder):
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    model = tiny_answerer(seed=3)
    # A limit on a file's size ends the write in the middle, as a full disk does.
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(OSError, match=r"model\.safetensors cannot be written"):
            checkpoints.save(model, folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
    assert [p.name for p in folder.parent.iterdir()] == [folder.name]


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        checkpoints.save(tiny_answerer(), tmp_path / "file" / "model")


def test_a_file_in_the_way_is_not_replaced(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(NotADirectoryError, match=r"notes\.txt is a file"):
        checkpoints.save(tiny_answerer(), tmp_path / "notes.txt")
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_an_interruption_in_mid_swap_brings_the_old_checkpoint_back(folder, monkeypatch):
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    rename, calls = Path.rename, []

    def interrupted(self, target):
        calls.append(1)
        if len(calls) == 2:  # the old one is out, the new one not yet in
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        checkpoints.save(tiny_answerer(seed=3), folder)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


def test_an_unknown_name_lists_what_ships():
    with pytest.raises(BadCheckpoint, match="'nothing' is no folder, no shipped model"):
        checkpoints.load("nothing")


@pytest.mark.parametrize("name", ["a/b/c", "../elsewhere", "/no/where"])
def test_a_malformed_name_is_refused(name):
    with pytest.raises(BadCheckpoint, match="no folder"):
        checkpoints.load(name)


def test_a_folder_without_safetensors_is_refused(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(BadCheckpoint, match=r"no model\.safetensors$"):
        checkpoints.load(folder)


def test_pickled_weights_are_refused(folder):
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04")
    with pytest.raises(BadCheckpoint, match=r"pytorch_model\.bin is refused: pickles run code"):
        checkpoints.load(folder)


def test_a_wrong_vocabulary_size_is_named(folder):
    vocab = json.loads((folder / "vocab.json").read_text())
    vocab["words"].append("extra")
    (folder / "vocab.json").write_text(json.dumps(vocab))
    with pytest.raises(BadCheckpoint, match="12 words, the config says 11"):
        checkpoints.load(folder)


def test_a_missing_tensor_is_named(folder):
    edit_weights(folder, lambda tensors: tensors.pop("classify.bias"))
    with pytest.raises(BadCheckpoint, match=r"missing tensor classify\.bias"):
        checkpoints.load(folder)


def test_an_extra_tensor_is_named(folder):
    edit_weights(folder, lambda tensors: tensors.update(more=torch.zeros(2)))
    with pytest.raises(BadCheckpoint, match="extra tensor more"):
        checkpoints.load(folder)


def test_a_misshaped_tensor_is_named_with_both_shapes(folder):
    edit_weights(folder, lambda tensors: tensors.update({"classify.bias": torch.zeros(3)}))
    with pytest.raises(BadCheckpoint, match=r"classify\.bias is \(3,\), expected \(8,\)"):
        checkpoints.load(folder)


def test_an_unknown_config_field_is_named(folder):
    edit_config(folder, glimpse_count=3)
    with pytest.raises(BadCheckpoint, match="unknown field glimpse_count"):
        checkpoints.load(folder)


def test_an_unknown_encoder_field_is_named(folder):
    encoder = json.loads((folder / "config.json").read_text())["encoder"]
    edit_config(folder, encoder={**encoder, "strides": 3})
    with pytest.raises(BadCheckpoint, match="strides"):
        checkpoints.load(folder)


def test_an_unknown_field_of_the_architecture_is_named(folder):
    encoder = json.loads((folder / "config.json").read_text())["encoder"]
    encoder["architecture"]["width_multiplier"] = 2
    edit_config(folder, encoder=encoder)
    with pytest.raises(BadCheckpoint, match="unknown field width_multiplier"):
        checkpoints.load(folder)


@pytest.mark.parametrize(
    ("name", "value"), [("glimpses", -1), ("hidden_dim", "x"), ("dropout", 7), ("encoder", 3)]
)
def test_a_senseless_value_in_the_config_is_refused(folder, name, value):
    edit_config(folder, **{name: value})
    with pytest.raises(BadCheckpoint, match="model"):
        checkpoints.load(folder)


def test_a_missing_config_field_is_named(folder):
    edit_config(folder, num_answers=None)
    with pytest.raises(BadCheckpoint, match="missing field num_answers"):
        checkpoints.load(folder)


def test_an_unknown_model_type_is_named_with_the_known_ones(folder):
    edit_config(folder, model_type="oracle")
    known = r"\['answerer', 'blip', 'captioner', 'emoji', 'gaze', 'objects', 'vilt'\]"
    with pytest.raises(BadCheckpoint, match=f"'oracle' is none of {known}"):
        checkpoints.load(folder)


def test_another_format_version_is_refused(folder):
    edit_config(folder, format_version=99)
    with pytest.raises(BadCheckpoint, match="format 99, this version reads 1"):
        checkpoints.load(folder)


def test_a_truncated_weights_file_is_named(folder):
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(BadCheckpoint, match="truncated or damaged"):
        checkpoints.load(folder)


@pytest.mark.parametrize("name", ["config.json", "vocab.json"])
def test_a_damaged_json_file_is_named(folder, name):
    (folder / name).write_text("{")
    with pytest.raises(BadCheckpoint, match=f"{name}: cannot be read"):
        checkpoints.load(folder)
