r"""Train models that differ in one thing, measure them alike, and keep the numbers in one file.

    python -m training.ablation caption --data ../shared/data/flickr8k --encoder FOLDER \
        --work runs/ablation --metrics model_cards/captioner/metrics.json
    python -m training.ablation answer --data ../shared/data/coco_vqa --also ../shared/data/daquar \
        --encoder FOLDER --work runs/vqa-ablation --metrics model_cards/vqa/metrics.json

Each variant is a training on the frozen encoder's grids, then `vqa.batch`, then `training.score`:
the commands are run as anybody would. The main contrasts have three seeds. What is recorded already
is not done again, and a training that was interrupted goes on.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

EXTRA = "cocoqa=1,convqa_cs=1,gvt_coco=1,pope=1,okvqa=0.5,vsr=0.5"
GATED = {"gaze": "gaze", "fusion": "gated"}


class Plan(NamedTuple):
    """A kind of model: what trains it, what all its variants share, and how they differ."""

    module: str
    base: dict[str, str]  # flags
    variants: dict[str, dict[str, str]]  # name -> further flags
    seeds: dict[str, int]  # how many, of the variants that have more than one


PLANS = {
    "caption": Plan(
        "training.train_captioner",
        {"head_epochs": "3", "dropout": "0.3", "ema": "0.99", "batch_size": "32"},
        {
            "as shipped, but small": {},
            "soft attention": {"attention": "soft"},
            "no attention": {"attention": "none"},
            "no label smoothing": {"smoothing": "0"},
            "embeddings not tied": {"tied": "false"},
            "no averaged weights": {"ema": "0"},
        },
        {},
    ),
    "answer": Plan(
        "training.train_vqa",
        {
            "head_epochs": "3",
            "ema": "0.99",
            "dropout": "0.3",
            "bf16": "true",
            "beside": "captioner",
            "width": "320",
            "finer": "1,4,8,16",
            "word_dim": "250",
            "hidden_dim": "384",
            "attention_dim": "256",
            "fused_dim": "512",
        },
        {
            "gaze, gated prior": GATED,
            "gaze of other pictures, gated prior": GATED | {"wrong_gaze": "true"},
            "no gaze": {},
            "gaze, fixed prior": GATED | {"fusion": "prior"},
            "gaze, multiply": GATED | {"fusion": "multiply"},
            "gaze, residual": GATED | {"fusion": "residual"},
            "no gaze, with concepts": {"concept_epochs": "6"},
            "no gaze, question only": {"blind": "true"},
            "no gaze, with extra questions": {"more": EXTRA},
            "no gaze, with extra questions and those made of captions": {
                "more": f"{EXTRA},captions=0.25"
            },
        },
        {
            "gaze, gated prior": 3,
            "gaze of other pictures, gated prior": 3,
            "no gaze": 3,
            "no gaze, with concepts": 3,
        },
    ),
}


def main() -> None:
    """Run what is missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=PLANS)
    parser.add_argument("--data", required=True, help="with the splits train and validation")
    parser.add_argument("--also", default="", help="further folders to learn from, with commas")
    parser.add_argument("--encoder", required=True, help="to start from, frozen")
    parser.add_argument("--work", required=True, type=Path, help="folder for the trainings")
    parser.add_argument("--metrics", required=True, type=Path, help="file to add the numbers to")
    parser.add_argument("--cache_dir", default="~/.cache/seewhy", help="for the encoder's grids")
    args = parser.parse_args()
    plan = PLANS[args.kind]
    for name, change in plan.variants.items():
        for seed in range(count := plan.seeds.get(name, 1)):
            one = f"{name}, seed {seed}" if count > 1 else name
            _run_one(args, plan, one, change | {"seed": str(seed)})


def _run_one(args: argparse.Namespace, plan: Plan, name: str, change: dict[str, str]) -> None:
    entry = f"ablation: {name}"
    if args.metrics.exists() and entry in _results(args.metrics):
        return
    folder = args.work / name.replace(" ", "-").replace(",", "")
    lines = folder.with_suffix(".jsonl")
    flags = {
        "data": args.data,
        "also": args.also,
        "encoder": args.encoder,
        "output_dir": str(folder),
    }
    flags |= {"tune_epochs": "0", "cache_dir": args.cache_dir}
    _run(plan.module, [], flags | plan.base | change)
    data = {"data": args.data, "model": str(folder)}
    _run("vqa.batch", [args.kind], data | {"out": str(lines)})
    to = {"predictions": str(lines), "metrics": str(args.metrics), "name": entry}
    _run("training.score", [args.kind], data | to)


def _results(metrics: Path) -> dict[str, object]:
    content = json.loads(metrics.read_text(encoding="utf-8"))
    return dict(content.get("results", {}))


def _run(module: str, words: list[str], flags: dict[str, str]) -> None:
    given = [part for name, value in flags.items() for part in (f"--{name}", value)]
    subprocess.run([sys.executable, "-m", module, *words, *given], check=True)


if __name__ == "__main__":
    main()
