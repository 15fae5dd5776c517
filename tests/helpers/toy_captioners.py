"""Captioners that have learnt the tiny pictures, in seconds."""

from __future__ import annotations

import copy
from functools import cache

import torch

from helpers.tiny import tiny_captioner, tiny_rows
from training.data.image_set import pad
from training.tasks.captioning import CaptionLoss
from vqa.preprocessing import images
from vqa.preprocessing.vocabulary import Vocab

PICTURES = [row["image"]["bytes"] for row in tiny_rows()]


def said():
    """A caption of its own for each of the tiny pictures, of three or eight words."""
    return [str(row["captions"][i % 2]).lower().rstrip(" .") for i, row in enumerate(tiny_rows())]


@cache
def learnt(decoder="lstm", attention="adaptive", until=0.5, seed=0):
    """A captioner that learns eight pictures by heart, or in part if it stops early.

    Args:
        decoder: as of the config.
        attention: as of the config.
        until: the loss a direction, summed over the captions, at which it stops.
        seed: of its start.
    """
    model = tiny_captioner(seed, decoder=decoder, attention=attention, dropout=0.0)
    pixels = torch.cat([images.to_pixels(images.load(p), 64) for p in PICTURES])
    ids = pad([model.words.encode(text.split()) for text in said()], Vocab.PAD)
    with torch.no_grad():
        batch = {"cells": model.encode(pixels).cells, "ids": ids, "owner": torch.arange(8)}
    learner = CaptionLoss(model.train(), 0.0)
    head = [p for name, p in model.named_parameters() if not name.startswith("encoder.")]
    optimizer = torch.optim.Adam(head, lr=2e-2)
    for _ in range(200):
        optimizer.zero_grad()
        loss = learner(batch)
        loss.backward()
        optimizer.step()
        if loss < until * len(model.decoders):
            break
    return model.eval()


def unsure(decoder="lstm", attention="adaptive", seed=0):
    """A captioner that has learnt to speak, and still mixes up the pictures."""
    return copy.deepcopy(learnt(decoder, attention, 16.0, seed))  # some tests count its calls
