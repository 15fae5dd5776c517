"""Files of predictions, read with care; and what is missing in them, said."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vqa.batch.runner import BadPredictions

Line = dict[str, Any]
Metrics = dict[str, float | int]


def say_missing(names: Sequence[str]) -> None:
    """Name on stderr what has no prediction."""
    if names:
        print(f"No prediction for {len(names)}:", *names, sep="\n  ", file=sys.stderr)


def read_lines(path: Path, wanted: Mapping[str, Any]) -> Iterator[Line]:
    """The lines of a file of `vqa.batch`.

    Args:
        path: of the file.
        wanted: the fields that each line must have, and their types.

    Raises:
        BadPredictions: naming the line that is none, or lacks something.
    """
    for number, text in enumerate(path.read_bytes().splitlines(), 1):
        try:
            line = json.loads(text)
        except ValueError as error:
            raise BadPredictions(f"{path}, line {number}: not JSON: {error}") from error
        fields = line if isinstance(line, dict) else {}
        lacking = [f for f in wanted if fields.get(f) in (None, [])]
        if lacking:
            raise BadPredictions(f"{path}, line {number}: has no {', '.join(lacking)}")
        for name, kind in wanted.items():
            if not isinstance(line[name], kind) or (name == "top" and not _is_sure(line[name])):
                raise BadPredictions(f"{path}, line {number}: {name} cannot be {line[name]!r}")
        yield line


def _is_sure(top: list[Any]) -> bool:
    """Whether a list of guesses begins with an answer and its probability."""
    match top[0]:
        case [str(), float() | int() as probability]:
            return 0 <= probability <= 1
    return False
