"""Where data come from: parquet files and the Hub, each opened by `datasets`, or `BadData`."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from vqa.errors import BadData, one_line

CAPTIONS = re.compile(r"captions?(?:_\d+)?")  # a column of lists, or several of one each
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def is_hub_id(data: str | Path) -> bool:
    """Whether this can name a dataset on the Hub."""
    return _HUB_ID.fullmatch(str(data)) is not None and Path(data).suffix != ".parquet"


def load_parquet(files: Sequence[Path], name: str) -> Any:
    """Parquet files as one dataset of `datasets`.

    Raises:
        BadData: if they have no rows or cannot be read.
    """
    import datasets

    filled = [file for file in files if _count_rows(file)]
    if not filled:
        raise BadData(f"{name}: empty, it has no rows")
    # The paths are patterns to `datasets`: a folder named "photos [1]" must be escaped.
    patterns = [glob.escape(str(file.resolve())) for file in filled]
    try:
        return datasets.load_dataset("parquet", data_files=patterns, split="train")
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise BadData(f"{name}: cannot be read: {one_line(error.__cause__ or error)}") from error


def _count_rows(file: Path) -> int:
    # Asked of the footer: `datasets` fails obscurely on a file without rows.
    from pyarrow import parquet

    try:
        return int(parquet.read_metadata(file).num_rows)
    except (OSError, ValueError) as error:
        raise BadData(f"{file}: not a readable parquet file: {one_line(error)}") from error


def load_hub(data: str, split: str, name: str = "") -> Any:
    """A split of a dataset on the Hub, of its configuration `name` if it has one so named.

    Raises:
        BadData: if the Hub does not give it.
    """
    import datasets

    try:
        named = name and name in datasets.get_dataset_config_names(data)
        return datasets.load_dataset(data, name if named else None, split=split)
    except Exception as error:  # the Hub client's errors share no base class
        raise BadData(f"{data}: no such path; as a Hub dataset: {one_line(error)}") from error


def require(column: str, present: Iterable[str], name: str) -> None:
    """Refuse data that lack a column; several of captions are as good as one.

    Raises:
        BadData: naming it, and those that are there.
    """
    captions = column == "caption" and any(map(CAPTIONS.fullmatch, present))
    if not captions and column not in present:
        raise BadData(f"{name}: has no {column!r}; it has {', '.join(present)}")
