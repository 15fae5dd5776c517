"""The real server under load: how many requests a second, how long they take, what memory it holds.

    python -m benchmarks.load --data ../shared/data/coco_vqa
    python -m benchmarks.load --data ../shared/data/coco_vqa --soak 20

Clients upload a photo, ask for an answer, a caption or an explanation of it, wait, and begin again:
14 answers to 3 captions to 3 explanations. First one of them, then 8, then 32, each for two
minutes; then 8 until there were 5,000 requests. A little more than a minute later the memory is
looked at: so often the server hands back what is free. Before, with nobody else there: the seconds
from the server's start to its first byte, to the page and to an answer, and from a browser's first
request until a question can be typed; and what `/answer` over HTTP takes more than `engine.answer`,
on the same pictures, each asked about for the first time. A request counts from its upload on.

With --soak there are 8 clients for so many minutes, and nothing else. The clients take some of the
processor too.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any, NamedTuple

import httpx
import numpy as np

from benchmarks.latency import RESULTS, asked
from benchmarks.server import CHROMIUM, Refused, Server, Visitor, serving
from training.core.provenance import provenance, record
from vqa.engine import Engine

REQUEST_MIX = ("answer",) * 14 + ("caption",) * 3 + ("explain",) * 3
PICTURES = 200
CROWD = 8  # clients of the soak, and of the long count
PATIENCE = 120_000  # milliseconds
SAMPLE = 30  # seconds between two looks at the memory
SETTLES = 66  # seconds until the server has handed back what is free, which it does once a minute
Asked = Sequence[tuple[bytes, str]]  # pictures, each with a question


class Outcome(NamedTuple):
    """What became of a request."""

    kind: str
    seconds: float
    error: str = ""


def main() -> None:
    """Measure, print and record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder, parquet file or Hub id")
    parser.add_argument("--split", default="validation")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--seconds", type=float, default=120, help="with each number of clients")
    parser.add_argument("--requests", type=int, default=5000, help="in all, at least")
    parser.add_argument("--soak", type=float, help="minutes of a soak, instead of all else")
    args = parser.parse_args()
    rows = islice(asked(args.data, args.split), PICTURES)
    questions = [(picture, question) for picture, question, _ in rows]
    with serving() as server:
        if args.soak:
            entry = soak(server, questions, 60 * args.soak)
        else:
            entry = measure(server, Engine.load(), questions, args)
    entry = {"processors": os.cpu_count(), "pictures": len(questions)} | entry
    record(RESULTS, "soak" if args.soak else "load", provenance() | entry)


def measure(
    server: Server, engine: Engine, questions: Asked, args: argparse.Namespace
) -> dict[str, Any]:
    """Everything but the soak.

    Args:
        server: one that has just started.
        engine: with the model that it answers with.
        questions: what is asked.
        args: clients, seconds and requests, as of the command line.
    """
    with Visitor(server.url) as visitor:
        since = time.monotonic()
        seconds = {"first byte": server.first_byte, "page": server.ready}
        _finish(one(visitor, "answer", *questions[0]))
        seconds["answer"] = server.ready + time.monotonic() - since
        seconds["browser"] = usable(server.url)
        for kind in set(REQUEST_MIX):
            _finish(one(visitor, kind, *questions[0]))  # the first of a kind loads something more
        rest = server.resident()
        extra = overhead(visitor, engine, questions)
    found = {str(count): run(server, questions, count, args.seconds) for count in args.clients}
    done = sum(each["requests"] for each in found.values())
    while done < args.requests:
        done += run(server, questions, CROWD, min(SAMPLE, args.seconds))["requests"]
    time.sleep(SETTLES)
    memory = {"at rest": rest, "after": server.resident(), "requests": done}
    print(f"memory: {memory}")
    return {
        "start": {name: round(value, 2) for name, value in seconds.items()},
        "overhead": extra,
        "seconds": args.seconds,
        "clients": found,
        "memory": {name: round(value) for name, value in memory.items()},
    }


def usable(url: str) -> float:
    """Seconds that a browser with an empty cache takes until a question can be typed."""
    from playwright.sync_api import sync_playwright

    flags = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        page = browser.new_page()
        page.set_default_timeout(PATIENCE)
        since = time.monotonic()
        page.goto(url, wait_until="commit")
        page.locator("textarea:visible").first.wait_for()
        seconds = time.monotonic() - since
        browser.close()
    return seconds


def overhead(visitor: Visitor, engine: Engine, questions: Asked) -> dict[str, float]:
    """Median milliseconds of an answer over HTTP, from the engine, and of the difference."""
    over_http, direct = [], []
    for picture, question in questions[1:]:
        over_http.append(_finish(one(visitor, "answer", picture, question)))
        since = time.perf_counter()
        engine.answer(picture, question)
        direct.append(time.perf_counter() - since)
    more = [slow - fast for slow, fast in zip(over_http, direct, strict=True)]
    names = {"over HTTP": over_http, "engine": direct, "more": more}
    found = {name: round(1000 * statistics.median(each), 1) for name, each in names.items()}
    print(f"an answer, milliseconds: {found}")
    return found


def run(server: Server, questions: Asked, clients: int, seconds: float) -> dict[str, Any]:
    """Have so many clients ask for so long.

    Returns:
        `requests`, how many `per_second`, their `median`, `95th` percentile and the `oldest` in
        seconds, how many `errors`, the `first_error`, and the `memory` before and after in MB.
    """
    before, since = server.resident(), time.monotonic()
    with ThreadPoolExecutor(clients) as pool:
        ends = [since + seconds] * clients
        visits = pool.map(
            visit, [server.url] * clients, range(clients), ends, [questions] * clients
        )
        outcomes = [outcome for each in visits for outcome in each]
    took = [outcome.seconds for outcome in outcomes]
    errors = [outcome.error for outcome in outcomes if outcome.error]
    found = {
        "requests": len(outcomes),
        "per_second": round(len(outcomes) / (time.monotonic() - since), 1),
        "median": round(statistics.median(took), 3),
        "95th": round(float(np.percentile(took, 95)), 3),
        "oldest": round(max(took), 3),
        "errors": len(errors),
        "memory": [round(before), round(server.resident())],
    }
    print(f"{clients} clients: {found}", *errors[:1])
    return found | ({"first_error": errors[0]} if errors else {})


def visit(url: str, seed: int, until: float, questions: Asked) -> list[Outcome]:
    """A client that asks until a time of `time.monotonic`, once at least."""
    dice, outcomes = random.Random(seed), list[Outcome]()
    with Visitor(url) as visitor:
        kinds = [kind for kind in REQUEST_MIX if kind in visitor.defaults()]
        while not outcomes or time.monotonic() < until:
            outcomes.append(one(visitor, dice.choice(kinds), *dice.choice(questions)))
    return outcomes


def one(visitor: Visitor, kind: str, picture: bytes, question: str) -> Outcome:
    """A request, from the upload to its answer; a kind that is not there is an error."""
    since, error = time.perf_counter(), ""
    try:
        data = [visitor.upload(picture), *([] if kind == "caption" else [question])]
        visitor.call(kind, *data, *visitor.defaults()[kind])
    except (Refused, KeyError, httpx.HTTPError) as problem:
        error = f"{type(problem).__name__}: {problem}"
    return Outcome(kind, time.perf_counter() - since, error)


def _finish(outcome: Outcome) -> float:
    if outcome.error:
        raise RuntimeError(f"/{outcome.kind}: {outcome.error}")
    return outcome.seconds


def soak(server: Server, questions: Asked, seconds: float) -> dict[str, Any]:
    """Ask for long, and look at the memory now and then.

    Returns:
        `minutes`, `requests`, `errors`, the `memory` in MB at each look, and how much it `grew`
        between the means of the first and the last quarter of the looks.
    """
    looks = max(4, round(seconds / SAMPLE))
    parts = [run(server, questions, CROWD, seconds / looks) for _ in range(looks)]
    memory = [part["memory"][1] for part in parts]
    quarter = looks // 4
    first, last = statistics.mean(memory[:quarter]), statistics.mean(memory[-quarter:])
    totals = {name: sum(part[name] for part in parts) for name in ("requests", "errors")}
    oldest = max(part["oldest"] for part in parts)
    grown = {"oldest": oldest, "memory": memory, "grew": round(last - first)}
    return {"minutes": round(seconds / 60, 1)} | totals | grown


if __name__ == "__main__":
    main()
