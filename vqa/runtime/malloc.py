"""The process's memory, for commands that do the same over and over, and for servers."""

from __future__ import annotations

import ctypes
import sys
import threading
import time
from typing import Any

_M_MMAP_MAX, _M_TRIM_THRESHOLD = -4, -1  # of malloc.h


def keep_freed() -> None:
    """Have the C library keep the memory of one batch for the next.

    It hands large blocks back to the system and asks for them again, page by page, which on a
    virtual machine costs as much as the batch itself. For commands only: a process that has done
    its largest batch stays as large. Where the C library is not glibc, nothing happens.
    """
    if library := _glibc():
        library.mallopt(_M_MMAP_MAX, 0)
        library.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def give_back_freed(seconds: float) -> None:
    """Have the C library hand what is free back to the system every so often, in a thread.

    For servers: each of many threads leaves holes that no other fills, and to hand back every block
    at once would cost half of the speed. Where the C library is not glibc, nothing happens.
    """
    if not (library := _glibc()):
        return

    def work() -> None:
        while True:
            time.sleep(seconds)
            library.malloc_trim(0)

    threading.Thread(target=work, daemon=True).start()


def _glibc() -> Any:
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    return library if hasattr(library, "mallopt") and hasattr(library, "malloc_trim") else None
