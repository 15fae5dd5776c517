"""Whose conversations are kept: a few of each client, so that nobody crowds out the others."""

from __future__ import annotations

import datetime
from collections import Counter

from gradio.state_holder import SessionState, StateHolder

from ui.server.rate_limits import CLIENT

MOST_SESSIONS = 500  # that are kept, of half a megabyte at most
MOST_OF_A_CLIENT = 20
EMPTY_SECONDS = 60.0  # that an empty one is kept: a call may be at work on it


def begin(session: SessionState) -> None:
    """Note whose a new session is."""
    vars(session)["client"] = CLIENT.get()


def make_room(holder: StateHolder, name: str) -> None:
    """Note that a session is used; for a new one, drop others: in place of `StateHolder.update`.

    Gradio would drop the one that was not used for longest: a conversation, because programs, each
    call of which is a session, came by while somebody was reading. Here empty sessions go first,
    and then one of the client that has most.
    """
    with holder.lock:
        sessions = holder.session_data
        if name in sessions:
            sessions.move_to_end(name)
        if name not in sessions or name in holder.time_last_used:
            return
        _drop(holder, [each for each in sessions if each != name and _is_forgotten(holder, each)])
        others = {each: client_of(sessions[each]) for each in sessions if each != name}
        client = client_of(sessions[name])
        if client and list(others.values()).count(client) >= MOST_OF_A_CLIENT:
            own = [each for each, whose in others.items() if whose == client]
            _drop(holder, [e for e in own if _is_empty(holder, e)][:1] or own[:1])
        elif len(sessions) > holder.capacity:
            ((most, _),) = Counter(others.values()).most_common(1)
            last = [each for each, whose in others.items() if whose == most]
            _drop(holder, [e for e in others if _is_empty(holder, e)][:1] or last[:1])


def client_of(session: SessionState) -> str:
    """Whose a session is, as of `rate_limits.name`."""
    return str(vars(session)["client"])


def _is_empty(holder: StateHolder, name: str) -> bool:
    """Whether all that a session holds is as in a new one."""
    blocks = holder.blocks.blocks
    state = holder.session_data[name].state_data
    return all(getattr(blocks.get(key), "value", None) == value for key, value in state.items())


def _is_forgotten(holder: StateHolder, name: str) -> bool:
    now = datetime.datetime.now()
    age = now - holder.time_last_used.get(name, now)
    return age.total_seconds() > EMPTY_SECONDS and _is_empty(holder, name)


def _drop(holder: StateHolder, names: list[str]) -> None:
    for name in names:
        del holder.session_data[name]
        holder.time_last_used.pop(name, None)
