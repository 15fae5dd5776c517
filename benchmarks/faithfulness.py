"""How faithful each method's maps are to the answering model, over real questions.

    python -m benchmarks.faithfulness --data ../shared/data/coco_vqa --rows runs/faithfulness.jsonl

Pictures of the split and one question of each are drawn by seed. Many answers rest on the question
alone: they stay the same on a flat picture of the mean colour, so no place of the picture can be
their reason. These are counted and left out, until there are N that the picture decides.

The model's own answer is explained by every method, and each map's patches are covered (deletion)
and uncovered (insertion) from the hottest on. So are those of random smooth maps, of the centre,
and of each map moved to a random place: that one has the same shape, and knows nothing. Rows are
kept in --rows, so that an interrupted run goes on; benchmarks/results.json gets means over the
pictures, with 95% confidence intervals from a bootstrap over them.
"""

from __future__ import annotations

import argparse
import json
import random
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from benchmarks.latency import RESULTS
from saliency import faithfulness
from saliency.registry import METHODS, explain
from training.core.provenance import provenance, record
from vqa.data.image_dataset import open_rows
from vqa.engine import Engine

RANDOM = 3  # random maps a picture; their mean counts
STEPS = 10  # of a curve
COVERS = 3  # random places to which the hottest tenth is moved
CURVES: tuple[Literal["deletion", "insertion"], ...] = ("deletion", "insertion")
OPTIONS: dict[str, dict[str, Any]] = {"lime": {"samples": 300}}  # elsewhere the defaults
DRAWS = 10_000  # of the bootstrap
Asked = tuple[bytes, dict[str, str]]  # a picture, and a question on it
_ENGINE: list[Engine] = []  # one a process


def main() -> None:
    """Measure what is missing, and record the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder, parquet file or Hub id")
    parser.add_argument("--split", default="validation")
    parser.add_argument("--vqa", default="vqa", help="shipped name, folder or Hub id")
    parser.add_argument("--pictures", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--rows", type=Path, required=True, help="one JSON line a picture")
    args = parser.parse_args()
    args.rows.parent.mkdir(parents=True, exist_ok=True)
    done = read(args.rows)
    spawn = get_context("spawn")  # torch's threads do not survive a fork
    with (
        ProcessPoolExecutor(args.processes, spawn, load, (args.vqa,)) as pool,
        args.rows.open("a", encoding="utf-8") as file,
    ):
        candidates = drawn(args.data, args.split, args.seed)
        asked, passed_over = decided(pool, candidates, args.pictures)
        missing = [(picture, question) for picture, question in asked if key(question) not in done]
        jobs = [pool.submit(measure, picture, question) for picture, question in missing]
        for job in as_completed(jobs):
            file.write(json.dumps(job.result()) + "\n")
            file.flush()
    rows = read(args.rows)
    table = summary([rows[key(question)] for _, question in asked])
    settings = {
        "split": args.split,
        "seed": args.seed,
        "pictures": len(asked),
        "answered alike on a flat picture": passed_over,
        "options": OPTIONS,
    }
    record(RESULTS, "faithfulness", provenance() | settings | {"methods": table})
    print(json.dumps(table, indent=1))


def key(question: dict[str, str]) -> str:
    """What tells a row from the others."""
    return f"{question['image']}: {question['text']}"


def read(path: Path) -> dict[str, dict[str, Any]]:
    """Rows measured before."""
    if not path.exists():
        return {}
    rows = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return {key(row["question"]): row for row in rows}


def drawn(data: str, split: str, seed: int) -> list[Asked]:
    """Pictures of a split in a drawn order, each with one of its questions."""
    draw = random.Random(seed)
    rows = [row for row in open_rows(data, split) if row.questions]
    asked = []
    for row in draw.sample(rows, len(rows)):
        question = draw.choice(row.questions)
        about = {"image": str(row.image_id), "text": question.text, "kind": question.answer_type}
        asked.append((row.image, about))
    return asked


def decided(pool: Executor, candidates: list[Asked], wanted: int) -> tuple[list[Asked], int]:
    """The first candidates whose answer the picture decides, and how many were passed over."""
    found: list[Asked] = []
    for start in range(0, len(candidates), wanted):
        some = candidates[start : start + wanted]
        pictures, questions = zip(*some, strict=True)
        for number, (one, rests) in enumerate(
            zip(some, pool.map(rests_on_picture, pictures, questions), strict=True), start + 1
        ):
            found += [one] * rests
            if len(found) == wanted:
                return found, number - wanted
    raise SystemExit(f"only {len(found)} answers rest on the picture, {wanted} are wanted")


def load(vqa: str) -> None:
    """Start a process: its model, on a processor of its own."""
    torch.set_num_threads(1)
    _ENGINE.append(Engine.load(vqa))


def rests_on_picture(picture: bytes, question: dict[str, str]) -> bool:
    """Whether the model answers otherwise on a flat picture of the mean colour."""
    scorer, pixels = _ENGINE[0].scorer(question["text"]), _ENGINE[0].pixels(picture)
    flat = pixels.mean(dim=(2, 3), keepdim=True).expand_as(pixels)
    with torch.no_grad():
        best = scorer(torch.cat([pixels, flat])).argmax(dim=1).tolist()
    return bool(best[0] != best[1])


def measure(picture: bytes, question: dict[str, str]) -> dict[str, Any]:
    """One picture's row: for each method and baseline, its areas and what covering 10% does."""
    engine = _ENGINE[0]
    scorer, pixels = engine.scorer(question["text"]), engine.pixels(picture)
    with torch.no_grad():
        target = int(scorer(pixels)[0].argmax())
    found = {
        method: explain(scorer, pixels, [target], method, **OPTIONS.get(method, {}))[0]
        for method in METHODS
    }
    maps = {method: explanation.map for method, explanation in found.items()}
    size = (pixels.shape[2], pixels.shape[3])
    maps |= {f"{name} moved": faithfulness.moved_maps(m, 1)[0] for name, m in maps.items()}
    maps["centre"] = faithfulness.centre_map(size)
    maps |= {f"random {i}": m for i, m in enumerate(faithfulness.random_maps(size, RANDOM, 0))}
    row = judged(scorer, pixels, target, maps)
    return {"question": question, "answer": engine.answerer.answers[target], "maps": row}


def judged(
    scorer: nn.Module, pixels: torch.Tensor, target: int, maps: dict[str, Any]
) -> dict[str, dict[str, Any]]:
    """Areas of every map's curves, and whether covering its hottest tenth changes the answer."""
    stack = np.stack(list(maps.values()))
    result: dict[str, dict[str, Any]] = {name: {} for name in maps}
    for kind in CURVES:
        found = faithfulness.curves(scorer, pixels, target, stack, kind=kind, steps=STEPS)
        for name, curve in zip(maps, found, strict=True):
            result[name][kind] = curve.area
    for name, values in maps.items():
        if values.max() > 0 and "moved" not in name:
            cover = faithfulness.counterfactual(scorer, pixels, values, draws=COVERS)
            result[name]["changed"] = float(cover.changed)
            result[name]["moved changed"] = cover.draws_changed / COVERS
    return result


def summary(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Means over the pictures, with 95% confidence intervals, a method."""
    randoms = [f"random {i}" for i in range(RANDOM)]
    chance = {
        kind: np.mean([column(rows, name, kind) for name in randoms], axis=0) for kind in CURVES
    }
    table: dict[str, dict[str, Any]] = {
        "random": {kind: interval(values) for kind, values in chance.items()}
    }
    for name in ("centre", *METHODS):
        entry = table[name] = {}
        for kind, random_areas in chance.items():
            values = column(rows, name, kind)
            entry[kind] = interval(values)
            entry[f"{kind} - random"] = interval(values - random_areas)
            if name in METHODS:
                entry[f"{kind} - moved"] = interval(values - column(rows, f"{name} moved", kind))
        shown = [row for row in rows if "changed" in row["maps"][name]]
        entry["without evidence"] = len(rows) - len(shown)
        for what in ("changed", "moved changed"):
            entry[what] = interval(column(shown, name, what))
    return table


def column(rows: list[dict[str, Any]], name: str, what: str) -> NDArray[np.float64]:
    """One number a picture."""
    return np.array([row["maps"][name][what] for row in rows])


def interval(values: NDArray[np.float64]) -> list[float]:
    """Mean and its 95% confidence interval: [mean, low, high]."""
    draw = np.random.default_rng(0).integers(0, len(values), (DRAWS, len(values)))
    low, high = np.percentile(values[draw].mean(axis=1), [2.5, 97.5])
    return [round(float(number), 4) for number in (values.mean(), low, high)]


if __name__ == "__main__":
    main()
