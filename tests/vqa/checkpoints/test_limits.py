"""A config asks for nothing before it is checked: no download, no memory, no endless building."""

import json
import resource
import shutil
import socket

import pytest
import torch
from safetensors.torch import load_file, save_file

from vqa import checkpoints
from vqa.errors import BadCheckpoint


@pytest.fixture
def folder(tiny_checkpoint, tmp_path):
    return shutil.copytree(tiny_checkpoint, tmp_path / "model")


def change(folder, *path, value):
    """Set one value of config.json, by the names that lead to it."""
    file = folder / "config.json"
    config = json.loads(file.read_text())
    *parents, name = path
    inner = config
    for parent in parents:
        inner = inner[parent]
    inner[name] = value
    file.write_text(json.dumps(config))


def refuse_connections(monkeypatch):
    def refuse(*_):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.parametrize("kind", ["tvp", "detr", "dpt", "rt_detr", "depth_anything", 3, None])
def test_a_network_of_another_type_is_refused_before_anything_is_fetched(folder, monkeypatch, kind):
    refuse_connections(monkeypatch)
    change(folder, "encoder", "architecture", value={"model_type": kind, "backbone": "other/repo"})
    with pytest.raises(BadCheckpoint, match=r"architecture: model_type .* is none of convnext"):
        checkpoints.load(folder)


@pytest.mark.parametrize(
    "field", ["backbone", "backbone_config", "use_timm_backbone", "auto_map", "quantization_config"]
)
def test_a_field_that_names_other_code_or_weights_is_refused(folder, monkeypatch, field):
    refuse_connections(monkeypatch)
    change(folder, "encoder", "architecture", field, value="other/repo")
    with pytest.raises(BadCheckpoint, match=field):
        checkpoints.load(folder)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("hidden_dim", 15_000),
        ("word_dim", 400_000),
        ("fused_dim", 100_000),
        ("num_concepts", 90_000),
    ],
)
def test_a_size_that_the_weights_have_not_takes_no_memory(folder, name, value):
    change(folder, name, value=value)
    before = peak()
    with pytest.raises(BadCheckpoint, match=r"expected|the config says"):
        checkpoints.load(folder)
    assert peak() - before < 200_000_000


def peak():
    """The most memory that this process has held since it began, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_words", 10**9),
        ("hidden_dim", -1),
        ("hidden_dim", "512"),
        ("hidden_dim", True),
        ("hidden_dim", 2.5),
        ("hidden_dim", None),
        ("hidden_dim", [512]),
        ("dropout", "0.5"),
        ("dropout", -0.5),
        ("blind", 1),
        ("fusion", 7),
        ("fusion", "x" * 10_000),
        ("encoder", []),
        ("encoder", None),
        ("gaze", "gaze"),
    ],
)
def test_a_field_of_another_type_or_size_is_named(folder, name, value):
    change(folder, name, value=value)
    with pytest.raises(BadCheckpoint, match=rf"config\.json: .*{name}|config\.json: {name}"):
        checkpoints.load(folder)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("image_size", 0),
        ("image_size", 100_000),
        ("stride", -32),
        ("stride", "32"),
        ("std", [0, 0, 0]),
        ("std", [0.5, 0.5]),
        ("std", [0.5, 0.5, "0.5"]),
        ("std", [0.5, 0.5, -0.5]),
        ("mean", 0.5),
        ("mean", [1e9, 0, 0]),
        ("finer", ["4"]),
        ("finer", [4] * 1000),
        ("name", 3),
        ("beside", {"architecture": {"model_type": "tvp"}}),
    ],
)
def test_a_bad_field_of_the_encoder_is_named(folder, name, value):
    change(folder, "encoder", name, value=value)
    with pytest.raises(BadCheckpoint, match=name):
        checkpoints.load(folder)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("depth_multiplier", 10**6),
        ("depth_multiplier", "1"),
        ("hidden_act", "x" * 1000),
        ("num_channels", {"a": 1}),
        ("min_depth", [[8]]),
    ],
)
def test_a_bad_field_of_the_architecture_is_refused(folder, name, value):
    change(folder, "encoder", "architecture", name, value=value)
    with pytest.raises(BadCheckpoint, match="model"):
        checkpoints.load(folder)


def test_stages_of_very_many_layers_are_refused_before_they_are_built(folder):
    deep = {"model_type": "resnet", "depths": [3, 100_000, 6, 3]}
    change(folder, "encoder", "architecture", value=deep)
    with pytest.raises(BadCheckpoint, match="depths is 100000; it can be at most 100"):
        checkpoints.load(folder)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"a": NaN}', "NaN is no number"),
        ('{"a": Infinity}', "Infinity is no number"),
        ("[" * 200_000, "nested too deeply|cannot be read"),
        ("\ufeff{}", "byte order mark"),
        ("[]", "not a JSON object"),
        ("<html>", "cannot be read"),
    ],
)
@pytest.mark.parametrize("name", ["config.json", "vocab.json"])
def test_a_json_file_that_is_none_is_named(folder, name, text, reason):
    (folder / name).write_text(text, encoding="utf-8")
    with pytest.raises(BadCheckpoint, match=rf"{name}: .*({reason})"):
        checkpoints.load(folder)


def test_a_very_large_json_file_is_not_read(folder):
    with (folder / "vocab.json").open("wb") as file:
        file.truncate(50_000_000)
    with pytest.raises(BadCheckpoint, match=r"vocab\.json: 50 MB, and the limit is 20 MB"):
        checkpoints.load(folder)


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ("yes", "answers is no list of words"),
        ([1] * 8, "answers holds 1, which is no word"),
        ([None] * 8, "answers holds None, which is no word"),
        (["yes"] * 8, "answers holds 'yes' more than once"),
        ([""] * 8, "a word of 0 characters"),
        (["x" * 1000] * 8, "a word of 1,000 characters"),
    ],
)
def test_answers_that_are_no_words_are_refused(folder, answers, reason):
    vocab = json.loads((folder / "vocab.json").read_text())
    (folder / "vocab.json").write_text(json.dumps({**vocab, "answers": answers}))
    with pytest.raises(BadCheckpoint, match=rf"vocab\.json: .*{reason}"):
        checkpoints.load(folder)


@pytest.mark.parametrize(
    ("change_tensor", "reason"),
    [
        (lambda t: t.fill_(torch.nan), "holds NaN or infinity"),
        (lambda t: t.fill_(torch.inf), "holds NaN or infinity"),
        (lambda t: t.to(torch.complex64), "holds complex numbers"),
        (lambda t: t.to(torch.int64), r"holds torch\.int64, expected torch\.float32"),
        (lambda t: t.to(torch.bool), r"holds torch\.bool, expected torch\.float32"),
    ],
)
def test_weights_of_another_kind_of_number_are_refused(folder, change_tensor, reason):
    tensors = load_file(folder / "model.safetensors")
    tensors["classify.bias"] = change_tensor(tensors["classify.bias"].clone())
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(BadCheckpoint, match=rf"tensor classify\.bias {reason}"):
        checkpoints.load(folder)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "Git LFS pointer"),
        (b"PK\x03\x04" + bytes(100), "a pickle in a zip file"),
        (b"\x80\x04\x95" + bytes(100), "a pickle"),
        (b"\n<!doctype html><title>Sign in</title>", "a web page"),
        (b"", "truncated or damaged"),
        (b"\xff" * 100, "truncated or damaged"),
    ],
)
def test_what_is_called_weights_and_is_none_is_named(folder, content, reason):
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(BadCheckpoint, match=rf"model\.safetensors.*{reason}"):
        checkpoints.load(folder)


def test_a_header_as_long_as_a_pickle_begins_is_no_pickle(folder):
    path = folder / "model.safetensors"
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    longer = -(-length // 65536) * 65536 + 0x0480  # ends in the bytes 80 04 00
    header = content[8 : 8 + length].ljust(longer)
    path.write_bytes(longer.to_bytes(8, "little") + header + content[8 + length :])
    assert path.read_bytes()[:2] == b"\x80\x04"
    checkpoints.load(folder)


def test_weights_in_several_files_have_a_message_of_their_own(folder):
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    (folder / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(BadCheckpoint, match="its weights are in several files"):
        checkpoints.load(folder)


@pytest.mark.parametrize("results", [[], "high", 3, [["answer", 1]]])
def test_metrics_of_another_form_are_refused_in_words(folder, results):
    (folder / "metrics.json").write_text(json.dumps({"results": results}))
    with pytest.raises(BadCheckpoint, match="results is no object with fields"):
        checkpoints.read_metrics(folder)
