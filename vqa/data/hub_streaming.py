"""A dataset of parquet files on the Hub, read where it is: of each file only what is asked for."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from typing import Any

from vqa.errors import BadData, one_line

AT_ONCE = 16  # files whose footers are fetched at a time


class Stream(Sequence[Any]):
    """The records of some parquet files, fetched a row group at a time; the last one is kept.

    Args:
        files: open `pyarrow.parquet.ParquetFile`s.
        prepare: makes of a `datasets.Dataset` the one whose records are given.
    """

    def __init__(self, files: Sequence[Any], prepare: Callable[[Any], Any]) -> None:
        self._groups = [(file, i) for file in files for i in range(file.num_row_groups)]
        sizes = (file.metadata.row_group(i).num_rows for file, i in self._groups)
        self._starts: list[int] = [0, *accumulate(sizes)]
        self._prepare = prepare
        self._number, self._records = -1, ()  # of the group that is here

    def __len__(self) -> int:
        return self._starts[-1]

    def __getitem__(self, place: Any) -> Any:
        import datasets

        number = bisect_right(self._starts, place) - 1
        if number != self._number:
            file, group = self._groups[number]
            try:
                table = file.read_row_group(group)
            except Exception as error:  # the Hub client's errors share no base class
                raise BadData(f"row {place} cannot be fetched: {one_line(error)}") from error
            self._records = self._prepare(datasets.Dataset(table))
            self._number = number
        return self._records[place - self._starts[number]]


def open_files(data: str, split: str) -> list[Any]:
    """The parquet files of a split of a dataset on the Hub, of which only the footers are fetched.

    Raises:
        BadData: if the Hub does not give them, or there are none of that kind.
    """
    import datasets
    from huggingface_hub import HfFileSystem
    from pyarrow import parquet

    try:
        splits = datasets.load_dataset_builder(data).config.data_files or {}
        names = splits.get(split, ())
        if names and all(name.endswith(".parquet") for name in names):
            hub = HfFileSystem()
            with ThreadPoolExecutor(AT_ONCE) as pool:
                return list(pool.map(lambda name: parquet.ParquetFile(hub.open(name)), names))
    except Exception as error:  # as above
        raise BadData(f"{data}: cannot be streamed: {one_line(error)}") from error
    have = ", ".join(splits) or "none"
    raise BadData(f"{data}: has no parquet files of the split {split!r} to stream; splits: {have}")
