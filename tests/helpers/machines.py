"""Two machines in one: network namespaces with a cable between them, or else two addresses."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import psutil

from benchmarks.server import free_port
from helpers.paths import ROOT

TOOLS = ("unshare", "nsenter", "ip", "sleep")
NEW = ("unshare", "--user", "--map-root-user", "--net")


def _can_be_joined() -> bool:
    """Whether this user may make networks, and cables between them."""
    if not all(map(shutil.which, TOOLS)):
        return False
    cable = ("ip", "link", "add", "one", "type", "veth", "peer", "name", "other")
    return not subprocess.run([*NEW, *cable], capture_output=True, check=False).returncode


KIND = "two network namespaces" if _can_be_joined() else "two loopback addresses"


class Machines:
    """Two machines that share their disk; `torchrun` can be started on each.

    What they print is in the files `0.txt` and `1.txt` of a folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.address = "127.0.0.2"
        self.inside: list[list[str]] = [[], []]  # what begins a command there
        self.running: list[subprocess.Popen[bytes]] = []
        self.homes: list[subprocess.Popen[bytes]] = []

    def __enter__(self):
        if KIND == "two network namespaces":
            self._join()
        return self

    def __exit__(self, *_):
        for process in (*self.running, *self.homes):
            if process.poll() is None:
                for each in (*psutil.Process(process.pid).children(recursive=True), process):
                    each.kill()
            process.wait()

    def _join(self) -> None:
        """Two sleeping processes, each at home in a network of its own, and the cable."""
        self.address = "10.77.0.1"
        for number in (0, 1):
            unshare = NEW if number == 0 else (*self.inside[0], "unshare", "--net")
            home = subprocess.Popen([*unshare, "sh", "-c", "echo; exec sleep 600"], stdout=-1)
            home.stdout.readline()  # it is there
            home.stdout.close()
            self.homes.append(home)
            enter = ["--user", "--net", "--preserve-credentials", "--target", str(home.pid)]
            self.inside[number] = ["nsenter", *enter]
        self._ip(0, f"link add cable type veth peer name cable netns {self.homes[1].pid}")
        for number in (0, 1):
            self._ip(number, "link set lo up")
            self._ip(number, f"address add 10.77.0.{number + 1}/24 dev cable")
            self._ip(number, "link set cable up")

    def _ip(self, number: int, command: str) -> None:
        subprocess.run([*self.inside[number], "ip", *command.split()], check=True)

    def pull_the_cable(self) -> None:
        """From now on nothing arrives, and nobody is told so."""
        self._ip(0, "link set cable down")

    def start(self, *command: object) -> None:
        """Run a module on both, one process each."""
        for number in (0, 1):
            launcher = ["-m", "torch.distributed.run", "--nnodes", "2", "--node_rank", number]
            launcher += ["--master_addr", self.address, "--master_port", self.port, "-m"]
            words = map(str, [sys.executable, *launcher, *command])
            environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
            with (self.folder / f"{number}.txt").open("wb") as said:
                process = subprocess.Popen(
                    [*self.inside[number], *words],
                    cwd=ROOT,
                    env=environment,
                    stdout=said,
                    stderr=said,
                )
            self.running.append(process)

    def kill_a_worker(self, number: int) -> None:
        """As by `kill -9`; its `torchrun` lives on."""
        (worker,) = psutil.Process(self.running[number].pid).children()
        worker.kill()

    def at_work(self) -> bool:
        """Whether both have not ended."""
        return all(process.poll() is None for process in self.running)

    def end(self) -> tuple[list[int], list[str]]:
        """Wait for both; their exit statuses, and what they printed."""
        statuses = [process.wait() for process in self.running]
        self.running.clear()
        return statuses, [(self.folder / f"{i}.txt").read_text() for i in (0, 1)]
