"""The queue of calls: clients take turns, short work goes first, and nothing runs for nobody.

Gradio's own queue serves calls in the order in which they came, so that one client with many slow
calls keeps all others waiting. Here each call begins at a virtual time (start-time fair queueing):
that of the call that ran last, or, for a client that had its share, later by what its calls cost.
The call with the earliest time is next, and among equals a short one.

A call begins only while its caller listens for the result, and is stopped when the caller hangs up.
"""

from __future__ import annotations

import inspect
import re
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

import gradio as gr
from fastapi import HTTPException, Request
from gradio.block_function import BlockFunction
from gradio.context import LocalContext
from gradio.data_classes import PredictBodyInternal
from gradio.queueing import Event, Queue
from gradio.route_utils import get_fn
from gradio.server_messages import ProcessCompletedMessage
from gradio.utils import LRUCache
from starlette.datastructures import QueryParams
from starlette.types import ASGIApp, Receive, Scope, Send

from saliency import registry
from saliency.types import Cancelled
from ui.server.rate_limits import CLIENT, name, route_path

QUEUE_SIZE = 64  # calls that wait
MOST_WAITING, MOST_SLOW = 16, 2  # calls of one client that wait; slow ones among them
LISTENS_WITHIN = 10.0  # seconds after which a call that nobody listens for is dropped
SLOW_COST = 16  # of a slow call, in short ones
TOO_LONG_A_QUEUE = f"{MOST_WAITING} of your requests are waiting already: let one finish first."
TOO_MANY_SLOW = f"{MOST_SLOW} of your slow requests are waiting already: let one finish first."
NOBODY_LISTENED = "Nobody listened for the result of this call, so it was not begun."
# Those that report their progress pass the picture through the model many times.
SLOW_METHODS = frozenset(
    method
    for method, spec in registry.METHODS.items()
    if "progress" in inspect.signature(spec.run).parameters
)
_SESSIONS = 2000  # whose messages are kept; gradio would keep the events of any number
_RESULT = re.compile(r"/gradio_api/call/(?:v2/)?[^/]+/([^/]+)")


class FairQueue(Queue):
    """Gradio's queue with another order, and with limits for each client.

    This machine's own programs have no limit; they take turns with the others as one client.

    Args:
        blocks: the page whose calls wait here.
    """

    def __init__(self, blocks: gr.Blocks) -> None:
        super().__init__(
            live_updates=True,
            concurrency_count=blocks.max_threads,
            update_intervals=1,
            max_size=QUEUE_SIZE,
            blocks=blocks,
            default_concurrency_limit=1,
        )
        self.pending_event_ids_session = LRUCache(_SESSIONS)
        self.listeners = Counter[str]()  # open streams of results, by session
        self._abandoned = set[str]()  # calls that are to stop, though their result is listened for
        self._turns = defaultdict[str, Turns](Turns)  # by concurrency id

    async def push(self, body: PredictBodyInternal, request: Request, username: str | None) -> Any:
        """Add a call; see `Queue.push`.

        Raises:
            HTTPException: 429, if too many of the client's are waiting.
        """
        client, fn = name(request.scope), get_fn(self.blocks, None, body)
        queues = self.event_queue_per_concurrency_id
        if client:
            own = [e for each in queues.values() for e in each.queue if _client(e) == client]
            if len(own) >= MOST_WAITING:
                raise HTTPException(429, TOO_LONG_A_QUEUE)
            if is_slow(fn, body) and sum(map(_is_slow, own)) >= MOST_SLOW:
                raise HTTPException(429, TOO_MANY_SLOW)
        if len(self) >= QUEUE_SIZE and (unheard := self._unheard()):
            self._drop(min(unheard, key=lambda e: e.enqueue_time))
        result = await super().push(body, request, username)
        if fn.concurrency_id in queues:
            queue = queues[fn.concurrency_id]
            queue.queue[:] = self._turns[fn.concurrency_id].order(queue.queue)
            self.broadcast_estimations(fn.concurrency_id)
        return result

    def get_events(self) -> tuple[list[Event], bool, str] | None:
        """The call that is next, taken out of its queue; see `Queue.get_events`."""
        late = time.monotonic() - LISTENS_WITHIN
        for event in self._unheard():
            if event.enqueue_time < late:
                self._drop(event)
        for concurrency_id, queue in self.event_queue_per_concurrency_id.items():
            limit, turns = queue.concurrency_limit, self._turns[concurrency_id]
            if limit is not None and queue.current_concurrency >= limit:
                continue
            for event in turns.order(e for e in queue.queue if e.session_hash in self.listeners):
                turns.take(event)
                queue.queue.remove(event)
                return [event], False, concurrency_id
        return None

    async def process_events(self, events: list[Event], *args: Any, **options: Any) -> None:
        """Run a call in the name of its client; see `Queue.process_events`."""
        CLIENT.set(_client(events[0]))
        try:
            await super().process_events(events, *args, **options)
        finally:
            self._abandoned -= {event._id for event in events}

    def abandon(self, event_id: str | None) -> None:
        """Have a call stop, because whoever it is made for has hung up on who makes it."""
        if event_id in self.event_ids_to_events:
            self._abandoned.add(event_id)

    def is_in_vain(self, event_id: str | None) -> bool:
        """Whether nobody waits for the result of a call that runs."""
        event = self.event_ids_to_events.get(event_id or "")
        return event is not None and (not event.alive or event_id in self._abandoned)

    def _unheard(self) -> list[Event]:
        """Calls that wait and that nobody listens for."""
        queues = self.event_queue_per_concurrency_id.values()
        return [e for each in queues for e in each.queue if e.session_hash not in self.listeners]

    def _drop(self, event: Event) -> None:
        """Take out a call that nobody listens for; whoever does so later is told."""
        self.event_queue_per_concurrency_id[event.concurrency_id].queue.remove(event)
        self.event_ids_to_events.pop(event._id, None)
        output = {"error": NOBODY_LISTENED}
        self.send_message(event, ProcessCompletedMessage(output=output, success=False))


class Turns:
    """Who is next: start-time fair queueing over the clients of one queue."""

    def __init__(self) -> None:
        self._now = 0.0  # virtual time: when the call that ran last began
        self._until: dict[str, float] = {}  # when each client's share is used up, if after now

    def order(self, events: Iterable[Event]) -> list[Event]:
        """Calls in the order in which they are to run if no other comes."""
        starts, until = list[tuple[float, bool, float, Event]](), dict(self._until)
        for event in sorted(events, key=lambda e: (_is_slow(e), e.enqueue_time)):
            start, until[_client(event)] = self._span(event, until)
            starts.append((start, _is_slow(event), event.enqueue_time, event))
        return [event for *_, event in sorted(starts, key=lambda each: each[:3])]

    def take(self, event: Event) -> None:
        """Note that a call runs."""
        self._now, end = self._span(event, self._until)
        self._until[_client(event)] = end
        self._until = {name: until for name, until in self._until.items() if until > self._now}

    def _span(self, event: Event, until: dict[str, float]) -> tuple[float, float]:
        start = until.get(_client(event), self._now)
        return start, start + (SLOW_COST if _is_slow(event) else 1)


class Listening:
    """Middleware that notes which sessions listen for the results of their calls."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        session = _session(scope) if scope["type"] == "http" else None
        if session is None:
            await self.app(scope, receive, send)
            return
        listeners = _queue(scope).listeners
        listeners[session] += 1
        try:
            await self.app(scope, receive, send)
        finally:
            listeners[session] -= 1
            if not listeners[session]:
                del listeners[session]


def stop_if_nobody_waits(_done: int, _total: int) -> None:
    """The progress of work for a call: ends it if the caller has hung up.

    Raises:
        Cancelled: then.
    """
    blocks = LocalContext.blocks.get(None)
    queue = blocks and blocks._queue
    if isinstance(queue, FairQueue) and queue.is_in_vain(LocalContext.event_id.get(None)):
        raise Cancelled


def is_slow(fn: BlockFunction, body: PredictBodyInternal | None) -> bool:
    """Whether a call passes a picture through a model many times, which takes seconds.

    These are the page's calls that report their progress, and those that name a method of
    explanation that does.
    """
    named = {each for each in (body.data if body else ()) if isinstance(each, str)}
    return inspect.isasyncgenfunction(fn.fn) or not named.isdisjoint(SLOW_METHODS)


def _is_slow(event: Event) -> bool:
    return is_slow(event.fn, event.data)


def _client(event: Event) -> str:
    return name(event.request.scope)


def _queue(scope: Scope) -> FairQueue:
    queue: FairQueue = scope["app"].get_blocks()._queue
    return queue


def _session(scope: Scope) -> str | None:
    """The session whose results a request listens for."""
    path = route_path(scope)
    if path == "/gradio_api/queue/data":
        return QueryParams(scope["query_string"]).get("session_hash")
    if scope["method"] == "GET" and (result := _RESULT.fullmatch(path)):
        event = _queue(scope).event_ids_to_events.get(result[1])
        return event.session_hash if event else None
    return None
