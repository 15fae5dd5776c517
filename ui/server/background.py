"""Slow work beside the page: in a thread of its own, stopped as soon as nobody waits for it.

An event that takes long is an asynchronous generator here, because gradio cancels one exactly where
it waits for news; a plain one it would leave running in its thread.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable
from typing import Any, TypeVar

from saliency.types import Cancelled
from ui.components.events import PRIVATE

# Seconds between two pieces of news: a browser that falls behind would show what is long over, even
# after what came later.
PACE = 0.2

State = TypeVar("State")


async def news_of(work: Callable[[Callable[[State], None]], object]) -> AsyncGenerator[State, None]:
    """Run `work(tell)` in a thread, and yield what it tells.

    Whoever leaves early (is cancelled, closes the generator) stops the work: its next `tell` raises
    `Cancelled`, and the generator ends when the thread has let go of the work.

    Args:
        work: calls `tell` with all there is to know so far, often enough to be stopped by it.

    Yields:
        The newest of what was told, as often as somebody has time for it, once in PACE at most.

    Raises:
        Exception: whatever the work raises.
    """
    loop = asyncio.get_running_loop()
    left, woken, newest = threading.Event(), asyncio.Event(), list[State]()

    def put(state: State) -> None:
        newest[:] = [state]
        woken.set()

    def tell(state: State) -> None:
        if left.is_set():
            raise Cancelled
        loop.call_soon_threadsafe(put, state)

    worker = loop.run_in_executor(None, work, tell)
    worker.add_done_callback(lambda _: woken.set())
    try:
        while newest or not worker.done():
            await woken.wait()
            woken.clear()
            if newest:
                yield newest.pop()
                await asyncio.wait([worker], timeout=PACE)
        await worker
    finally:
        left.set()
        await asyncio.wait([worker])
        worker.exception()  # looked at, or asyncio complains that nobody did


def when_over(event: Any, script: str, inputs: list[Any], outputs: list[Any]) -> None:
    """Run a script in the browser when an event is over: it ended, failed or was cancelled.

    Gradio reports a cancelled event twice: as a success when the server has stopped it, and as a
    failure when the browser has forgotten it too, which on a busy machine is much later. Whatever
    began between the two would be taken for the cancelled event, so that the first is ignored.

    Args:
        event: whose last value of `widgets.progress` is one of `widgets.said`.
        script: a function of the inputs that returns new values of the outputs.
        inputs: components; the first is the event's `widgets.progress`.
        outputs: components.
    """
    ended = f"(status, ...rest) => status.now === '' ? ({script})(status, ...rest) : []"
    event.success(None, inputs, outputs, js=ended, **PRIVATE)
    event.failure(None, inputs, outputs, js=script, **PRIVATE)
