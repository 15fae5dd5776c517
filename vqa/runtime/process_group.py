"""The processes of one run, on one machine or on many: what each tells the others, who is lost.

`torchrun` starts them and keeps a store that all of them reach over TCP. A thread leaves a sign of
life there every second; so nobody waits for a process that was killed, or whose machine or network
is gone, longer than a given time, and everybody waits for one that is only slow.
"""

from __future__ import annotations

import json
import math
import os
import signal
import threading
import time
import uuid
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NoReturn

BEAT = 1.0  # seconds between two signs of life
JOIN = 600.0  # seconds for the slowest to begin: its programs may come from a cold disk
LOST_AFTER = 60  # seconds, by default
LOST_HELP = "without a sign of life, after which another process counts as lost"


class Lost(RuntimeError):
    """Some processes of the run are gone, or this one was told to go; the message says which."""


class NotShared(OSError):
    """A folder that must be one for all machines is not; the message names it."""


class Team:
    """All processes of the run, as one of them sees them; without `torchrun` it is alone.

    Args:
        lost_after: seconds without a sign of life after which a process counts as lost.
        when_lost: called once from another thread with the reason when any of them is lost; for
            work that cannot go on without it, and may hang for it.

    Attributes:
        rank: number of this process.
        world: how many there are.

    Raises:
        Lost: if the store of `torchrun` cannot be reached.
    """

    def __init__(
        self, lost_after: float = LOST_AFTER, when_lost: Callable[[str], None] | None = None
    ) -> None:
        self.rank = int(os.environ.get("RANK", "0"))
        self.world = int(os.environ.get("WORLD_SIZE", "1"))
        self.lost_after = lost_after
        self._sign: dict[str, Any] = {"beat": 0, "turn": 0, "done": 0, "gone": None}
        self._signs = [self._sign.copy() for _ in range(self.world)]  # the last of each process
        self._clock, self._looked = 0.0, time.monotonic()
        self._seen = [JOIN - lost_after] * self.world  # when it came, by the clock
        self._heard = 0.0  # when the store was last there
        self._answered, self._answers = 0, [b""]  # the last question that all have answered
        self._given: SimpleQueue[tuple[str, str]] = SimpleQueue()
        self._news, self._over = threading.Event(), False
        self._complete = False  # whether all have begun
        if self.world > 1:
            self._join()
            signal.signal(signal.SIGTERM, _told_to_stop)
            self._talker = threading.Thread(target=self._talk, daemon=True)
            self._talker.start()
            if when_lost is not None:
                threading.Thread(target=self._watch, args=[when_lost], daemon=True).start()

    def __enter__(self) -> Team:
        return self

    def __exit__(self, _: Any, error: BaseException | None, __: Any) -> None:
        self.leave(str(error) or type(error).__name__ if error else "")

    def gather(self, value: Any) -> list[Any]:
        """What every process gives, by rank, once all have; all must call this equally often.

        Args:
            value: anything that JSON can hold.

        Raises:
            Lost: if some have not given theirs, and none of these is alive.
        """
        if self.world == 1:
            return [value]
        turn, pause = self._sign["turn"] + 1, 0.01
        self._given.put((f"{turn}/{self.rank}", json.dumps(value)))
        self._sign["turn"] = turn
        while self._answered < turn:
            if why := self._why_lost(turn):
                raise Lost(why)
            self._news.set()
            time.sleep(pause)
            pause = min(2 * pause, BEAT)
        return [json.loads(answer) for answer in self._answers]

    def share(self, folder: Path) -> None:
        """Make sure that all see one folder, which is there for process 0.

        Raises:
            NotShared: naming a process that does not.
            Lost: as of `gather`.
        """
        if self.world == 1:
            return
        mark = folder / f".seen-{uuid.uuid4().hex}"
        try:
            if self.rank == 0:
                mark.touch()
            told = Path(self.gather(str(mark))[0])  # by process 0
            seen = self.gather((folder / told.name).exists())
        finally:
            if self.rank == 0:
                mark.unlink(missing_ok=True)
        if not all(seen):
            raise NotShared(
                f"process {seen.index(False)} does not see the folder {told.parent} of process 0: "
                "it must be one for all machines, on a shared file system such as NFS"
            )

    def tell(self, count: int) -> None:
        """Let the others know that so much more is done."""
        self._sign["done"] += count
        self._news.set()

    def done(self) -> int:
        """How much all have told to be done, as far as it is known here."""
        others = (sign["done"] for i, sign in enumerate(self._signs) if i != self.rank)
        return int(self._sign["done"] + sum(others))

    def leave(self, error: str = "") -> None:
        """Give no sign of life any more; with an error, the others learn it."""
        if self.world == 1:
            return
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        self._sign["gone"] = error
        self._over = True
        self._news.set()
        self._talker.join(10)

    def _join(self) -> None:
        from torch.distributed import DistError, PrefixStore  # type: ignore[attr-defined]
        from torch.distributed.rendezvous import rendezvous

        try:
            store, _, _ = next(iter(rendezvous("env://", timeout=timedelta(seconds=JOIN))))
        except DistError as error:
            raise Lost(f"the other processes cannot be reached: {error}") from error
        # A restart by torchrun may find the store of the time before.
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        self._store = PrefixStore(f"team/{attempt}", store)

    def _talk(self) -> None:
        """Only this thread calls the store: a call may hang for a machine that is gone."""
        try:
            while True:
                over = self._over
                self._exchange()
                # The store may end with process 0, so that stays until all have heard the last.
                if over and (self.rank > 0 or self._all_gone()):
                    return
                self._news.wait(BEAT)
                self._news.clear()
        except RuntimeError:  # the store is gone
            self._heard = -math.inf

    def _exchange(self) -> None:
        """Tell what there is to tell, and hear of the others."""
        self._sign["beat"] += 1
        sign = json.dumps(self._sign)
        while not self._given.empty():
            self._store.set(*self._given.get())
        self._store.set(f"sign/{self.rank}", sign)
        keys = [f"sign/{rank}" for rank in range(self.world)]
        self._complete = self._complete or self._store.check(keys)
        for rank, text in enumerate(self._store.multi_get(keys) if self._complete else ()):
            if (found := json.loads(text)) != self._signs[rank]:
                self._signs[rank], self._seen[rank] = found, self._now()
        self._heard = self._now()
        turn = self._answered + 1
        if all(sign["turn"] >= turn for sign in self._signs):
            self._answers = self._store.multi_get([f"{turn}/{i}" for i in range(self.world)])
            self._answered = turn

    def _all_gone(self) -> bool:
        signs = enumerate(self._signs)
        return all(sign["gone"] is not None or self._end_of(rank) for rank, sign in signs)

    def _now(self) -> float:
        """Seconds, by a clock that stands still while this process is stopped or gets no turn."""
        now = time.monotonic()
        self._clock += min(now - self._looked, 2 * BEAT)
        self._looked = now
        return self._clock

    def _why_lost(self, turn: int) -> str:
        """Why some will never answer a question; nothing if one of these is still at work."""
        if why := self._cut_off():
            return why
        late = [rank for rank, sign in enumerate(self._signs) if sign["turn"] < turn]
        reasons = [self._end_of(rank) for rank in late]
        return "" if "" in reasons else "; ".join(reasons)

    def _cut_off(self) -> str:
        silent = self._now() - self._heard > self.lost_after
        return "process 0, or the network to it, is lost" if silent else ""

    def _end_of(self, rank: int) -> str:
        if error := self._signs[rank]["gone"]:
            return f"process {rank} of {self.world} ended: {error}"
        # Of the time after it was last there, the store tells nothing: see `_cut_off`.
        silent = self._heard - self._seen[rank] > self.lost_after
        sign = f"no sign of life for {self.lost_after:g} s"
        return f"process {rank} of {self.world} is lost ({sign})" if silent else ""

    def _watch(self, when_lost: Callable[[str], None]) -> None:
        while not self._over:
            time.sleep(BEAT)
            at_work = [rank for rank, sign in enumerate(self._signs) if sign["gone"] is None]
            why = self._cut_off() or next(filter(None, map(self._end_of, at_work)), "")
            if why and not self._over:
                when_lost(why)
                return


def _told_to_stop(*_: Any) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough
    raise Lost("told to stop, as when another process of this machine is lost")
