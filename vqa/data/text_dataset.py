"""Texts with labels, read from a folder of parquet files or from the Hub."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from vqa.data import cells
from vqa.data.sources import is_hub_id, load_hub, load_parquet, require
from vqa.errors import BadData

TEXT = "text"


class TextRow(NamedTuple):
    """A text, and the numbers of its labels; there may be none."""

    text: str
    labels: tuple[int, ...]


@dataclass(frozen=True)
class Texts(Sequence[TextRow]):
    """A split of a dataset of texts."""

    rows: Sequence[TextRow]
    names: tuple[str, ...]  # of the labels, by number; empty where the data do not tell

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[TextRow]:
        return iter(self.rows)

    def __getitem__(self, place: Any) -> Any:
        return self.rows[place]

    def name_of(self, label: int) -> str:
        """A label's name, or its number where the data do not tell."""
        return self.names[label] if self.names else str(label)


def sets_of(named: str) -> dict[str, str]:
    """The data of each set of labels that `emoji=FOLDER,mood=HUB_ID` names.

    Raises:
        BadData: if it is not of that form.
    """
    pairs = [part.partition("=") for part in named.split(",")]
    if not all(name and data for name, _, data in pairs):
        raise BadData(f"{named!r} must be like emoji=FOLDER,mood=HUB_ID")
    return {name: data for name, _, data in pairs}


def open_texts(data: str | Path, split: str = "validation", name: str = "") -> Texts:
    """Open a dataset of texts.

    Args:
        data: a parquet file; a folder with `{split}.parquet` or `{name}-{split}.parquet`, and
            perhaps `labels.json` or `{name}-labels.json`; or a Hub id. A row has `text`, and may
            have `label` (a number) or `labels` (numbers).
        split: which part of a folder or of a Hub dataset.
        name: of the set of labels; a Hub dataset's configuration of that name is taken, if there is
            one.

    Raises:
        BadData: if the data are missing, empty, damaged or lack a column, or the Hub refuses.
    """
    path = Path(data)
    if path.is_file():
        return _read(load_parquet([path], str(path)), str(path), _names(path.parent, name))
    if path.is_dir():
        files = [path / f"{split}.parquet", path / f"{name}-{split}.parquet"]
        found = [file for file in files if file.is_file()]
        if not found:
            present = ", ".join(sorted(p.name for p in path.iterdir())[:10]) or "nothing"
            wanted = " nor ".join(file.name for file in files[: 1 + bool(name)])
            raise BadData(f"{path}: holds neither {wanted}; it holds {present}")
        return _read(load_parquet(found[:1], str(found[0])), str(found[0]), _names(path, name))
    if is_hub_id(data):
        return _read(load_hub(str(data), split, name), f"{data}, split {split!r}", ())
    raise BadData(f"{data}: no such file or folder, and not a Hub dataset id (org/name)")


def _names(folder: Path, name: str) -> tuple[str, ...]:
    for file in (folder / f"{name}-labels.json", folder / "labels.json"):
        if file.is_file():
            try:
                names = json.loads(file.read_text(encoding="utf-8"))
            except ValueError as error:
                raise BadData(f"{file}: not JSON: {error}") from error
            if not isinstance(names, list) or not all(isinstance(each, str) for each in names):
                raise BadData(f"{file}: must list the labels' names")
            return tuple(names)
    return ()


def _read(dataset: Any, where: str, names: tuple[str, ...]) -> Texts:
    if not len(dataset):
        raise BadData(f"{where}: empty, it has no rows")
    require(TEXT, dataset.column_names, where)
    column = next((c for c in ("label", "labels") if c in dataset.column_names), None)
    texts = [cells.text(text, f"{where}, row {i}, text") for i, text in enumerate(dataset[TEXT])]
    if column is None:
        return Texts([TextRow(text, ()) for text in texts], names)
    feature = dataset.features[column]
    names = names or tuple(getattr(getattr(feature, "feature", feature), "names", ()))
    rows = [
        TextRow(text, _labels(cell, column, f"{where}, row {i}, {column}"))
        for i, (text, cell) in enumerate(zip(texts, dataset[column], strict=True))
    ]
    highest = max((label for row in rows for label in row.labels), default=-1)
    if names and highest >= len(names):
        raise BadData(f"{where}: has the label {highest}, but only {len(names)} have names")
    return Texts(rows, names)


def _labels(cell: Any, column: str, where: str) -> tuple[int, ...]:
    """The labels of a row; none where it is not labelled."""
    if column == "labels":
        return cells.labels(cell, where)
    number = cells.label(cell, where)
    return () if number is None else (number,)
