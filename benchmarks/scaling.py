r"""Bulk captions and answers by one process and by two, of one thread each.

    python -m benchmarks.scaling --captions ../shared/data/flickr8k \
        --answers ../shared/data/coco_vqa

Each is the whole command, from its start to the finished file: `python -m vqa.batch ...`, and the
same under `torchrun --nproc_per_node 2`. The files must be equal. The training split is taken, for
it is large: what a process needs to begin is small beside it. The machine should have nothing else
to do, and a core for each process.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.latency import RESULTS
from training.core.provenance import provenance, record
from vqa.data.image_dataset import open_rows

PROCESSES = (1, 2)


def main() -> None:
    """Time and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--captions", required=True, help="folder, parquet file or Hub id")
    parser.add_argument("--answers", required=True, help="folder, parquet file or Hub id")
    parser.add_argument("--split", default="train")
    parser.add_argument("--repeats", type=int, default=3, help="of which the median counts")
    args = parser.parse_args()
    for data in (args.captions, args.answers):
        open_rows(data, args.split, required="image")  # `datasets` makes its copy now, untimed
    tasks = {
        name: measure([task, "--data", data, "--split", args.split], args.repeats)
        for name, task, data in (
            ("captions", "caption", args.captions),
            ("answers", "answer", args.answers),
        )
    }
    entry = {"split": args.split, "processors": os.cpu_count(), "threads": 1, "tasks": tasks}
    record(RESULTS, "scaling", provenance() | entry)


def measure(command: Sequence[str], repeats: int) -> dict[str, Any]:
    """How long a command of `vqa.batch` takes by each number of processes, in turn.

    Returns:
        `lines` that were written, median `seconds` by the number of processes, and how much faster
        two are than one, `speedup`.

    Raises:
        ValueError: if they do not write the same file.
        subprocess.CalledProcessError: if a run fails.
    """
    seconds: dict[int, list[float]] = {count: [] for count in PROCESSES}
    written = set()
    with tempfile.TemporaryDirectory() as folder:
        for number in range(repeats):
            for count in PROCESSES:
                out = Path(folder) / f"{number}-{count}"
                seconds[count].append(timed_run(count, [*command, "--out", str(out)]))
                written.add(out.read_bytes())
    if len(written) > 1:
        raise ValueError(f"{command[0]}: the files that {PROCESSES} processes wrote differ")
    medians = {str(count): round(statistics.median(each), 1) for count, each in seconds.items()}
    speedup = round(statistics.median(seconds[1]) / statistics.median(seconds[2]), 2)
    print(f"{command[0]}: {medians} s, {speedup} times as fast")
    return {"lines": written.pop().count(b"\n"), "seconds": medians, "speedup": speedup}


def timed_run(processes: int, arguments: Sequence[str]) -> float:
    """Seconds that `vqa.batch` takes, its start included."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    launcher = torchrun if processes > 1 else []
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, *launcher, "-m", "vqa.batch", *arguments]
    start = time.perf_counter()
    subprocess.run(command, env=environment, check=True)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
