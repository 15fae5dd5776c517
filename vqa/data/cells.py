"""One cell of a table as what it is meant to be: a text, several texts, a label or fixations.

Data sets store the same thing in many ways: an answer as a text, a number or a truth value, missing
values as null or NaN, a list of records as a record of lists. Everything that reads data does so
here, so that each way gives the same values, and what is none of them is refused by its row and
column instead of being learnt as text.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from vqa.errors import BadData

TEXT_KEYS = ("answer", "text", "caption", "raw", "sentence", "value")  # of a record with a text
UNLABELLED = -1  # how data sets of the Hub mark a row whose label is not published


def is_missing(value: Any) -> bool:
    """Whether a cell is empty: null, or the NaN that stands for null in tables of numbers."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def text(value: Any, where: str) -> str:
    """A cell as a text: 2.0 is "2", true is "yes", an empty cell "".

    Args:
        value: the cell.
        where: its row and column, for the message.

    Raises:
        BadData: if it is neither a text, a number nor a truth value.
    """
    value = _plain(value)
    if is_missing(value):
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float) and math.isfinite(value):
        return str(int(value)) if value.is_integer() else str(value)
    raise BadData(f"{where}: must be a text, and is {_short(value)}")


def texts(value: Any, where: str) -> tuple[str, ...]:
    """A cell as texts: one, a list, or records that hold one each; empty ones are left out.

    Args:
        value: the cell.
        where: its row and column, for the message.

    Raises:
        BadData: if an entry is no text, number or truth value, or a record has none of `TEXT_KEYS`.
    """
    value = _plain(value)
    if is_missing(value):
        return ()
    if isinstance(value, Mapping):
        value = _text_of(value, where)
    entries = value if _is_list(value) else [value]
    read = (
        text(_text_of(entry, where) if isinstance(entry, Mapping) else entry, where)
        for entry in map(_plain, entries)
    )
    return tuple(entry for entry in read if entry)


def records(value: Any, where: str) -> list[Mapping[str, Any]]:
    """A cell as a list of records, also where it is stored as one record of lists.

    Args:
        value: the cell.
        where: its row and column, for the message.

    Raises:
        BadData: if it is neither, or its lists differ in length.
    """
    value = _plain(value)
    if is_missing(value):
        return []
    if isinstance(value, Mapping):
        columns = {name: _plain(column) for name, column in value.items()}
        lists = {name: column for name, column in columns.items() if _is_list(column)}
        if len(lists) < len(columns) or len({len(column) for column in lists.values()}) > 1:
            raise BadData(f"{where}: its lists differ in length: {_short(value)}")
        return [dict(zip(lists, entry, strict=True)) for entry in zip(*lists.values(), strict=True)]
    if _is_list(value) and all(isinstance(entry, Mapping) for entry in value):
        return list(value)
    raise BadData(f"{where}: must be a list of records, and is {_short(value)}")


def label(value: Any, where: str) -> int | None:
    """A cell as the number of a label; None where the row has none.

    Args:
        value: the cell; null, NaN and -1 mean that there is no label.
        where: its row and column, for the message.

    Raises:
        BadData: if it is no whole number from 0.
    """
    value = _plain(value)
    if is_missing(value) or (not isinstance(value, bool | str) and value == UNLABELLED):
        return None
    whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    if not whole or value < 0:
        raise BadData(
            f"{where}: a label must be a whole number from 0, and this is {_short(value)}"
        )
    return int(value)


def labels(value: Any, where: str) -> tuple[int, ...]:
    """A cell as the numbers of several labels; see `label`.

    Raises:
        BadData: if it is no list of labels.
    """
    value = _plain(value)
    if is_missing(value):
        return ()
    if not _is_list(value):
        raise BadData(f"{where}: must be a list of labels, and is {_short(value)}")
    numbers = (label(entry, where) for entry in value)
    return tuple(number for number in numbers if number is not None)


def fixations(value: Any, where: str) -> tuple[tuple[float, float], ...]:
    """A cell as points (x, y), shares of the picture's width and height from 0 to 1.

    Args:
        value: a list of records with x and y, or one record of lists.
        where: its row and column, for the message.

    Raises:
        BadData: naming the first point that is none, such as one in pixels.
    """
    points = []
    for number, point in enumerate(records(value, where), 1):
        try:
            x, y = float(_number(point["x"])), float(_number(point["y"]))
        except (KeyError, TypeError, ValueError) as error:
            raise BadData(
                f"{where}, point {number}: must have the numbers x and y, and is {_short(point)}"
            ) from error
        if not (0 <= x <= 1 and 0 <= y <= 1):  # NaN fails too
            raise BadData(
                f"{where}, point {number}: x = {x:g}, y = {y:g}, and both must be shares of the "
                "picture's width and height, from 0 to 1: divide pixels by them"
            )
        points.append((x, y))
    return tuple(points)


def _number(value: Any) -> float:
    if isinstance(value, bool | str):
        raise TypeError(f"{value!r} is no number")
    return float(value)


def _text_of(record: Mapping[str, Any], where: str) -> Any:
    for key in TEXT_KEYS:
        if key in record:
            return record[key]
    raise BadData(f"{where}: {_short(record)} has none of {', '.join(TEXT_KEYS)}")


def _plain(value: Any) -> Any:
    """Values of numpy as Python's own."""
    return value.tolist() if hasattr(value, "tolist") else value


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 80 else f"{shown[:77]}..."
