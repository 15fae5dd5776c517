"""The process's memory, for commands that do the same over and over."""

from __future__ import annotations

import ctypes
import sys

_M_MMAP_MAX, _M_TRIM_THRESHOLD = -4, -1  # of malloc.h


def keep_freed() -> None:
    """Have the C library keep the memory of one batch for the next.

    It hands large blocks back to the system and asks for them again, page by page, which on a
    virtual machine costs as much as the batch itself. For commands only: a process that has done
    its largest batch stays as large. Where the C library is not glibc, nothing happens.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
