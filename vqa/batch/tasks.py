"""What `vqa.batch` can do with a dataset: one class a subcommand."""

from __future__ import annotations

import argparse
import base64
import json
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
from PIL.Image import Image

from vqa import tasks
from vqa.data.image_dataset import ImageRecord, open_rows
from vqa.data.text_dataset import TextRow, open_texts
from vqa.errors import BadData, BadText
from vqa.preprocessing.question_text import clean_question

if TYPE_CHECKING:
    from vqa.engine import Engine
    from vqa.pipelines.captioning import CaptionPipeline
    from vqa.pipelines.emoji import EmojiPipeline
    from vqa.pipelines.gaze import GazePipeline

Line = dict[str, Any]
MAP_SIZE = (150, 200)  # height and width of the maps of `gaze`, at which gaze is measured
SAME = 1e-3  # a smaller difference of probabilities is rounding, a greater one another model


class Task(Protocol):
    """A subcommand at work, on the model that its flags name."""

    @property
    def size(self) -> int:
        """Side in pixels of the squares that the model wants; 0 if it looks at no picture."""

    def start_records(self, row: Any, refuse: Callable[[str], None]) -> list[Line]:
        """Begin a row's lines, or refuse some with the reason."""

    def fill_records(self, pictures: Sequence[Image], asked: Sequence[Sequence[Line]]) -> None:
        """End the lines of each picture."""

    def same_model(self, old: Line, new: Line) -> bool:
        """Whether one model can have ended both of these lines."""


class Lines:
    """A task on pictures, whose lines are what was asked for."""

    out = "file of JSON lines"
    required = "image"
    batch_size = 32

    @classmethod
    def open(cls, options: argparse.Namespace) -> Sequence[Any]:
        """The rows that the flags of the subcommand name."""
        rows = open_rows(
            options.data, options.split, required=cls.required, streaming=options.streaming
        )
        return cast(Sequence[Any], rows)

    @staticmethod
    def add_flags(command: argparse.ArgumentParser) -> None:
        """Those that only this task has."""
        command.add_argument(
            "--streaming",
            action="store_true",
            help="fetch what is needed of a Hub dataset's parquet files, instead of copying all",
        )

    @staticmethod
    def lines(out: Path) -> Path:
        """The file for the lines, of what `--out` names."""
        return out

    @staticmethod
    def finish(lines: Path, out: Path) -> None:
        """Make what was asked for of the file of all lines."""


class Answering(Lines):
    """A line a question, with the five likeliest answers."""

    help = "answer the questions of a dataset"
    task = tasks.ANSWER
    required = "question"

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    @classmethod
    def load(cls, options: argparse.Namespace) -> Answering:
        """By the flags of the subcommand."""
        from vqa.engine import Engine

        return cls(Engine.load(options.model, captioners=()))

    @property
    def size(self) -> int:
        """Side in pixels of the squares that the model wants; 0 if it looks at no picture."""
        return self.engine.answer_pipeline.size

    def start_records(self, row: ImageRecord, refuse: Callable[[str], None]) -> list[Line]:
        """Begin the lines of a row, or refuse some with the reason."""
        lines: list[Line] = []
        for question in row.questions:
            try:
                clean_question(question.text)
            except BadText as error:
                refuse(f"picture {row.image_id}, question {question.index}: {error}")
                continue
            ids = {"image_id": row.image_id, "question_id": question.question_id}
            lines.append({**ids, "index": question.index, "question": question.text})
        return lines

    def fill_records(self, pictures: Sequence[Image], asked: Sequence[Sequence[Line]]) -> None:
        """End the lines of each picture."""
        questions = [[line["question"] for line in lines] for lines in asked]
        answers = self.engine.answer_batch(pictures, questions, k=5)
        for lines, found in zip(asked, answers, strict=True):
            for line, answer in zip(lines, found, strict=True):
                line["answer"] = answer.text
                line["top"] = [[text, round(float(p), 6)] for text, p in answer.top]

    def same_model(self, old: Line, new: Line) -> bool:
        """Whether one model can have ended both of these lines."""
        return _alike(old.get("top", [["", 0.0]]), new["top"])


class Describing(Lines):
    """A line a picture: its best caption."""

    help = "describe the pictures of a dataset"
    task = tasks.CAPTION

    def __init__(self, caption_pipeline: CaptionPipeline, beam: int) -> None:
        self.caption_pipeline, self.beam = caption_pipeline, beam

    @classmethod
    def load(cls, options: argparse.Namespace) -> Describing:
        """By the flags of the subcommand."""
        from vqa import checkpoints
        from vqa.models import Captioner
        from vqa.pipelines.captioning import CaptionPipeline

        captioner = checkpoints.load_as(Captioner, options.model)
        return cls(CaptionPipeline(captioner), options.beam)

    @staticmethod
    def add_flags(command: argparse.ArgumentParser) -> None:
        """Add the flags of the subcommand, and how far to search."""
        from vqa.pipelines.captioning import MAX_BEAM

        Lines.add_flags(command)
        command.add_argument(
            "--beam", default=3, type=int, choices=range(1, MAX_BEAM + 1), metavar=f"1..{MAX_BEAM}"
        )

    @property
    def size(self) -> int:
        """Side in pixels of the squares that the model wants; 0 if it looks at no picture."""
        return self.caption_pipeline.captioner.config.encoder.image_size

    def start_records(self, row: ImageRecord, refuse: Callable[[str], None]) -> list[Line]:
        """Begin the lines of a row, or refuse some with the reason."""
        return [{"image_id": row.image_id}]

    def fill_records(self, pictures: Sequence[Image], asked: Sequence[Sequence[Line]]) -> None:
        """End the lines of each picture."""
        captions = self.caption_pipeline.caption_batch(pictures, beam=self.beam)
        for lines, caption in zip(asked, captions, strict=True):
            words = zip(caption.words, caption.word_probs, strict=True)
            said = {
                "caption": caption.text,
                "log_prob": round(caption.log_prob, 4),
                "unsure": caption.unsure,
                "words": [[word, round(p, 6)] for word, p in words],
            }
            for line in lines:
                line.update(said)

    def same_model(self, old: Line, new: Line) -> bool:
        """Whether one model can have ended both of these lines."""
        return old.get("caption") == new["caption"] and _alike(old.get("words", []), new["words"])


class Gazing(Lines):
    """A map a picture: where people would look."""

    help = "say where people would look in the pictures of a dataset"
    out = "npz archive: a float16 map an image id"
    task = tasks.GAZE

    def __init__(self, gaze_pipeline: GazePipeline) -> None:
        self.gaze_pipeline = gaze_pipeline

    @classmethod
    def load(cls, options: argparse.Namespace) -> Gazing:
        """By the flags of the subcommand."""
        from vqa import checkpoints
        from vqa.models import GazeModel
        from vqa.pipelines.gaze import GazePipeline

        return cls(GazePipeline(checkpoints.load_as(GazeModel, options.model)))

    @property
    def size(self) -> int:
        """Side in pixels of the squares that the model wants; 0 if it looks at no picture."""
        return self.gaze_pipeline.model.config.encoder.image_size

    def start_records(self, row: ImageRecord, refuse: Callable[[str], None]) -> list[Line]:
        """Begin the lines of a row, or refuse some with the reason."""
        return [{"image_id": row.image_id}]

    def fill_records(self, pictures: Sequence[Image], asked: Sequence[Sequence[Line]]) -> None:
        """End the lines of each picture."""
        maps = self.gaze_pipeline.maps(pictures, size=MAP_SIZE)
        for lines, each in zip(asked, maps, strict=True):
            for line in lines:
                line["map"] = base64.b64encode((each / each.max()).astype(np.float16)).decode()

    def same_model(self, old: Line, new: Line) -> bool:
        """Whether one model can have ended both of these lines."""
        if "map" not in old:
            return False
        one, other = (_map_of(line).astype(np.float32) for line in (old, new))
        return bool(np.abs(one - other).max() <= 2 * SAME)  # the values are float16

    @staticmethod
    def lines(out: Path) -> Path:
        """The finished lines of a row."""
        return out.with_name(f"{out.name}.lines")

    @staticmethod
    def finish(lines: Path, out: Path) -> None:
        """Write an archive of arrays (*MAP_SIZE) float16, one an image id, highest value 1."""
        fresh, written = out.with_name(f"{out.name}.part-npz"), set()
        with zipfile.ZipFile(fresh, "w") as archive, lines.open("rb") as file:
            for line in map(json.loads, file):
                name = f"{line['image_id']}.npy"
                if name in written:  # a picture may have a row a question
                    continue
                written.add(name)
                entry = zipfile.ZipInfo(name)  # of no date: the same maps give the same file
                entry.compress_type = zipfile.ZIP_DEFLATED
                with archive.open(entry, "w") as array:
                    np.lib.format.write_array(array, _map_of(line), allow_pickle=False)
        fresh.replace(out)
        lines.unlink()


class Feelings(Lines):
    """A line a text: its label, and the likeliest five."""

    help = "say how the texts of a dataset feel"
    task = tasks.EMOJI
    batch_size = 1024
    size = 0

    def __init__(self, emoji_pipeline: EmojiPipeline, head: str) -> None:
        emoji_pipeline.check_head(head)
        self.emoji_pipeline, self.head = emoji_pipeline, head
        self.numbers = {label: i for i, label in enumerate(emoji_pipeline.model.labels[head])}

    @classmethod
    def open(cls, options: argparse.Namespace) -> Sequence[Any]:
        """The texts that the flags of the subcommand name."""
        return open_texts(options.data, options.split, options.head)

    @classmethod
    def load(cls, options: argparse.Namespace) -> Feelings:
        """By the flags of the subcommand."""
        from vqa import checkpoints
        from vqa.models import EmojiModel
        from vqa.pipelines.emoji import EmojiPipeline

        try:
            return cls(EmojiPipeline(checkpoints.load_as(EmojiModel, options.model)), options.head)
        except ValueError as error:  # no such head
            raise BadData(str(error)) from error

    @staticmethod
    def add_flags(command: argparse.ArgumentParser) -> None:
        """Which labels."""
        command.add_argument("--head", default="emoji", help="which set of labels")

    def start_records(self, row: TextRow, refuse: Callable[[str], None]) -> list[Line]:
        """Begin the lines of a row, or refuse some with the reason."""
        return [{"text": row.text}]

    def fill_records(self, pictures: Sequence[Image], asked: Sequence[Sequence[Line]]) -> None:
        """End the lines of each picture."""
        (lines,) = asked
        found = self.emoji_pipeline.feel_batch([line["text"] for line in lines], self.head)
        for line, feeling in zip(lines, found, strict=True):
            line["label"] = self.numbers[feeling.label]
            line["name"], line["emoji"] = feeling.label, feeling.emoji
            line["top"] = [[name, round(p, 6)] for name, p in feeling.top]

    def same_model(self, old: Line, new: Line) -> bool:
        """Whether one model can have ended both of these lines."""
        return old.get("label") == new["label"] and _alike(old.get("top", [["", 0.0]]), new["top"])


def _map_of(line: Line) -> np.ndarray:
    return np.frombuffer(base64.b64decode(line["map"]), np.float16).reshape(MAP_SIZE)


def _alike(old: Sequence[Any], new: Sequence[Any]) -> bool:
    return all(abs(p - q) <= SAME for (_, p), (_, q) in zip(old, new, strict=False))


TASKS: dict[str, type[Answering | Describing | Gazing | Feelings]] = {
    kind.task.key: kind for kind in (Answering, Describing, Gazing, Feelings)
}
