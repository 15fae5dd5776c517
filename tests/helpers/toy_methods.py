"""Methods that a page's tests need: one that never ends, one that fails and one that refuses."""

from __future__ import annotations

import threading

import torch

from saliency.types import CannotExplain, Maps


class Slow:
    """A method that goes on until it is stopped.

    Args:
        pace: seconds between two steps.
    """

    def __init__(self, pace):
        self.pace, self.rest = pace, threading.Event()
        self.ended, self.runs = threading.Event(), []

    def __call__(self, scorer, pixels, targets, *, progress=lambda _done, _total: None):
        self.ended.clear()
        stopped = threading.Event()
        self.runs.append(stopped)
        try:
            for step in range(10_000):
                self.rest.wait(self.pace)
                progress(step + 1, 10_000)
        finally:
            stopped.set()
            self.ended.set()
        return Maps(torch.zeros(len(targets), 4, 4), torch.zeros(len(targets)))


def broken(scorer, pixels, targets):
    raise RuntimeError("broken on purpose")


def refusing(scorer, pixels, targets):
    raise CannotExplain("This picture is refused.")
