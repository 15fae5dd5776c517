"""The fold of the training pictures on which choices are made: the same for every training."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from vqa.data.image_dataset import ImageRecord, select_rows

ONE_IN = 20  # pictures


def in_tune_fold(image_id: int | str) -> bool:
    """Whether a training picture is kept for choosing; about 5% are, by md5 of the id."""
    digest = hashlib.md5(str(image_id).encode(), usedforsecurity=False).digest()
    return int.from_bytes(digest[:4], "big") % ONE_IN == 0


def of_fold(rows: Sequence[ImageRecord], fold: bool | None) -> Sequence[ImageRecord]:
    """Some of the rows of a training split.

    Args:
        rows: each has an `image_id`.
        fold: True for those of the fold, False for those outside it, None for all of them.
    """
    if fold is None:
        return rows
    ids = (rows[place].image_id for place in range(len(rows)))
    kept = [place for place, name in enumerate(ids) if in_tune_fold(name) == fold]
    return select_rows(rows, kept)
