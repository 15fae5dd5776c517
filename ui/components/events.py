"""Settings that events and uploads of the page share."""

from __future__ import annotations

from typing import Any

import gradio as gr
from gradio.data_classes import ImageData

# All calls of the model wait in one queue, and the page fetches nothing but through these.
MODEL: dict[str, Any] = {"concurrency_id": "model"}
PRIVATE: dict[str, Any] = {"api_visibility": "private"}


def as_uploaded(image: gr.Image) -> gr.Image:
    """Make an image input hand over the path of the uploaded file, unopened; None without a file.

    Gradio would open it first, by the name its sender gave it: bombs, vectors and text included.
    (The method is replaced because gradio writes a stub file beside the code of every subclass.)
    """

    def preprocess(payload: ImageData | None) -> str | None:
        return None if payload is None else payload.path

    setattr(image, "preprocess", preprocess)  # noqa: B010  # mypy forbids to assign a method
    return image
