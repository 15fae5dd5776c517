"""How quickly sentences are felt: one alone, thousands together, and what most of that time is.

python -m benchmarks.feelings --data ../shared/data/tweeteval
"""

from __future__ import annotations

import argparse
import statistics
import time
from functools import partial
from typing import Any

import torch

from benchmarks.latency import RESULTS, timed
from training.core.provenance import provenance, record
from vqa import checkpoints
from vqa.data.text_dataset import open_texts
from vqa.models import EmojiModel
from vqa.pipelines.emoji import EmojiPipeline
from vqa.preprocessing.tweet_tokenizer import tokenize
from vqa.runtime.malloc import keep_freed

BATCH, WARM_UP, ROUNDS = 256, 20, 5


def main() -> None:
    """Time and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder, parquet file or Hub id")
    parser.add_argument("--split", default="validation")
    parser.add_argument("--model", default="emoji", help="shipped name, folder or Hub id")
    parser.add_argument("--head", default="emoji")
    parser.add_argument("--sentences", type=int, default=5000)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    keep_freed()  # as `vqa.batch` does
    emoji_pipeline = EmojiPipeline(checkpoints.load_as(EmojiModel, args.model))
    texts = [row.text for row in open_texts(args.data, args.split, args.head)][: args.sentences]
    torch.set_num_threads(1)  # what one sentence needs is too small to be shared
    entry: dict[str, Any] = {"one": {"threads": 1, **one(emoji_pipeline, texts, args.head)}}
    torch.set_num_threads(args.threads)
    entry["bulk"] = {"threads": args.threads, **bulk(emoji_pipeline, texts, args.head)}
    print(f"one sentence: {entry['one']}")
    print(f"{len(texts)} sentences: {entry['bulk']}")
    record(RESULTS, "feelings", provenance() | entry)


def one(emoji_pipeline: EmojiPipeline, texts: list[str], head: str) -> dict[str, float]:
    """Median milliseconds of a call, from text to feeling, and of the network in it."""
    calls, networks = [], []
    for text in texts[:500]:
        calls.append(timed(partial(emoji_pipeline.emoji, text, head))[1])
        phrases = emoji_pipeline.model.phrases([tokenize(text)])
        with torch.inference_mode():
            networks.append(timed(partial(emoji_pipeline.model, phrases, head))[1])
    medians = [round(statistics.median(times[WARM_UP:]), 2) for times in (calls, networks)]
    return dict(zip(("milliseconds", "network"), medians, strict=True))


def bulk(emoji_pipeline: EmojiPipeline, texts: list[str], head: str) -> dict[str, float]:
    """Sentences a second, and the seconds of each part: the best of a few rounds."""
    best = min(
        (_round(emoji_pipeline, texts, head) for _ in range(ROUNDS)), key=lambda found: found[0]
    )
    total, parts = best
    rounded = {name: round(seconds, 3) for name, seconds in parts.items()}
    return {"per_second": round(len(texts) / total), **rounded}


def _round(
    emoji_pipeline: EmojiPipeline, texts: list[str], head: str
) -> tuple[float, dict[str, float]]:
    start = time.perf_counter()
    emoji_pipeline.feel_batch(texts, head, batch_size=BATCH)
    total = time.perf_counter() - start
    parts = {"tokens": 0.0, "numbers": 0.0, "network": 0.0}
    start = time.perf_counter()
    tokens = sorted(map(tokenize, texts), key=len)
    parts["tokens"] = time.perf_counter() - start
    for begin in range(0, len(tokens), BATCH):
        start = time.perf_counter()
        phrases = emoji_pipeline.model.phrases(tokens[begin : begin + BATCH])
        middle = time.perf_counter()
        with torch.inference_mode():
            emoji_pipeline.model(phrases, head)
        parts["numbers"] += middle - start
        parts["network"] += time.perf_counter() - middle
    return total, parts


if __name__ == "__main__":
    main()
