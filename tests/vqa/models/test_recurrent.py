"""Recurrent layers compute in float32 under autocast: not every processor has them in bfloat16."""

import pytest
import torch
from helpers.emoji_data import tiny_emoji
from helpers.tiny import tiny_answerer, tiny_captioner
from torch import nn
from torch.nn.utils.rnn import PackedSequence

from vqa.preprocessing.tweet_tokenizer import tokenize

IDS = torch.tensor([[2, 3, 4], [4, 2, 0]])


def answer():
    model = tiny_answerer()
    cells = torch.ones(2, 16, model.encoder.channels)
    return model, lambda: [model(cells, IDS, torch.arange(2)).logits]


def caption():
    model = tiny_captioner(decoder="bilstm")
    cells = torch.ones(2, 16, model.encoder.channels)
    project, owner = model.project_image, torch.arange(2)
    return model, lambda: [model(project(cells), IDS, owner, way).logits for way in (0, 1)]


def feel():
    model = tiny_emoji()
    phrases = model.phrases([tokenize("i am happy today"), tokenize("so sad")])
    return model, lambda: [model(phrases, "face")[0]]


def float32(value):
    """The same tensors in float32; what is none stays as it is."""
    if isinstance(value, tuple) and not isinstance(value, PackedSequence):
        return tuple(map(float32, value))
    return value.float() if value is not None else None


def tensors(value):
    """All tensors of a layer's output."""
    if isinstance(value, torch.Tensor):
        return [value]
    parts = [value.data] if isinstance(value, PackedSequence) else value
    return [tensor for part in parts for tensor in tensors(part)]


@pytest.mark.parametrize("made", [answer, caption, feel])
def test_recurrent_layers_compute_in_float32_under_autocast(made):
    model, forward = made()
    layers = [m for m in model.modules() if isinstance(m, nn.RNNBase | nn.RNNCellBase)]
    calls = []
    hooks = [layer.register_forward_hook(lambda *call: calls.append(call)) for layer in layers]
    with torch.autocast("cpu", torch.bfloat16):
        logits = forward()
    for hook in hooks:
        hook.remove()
    assert {id(layer) for layer, _, _ in calls} == set(map(id, layers)) != set()
    for layer, given, found in calls:
        expected = layer(*map(float32, given))
        for one, other in zip(tensors(found), tensors(expected), strict=True):
            assert one.dtype == torch.float32
            assert torch.equal(one, other)
    sum(each.float().sum() for each in logits).backward()
    for layer in layers:
        assert all(p.grad is not None and p.grad.any() for p in layer.parameters())
