"""What decoding costs beside the bare arithmetic, and how many captions a second.

    python -m benchmarks.captions --data ../shared/data/flickr8k

Decoding: beam search for 20 words on one picture whose grid is known, beside the same number of
steps of `nn.LSTMCell` alone, and of everything that a step must compute (cell, attention, words),
as plain torch calls; interleaved, in one process. Throughput: pictures from their files to
captions in batches, the encoder included.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.latency import RESULTS, timed
from training.core.provenance import provenance, record
from vqa import checkpoints
from vqa.data.image_dataset import open_rows
from vqa.models import Captioner
from vqa.models.captioner import ProjectedImage
from vqa.models.decoding import beam_search
from vqa.pipelines.captioning import CaptionPipeline
from vqa.runtime.malloc import keep_freed

STEPS, BEAM, BATCH = 20, 3, 32
REPEATS, WARM_UP = 100, 10


def main() -> None:
    """Time and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder, parquet file or Hub id")
    parser.add_argument("--split", default="validation")
    parser.add_argument("--model", default="captioner", help="shipped name, folder or Hub id")
    parser.add_argument("--pictures", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    keep_freed()  # as `vqa.batch` does
    caption_pipeline = CaptionPipeline(checkpoints.load_as(Captioner, args.model))
    rows = open_rows(args.data, args.split, required="image")
    pictures = [rows[place].image for place in range(min(args.pictures, len(rows)))]
    times = decoding(caption_pipeline, pictures[0])
    entry: dict[str, Any] = {"threads": args.threads, "milliseconds": times}
    ours = times["beam search"]
    entry["ratios"] = {name: round(ours / each, 2) for name, each in times.items() if each != ours}
    print(f"{BEAM} beams, {STEPS} words, batch 1, {args.threads} threads; milliseconds")
    for name, each in times.items():
        print(f"{name:40} {each:8.2f}  {ours / each:5.2f}")
    entry["captions"] = {
        "pictures": len(pictures),
        "per_second": throughput(caption_pipeline, pictures),
    }
    print(f"{len(pictures)} pictures: {entry['captions']['per_second']} captions a second")
    record(RESULTS, "captions", provenance() | entry)


def decoding(caption_pipeline: CaptionPipeline, picture: bytes) -> dict[str, float]:
    """Medians in milliseconds of search and arithmetic for one picture."""
    model = caption_pipeline.captioner
    with torch.inference_mode():
        grid = model.encode(caption_pipeline.pixels(picture))
        look = model.project_image(grid.cells)
        calls: dict[str, Callable[[], Tensor]] = {
            "beam search": lambda: endless_search(model, look),
            "LSTM cell alone": cell_alone(model),
            "cell, attention and words": whole_step(model, look),
        }
        found: dict[str, list[float]] = {name: [] for name in calls}
        for repeat in range(WARM_UP + REPEATS):
            for name, call in calls.items():
                _, milliseconds = timed(call)
                if repeat >= WARM_UP:
                    found[name].append(milliseconds)
    return {name: round(statistics.median(values), 2) for name, values in found.items()}


def endless_search(model: Captioner, look: ProjectedImage) -> Tensor:
    """A search that never finds an end: all its steps are taken."""
    stepper = model.stepper(look)
    stepper.special_token_mask[model.end] = -torch.inf
    return beam_search(stepper, end=model.end, width=BEAM, max_words=STEPS).words


def cell_alone(model: Captioner) -> Callable[[], Tensor]:
    """The LSTM of a word and a picture, as `nn.LSTMCell`."""
    config = model.config
    size = config.word_dim + config.attention_dim
    cell = nn.LSTMCell(size, config.hidden_dim)
    inputs = torch.randn(BEAM, size)

    def steps() -> Tensor:
        """All steps."""
        state = (torch.zeros(BEAM, config.hidden_dim), torch.zeros(BEAM, config.hidden_dim))
        for _ in range(STEPS):
            state = cell(inputs, state)
        return state[0]

    return steps


def whole_step(model: Captioner, look: ProjectedImage) -> Callable[[], Tensor]:
    """What a step cannot do without: the cell, the attention and the logits of all words."""
    config = model.config
    size = config.word_dim + config.attention_dim
    cell = nn.LSTMCell(size, config.hidden_dim)
    words = torch.full((BEAM,), model.end)
    summary = look.summary.expand(BEAM, -1)
    decoder: Any = model.decoders[0]

    def steps() -> Tensor:
        """All steps."""
        state = (torch.zeros(BEAM, config.hidden_dim), torch.zeros(BEAM, config.hidden_dim))
        for _ in range(STEPS):
            state = cell(torch.cat([model.embedding(words), summary], dim=1), state)
            read, _ = decoder.attend(state[0].unsqueeze(0), look.cells)
            logits = model.logits(read)
        return logits

    return steps


def throughput(caption_pipeline: CaptionPipeline, pictures: list[bytes]) -> float:
    """Captions a second, from the files' bytes on."""
    caption_pipeline.caption_batch(pictures[:BATCH], beam=BEAM)
    start = time.perf_counter()
    for first in range(0, len(pictures), BATCH):
        caption_pipeline.caption_batch(pictures[first : first + BATCH], beam=BEAM)
    return round(len(pictures) / (time.perf_counter() - start), 1)


if __name__ == "__main__":
    main()
