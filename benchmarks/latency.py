"""What the engine costs beside the bare network, question by question.

    python -m benchmarks.latency --data ../shared/data/coco_vqa

For each of N real questions, in one process and interleaved: the bare torch time (Pillow decode,
encoder, head), the engine's first answer on the picture, the bare head alone, and the engine's
answer to a second question. Besides: the answerer's encoder and where people look, each alone, and
a 12-megapixel JPEG to pixels.
"""

from __future__ import annotations

import argparse
import io
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from training.core.provenance import provenance, record
from vqa.data.image_dataset import open_rows
from vqa.engine import Engine
from vqa.models import Answerer
from vqa.preprocessing import images

Result = TypeVar("Result")
RESULTS = Path(__file__).parent / "results.json"
WARM_UP = 10
Timings = dict[str, list[float]]


def main() -> None:
    """Time and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder, parquet file or Hub id")
    parser.add_argument("--split", default="validation")
    parser.add_argument("--vqa", default="vqa", help="shipped name, folder or Hub id")
    parser.add_argument("--questions", type=int, default=200)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    engine = Engine.load(args.vqa)
    timings: Timings = {}
    for number, (picture, first, second) in enumerate(asked(args.data, args.split)):
        if number == args.questions + WARM_UP:
            break
        measured = measure(engine, picture, first, second)
        if number >= WARM_UP:
            for name, milliseconds in measured.items():
                timings.setdefault(name, []).append(milliseconds)
    size = engine.answerer.config.encoder.image_size
    timings["12-megapixel JPEG to pixels"] = large_photo(size)
    record(RESULTS, "latency", provenance() | report(timings, args.threads))


def asked(data: str, split: str) -> Iterator[tuple[bytes, str, str]]:
    """A picture, a question on it, and another real question to ask second."""
    rows = [row for row in open_rows(data, split) if row.questions]
    for place, row in enumerate(rows):
        following = rows[(place + 1) % len(rows)].questions[0]
        yield row.image, row.questions[0].text, following.text


def measure(engine: Engine, picture: bytes, first: str, second: str) -> dict[str, float]:
    """Milliseconds of the four, for one picture."""
    model = engine.answerer
    size = model.config.encoder.image_size
    owner = torch.zeros(1, dtype=torch.long)
    ids = [torch.tensor([model.question_ids(text)]) for text in (first, second)]

    def bare() -> Tensor:
        image = Image.open(io.BytesIO(picture)).convert("RGB").resize((size, size), 2)
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255
        cells: Tensor = model.encode(pixels).cells
        model(cells, ids[0], owner)
        return cells

    with torch.inference_mode():
        cells, bare_first = timed(bare)
        _, engine_first = timed(lambda: engine.answer(picture, first))
        _, bare_head = timed(lambda: model(cells, ids[1], owner))
        _, engine_second = timed(lambda: engine.answer(picture, second))
        parts = _parts(model, images.to_pixels(images.load(picture), size))
    return {
        "bare decode + encoder + head": bare_first,
        "engine, first question": engine_first,
        "bare head": bare_head,
        "engine, second question": engine_second,
        **parts,
    }


def _parts(model: Answerer, pixels: Tensor) -> dict[str, float]:
    """Milliseconds of what an answerer with gaze does to see a picture."""
    if model.gaze is None:
        return {}
    grid = model.encoder.grid_size
    _, encoder = timed(lambda: model.encoder(pixels).cells)
    _, looks = timed(lambda: model.gaze_on_grid(pixels, grid))
    return {"the answerer's encoder alone": encoder, "where people look, alone": looks}


def large_photo(size: int, repeats: int = 50) -> list[float]:
    """Milliseconds to read a phone's photo, 4000 x 3000, into the network's pixels."""
    from sklearn.datasets import load_sample_image

    file = io.BytesIO()
    photo = Image.fromarray(load_sample_image("china.jpg")).resize((4000, 3000))
    photo.save(file, "JPEG", quality=90)
    content = file.getvalue()
    calls = (
        timed(lambda: images.to_pixels(images.load(content, min_side=size), size))
        for _ in range(repeats)
    )
    return [milliseconds for _, milliseconds in calls]


def timed(call: Callable[[], Result]) -> tuple[Result, float]:
    """A call's result and its wall time in milliseconds."""
    start = time.perf_counter()
    result = call()
    return result, 1000 * (time.perf_counter() - start)


def report(timings: Timings, threads: int) -> dict[str, Any]:
    """Print and return median and 95th percentile of each, and the two ratios of medians."""
    count = len(timings["bare head"])
    print(f"{count} questions, {threads} threads, batch 1; milliseconds")
    print(f"{'':30} {'median':>8} {'95th':>8}")
    spread = {}
    for name, values in timings.items():
        median, high = statistics.median(values), float(np.percentile(values, 95))
        print(f"{name:30} {median:8.2f} {high:8.2f}")
        spread[name] = {"median": round(median, 2), "95th": round(high, 2)}
    bare_first, first, bare_head, second = (one["median"] for one in list(spread.values())[:4])
    ratios = {"first": round(first / bare_first, 2), "second": round(second / bare_head, 2)}
    print(f"first answer / bare:  {ratios['first']} (at most 1.3)")
    print(f"second answer / head: {ratios['second']} (at most 1.5)")
    if gaze := spread.get("where people look, alone"):
        encoder = spread["the answerer's encoder alone"]
        ratios["gaze"] = round(gaze["median"] / encoder["median"], 2)
        print(f"gaze / encoder:       {ratios['gaze']} (at most 1)")
    return {"questions": count, "threads": threads, "milliseconds": spread, "ratios": ratios}


if __name__ == "__main__":
    main()
