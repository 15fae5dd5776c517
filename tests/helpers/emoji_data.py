"""Sentences with feelings, which every test of the model of feelings may use."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from vqa.models import EmojiConfig, EmojiModel
from vqa.preprocessing.tweet_tokenizer import ngrams, tokenize
from vqa.preprocessing.vocabulary import Vocab

GOOD = ("happy", "glad", "lovely")
BAD = ("sad", "awful", "angry")
SUBJECTS = ("i am", "this is", "what a", "so", "we were")
TEXTS = [(f"{who} {word} today", int(word in BAD)) for word in GOOD + BAD for who in SUBJECTS]
MOODS = ["joy", "sadness"]
FACES = ["😀", "😢"]


def write(folder: Path) -> Path:
    """A folder with the sets `face` (a label a text) and `mood` (labels), each of both splits."""
    folder.mkdir(exist_ok=True)
    for split, some in (("train", TEXTS[::-1]), ("validation", TEXTS)):
        faces = [{"text": text, "label": label} for text, label in some]
        moods = [{"text": text, "labels": [label]} for text, label in some]
        pq.write_table(pa.Table.from_pylist(faces), folder / f"face-{split}.parquet")
        pq.write_table(pa.Table.from_pylist(moods), folder / f"mood-{split}.parquet")
    (folder / "face-labels.json").write_text(json.dumps(FACES))
    (folder / "mood-labels.json").write_text(json.dumps(MOODS))
    return folder


def tiny_emoji(seed: int = 0) -> EmojiModel:
    """An untrained model that knows the words of `TEXTS`."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        spelt = [[token.spelling for token in tokenize(text)] for text, _ in TEXTS]
        words = Vocab.build(spelt)
        hashed = sorted({number for row in spelt for pair in ngrams(row) for number in pair})
        heads = {"face": tuple(FACES), "mood": tuple(MOODS)}
        config = EmojiConfig(
            len(words),
            {"face": 2, "mood": 2},
            word_dim=8,
            buckets=97,
            num_ngrams=len(hashed),
            hidden_dim=8,
        )
        model = EmojiModel(config, words, heads).eval()
        model.known.copy_(torch.tensor(hashed))
        torch.nn.init.normal_(model.wide.weight, std=0.1)
        for parameter in model.parameters():  # the start is so small that all texts feel alike
            if parameter.ndim > 1:
                parameter.data.mul_(4)
        return model
