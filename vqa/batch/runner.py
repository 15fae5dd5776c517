"""Whole datasets at once:

    python -m vqa.batch answer --data DATA --out preds.jsonl
    python -m vqa.batch caption --data DATA --out preds.jsonl --beam 3
    python -m vqa.batch gaze --data DATA --out maps.npz
    python -m vqa.batch emoji --data DATA --head emoji --out preds.jsonl

Each answer or caption is a line of JSON, written as soon as it is known; what cannot be answered or
described has none, and is counted and named at the end. Run it again after an interruption and it
goes on where it was. torchrun splits the work, on one machine or on several that share the folder
of `--out`:

    torchrun --nproc_per_node 2 -m vqa.batch ...
    torchrun --nnodes 2 --node_rank N --master_addr A --master_port P -m vqa.batch ...

If a process is lost, the others end their shares and tell what is left to do; any number of
processes can go on with it. In all cases the file comes out the same: a picture's place in the data
alone decides its batch, so that no sum changes its order.
"""

from __future__ import annotations

import argparse
import glob
import hashlib
import json
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL.Image import Image

from vqa.batch.tasks import TASKS, Line, Task
from vqa.data.image_dataset import ImageRecord
from vqa.errors import BadData, BadImage
from vqa.preprocessing import images
from vqa.runtime.malloc import keep_freed
from vqa.runtime.process_group import LOST_AFTER, LOST_HELP, Lost, Team


class BadPredictions(ValueError):
    """A file of predictions that cannot be continued; the message says why and what to do."""


@dataclass
class Shard:
    """The rows from `start` to `end`, in batches, and what of them had to be skipped."""

    task: Task
    rows: Sequence[Any]
    batch_size: int
    start: int
    end: int
    skipped: list[str] = field(default_factory=list)
    # Called with the number of rows that were done since the last call.
    on_progress: Callable[[int], object] = int

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
            self.on_progress(start - self.start)
            for batch in self._batches(start):
                lines = self._compute(batch)  # the first again, to see that the model is the same
                self._check_model(written[len(written) - there :], lines, path)
                for line in lines[there:]:
                    file.write(json.dumps(line).encode() + b"\n")
                there = 0
                progress.update(len(batch))
                self.on_progress(len(batch))

    def _batches(self, start: int) -> Iterator[range]:
        for first in range(start, self.end, self.batch_size):
            yield range(first, min(first + self.batch_size, self.end))

    def _resume(self, written: Sequence[Line], path: Path) -> tuple[int, int]:
        """Find the batch of the last line: where it starts, and how many of its lines are there."""
        seen = 0
        for batch in self._batches(self.start):
            before, skipped = seen, len(self.skipped)
            for row in (self.rows[place] for place in batch):
                lines = self.task.start_records(row, self.skipped.append)
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
            texts = [
                line
                for place in batch
                for line in self.task.start_records(self.rows[place], _ignore)
            ]
            self.task.fill_records([], [texts])
            return texts
        pictures: dict[bytes, Image] = {}
        asked: dict[bytes, list[Line]] = {}
        complete: list[Line] = []
        for row in (self.rows[place] for place in batch):
            lines = self.task.start_records(row, self.skipped.append)
            picture = (pictures.get(row.image) or self._decode(row)) if lines else None
            if picture is not None:
                pictures[row.image] = picture
                asked.setdefault(row.image, []).extend(lines)
                complete.extend(lines)
        if complete:
            self.task.fill_records(list(pictures.values()), list(asked.values()))
        return complete

    def _decode(self, row: ImageRecord) -> Image | None:
        try:
            if not row.image:
                raise BadImage("there is none in the data")
            return images.load(row.image, min_side=self.task.size)
        except BadImage as error:
            self.skipped.append(f"picture {row.image_id}: {error}")
            return None

    def _check_model(self, written: Sequence[Line], lines: Sequence[Line], path: Path) -> None:
        for old, new in zip(written, lines, strict=False):
            if not self.task.same_model(old, new):
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


def _run(options: argparse.Namespace, team: Team) -> None:
    kind, size = TASKS[options.task], options.batch_size
    out = kind.lines(options.out)
    if team.rank == 0:
        if out != options.out and options.out.exists():
            raise BadPredictions(
                f"{options.out} is there already: delete it, or give another --out"
            )
        out.parent.mkdir(parents=True, exist_ok=True)
    rows = kind.open(options)
    begun = team.gather(
        {"about": _about(options, rows, team), "shares": _count_shares(out, size, team)}
    )
    _check_same([each["about"] for each in begun])
    team.share(out.parent)
    shares = _share(out, len(rows), size, begun[0]["shares"])
    skipped: list[str] = []
    try:
        if mine := shares[team.rank :: team.world]:
            task = kind.load(options)
        for path, start, end in mine:
            work = Shard(task, rows, size, start, end, skipped, team.tell)
            work.run(path, quiet=team.rank > 0)
        told = team.gather(skipped)
    except Lost as lost:
        left = len(rows) - team.done()
        raise Lost(
            f"{lost}. At most {left} of {len(rows)} rows are left to do; run the same command "
            f"again, with as many processes as you like: {options.command}"
        ) from lost
    if team.rank == 0:
        _join([path for path, _, _ in shares], out)
        kind.finish(out, options.out)
        if skipped := [each for some in told for each in some]:
            print(f"Skipped {len(skipped)}:", *skipped, sep="\n  ", file=sys.stderr)


def _about(options: argparse.Namespace, rows: Sequence[Any], team: Team) -> dict[str, Any]:
    """What must be the same for all processes: the data and the model."""
    if team.world == 1:
        return {}
    from vqa import checkpoints

    weights = checkpoints.find(options.model) / checkpoints.WEIGHTS
    found = {"data": repr(rows[0]).encode(), "model": weights.read_bytes()}
    digests = {name: hashlib.blake2b(text).hexdigest() for name, text in found.items()}
    return {"number of rows": len(rows), **digests}


def _check_same(told: Sequence[dict[str, Any]]) -> None:
    for rank, about in enumerate(told):
        if other := [name for name in about if about[name] != told[0][name]]:
            raise BadData(f"process {rank} has another {' and '.join(other)} than process 0")


def _count_shares(out: Path, size: int, team: Team) -> int:
    """Into how many shares the work is cut: as it was begun, or else one a process."""
    if out.exists():
        return 1
    begun = sorted(out.parent.glob(f"{glob.escape(out.name)}.part-*-of-*-by-{size}"))
    return int(begun[0].name.split("-of-")[-1].split("-by-")[0]) if begun else team.world


def _share(out: Path, num_rows: int, size: int, count: int) -> list[tuple[Path, int, int]]:
    """The file of each share, and where its rows begin and end: whole batches, in order."""
    batches = -(-num_rows // size)
    cuts = [min(batches * i // count * size, num_rows) for i in range(count + 1)]
    # The name says how the work was cut: parts of another cut are not taken for these.
    paths = [out.with_name(f"{out.name}.part-{i}-of-{count}-by-{size}") for i in range(count)]
    return list(zip(paths if count > 1 else [out], cuts[:-1], cuts[1:], strict=True))


def _join(parts: Sequence[Path], out: Path) -> None:
    """Make one file of them, and leave nothing besides."""
    if list(parts) != [out]:
        whole = out.with_name(f"{out.name}.part-all")
        with whole.open("wb") as file:
            for part in parts:
                with part.open("rb") as lines:
                    shutil.copyfileobj(lines, file)
        whole.replace(out)
    for part in out.parent.glob(f"{glob.escape(out.name)}.part-*-of-*-by-*"):
        part.unlink()


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text} is not a positive whole number")
    return int(text)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; what is wrong with its input ends it with one line and exit status 1."""
    from vqa.errors import BadCheckpoint

    parser = argparse.ArgumentParser(prog="python -m vqa.batch", description="Bulk inference.")
    commands = parser.add_subparsers(dest="task", required=True)
    for name, task in TASKS.items():
        shipped = task.task.folders[0]
        command = commands.add_parser(name, help=task.help)
        command.add_argument("--data", required=True, help="parquet, folder or Hub dataset id")
        command.add_argument("--out", required=True, type=Path, help=task.out)
        command.add_argument("--model", default=shipped, help="shipped name, folder or Hub id")
        command.add_argument("--split", default="validation")
        command.add_argument("--batch_size", default=task.batch_size, type=_positive, help="rows")
        command.add_argument(
            "--lost_after", default=LOST_AFTER, type=_positive, help=f"seconds: {LOST_HELP}"
        )
        task.add_flags(command)
    options = parser.parse_args(arguments)
    options.command = shlex.join(["python", "-m", "vqa.batch", *(arguments or sys.argv[1:])])
    keep_freed()
    try:
        with Team(options.lost_after) as team:
            _run(options, team)
    except (BadData, BadCheckpoint, BadPredictions, Lost, OSError) as error:
        raise SystemExit(f"error: {error}") from error
