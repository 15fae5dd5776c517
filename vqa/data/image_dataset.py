"""Any dataset of pictures, read as rows: one picture, what is asked and what is said about it.

Pictures stay undecoded: who decodes one decides what a broken one means. `datasets` caches parquet
as Arrow, written under a lock and mapped into memory, so that many processes may read it at once.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

from vqa.data import cells
from vqa.data.hub_streaming import Stream, open_files
from vqa.data.sources import CAPTIONS, is_hub_id, load_hub, load_parquet, require
from vqa.errors import BadData
from vqa.preprocessing.images import MAX_BYTES

# Where a known dataset's column has not our name. It is known by its columns, so that a downloaded
# copy reads like the Hub's own.
RENAMES = {"lmms-lab/VQAv2": {"multiple_choice_answer": "answer"}}
FIELDS = ("question_id", "question", "answer", "answers", "answer_type")
COLUMNS = (
    "image",
    "image_id",
    "fixations",
    "questions",
    *FIELDS,
)  # `questions`, or one question a row
DESCRIPTION_FILES = {  # what describes the pictures of a folder, by what is needed of them
    "question": ("questions.jsonl", "questions.json", "metadata.jsonl"),
    "caption": ("captions.jsonl", "metadata.jsonl"),
    "fixations": ("metadata.jsonl",),
    "image": ("metadata.jsonl", "captions.jsonl", "questions.jsonl", "questions.json"),
}
PICTURES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"}


@dataclass(frozen=True)
class Question:
    """One question on a picture, with what people answered."""

    question_id: str  # the dataset's own; may be empty and may repeat
    index: int  # its place in its row: this alone tells a row's questions apart
    text: str  # as written
    answer: str | None  # the one the dataset settles on
    answers: tuple[str, ...]  # what each person said: ten for VQA v2, fewer or none elsewhere
    answer_type: str  # the dataset's own word, such as "yes/no" or "number"; may be empty
    source: str = ""  # who asked, where it is not the dataset itself


@dataclass(frozen=True)
class ImageRecord:
    """One picture, the questions on it and its captions.

    The id repeats where a dataset has one question a row. Where there is none it is the row's
    place, or in an image folder the file's name.
    """

    image_id: int | str  # of the dataset's own type
    image: bytes  # the picture's file, undecoded; empty where the dataset has no picture
    questions: tuple[Question, ...]  # in the dataset's order
    captions: tuple[str, ...] = ()  # what people said of the picture
    fixations: tuple[tuple[float, float], ...] = ()  # where they looked: x, y, 1 at the far edges


class ImageDataset(Sequence[ImageRecord]):
    """A lazy sequence of rows: each is read when it is asked for."""

    def __init__(self, records: Sequence[Any], read: Callable[[int, Any], ImageRecord]) -> None:
        self._records, self._read = records, read

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[ImageRecord]:
        return (self[place] for place in range(len(self)))

    def __getitem__(self, place: int) -> ImageRecord:  # type: ignore[override]  # no slices
        place = range(len(self))[place]  # IndexError past the end
        return self._read(place, self._records[place])


def chain_rows(parts: Iterable[Sequence[ImageRecord]]) -> ImageDataset:
    """Several sequences of rows as one, read as lazily as they are."""
    places = [(part, place) for part in parts for place in range(len(part))]
    return ImageDataset(places, lambda _, pair: pair[0][pair[1]])


def select_rows(rows: Sequence[ImageRecord], places: Sequence[int]) -> ImageDataset:
    """Some of the rows, by their indices."""
    return ImageDataset(places, lambda _, place: rows[place])


def open_rows(
    data: str | Path,
    split: str = "validation",
    *,
    required: str = "question",
    streaming: bool = False,
) -> ImageDataset:
    """Open a dataset of pictures.

    Args:
        data: a parquet file; a folder with `{split}.parquet` or `{split}-*.parquet` in it or in its
            `data/`; a folder of pictures with one of DESCRIPTION_FILES, whose entries have
            `file_name` and `question` or `caption`, and may have `image_id` and the other FIELDS;
            or a Hub id.
        split: which part of a folder or of a Hub dataset. An image folder's is its folder of that
            name, with a file and pictures of its own; without one, it is all of it.
        required: what every row must be able to have: "question", "caption", "fixations" (lists of
            x, y), or "image" for the pictures alone, which a folder may then hold without any file
            beside them.
        streaming: leave the parquet files of a Hub dataset where they are, and fetch of each what
            is asked for, again if need be; else all are copied first.

    Returns:
        The rows; an image folder's in the order in which its file first names the pictures, or in
        that of their names.

    Raises:
        BadData: if the data are missing, empty, damaged or lack a column, or the Hub refuses.
    """
    path = Path(data)
    if streaming and (path.exists() or not is_hub_id(data)):
        raise BadData(f"{data}: only a dataset on the Hub can be streamed")
    if path.is_file():
        return _open_parquet([path], str(path), required)
    if path.is_dir():
        return _open_folder(path, split, required)
    if is_hub_id(data):
        name = f"{data}, split {split!r}"
        if streaming:
            return _open_stream(str(data), split, name, required)
        return _open_dataset(load_hub(str(data), split), name, required)
    raise BadData(f"{data}: no such file or folder, and not a Hub dataset id (org/name)")


def _open_folder(folder: Path, split: str, required: str) -> ImageDataset:
    for place in (folder, folder / "data"):
        files = sorted(place.glob("*.parquet"))
        parquet = [file for file in files if f"{file.stem}-".startswith(f"{split}-")]
        if parquet:
            return _open_parquet(parquet, f"{folder}, split {split!r}", required)
    for place in (folder / split, folder):
        for name in DESCRIPTION_FILES[required]:
            if (place / name).is_file():
                return _open_image_folder(place / name, required)
    for place in (folder / split, folder) if required == "image" else ():
        if files := sorted(p for p in place.glob("*") if p.suffix.lower() in PICTURES):
            return ImageDataset(files, lambda _, file: ImageRecord(file.name, _read_file(file), ()))
    present = ", ".join(sorted(p.name for p in folder.iterdir())[:10])
    raise BadData(
        f"{folder}: holds neither {split}.parquet (or {split}-*.parquet, or these under data/) nor "
        f"a file that describes pictures ({', '.join(DESCRIPTION_FILES[required])}; or these under "
        f"{split}/); "
        f"it holds {present or 'nothing'}"
    )


def _open_parquet(files: Sequence[Path], name: str, required: str) -> ImageDataset:
    return _open_dataset(load_parquet(files, name), name, required)


def _open_dataset(dataset: Any, name: str, required: str) -> ImageDataset:
    if not len(dataset):
        raise BadData(f"{name}: empty, it has no rows")
    return ImageDataset(_prepare(dataset, name=name, required=required), _read_record)


def _open_stream(data: str, split: str, name: str, required: str) -> ImageDataset:
    import datasets

    prepare = partial(_prepare, name=name, required=required)
    files = open_files(data, split)
    prepare(datasets.Dataset(files[0].schema_arrow.empty_table()))  # tells at once what is missing
    stream = Stream(files, prepare)
    if not len(stream):
        raise BadData(f"{name}: empty, it has no rows")
    return ImageDataset(stream, _read_record)


def _prepare(dataset: Any, *, name: str, required: str) -> Any:
    """The columns that we read, by our names, and the pictures undecoded."""
    import datasets

    columns = set(dataset.column_names)
    for renames in RENAMES.values():
        if columns.issuperset(renames) and columns.isdisjoint(renames.values()):
            dataset = dataset.rename_columns(renames)
    _check_columns(dataset, name, required)
    kept = [c for c in dataset.column_names if c in COLUMNS or CAPTIONS.fullmatch(c)]
    dataset = dataset.select_columns(kept)
    return dataset.cast_column("image", datasets.Image(decode=False))


def _check_columns(dataset: Any, name: str, required: str) -> None:
    nested = "questions" in dataset.column_names
    require("image", dataset.column_names, name)
    if required != "image" and not (nested and required == "question"):
        require(required, dataset.column_names, name)
    if not nested:
        return
    feature = dataset.features["questions"]
    inner = getattr(feature, "feature", feature)  # a record of lists is its own description
    if not isinstance(inner, Mapping) or "question" not in inner:
        raise BadData(f"{name}: 'questions' must list {{question, ...}}; it lists {inner}")


def _read_record(place: int, record: Mapping[str, Any]) -> ImageRecord:
    where = f"row {place}"
    asked: Iterable[Mapping[str, Any]] = [record] if "question" in record else ()
    if "questions" in record:
        asked = cells.records(record["questions"], f"{where}, questions")
    questions = tuple(_question(i, fields, where) for i, fields in enumerate(asked))
    image_id = _known(record.get("image_id"), place)
    points, captions = _fixations([record], where), _captions([record], where)
    return ImageRecord(image_id, _image_bytes(record["image"]), questions, captions, points)


def _captions(records: Iterable[Mapping[str, Any]], where: str) -> tuple[str, ...]:
    """All captions of some records, in the order of their columns: caption_2 before caption_10."""
    return tuple(
        caption
        for record in records
        for column in sorted(filter(CAPTIONS.fullmatch, record), key=_column_order)
        for caption in cells.texts(record[column], f"{where}, {column}")
    )


def _column_order(column: str) -> tuple[str, int]:
    name, _, number = column.partition("_")
    return name, int(number or -1)


def _fixations(records: Iterable[Mapping[str, Any]], where: str) -> tuple[tuple[float, float], ...]:
    return tuple(
        point
        for record in records
        for point in cells.fixations(record.get("fixations"), f"{where}, fixations")
    )


def _image_bytes(image: Mapping[str, Any] | None) -> bytes:
    if image is None:
        return b""
    return image["bytes"] or _read_file(Path(image["path"] or ""))


def _read_file(path: Path) -> bytes:
    if not path.is_file():
        return b""
    with path.open("rb") as file:
        return file.read(MAX_BYTES + 1)  # one too many: decoding says that it is too big


def _question(index: int, fields: Mapping[str, Any], where: str) -> Question:
    def text(column: str) -> str:
        return cells.text(fields.get(column), f"{where}, {column}")

    return Question(
        question_id=text("question_id"),
        index=index,
        text=text("question"),
        answer=text("answer") or None,
        answers=cells.texts(fields.get("answers"), f"{where}, answers"),
        answer_type=text("answer_type"),
    )


def _known(value: Any, otherwise: int | str) -> int | str:
    return otherwise if value is None else cast(int | str, value)


def _open_image_folder(file: Path, required: str) -> ImageDataset:
    pictures: dict[str, list[Mapping[str, Any]]] = {}
    for where, entry in _entries(file):
        if not isinstance(entry, Mapping):
            raise BadData(f"{where}: not an object with file_name and {required}")
        require("file_name", entry, where)
        if required != "image":
            require(required, entry, where)
        pictures.setdefault(str(entry["file_name"]), []).append(entry)
    if not pictures:
        raise BadData(f"{file}: empty, it names no picture")
    return ImageDataset(list(pictures.items()), partial(_read_picture, file.parent))


def _entries(file: Path) -> Iterator[tuple[str, Any]]:
    content = file.read_bytes()
    lines = [content] if file.suffix == ".json" else content.split(b"\n")
    for number, line in enumerate(lines, 1):
        where = f"{file}, line {number}"
        try:
            value = json.loads(line) if line.strip() else []
        except ValueError as error:
            raise BadData(f"{where}: not JSON: {error}") from error
        entries = value if isinstance(value, list) else [value]
        yield from ((f"{where}, entry {i}", entry) for i, entry in enumerate(entries, 1))


def _read_picture(
    folder: Path, place: int, picture: tuple[str, list[Mapping[str, Any]]]
) -> ImageRecord:
    name, entries = picture
    asked = [entry for entry in entries if "question" in entry]
    questions = tuple(_question(i, fields, name) for i, fields in enumerate(asked))
    image_id = _known(entries[0].get("image_id"), name)
    points, captions = _fixations(entries, name), _captions(entries, name)
    return ImageRecord(image_id, _read_file(folder / name), questions, captions, points)
