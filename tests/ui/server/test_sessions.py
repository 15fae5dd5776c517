"""Which conversations are kept when there are too many."""

from __future__ import annotations

import datetime

import pytest
from gradio.state_holder import StateHolder

from benchmarks.server import Visitor
from ui.presenters.conversation import Conversation
from ui.server import sessions
from ui.server.rate_limits import CLIENT


@pytest.fixture
def holder(demo):
    """A store for four sessions, with none in it."""
    holder = StateHolder()
    holder.blocks, holder.capacity = demo, 4
    return holder


def visit(holder, client, names, said="said"):
    """Sessions of a client, in each of which something is said, or "" for nothing."""
    CLIENT.set(client)
    for name in names:
        holder[name].state_data |= {0: said} if said else {}


def test_programs_do_not_end_the_conversations_of_visitors(holder):
    visit(holder, "", ("a", "b", "c"))
    for number in range(20):
        assert holder[f"program {number}"] is holder[f"program {number}"]
    assert list(holder.session_data) == ["a", "b", "c", "program 19"]
    visit(holder, "", ("d", "e", "f"))
    assert list(holder.session_data) == ["c", "d", "e", "f"]
    assert list(holder.time_last_used) == ["c", "d", "e", "f"]


def test_who_has_most_loses_the_one_that_was_used_before_the_others(holder):
    visit(holder, "one", ["quiet"])
    visit(holder, "many", ["1", "2", "3"])
    assert holder["1"].state_data  # is used again
    visit(holder, "new", ["late"])
    assert list(holder.session_data) == ["quiet", "3", "1", "late"]


def test_a_client_has_so_many_and_no_more(holder):
    holder.capacity = 500
    visit(holder, "one", ["quiet"])
    visit(holder, "many", map(str, range(sessions.MOST_OF_A_CLIENT)))
    visit(holder, "many", ["empty"], said="")
    visit(holder, "many", ["a", "b"])
    kept = list(map(str, range(3, sessions.MOST_OF_A_CLIENT)))
    assert list(holder.session_data) == ["quiet", "2", *kept, "a", "b"]
    visit(holder, "", map(str, range(100, 150)))  # this machine's own
    assert len(holder.session_data) == sessions.MOST_OF_A_CLIENT + 51


def test_what_was_said_is_what_differs_from_a_new_session(demo, holder):
    (state,) = (b for b in demo.blocks.values() if getattr(b, "value", 0) == Conversation())
    CLIENT.set("one")
    holder["read"][state._id]
    holder["cleared"][state._id] = Conversation()
    holder["used"][state._id] = Conversation(dropped=1)
    long_ago = datetime.datetime.now() - datetime.timedelta(seconds=sessions.EMPTY_SECONDS + 1)
    holder.time_last_used |= dict.fromkeys(holder.session_data, long_ago)
    assert holder["young"]
    assert holder["new"]
    assert list(holder.session_data) == ["used", "young", "new"]


def test_empty_sessions_of_one_address_end_no_conversation(demo):
    config = demo.config["dependencies"]
    fns = {each["api_name"]: each["id"] for each in config}

    def call(visitor, session, name, event=None):
        body = {"fn_index": fns[name], "session_hash": session, "event_data": event}
        body["data"] = [None] * len(config[fns[name]]["inputs"])
        return visitor.http.post("run/predict", json=body)

    one, many = (
        Visitor(demo.local_url, {"X-Forwarded-For": f"203.0.113.{number}"}) for number in (1, 2)
    )
    with one, many:
        first = {"index": 0, "value": None}
        assert call(one, "visitor", "choose_picture", first).status_code == 200
        for number in range(60):
            assert call(many, f"empty {number}", "clear").status_code == 200
        held = demo.app.state_holder.session_data
        assert "visitor" in held
        assert sum("empty" in each for each in held) == sessions.MOST_OF_A_CLIENT
