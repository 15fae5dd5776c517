"""Score predictions:

    python -m training.score answer --data DATA --predictions preds.jsonl
    python -m training.score caption --data DATA --predictions preds.jsonl
    python -m training.score gaze --data DATA --predictions maps.npz
    python -m training.score emoji --data DATA --predictions preds.jsonl --model MODEL --head emoji

Prints a table, and keeps its numbers in preds.metrics.json, with where they come from: `--model`
names the checkpoint that made them, so that the training behind them is kept too.
Every question and every picture counts: one without a prediction is wrong, and named.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from training.core.provenance import plain_path, provenance, record
from training.evaluation.predictions import Metrics
from vqa.batch.runner import BadPredictions
from vqa.data.image_dataset import open_rows
from vqa.data.text_dataset import open_texts
from vqa.errors import BadCheckpoint, BadData


class BadMetrics(ValueError):
    """A metrics.json to which nothing can be added."""


def _rows(options: argparse.Namespace, column: str) -> Any:
    """The pictures that the flags name, which must have a column."""
    return open_rows(options.data, options.split, required=column, streaming=options.streaming)


def answer(options: argparse.Namespace) -> dict[str, Any]:
    """Score answers to questions."""
    from training.evaluation.answers import score_answers

    return score_answers(_rows(options, "question"), options.predictions)


def caption(options: argparse.Namespace) -> dict[str, Any]:
    """Score captions of pictures."""
    from training.evaluation.captions import score_captions

    return score_captions(_rows(options, "caption"), options.predictions)


def gaze(options: argparse.Namespace) -> dict[str, Any]:
    """Score maps of where people look."""
    from training.evaluation.gaze import score_gaze

    return score_gaze(_rows(options, "fixations"), options.predictions)


def emoji(options: argparse.Namespace) -> dict[str, Any]:
    """Score the labels given to texts; `--picture` draws the confusions."""
    from training.evaluation.labels import labels_of, score_feelings
    from vqa import checkpoints
    from vqa.metrics import confusion_plot
    from vqa.models import EmojiModel

    model = checkpoints.load_as(EmojiModel, options.model or "emoji")
    labels = labels_of(model, options.head)
    texts = open_texts(options.data, options.split, options.head)
    scores = score_feelings(texts, options.predictions, labels)
    if options.picture:
        confusion_plot.draw(scores["confusion"], scores["labels"]).save(options.picture)
    return scores


COMMANDS = {score.__name__: score for score in (answer, caption, gaze, emoji)}


def keep(metrics: Metrics, options: argparse.Namespace, tables: Mapping[str, Any]) -> None:
    """Add an entry under `results` of a metrics.json, whole or not at all; all else stays.

    Args:
        metrics: the numbers.
        options: the flags.
        tables: what of the result is more than a number.

    Raises:
        BadMetrics: if the file is there and is not such a file, or the model's does not tell how
            it was trained.
    """
    path = options.metrics or options.predictions.with_suffix(".metrics.json")
    model = trained(options.model) if options.model else {}
    data = Path(options.data)
    entry = {
        "dataset": data.resolve().name if data.is_dir() else plain_path(options.data),
        "split": options.split,
        "seed": model.get("seed") if options.seed is None else options.seed,
        **provenance(),
        **({"model": model} if model else {}),
        "metrics": metrics,
        **dict(sorted(tables.items())),
    }
    add_result(path, options.name or getattr(options, "head", options.task), entry)


def add_result(path: Path, name: str, entry: Mapping[str, Any]) -> None:
    """Put an entry under `results` of a metrics.json; all else stays.

    Raises:
        BadMetrics: if the file is there and is not such a file.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        results = {**found.get("results", {})}
    except (ValueError, TypeError, AttributeError) as error:
        raise BadMetrics(f"{path}: not a metrics.json: {error}") from error
    path.parent.mkdir(parents=True, exist_ok=True)
    record(path, "results", {**results, name: dict(entry)})


def trained(model: Path) -> dict[str, Any]:
    """The command, the commit and the seed that a checkpoint comes from, by its metrics.json."""
    path = model / "metrics.json"
    try:
        made = json.loads(path.read_text(encoding="utf-8"))["training"]
        return {**{k: made[k] for k in ("command", "commit")}, "seed": made["config"]["seed"]}
    except (ValueError, TypeError, KeyError) as error:
        raise BadMetrics(f"{path}: does not tell how the model was trained: {error!r}") from error


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; what is wrong with its input ends it with one line and exit status 1."""
    parser = argparse.ArgumentParser(prog="python -m training.score")
    commands = parser.add_subparsers(dest="task", required=True)
    for name, score in COMMANDS.items():
        command = commands.add_parser(name, help=score.__doc__)
        command.add_argument("--data", required=True, help="parquet, folder or Hub dataset id")
        command.add_argument("--predictions", required=True, type=Path, help="from vqa.batch")
        command.add_argument("--split", default="validation")
        command.add_argument("--model", type=Path, help="folder of the checkpoint behind them")
        command.add_argument(
            "--metrics", type=Path, help="file to add the numbers to; beside --predictions if none"
        )
        command.add_argument("--name", help="of the entry there; the subcommand's if not given")
        command.add_argument("--seed", type=int, help="to record; that of --model if not given")
        if name == "emoji":
            command.add_argument("--head", default="emoji", help="which set of labels")
            command.add_argument("--picture", type=Path, help="file for the confusions, drawn")
        else:
            command.add_argument(
                "--streaming", action="store_true", help="leave the files of a Hub dataset there"
            )
    options = parser.parse_args(arguments)
    try:
        found = COMMANDS[options.task](options)
        metrics = {key: value for key, value in found.items() if isinstance(value, int | float)}
        for key, value in metrics.items():
            shown = value if isinstance(value, int) else f"{value:.3f}"
            print(f"{key:<18}{shown:>8}")
        keep(metrics, options, {key: found[key] for key in found.keys() - metrics.keys()})
    except (BadData, BadPredictions, BadMetrics, BadCheckpoint, OSError) as error:
        raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
    main()
