"""The part of the training pictures on which choices are made: the same for every training."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from torch.utils.data import Subset

ONE_IN = 20  # pictures


def in_tune_fold(image_id: int | str) -> bool:
    """Whether a training picture is kept for choosing; about 5% are, by md5 of the id."""
    digest = hashlib.md5(str(image_id).encode(), usedforsecurity=False).digest()
    return int.from_bytes(digest[:4], "big") % ONE_IN == 0


def split_fold(rows: Sequence[Any]) -> tuple[Subset[Any], Subset[Any]]:
    """Training rows -> those to learn from, and those of the fold to choose on."""
    held = [in_tune_fold(rows[index].image_id) for index in range(len(rows))]
    learnt, chosen = (
        Subset(rows, [i for i, h in enumerate(held) if h == wanted])  # type: ignore[arg-type]
        for wanted in (False, True)
    )
    return learnt, chosen
