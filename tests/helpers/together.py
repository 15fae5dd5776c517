"""Processes of one run, forked from a server that has already imported what takes each seconds.

`torchrun` is not among them: test_machines starts it.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from benchmarks.server import free_port
from helpers.paths import ROOT

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["torch", "transformers.modeling_utils", "vqa.engine"])


class Done(NamedTuple):
    """How a process ended, and what it printed."""

    returncode: int
    stdout: str
    stderr: str


def run_together(*commands: list[object], **environment: str) -> list[Done]:
    """Run Python with each of these arguments ("-m" or "-c" first) as a process of one run.

    Args:
        commands: the arguments of each process.
        environment: further variables of all processes.
    """
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    place |= {"WORLD_SIZE": str(len(commands))}
    with tempfile.TemporaryDirectory() as folder:
        running = []
        for rank, command in enumerate(commands):
            own = place | {"RANK": str(rank), "LOCAL_RANK": str(rank)} if len(commands) > 1 else {}
            words = [str(word) for word in command]
            running.append(
                SERVER.Process(target=_run, args=(words, environment | own, f"{folder}/{rank}"))
            )
            running[-1].start()
        for process in running:
            process.join()
        return [
            Done(process.exitcode, *(Path(f"{folder}/{rank}{n}").read_text("utf-8") for n in "12"))
            for rank, process in enumerate(running)
        ]


def _run(words: list[str], environment: dict[str, str], said: str) -> None:
    import torch

    torch.set_num_threads(1)
    os.environ.update(environment | {"CUDA_VISIBLE_DEVICES": ""})
    os.chdir(ROOT)
    for number in (1, 2):
        file = os.open(f"{said}{number}", os.O_CREAT | os.O_WRONLY)
        os.dup2(file, number)
        os.close(file)
    sys.stdout.reconfigure(line_buffering=True)  # one of them ends without any flush
    kind, what, *rest = words
    sys.argv = [what, *rest]
    if kind == "-m":
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        exec(compile(what, "<string>", "exec"), {"__name__": "__main__"})
