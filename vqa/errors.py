"""Every error that a user can cause; the message says what is wrong and what to do."""

from __future__ import annotations


class BadText(ValueError):
    """A question that cannot be asked; the message says why and what to do."""


class BadVocab(ValueError):
    """A vocabulary that cannot be used; the message names what is wrong with it."""


class BadCheckpoint(ValueError):
    """A checkpoint that cannot be loaded; the message names the culprit."""


class BadImage(ValueError):
    """The picture cannot be used; the message says what is wrong and what to do."""


class BadData(ValueError):
    """A dataset that cannot be read with what is needed of it; the message says why."""


def one_line(error: BaseException) -> str:
    """The first line of what an error says; its class if it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


class NotPublished(RuntimeError):
    """The Hub did not take it; the message says why and what to do."""
