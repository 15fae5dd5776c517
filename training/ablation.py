r"""Train captioners that differ in one thing, measure them alike, and keep the numbers in one file.

    python -m training.ablation --data ../shared/data/flickr8k --encoder FOLDER \
        --work runs/ablation --metrics model_cards/captioner/metrics.json

Each variant is a training on the frozen encoder's grids, then `vqa.batch caption`, then
`training.score caption`: the commands are run as anybody would. What is recorded already is not
done again, and a training that was interrupted goes on.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

BASE = {"head_epochs": "3", "tune_epochs": "0", "dropout": "0.3", "ema": "0.99", "batch_size": "32"}
VARIANTS: dict[str, dict[str, str]] = {
    "as shipped, but small": {},
    "soft attention": {"attention": "soft"},
    "no attention": {"attention": "none"},
    "no label smoothing": {"smoothing": "0"},
    "embeddings not tied": {"tied": "false"},
    "no averaged weights": {"ema": "0"},
}


def main() -> None:
    """Run what is missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="with the splits train and validation")
    parser.add_argument("--encoder", required=True, help="to start from, frozen")
    parser.add_argument("--work", required=True, type=Path, help="folder for the trainings")
    parser.add_argument("--metrics", required=True, type=Path, help="file to add the numbers to")
    args = parser.parse_args()
    for name, change in VARIANTS.items():
        entry = f"ablation: {name}"
        if args.metrics.exists() and entry in _results(args.metrics):
            continue
        folder = args.work / name.replace(" ", "-").replace(",", "")
        lines = folder.with_suffix(".jsonl")
        flags = {"data": args.data, "encoder": args.encoder, "output_dir": str(folder)}
        _run("training.train_captioner", [], flags | BASE | change)
        data = {"data": args.data, "model": str(folder)}
        _run("vqa.batch", ["caption"], data | {"out": str(lines)})
        to = {"predictions": str(lines), "metrics": str(args.metrics), "name": entry}
        _run("training.score", ["caption"], data | to)


def _results(metrics: Path) -> dict[str, object]:
    content = json.loads(metrics.read_text(encoding="utf-8"))
    return dict(content.get("results", {}))


def _run(module: str, words: list[str], flags: dict[str, str]) -> None:
    given = [part for name, value in flags.items() for part in (f"--{name}", value)]
    subprocess.run([sys.executable, "-m", module, *words, *given], check=True)


if __name__ == "__main__":
    main()
