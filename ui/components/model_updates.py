"""What on the page depends on the models follows when one of them is replaced."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr

from ui.components.events import PRIVATE
from vqa.engine import Engine

# By components, their values for the models of now; no new components, which would join the page.
Values = Callable[[], dict[Any, Any]]


def follow(engine: Engine, values: Sequence[Values], triggers: Sequence[Any]) -> None:
    """Renew menus and lists where a session has not seen the latest models.

    Args:
        engine: whose models may be replaced.
        values: what depends on them, a tab each.
        triggers: when to look: the page is opened, a tab is, a model was loaded.
    """
    seen = gr.State(engine.changes)
    components = [component for each in values for component in each()]

    def renew(changes: int) -> dict[Any, Any]:
        now = engine.changes
        new = {} if now == changes else {c: v for each in values for c, v in each().items()}
        return {seen: now} | new

    for trigger in triggers:
        trigger(renew, seen, [seen, *components], queue=False, show_progress="hidden", **PRIVATE)
