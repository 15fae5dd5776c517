"""Several processes of one training: how they find each other, and what is said if one is lost.

In training nobody can go on without the others. A process that is killed breaks its connections,
which the others notice at once; one whose machine or network is gone is noticed by
`vqa.runtime.process_group`.
"""

from __future__ import annotations

import os
import socket
import sys

from vqa.runtime.process_group import Lost, Team

AGAIN = "run the same command again, on every machine, to go on from the last state"


def begin_team(lost_after: float) -> Team:
    """The processes of this run; where one is lost and this one hangs for it, this one ends."""
    choose_network()
    return Team(lost_after, when_lost=_end)


def _end(why: str) -> None:
    print(f"\nerror: {why}; {AGAIN}", file=sys.stderr, flush=True)
    os._exit(1)  # the main thread may wait for the lost one, deep in the library


def choose_network() -> None:
    """Have gloo talk over the network in which process 0 is, unless the environment says which.

    By itself it takes the one that the machine's name leads to, which is often the loopback's.
    """
    import psutil

    address = os.environ.get("MASTER_ADDR")
    if address is None or "GLOO_SOCKET_IFNAME" in os.environ:
        return
    family, kind, _, _, place = socket.getaddrinfo(address, 9, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind) as probe:
        probe.connect(place)  # sends nothing, but finds the way
        own = probe.getsockname()[0]
    for name, addresses in psutil.net_if_addrs().items():
        if own in {each.address for each in addresses}:
            os.environ["GLOO_SOCKET_IFNAME"] = name


def is_lost(error: RuntimeError) -> bool:
    """Whether an error says that another process is gone."""
    from torch.distributed import DistError

    return isinstance(error, Lost | DistError) or "/gloo/" in str(error)


def in_short(error: RuntimeError) -> str:
    """What is lost; of gloo's message the part between its source's line and its advice."""
    if isinstance(error, Lost):
        return str(error)
    return f"another process is lost ({str(error).split('] ', 1)[-1].split('. ')[0]})"
