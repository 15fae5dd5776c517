"""Turns at the queue: who is next, who is refused, and when a call ends that nobody waits for."""

from __future__ import annotations

import base64
import inspect
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from gradio import queueing
from helpers.serving import served
from helpers.tiny import draw, tiny_answerer, tiny_captioner

from benchmarks.server import Refused, Visitor
from saliency.types import Cancelled
from ui.server import fair_queue
from ui.server.fair_queue import SLOW_METHODS, Turns
from vqa.engine import Engine

QUESTION = "what color is it?"


@pytest.fixture(scope="module")
def engine():
    return Engine(tiny_answerer(), {"one": tiny_captioner()})


@pytest.fixture(scope="module")
def demo(engine, tmp_path_factory):
    """The page, served."""
    with served(engine, tmp_path_factory.mktemp("uploads")) as demo:
        yield demo


@pytest.fixture
def ran(engine, monkeypatch):
    """The names of the engine's calls in the order in which they began."""
    names = []
    for name in ("answer", "explain"):
        call = getattr(engine, name)

        def noted(*args, name=name, call=call, **options):
            names.append(name)
            return call(*args, **options)

        monkeypatch.setattr(engine, name, noted)
    return names


def client(demo, address=""):
    """A program on this machine, or behind a proxy on this machine."""
    return Visitor(demo.local_url, {"X-Forwarded-For": address} if address else None)


def ask(visitor, name, *data):
    """Make a call that nobody listens for yet."""
    return visitor.http.post(f"call/{name}", json={"data": [visitor.picture, QUESTION, *data]})


@contextmanager
def visiting(demo, *addresses):
    """A client an address, each with a picture uploaded."""
    visitors = [client(demo, address) for address in addresses]
    for visitor in visitors:
        visitor.picture = visitor.upload(draw("red", "square"))
    yield visitors
    for visitor in visitors:
        visitor.http.close()


def wait_until(true):
    """Wait until something has come true; the test's own time limit ends what never does."""
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def running(demo):
    return [event for job in demo._queue.active_jobs if job for event in job]


@pytest.mark.parametrize("crowd", ["", "203.0.113.1"])
def test_another_s_answer_comes_within_two_calls(demo, engine, ran, crowd):
    slow = 16 if not crowd else fair_queue.MOST_SLOW
    with visiting(demo, crowd, "203.0.113.2") as (many, other), ThreadPoolExecutor(20) as pool:
        listen = []
        with engine.answer_pipeline.lock:  # the first of them is at work
            for number in range(1 + slow):
                event = ask(many, "explain", "integrated_gradients", "").json()["event_id"]
                listen.append(pool.submit(many.result, "explain", event))
                if number == 0:
                    wait_until(lambda: running(demo))
            wait_until(lambda: len(demo._queue.listeners) == 1 + slow)
            event = ask(other, "answer").json()["event_id"]
            listen.append(pool.submit(other.result, "answer", event))
            wait_until(lambda: len(demo._queue.listeners) == 2 + slow)
        for each in listen:
            assert each.result()
    assert ran == ["explain", "answer"] + slow * ["explain"]


def test_a_client_has_two_slow_calls_waiting_and_is_told_so(demo, engine):
    with visiting(demo, "203.0.113.3", "203.0.113.4") as (eager, other):
        replies = [ask(eager, "explain", method, "") for method in sorted(SLOW_METHODS)]
        assert [reply.status_code for reply in replies] == [200, 200, 429, 429]
        assert replies[-1].json()["detail"] == fair_queue.TOO_MANY_SLOW
        assert ask(eager, "explain", "grad_cam", "").status_code == 200
        assert ask(other, "explain", "lime", "").status_code == 200
        assert eager.call("answer", eager.picture, QUESTION)


def test_one_client_cannot_fill_the_queue(demo):
    with visiting(demo, "203.0.113.5", "203.0.113.6") as (eager, other):
        replies = [ask(eager, "answer") for _ in range(fair_queue.MOST_WAITING + 1)]
        assert {reply.status_code for reply in replies[:-1]} == {200}
        assert replies[-1].status_code == 429
        assert replies[-1].json()["detail"] == fair_queue.TOO_LONG_A_QUEUE
        assert other.call("answer", other.picture, QUESTION)
        for reply in replies[:-1]:
            assert eager.result("answer", reply.json()["event_id"])[0]["answer"]
        assert eager.call("answer", eager.picture, QUESTION)


@pytest.fixture
def ended(engine, monkeypatch):
    """ "cancelled" for each explanation that is."""
    ended, explain = [], engine.explain

    def watched(*args, **options):
        try:
            return explain(*args, **options)
        except Cancelled:
            ended.append("cancelled")
            raise

    monkeypatch.setattr(engine, "explain", watched)
    return ended


def test_a_caller_who_hangs_up_frees_the_slot(demo, engine, ended):
    with visiting(demo, "203.0.113.7", "203.0.113.8") as (rude, other):
        with engine.answer_pipeline.lock:
            event = ask(rude, "explain", "lime", "").json()["event_id"]
            with rude.http.stream("GET", f"call/explain/{event}"):
                wait_until(lambda: running(demo))
                (call,) = running(demo)
            wait_until(lambda: not call.alive)
        assert other.call("answer", other.picture, QUESTION)
    assert ended == ["cancelled"]


@pytest.mark.parametrize("meta", [{}, {"_meta": {"progressToken": 1}}])
def test_a_tool_s_caller_who_hangs_up_frees_the_slot(demo, engine, ended, meta):
    picture = base64.b64encode(draw("red", "square")).decode()
    wanted = {"picture": f"data:image/png;base64,{picture}", "question": QUESTION}
    tool = {"name": "explain", "arguments": wanted | {"method": "lime"}, **meta}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": tool}
    accepted = {"Accept": "application/json, text/event-stream"}
    with visiting(demo, "203.0.113.13", "203.0.113.14") as (rude, other):
        with engine.answer_pipeline.lock:
            with rude.http.stream("POST", "mcp/", json=body, headers=accepted):
                wait_until(lambda: running(demo))
                (call,) = running(demo)
            wait_until(lambda: demo._queue.is_in_vain(call._id))
        assert other.call("answer", other.picture, QUESTION)
    assert ended == ["cancelled"]
    assert not demo._queue._abandoned


def test_a_waiting_call_goes_when_its_caller_hangs_up(demo, engine, ran):
    with visiting(demo, "203.0.113.9") as (rude,), ThreadPoolExecutor() as pool:
        with engine.answer_pipeline.lock:
            first = ask(rude, "answer").json()["event_id"]
            answer = pool.submit(rude.result, "answer", first)
            wait_until(lambda: running(demo))
            second = ask(rude, "explain", "lime", "").json()["event_id"]
            with rude.http.stream("GET", f"call/explain/{second}"):
                wait_until(lambda: second in demo._queue.listeners)
            wait_until(lambda: second not in demo._queue.event_ids_to_events)
        assert answer.result()
    assert ran == ["answer"]


def test_a_call_begins_when_somebody_listens(demo, ran):
    with visiting(demo, "203.0.113.10", "203.0.113.11") as (silent, other):
        event = ask(silent, "explain", "integrated_gradients", "").json()["event_id"]
        assert other.call("answer", other.picture, QUESTION)
        assert ran == ["answer"]
        assert silent.result("explain", event)[0]["marks"]


def test_a_call_that_nobody_listens_for_is_dropped(demo, ran, monkeypatch):
    with visiting(demo, "203.0.113.12") as (silent,):
        event = ask(silent, "explain", "integrated_gradients", "").json()["event_id"]
        monkeypatch.setattr(fair_queue, "LISTENS_WITHIN", 0.0)
        wait_until(lambda: event not in demo._queue.event_ids_to_events)
        with pytest.raises(Refused, match=fair_queue.NOBODY_LISTENED):
            silent.result("explain", event)
    assert ran == []


def test_calls_that_nobody_listens_for_keep_nobody_out(demo):
    crowd = [f"203.0.113.{number}" for number in range(20, 24)]
    with visiting(demo, *crowd, "203.0.113.24") as (*many, other):
        events = [
            ask(visitor, "answer").json()["event_id"]
            for visitor in many
            for _ in range(fair_queue.MOST_WAITING)
        ]
        assert len(events) == fair_queue.QUEUE_SIZE
        assert other.call("answer", other.picture, QUESTION)
        with pytest.raises(Refused, match=fair_queue.NOBODY_LISTENED):
            many[0].result("answer", events[0])
        assert many[0].result("answer", events[1])


def call(who, number, slow=False):
    """A call as the queue holds it."""
    request = SimpleNamespace(scope={"client": (f"203.0.113.{who}", 1)})
    data = SimpleNamespace(data=["lime" if slow else QUESTION])
    fn = SimpleNamespace(fn=print)
    return SimpleNamespace(request=request, data=data, fn=fn, enqueue_time=number, id=(who, number))


def run(turns, waiting):
    """The calls in the order in which they would run."""
    order = []
    while waiting:
        first = turns.order(waiting)[0]
        turns.take(first)
        waiting.remove(first)
        order.append(first.id)
    return order


def test_clients_take_turns():
    waiting = [call(1, 0), call(1, 1), call(1, 2), call(2, 3), call(2, 4), call(3, 5)]
    assert run(Turns(), waiting) == [(1, 0), (2, 3), (3, 5), (1, 1), (2, 4), (1, 2)]


def test_short_work_goes_before_long():
    waiting = [call(1, 0, slow=True), call(1, 1), call(2, 2, slow=True), call(3, 3)]
    assert run(Turns(), waiting) == [(1, 1), (3, 3), (2, 2), (1, 0)]


def test_nobody_waits_for_ever_behind_short_work():
    turns, waiting = Turns(), [call(1, 0, slow=True), call(2, 1)]
    first = turns.order(waiting)[0]
    turns.take(first)
    assert first.id == (2, 1)
    assert turns.order([waiting[0], call(2, 2)])[0].id == (1, 0)


def test_who_had_much_has_no_debt_once_the_others_had_as_much():
    turns = Turns()
    run(turns, [call(1, 0, slow=True)])
    run(turns, [call(2, number) for number in range(1, 30)])
    assert run(turns, [call(2, 30), call(1, 31)])[0] == (1, 31)
    assert len(turns._until) <= 2


@pytest.mark.parametrize(
    ("method", "parameters"),
    [
        ("push", ["self", "body", "request", "username"]),
        ("get_events", ["self"]),
        ("process_events", ["self", "events", "batch", "begin_time", "fn"]),
        ("broadcast_estimations", ["self", "concurrency_id", "after"]),
        ("send_message", ["self", "event", "event_message"]),
    ],
)
def test_gradio_s_queue_has_the_methods_that_ours_replaces_or_calls(method, parameters):
    assert list(inspect.signature(getattr(queueing.Queue, method)).parameters) == parameters


def test_gradio_s_queue_holds_calls_as_ours_expects(demo):
    assert type(demo._queue) is fair_queue.FairQueue
    assert demo.app.get_blocks()._queue is demo._queue
    assert "self.get_events()" in inspect.getsource(queueing.Queue.start_processing)
    assert "self.process_events," in inspect.getsource(queueing.Queue.start_processing)
    for queue in demo._queue.event_queue_per_concurrency_id.values():
        assert isinstance(queue.queue, list)
        assert queue.concurrency_limit is None or queue.current_concurrency >= 0
    for memory in ("pending_event_ids_session", "pending_messages_per_session"):
        assert getattr(demo._queue, memory).max_size == 2000
