"""Whole datasets at once:

    python -m vqa.batch answer --data DATA --out preds.jsonl
    python -m vqa.batch caption --data DATA --out preds.jsonl --beam 3
    python -m vqa.batch gaze --data DATA --out maps.npz
    python -m vqa.batch feel --data DATA --head emoji --out preds.jsonl

Each answer or caption is a line of JSON, written as soon as it is known; what cannot be answered or
described has none, and is counted and named at the end. Run it again after an interruption and it
goes on where it was; `torchrun --nproc_per_node 2 -m vqa.batch ...` splits the work. Either way the
file comes out the same: a picture's place in the data alone decides its batch, so that no sum
changes its order.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from PIL.Image import Image

from vqa import images
from vqa.batch_tasks import TASKS, Line, Task
from vqa.memory import keep_freed
from vqa.rows import Row
from vqa.sources import BadData


class BadPredictions(ValueError):
    """A file of predictions that cannot be continued; the message says why and what to do."""


@dataclass
class Work:
    """The rows from `start` to `end`, in batches, and what of them had to be skipped."""

    task: Task
    rows: Sequence[Any]
    batch_size: int
    start: int
    end: int
    skipped: list[str] = field(default_factory=list)

    def run(self, path: Path, *, quiet: bool = False) -> None:
        """Write the lines to a file, or those that it does not have yet."""
        from tqdm import tqdm

        written, size = _read_lines(path)
        start, there = self._resume(written, path)
        with (
            path.open("ab", buffering=0) as file,  # unbuffered: a kill loses no finished line
            tqdm(total=self.end - self.start, unit="row", disable=quiet) as progress,
        ):
            file.truncate(size)
            progress.update(start - self.start)
            for batch in self._batches(start):
                lines = self._compute(batch)  # the first again, to see that the model is the same
                self._check_model(written[len(written) - there :], lines, path)
                for line in lines[there:]:
                    file.write(json.dumps(line).encode() + b"\n")
                there = 0
                progress.update(len(batch))

    def _batches(self, start: int) -> Iterator[range]:
        for first in range(start, self.end, self.batch_size):
            yield range(first, min(first + self.batch_size, self.end))

    def _resume(self, written: Sequence[Line], path: Path) -> tuple[int, int]:
        """Find the batch of the last line: where it starts, and how many of its lines are there."""
        seen = 0
        for batch in self._batches(self.start):
            before, skipped = seen, len(self.skipped)
            for row in (self.rows[place] for place in batch):
                lines = self.task.ask(row, self.skipped.append)
                there = written[seen : seen + len(lines)]
                if all(new.items() <= old.items() for new, old in zip(lines, there, strict=False)):
                    seen += len(there)
                elif not self.task.size or self._decode(row) is not None:
                    about = f"picture {row.image_id}" if self.task.size else "the text there"
                    raise _not_ours(path, f"line {seen + 1} is not about {about}")
            if seen == len(written):
                del self.skipped[skipped:]
                return batch.start, seen - before
        if written:
            raise _not_ours(path, f"line {seen + 1} comes after the last of the data")
        return self.end, 0

    def _compute(self, batch: range) -> list[Line]:
        """The complete lines of a batch. Rows with the same picture share one pass over it."""
        if not self.task.size:
            texts = [line for place in batch for line in self.task.ask(self.rows[place], _ignore)]
            self.task.complete([], [texts])
            return texts
        pictures: dict[bytes, Image] = {}
        asked: dict[bytes, list[Line]] = {}
        complete: list[Line] = []
        for row in (self.rows[place] for place in batch):
            lines = self.task.ask(row, self.skipped.append)
            picture = (pictures.get(row.image) or self._decode(row)) if lines else None
            if picture is not None:
                pictures[row.image] = picture
                asked.setdefault(row.image, []).extend(lines)
                complete.extend(lines)
        if complete:
            self.task.complete(list(pictures.values()), list(asked.values()))
        return complete

    def _decode(self, row: Row) -> Image | None:
        try:
            if not row.image:
                raise images.BadImage("there is none in the data")
            return images.load(row.image, min_side=self.task.size)
        except images.BadImage as error:
            self.skipped.append(f"picture {row.image_id}: {error}")
            return None

    def _check_model(self, written: Sequence[Line], lines: Sequence[Line], path: Path) -> None:
        for old, new in zip(written, lines, strict=False):
            if not self.task.same(old, new):
                about = f"picture {old['image_id']}" if self.task.size else old["text"][:50]
                raise _not_ours(path, f"another model wrote the line of {about}")


def _read_lines(path: Path) -> tuple[list[Line], int]:
    """The whole lines of a file and the bytes they take; the rest is a line cut short."""
    content = path.read_bytes() if path.exists() else b""
    *whole, rest = content.split(b"\n")
    try:
        lines = [json.loads(line) for line in whole]
    except ValueError:
        lines = [None]
    if not all(isinstance(line, dict) for line in lines) or rest[:1] not in (b"", b"{"):
        raise _not_ours(path, "it does not hold predictions")
    return lines, len(content) - len(rest)


def _ignore(_: str) -> None:
    """No text is refused."""


def _not_ours(path: Path, why: str) -> BadPredictions:
    remedy = "delete it, give another --out, or go on with the data and the model that began it"
    return BadPredictions(f"{path} cannot be continued, {why}: {remedy}")


def _run(options: argparse.Namespace) -> None:
    from accelerate import PartialState
    from accelerate.utils import gather_object

    state = PartialState(cpu=True, timeout=timedelta(days=30))  # the slowest may be far behind
    rank, world = state.process_index, state.num_processes
    kind, size = TASKS[options.task], options.batch_size
    out = kind.lines(options.out)
    if out != options.out and options.out.exists():
        raise BadPredictions(f"{options.out} is there already: delete it, or give another --out")
    rows = kind.open(options)
    alone = world == 1 or out.exists()  # what one process began, one process ends
    shares = [(out, 0, len(rows))] if alone else _share(out, len(rows), size, world)
    out.parent.mkdir(parents=True, exist_ok=True)
    skipped: list[str] = []
    if rank < len(shares):
        path, start, end = shares[rank]
        work = Work(kind.load(options), rows, size, start, end, skipped)
        work.run(path, quiet=rank > 0)
    skipped = gather_object(skipped)  # waits for every process, and keeps their order
    if rank == 0 and not alone:
        _join([path for path, _, _ in shares], out)
    if rank == 0:
        kind.finish(out, options.out)
    if rank == 0 and skipped:
        print(f"Skipped {len(skipped)}:", *skipped, sep="\n  ", file=sys.stderr)
    if world > 1:
        state.wait_for_everyone()  # a process that ends in an error has torchrun stop the others
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)  # the native teardown of a finished process aborts it now and then


def _share(out: Path, num_rows: int, size: int, world: int) -> list[tuple[Path, int, int]]:
    """The file of each process, and where its rows begin and end: whole batches, in order."""
    batches = -(-num_rows // size)
    cuts = [min(batches * i // world * size, num_rows) for i in range(world + 1)]
    # The name says how the work was cut: parts of another cut are not taken for these.
    paths = [out.with_name(f"{out.name}.part-{i}-of-{world}-by-{size}") for i in range(world)]
    return list(zip(paths, cuts[:-1], cuts[1:], strict=True))


def _join(parts: Sequence[Path], out: Path) -> None:
    whole = out.with_name(f"{out.name}.part-all")
    whole.write_bytes(b"".join(part.read_bytes() for part in parts))
    whole.replace(out)
    for part in parts:
        part.unlink()


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text} is not a positive whole number")
    return int(text)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; what is wrong with its input ends it with one line and exit status 1."""
    from vqa.checkpoints import BadCheckpoint

    parser = argparse.ArgumentParser(prog="python -m vqa.batch", description="Bulk inference.")
    commands = parser.add_subparsers(dest="task", required=True)
    for name, task in TASKS.items():
        command = commands.add_parser(name, help=task.help)
        command.add_argument("--data", required=True, help="parquet, folder or Hub dataset id")
        command.add_argument("--out", required=True, type=Path, help=task.out)
        command.add_argument("--model", default=task.model, help="shipped name, folder or Hub id")
        command.add_argument("--split", default="validation")
        command.add_argument("--batch_size", default=task.batch_size, type=_positive, help="rows")
        task.add_flags(command)
    options = parser.parse_args(arguments)
    keep_freed()
    try:
        _run(options)
    except (BadData, BadCheckpoint, BadPredictions, OSError) as error:
        raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
    main()
