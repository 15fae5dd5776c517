"""Score predictions:

    python -m training.score answer --data DATA --predictions preds.jsonl
    python -m training.score caption --data DATA --predictions preds.jsonl
    python -m training.score gaze --data DATA --predictions maps.npz
    python -m training.score feel --data DATA --predictions preds.jsonl --model MODEL --head emoji

Prints a table, and keeps its numbers in preds.metrics.json, with where they come from: `--model`
names the checkpoint that made them, so that the training behind them is kept too.
Every question and every picture counts: one without a prediction is wrong, and named.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.record import plain_path, provenance, record
from vqa.batch import BadPredictions
from vqa.checkpoints import BadCheckpoint
from vqa.rows import Question, Rows, open_rows
from vqa.sources import BadData
from vqa.texts import open_texts

Line = dict[str, Any]
Metrics = dict[str, float | int]
ANSWER_FIELDS = {  # name -> its type
    "image_id": (int, str),
    "index": int,
    "question": str,
    "answer": str,
    "top": list,
}
CAPTION_FIELDS = {"image_id": (int, str), "caption": str}
GROUPS: dict[str, Callable[[str], bool]] = {  # name -> whether an answer type belongs to it
    "all": lambda kind: True,
    "yes/no": lambda kind: kind == "yes/no",
    "number": lambda kind: kind == "number",
    "other": lambda kind: kind not in ("yes/no", "number"),
    "not yes/no": lambda kind: kind != "yes/no",
}


class BadMetrics(ValueError):
    """A metrics.json to which nothing can be added."""


@dataclass(frozen=True)
class Scored:
    """A question, how right its answer is, and how sure the model was (None: no prediction)."""

    name: str
    answer_type: str
    accuracy: float  # in [0, 1]
    probability: float | None


def score_answers(rows: Rows, predictions: Path) -> Metrics:
    """Print the accuracy of answers, overall and by type, and how honest their probabilities are.

    Args:
        rows: the questions and what people answered.
        predictions: a file of `vqa.batch answer`.

    Returns:
        The percentage of each group that has questions, `n`, `n_missing` and `calibration_error`,
        a percentage too.

    Raises:
        BadPredictions: if the file is no such file, or is about other questions.
        BadData: if a question has no answer to compare with.
    """
    from vqa.metrics.vqa_accuracy import expected_calibration_error

    scored = list(_join(rows, _read(predictions, ANSWER_FIELDS)))
    sure = [(s.probability, s.accuracy) for s in scored if s.probability is not None]
    if not sure:
        raise BadPredictions(f"{predictions}: none of its lines is about a question of these data")
    missing = [one.name for one in scored if one.probability is None]
    _say_missing(missing)
    shown, right = zip(*sure, strict=True)
    error = expected_calibration_error(shown, right)
    counts: Metrics = {"n": len(scored), "n_missing": len(missing)}
    return _by_group(scored) | counts | {"calibration_error": round(100 * error, 2)}


def score_captions(rows: Rows, predictions: Path) -> Metrics:
    """Print how near captions come to those of people, and how varied they are.

    Args:
        rows: the pictures and their captions; those without any are left out.
        predictions: a file of `vqa.batch caption`.

    Returns:
        BLEU-1 to 4, ROUGE-L, CIDEr (that of the COCO evaluation) and plain CIDEr, times 100;
        `words` (how many different ones), `most_frequent` (percentage of the captions that are the
        one used most), `mean_words`, `n` and `n_missing`.

    Raises:
        BadPredictions: if the file is no such file, or is about other pictures.
        BadData: if no picture has a caption to compare with.
    """
    from vqa.metrics.caption_scores import caption_scores
    from vqa.metrics.ptb import ptb_tokenize

    said = {line["image_id"]: line["caption"] for line in _read(predictions, CAPTION_FIELDS)}
    references: dict[int | str, list[str]] = {}
    for row in rows:  # a picture may have a row a caption
        if row.captions:
            references.setdefault(row.image_id, []).extend(row.captions)
    if not references:
        raise BadData("these data have no caption to compare with")
    if not said.keys() & references.keys():
        raise BadPredictions(f"{predictions}: none of its lines is about a picture of these data")
    missing = [f"picture {image_id}" for image_id in references if image_id not in said]
    _say_missing(missing)
    texts = [said.get(image_id, "") for image_id in references]
    captions = [ptb_tokenize(text) for text in texts]
    people = [[ptb_tokenize(text) for text in given] for given in references.values()]
    scores = {name: round(100 * s, 2) for name, s in caption_scores(captions, people).items()}
    scores.pop("cider_d")  # `cider` by its other name
    (_, most), *_ = Counter(texts).most_common(1)
    return scores | {
        "words": len({word for words in captions for word in words}),
        "most_frequent": round(100 * most / len(texts), 2),
        "mean_words": round(sum(map(len, captions)) / len(captions), 2),
        "n": len(texts),
        "n_missing": len(missing),
    }


def _say_missing(names: Sequence[str]) -> None:
    if names:
        print(f"No prediction for {len(names)}:", *names, sep="\n  ", file=sys.stderr)


def _read(path: Path, wanted: Mapping[str, Any]) -> Iterator[Line]:
    for number, text in enumerate(path.read_bytes().splitlines(), 1):
        try:
            line = json.loads(text)
        except ValueError as error:
            raise BadPredictions(f"{path}, line {number}: not JSON: {error}") from error
        fields = line if isinstance(line, dict) else {}
        lacking = [f for f in wanted if fields.get(f) in (None, [])]
        if lacking:
            raise BadPredictions(f"{path}, line {number}: has no {', '.join(lacking)}")
        for name, kind in wanted.items():
            if not isinstance(line[name], kind) or (name == "top" and not _is_sure(line[name])):
                raise BadPredictions(f"{path}, line {number}: {name} cannot be {line[name]!r}")
        yield line


def _is_sure(top: list[Any]) -> bool:
    """Whether a list of guesses begins with an answer and its probability."""
    match top[0]:
        case [str(), float() | int() as probability]:
            return 0 <= probability <= 1
    return False


def _join(rows: Rows, lines: Iterator[Line]) -> Iterator[Scored]:
    """Give each question its prediction. The same key may come again: then in the same order."""
    from vqa.metrics.vqa_accuracy import accuracy

    waiting: dict[tuple[int | str, int, str], deque[Line]] = defaultdict(deque)
    for line in lines:
        waiting[line["image_id"], line["index"], line["question"]].append(line)
    for row in rows:
        for question in row.questions:
            name = f"picture {row.image_id}, question {question.index}"
            references = _references(question, name)
            found = waiting[row.image_id, question.index, question.text]
            right, probability = 0.0, None
            if found:
                line = found.popleft()
                right, probability = accuracy(line["answer"], references), line["top"][0][1]
            yield Scored(name, question.answer_type, right, probability)
    if unused := sum(map(len, waiting.values())):
        print(f"{unused} predictions are about no question of these data", file=sys.stderr)


def _references(question: Question, name: str) -> Sequence[str]:
    """The ten answers of the official accuracy, or the agreed one."""
    from vqa.metrics.vqa_accuracy import PEOPLE

    if len(question.answers) >= PEOPLE or question.answer is None:
        references = question.answers
    else:
        references = (question.answer,)
    if not references:
        raise BadData(f"{name}: has no answer to compare with")
    return references


def _by_group(scored: Sequence[Scored]) -> Metrics:
    metrics: Metrics = {}
    for group, belongs in GROUPS.items():
        values = [one.accuracy for one in scored if belongs(one.answer_type)]
        if values:
            metrics[group] = round(100 * sum(values) / len(values), 2)
    return metrics


def _score(options: argparse.Namespace) -> dict[str, Any]:
    """The numbers of a subcommand."""
    data, split, predictions = options.data, options.split, options.predictions
    match options.task:
        case "answer":
            return score_answers(open_rows(data, split, needs="question"), predictions)
        case "caption":
            return score_captions(open_rows(data, split, needs="caption"), predictions)
        case "gaze":
            from training.gaze_scores import score_gaze

            return score_gaze(open_rows(data, split, needs="fixations"), predictions, _say_missing)
    from training import feeling_scores
    from vqa import checkpoints, confusion
    from vqa.models import EmojiModel

    model = checkpoints.load_as(EmojiModel, options.model or "emoji")
    labels = feeling_scores.labels_of(model, options.head)
    texts = open_texts(data, split, options.head)
    found = feeling_scores.score_feelings(texts, predictions, labels)
    if options.picture:
        confusion.draw(found["confusion"], found["labels"]).save(options.picture)
    return found


TASKS = {  # name -> what it does
    "answer": "score answers to questions",
    "caption": "score captions of pictures",
    "gaze": "score maps of where people look",
    "feel": "score the labels given to texts",
}


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
    model = _trained(options.model) if options.model else {}
    try:
        results = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        results = {**results.get("results", {})}
    except (ValueError, TypeError, AttributeError) as error:
        raise BadMetrics(f"{path}: not a metrics.json: {error}") from error
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
    path.parent.mkdir(parents=True, exist_ok=True)
    name = options.name or getattr(options, "head", options.task)
    record(path, "results", {**results, name: entry})


def _trained(model: Path) -> dict[str, Any]:
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
    for name, text in TASKS.items():
        command = commands.add_parser(name, help=text)
        command.add_argument("--data", required=True, help="parquet, folder or Hub dataset id")
        command.add_argument("--predictions", required=True, type=Path, help="from vqa.batch")
        command.add_argument("--split", default="validation")
        command.add_argument("--model", type=Path, help="folder of the checkpoint behind them")
        command.add_argument(
            "--metrics", type=Path, help="file to add the numbers to; beside --predictions if none"
        )
        command.add_argument("--name", help="of the entry there; the subcommand's if not given")
        command.add_argument("--seed", type=int, help="to record; that of --model if not given")
        if name == "feel":
            command.add_argument("--head", default="emoji", help="which set of labels")
            command.add_argument("--picture", type=Path, help="file for the confusions, drawn")
    options = parser.parse_args(arguments)
    try:
        found = _score(options)
        metrics = {key: value for key, value in found.items() if isinstance(value, int | float)}
        for key, value in metrics.items():
            shown = value if isinstance(value, int) else f"{value:.3f}"
            print(f"{key:<18}{shown:>8}")
        keep(metrics, options, {key: found[key] for key in found.keys() - metrics.keys()})
    except (BadData, BadPredictions, BadMetrics, BadCheckpoint, OSError) as error:
        raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
    main()
