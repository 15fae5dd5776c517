"""Small random ViLT and BLIP of transformers, saved to disk as on the Hub."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import (
    BertTokenizerFast,
    BlipConfig,
    BlipForQuestionAnswering,
    BlipImageProcessor,
    ViltConfig,
    ViltForQuestionAnswering,
    ViltImageProcessor,
)

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", "[ENC]"]
WORDS += ["what", "color", "is", "it", "?", "red", "blue", "yes", "no"]
ANSWERS = ["red", "blue", "yes", "no"]


def _save_vilt(folder, tokenizer):
    config = ViltConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=64,
        patch_size=16,
        id2label=dict(enumerate(ANSWERS)),
        label2id={answer: i for i, answer in enumerate(ANSWERS)},
        initializer_range=0.5,
    )
    ViltForQuestionAnswering(config).save_pretrained(folder)
    ViltImageProcessor(size={"shortest_edge": 64}).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _save_blip(folder, tokenizer):
    text = {
        "vocab_size": len(WORDS),
        "hidden_size": 16,
        "encoder_hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "max_position_embeddings": 64,
        "bos_token_id": 5,
        "pad_token_id": 0,
        "eos_token_id": 3,
        "sep_token_id": 3,
        "initializer_range": 0.5,
    }
    vision = {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "image_size": 64,
        "patch_size": 16,
        "initializer_range": 0.5,
    }
    config = BlipConfig(text_config=text, vision_config=vision)
    BlipForQuestionAnswering(config).save_pretrained(folder)
    BlipImageProcessor(size={"height": 64, "width": 64}).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def save(kind: str, folder: Path) -> Path:
    """A folder with an untrained "vilt" or "blip", its words and its way with pictures."""
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    tokenizer = BertTokenizerFast(str(folder / "vocab.txt"))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        {"vilt": _save_vilt, "blip": _save_blip}[kind](folder, tokenizer)
    return folder
