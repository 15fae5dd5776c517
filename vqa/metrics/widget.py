"""The page of a metric on the Hub: scores what is pasted into it.

`python -m vqa.hub metric` puts this file beside the metric in its Space. The page that comes with
evaluate 0.4.6 needs gradio 3.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import evaluate
import gradio as gr


def page(load: Callable[[], evaluate.Metric], **example: Any) -> gr.Interface:
    """A box of JSON each for the predictions, the references, and what else `compute` takes.

    Args:
        load: makes the metric anew; one that refused its input has kept some of it.
        example: what the boxes hold first.
    """

    def score(predictions: str, references: str, options: str) -> dict[str, Any]:
        """The metric's scores of what is in the boxes, or in words why there are none."""
        try:
            read = [json.loads(text) for text in (predictions, references, options or "{}")]
            found: dict[str, Any] = load().compute(
                predictions=read[0], references=read[1], **read[2]
            )
        except (ValueError, TypeError, KeyError) as error:
            raise gr.Error(str(error), print_exception=False) from error
        return found

    info = load().info
    columns = {name: example.pop(name) for name in ("predictions", "references")}
    boxes = [
        gr.Textbox(json.dumps(value), label=f"{name}, as JSON", lines=4)
        for name, value in {**columns, "options": example}.items()
    ]
    about = f"{info.description}\n\n{info.inputs_description}"
    return gr.Interface(
        score, boxes, gr.JSON(label="scores"), description=about, flagging_mode="never"
    )
