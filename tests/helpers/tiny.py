"""Tiny models and data: made in milliseconds, alike in every run."""

from __future__ import annotations

import io
from dataclasses import replace

import torch
from PIL import Image, ImageDraw

from vqa.models import (
    Answerer,
    AnswererConfig,
    Captioner,
    CaptionerConfig,
    GazeConfig,
    GazeModel,
    ObjectConfig,
    ObjectModel,
)
from vqa.models.captioner import END
from vqa.models.encoder import EncoderConfig
from vqa.preprocessing.vocabulary import Vocab

COLOURS = ("red", "green", "blue", "yellow")


SHAPES = ("square", "circle")


TINY_ENCODER = EncoderConfig(
    architecture={
        "model_type": "mobilenet_v2",
        "depth_multiplier": 0.25,
        "image_size": 64,
        "tf_padding": True,
        "finegrained_output": False,
    },
    image_size=64,
    stride=16,
    name="random",
)


def draw(colour: str, shape: str, size: int = 96) -> bytes:
    """A coloured shape on grey, as PNG bytes."""
    picture = Image.new("RGB", (size, size), (128, 128, 128))
    pen = ImageDraw.Draw(picture)
    box = (size // 4, size // 4, 3 * size // 4, 3 * size // 4)
    (pen.rectangle if shape == "square" else pen.ellipse)(box, fill=colour)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def tiny_rows() -> list[dict[str, object]]:
    """Eight pictures with three questions and two captions each, in the layout of `coco_vqa`."""
    rows: list[dict[str, object]] = []
    for number, (colour, shape) in enumerate((c, s) for c in COLOURS for s in SHAPES):
        asked = [
            ("what color is it?", colour, "other", [colour] * 10),
            ("is it a square?", "yes" if shape == "square" else "no", "yes/no", []),
            ("how many shapes are there?", "1", "number", ["1"] * 9 + ["2"]),
        ]
        questions = [
            {
                "question_id": f"{number}-{place}" if answers else "",
                "question": question,
                "answer": answer,
                "answers": answers,
                "answer_type": kind,
            }
            for place, (question, answer, kind, answers) in enumerate(asked)
        ]
        image = {"bytes": draw(colour, shape), "path": f"{number}.png"}
        captions = [f"A {colour} {shape} .", f"there is a {colour} {shape} on the left"]
        rows.append(
            {"image": image, "image_id": number, "questions": questions, "captions": captions}
        )
    return rows


def tiny_answerer(seed: int = 0, *, concepts: tuple[str, ...] = (), **options: object) -> Answerer:
    """An untrained answerer that knows the words of `tiny_rows`."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        words = Vocab.build([["what", "color", "is", "it", "a", "square", "how", "many", "shapes"]])
        answers = (*COLOURS, "yes", "no", "1", "2")
        config = AnswererConfig(
            encoder=TINY_ENCODER,
            num_words=len(words),
            num_answers=len(answers),
            word_dim=16,
            hidden_dim=32,
            attention_dim=32,
            fused_dim=32,
            **options,
        )
        model = Answerer(config, words, answers, concepts).eval()
        wake(model)
        if model.gaze is not None:
            wake(model.gaze)
        return model


def tiny_answerer_of_objects() -> Answerer:
    """An untrained answerer with an untrained object head of two classes."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        known = "what color is it the a dog dogs hot there are how many"
        words, answers = Vocab.build([known.split()]), ("red", "yes", "no", "0", "1", "2", "3")
        config = AnswererConfig(
            encoder=TINY_ENCODER,
            num_words=len(words),
            num_answers=len(answers),
            word_dim=16,
            hidden_dim=32,
            attention_dim=32,
            fused_dim=32,
            num_objects=2,
            object_channels=16,
        )
        model = Answerer(config, words, answers, objects=("dog", "hot dog")).eval()
        wake(model)
        return model


def tiny_captioner(seed: int = 0, **options: object) -> Captioner:
    """An untrained captioner that knows the words of `tiny_rows`."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        said = ["there", "is", "a", "on", "the", "left", *COLOURS, *SHAPES, END]
        words = Vocab.build([said])
        sizes = {"word_dim": 16, "hidden_dim": 32, "attention_dim": 32, "max_words": 10}
        config = CaptionerConfig(encoder=TINY_ENCODER, num_words=len(words), **{**sizes, **options})
        model = Captioner(config, words).eval()
        wake(model)
        return model


def gaze_rows() -> list[dict[str, object]]:
    """Eight grey pictures with a white dot each, and three people who looked at it."""
    rows: list[dict[str, object]] = []
    for number in range(8):
        x, y = 0.2 + 0.6 * (number % 4) / 3, 0.3 + 0.4 * (number // 4)
        picture = Image.new("RGB", (120, 90), (96, 96, 96))
        at = (120 * x, 90 * y)
        ImageDraw.Draw(picture).ellipse([c + d for d in (-9, 9) for c in at], fill="white")
        buffer = io.BytesIO()
        picture.save(buffer, "PNG")
        looked = [{"x": x + d, "y": y, "subject": i} for i, d in enumerate((-0.02, 0.0, 0.02))]
        image = {"bytes": buffer.getvalue(), "path": f"{number}.png"}
        rows.append({"image": image, "image_id": f"dot{number}.png", "fixations": looked})
    return rows


def tiny_gaze(seed: int = 0, **options: object) -> GazeModel:
    """An untrained gaze model."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        encoder = replace(TINY_ENCODER, stride=32)
        model = GazeModel(GazeConfig(encoder=encoder, **{"channels": 16, **options})).eval()
        wake(model)
        return model


def tiny_objects(seed: int = 0, **options: object) -> ObjectModel:
    """An untrained object model of three classes."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        encoder = replace(TINY_ENCODER, stride=32)
        names = ("square", "shape", "dog")
        config = ObjectConfig(encoder=encoder, num_objects=3, **{"channels": 16, **options})
        model = ObjectModel(config, names).eval()
        wake(model)
        return model


def wake(model: torch.nn.Module) -> None:
    """transformers' own start lets the signal of an encoder die out."""
    for layer in model.encoder.modules():
        if isinstance(layer, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(layer.weight)
